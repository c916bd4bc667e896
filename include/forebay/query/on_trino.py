"""A person's SELECT on Trino: in a catalog that Trino itself lets nobody write, and by a user of its own where there is one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.trino_catalog import catalog_properties, create_statement
from forebay.engines.trino_client import Label, Server, TrinoClient, progress
from forebay.engines.trino_types import Signature, arrow_type, plain
from forebay.lake.connection import CatalogConfig

if TYPE_CHECKING:
    import pyarrow as pa

CATALOG = "worksheet_"
"""What the names of the worksheet's catalogs begin with: rules of Trino's access control can go by it."""

SOURCE = "forebay/worksheet"
_BATCH = 8_192


class TrinoReader:
    """Used for one query. The catalog stays for the next one."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        given = setup["server"]
        extra: dict[str, Any] = given["extra"]
        owner = Server.from_connection(given["host"], given["port"], given["login"], given["password"], extra)
        config = CatalogConfig(**setup["config"])
        properties = catalog_properties(
            config, str(extra.get("access_key") or ""), str(extra.get("secret_key") or "")
        )
        properties["iceberg.security"] = "read_only"
        digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()
        self._catalog = f"{CATALOG}{digest[:12]}"
        self._config = config
        self._status: Mapping[str, Any] = {}
        maker = TrinoClient(owner, Label(SOURCE))
        there = maker.run(f"SHOW CATALOGS LIKE '{self._catalog}'", quiet=True).rows
        if not there:
            made = create_statement(self._catalog, properties).replace(
                "CREATE CATALOG", "CREATE CATALOG IF NOT EXISTS", 1
            )
            maker.run(made, quiet=True)
        own = extra.get("worksheet_user")
        asker = (
            replace(owner, user=str(own), password=str(extra.get("worksheet_password") or ""))
            if own
            else owner
        )
        self._client = _Streamed(asker, Label(SOURCE))
        self._seconds = int(setup["seconds"])

    def open(self, sql: str, reads: Sequence[str], explain: bool, batch: int) -> pa.RecordBatchReader:
        """Starts a SELECT. Raises EngineError."""
        import pyarrow as pa

        session = {"query_max_run_time": f"{self._seconds}s"}
        pages = self._client.pages(f"EXPLAIN {sql}" if explain else sql, self._catalog, session, self._note)
        try:
            columns, first = next(pages)
        except StopIteration:
            raise EngineError("Trino gave no result.") from None
        if explain:
            lines = [
                line
                for rows in [first, *(rows for _, rows in pages)]
                for row in rows
                for line in str(row[0]).splitlines()
            ]
            return pa.table({"plan": pa.array(lines, pa.string())}).to_reader()
        schema = pa.schema([pa.field(name, arrow_type(kind)) for name, kind in columns])

        def batches() -> Iterator[pa.RecordBatch]:
            yield from _batches(first, columns, schema)
            for _, rows in pages:
                yield from _batches(rows, columns, schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The rows. Raises EngineError."""
        yield from reader

    def progress(self) -> dict[str, Any]:
        """How far Trino is, in its own words."""
        if not self._status:
            return {}
        return {
            "percent": round(float(self._status.get("progressPercentage") or 0), 1),
            "text": progress(self._status),
        }

    def stop(self) -> None:
        """Ends the query in Trino too."""
        self._client.cancel()

    def _note(self, status: Mapping[str, Any]) -> None:
        self._status = status


class _Streamed(TrinoClient):
    """Gives rows as they come, where the tasks' client collects them."""

    def pages(
        self, sql: str, catalog: str, session: Mapping[str, str], note: Any
    ) -> Iterator[tuple[list[tuple[str, Signature]], list[list[Any]]]]:
        """The columns and some rows, again and again; the first as soon as the columns are known."""
        from trino.mapper import RowMapperFactory

        with self._translated(sql):
            request = self._request(catalog, session)
            status = request.process(request.post(sql))
            columns: list[tuple[str, Signature]] = []
            mapper = None
            while True:
                self._now = (status.id, status.next_uri) if status.next_uri else None
                note(status.stats)
                if status.columns and mapper is None:
                    columns = [(str(one["name"]), one["typeSignature"]) for one in status.columns]
                    mapper = RowMapperFactory().create(status.columns, legacy_primitive_types=False)
                    yield columns, []
                if isinstance(status.rows, list) and status.rows and mapper is not None:
                    yield columns, mapper.map(status.rows)
                if status.next_uri is None:
                    return
                status = request.process(request.get(status.next_uri))


def _batches(
    rows: list[list[Any]], columns: list[tuple[str, Signature]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for at in range(0, len(rows), _BATCH):
        some = rows[at : at + _BATCH]
        arrays = [
            pa.array([plain(row[number], kind) for row in some], schema.field(number).type)
            for number, (_, kind) in enumerate(columns)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
