"""A person's SELECT on Trino, by a user that Trino itself lets read and no more, or in a catalog that lets nobody write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.trino_catalog import catalog_properties, create_statement, keys
from forebay.engines.trino_client import Label, Server, TrinoClient
from forebay.engines.trino_progress import Progress
from forebay.engines.trino_types import Signature, arrow_type, plain
from forebay.lake.connection import CatalogConfig

if TYPE_CHECKING:
    import pyarrow as pa

CATALOG = "worksheet_"
"""What the names of the worksheet's catalogs begin with: rules of Trino's access control can go by it."""

SOURCE = "forebay/worksheet"
_BATCH = 8_192


def server_of(
    host: str | None, port: int | None, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """What a query's process is told of an Airflow connection of type `trino`.

    Where the connection names a user and a catalog for people's queries, that process learns neither the login of jobs
    nor where Trino finds the lake's keys. Raises EngineError for a catalog without a user: jobs' login may write there.
    """
    user, catalog = extra.get("worksheet_user"), extra.get("worksheet_catalog")
    if catalog and not user:
        raise EngineError(
            "The Trino connection's extra has a worksheet_catalog and no worksheet_user: name a user whom Trino lets read "
            "that catalog and no more."
        )
    if not catalog:
        return {
            "host": host, "port": port, "login": login, "password": password,
            "extra": {name: value for name, value in extra.items() if name != "catalog"},
        }  # fmt: skip
    kept = ("http_scheme", "verify", "worksheet_catalog")
    return {
        "host": host, "port": port, "login": str(user), "password": str(extra.get("worksheet_password") or ""),
        "extra": {name: extra[name] for name in kept if name in extra},
    }  # fmt: skip


class TrinoReader:
    """Used for one query. A catalog that it makes stays for the next one."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        given = setup["server"]
        extra: dict[str, Any] = given["extra"]
        asker = Server.from_connection(given["host"], given["port"], given["login"], given["password"], extra)
        self._status: Mapping[str, Any] = {}
        self._catalog = str(extra.get("worksheet_catalog") or "")
        if not self._catalog:
            self._catalog = _read_only(asker, CatalogConfig(**setup["config"]), extra)
            if own := extra.get("worksheet_user"):
                asker = replace(asker, user=str(own), password=str(extra.get("worksheet_password") or ""))
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
            "text": str(Progress.of(self._status)),
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


def _read_only(owner: Server, config: CatalogConfig, extra: Mapping[str, Any]) -> str:
    """The name of a catalog that shows the lake and lets nobody write; made where there is none."""
    properties = catalog_properties(config, **keys(extra))
    properties["iceberg.security"] = "read_only"
    digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()
    name, client = f"{CATALOG}{digest[:12]}", TrinoClient(owner, Label(SOURCE))
    try:
        if not client.run(f"SHOW CATALOGS LIKE '{name}'", quiet=True).rows:
            made = create_statement(name, properties).replace(
                "CREATE CATALOG", "CREATE CATALOG IF NOT EXISTS", 1
            )
            client.run(made, quiet=True)
    finally:
        client.close()
    return name


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
