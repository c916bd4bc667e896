"""A person's SELECT on DuckDB: a connection that can read the named tables' files and do nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.session import attached, lock
from forebay.lake.connection import CATALOG, CatalogConfig, LakeError
from forebay.lake.rest import Rest
from forebay.sqlquote import literal

if TYPE_CHECKING:
    import pyarrow as pa

_HARMLESS = ("unnest", "range", "generate_series")
"""Functions that stand for a table and open nothing."""

_PLACES = ("write.data.path", "write.metadata.path", "write.object-storage.path")


class DuckDBReader:
    """Opened before anybody asks, as that takes longer than most queries; used for one query."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._config = CatalogConfig(**setup["config"])
        self._memory = str(setup["memory"])
        self._rest = Rest(self._config)
        self._connection = attached(
            self._config,
            spill=str(setup["folder"]),
            memory_limit=self._memory,
            threads=int(setup["threads"]),
            read_only=True,
        )
        self._connection.execute(f"SET max_temp_directory_size = '{setup['spill']}'")
        # DuckDB works ahead of whoever reads until so much is buffered: the first rows wait for that.
        self._connection.execute("SET streaming_buffer_size = '8KB'")
        for macro in setup["macros"]:
            self._connection.execute(macro)
        # The token, and what the catalog says of itself.
        self._rest.tables([])

    def open(self, sql: str, reads: Sequence[str], explain: bool, batch: int) -> pa.RecordBatchReader:
        """Starts a SELECT. Raises EngineError and LakeError."""
        import duckdb

        lock(self._connection, self._folders(reads))
        try:
            self._refuse_all_but_a_select(sql, reads)
            if explain:
                return _plan(self._connection.execute(f"EXPLAIN {sql}").fetchall())
            return self._connection.execute(sql).to_arrow_reader(batch)
        except duckdb.Error as error:
            raise self.explained(error) from None

    def batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The rows. Raises EngineError."""
        import duckdb
        import pyarrow as pa

        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self.explained(error) from None

    def progress(self) -> dict[str, Any]:
        """How far the query is, in percent; nothing where DuckDB cannot tell."""
        percent = self._connection.query_progress()
        return {"percent": round(percent, 1)} if percent >= 0 else {}

    def stop(self) -> None:
        """Nothing is left elsewhere: the process just ends."""

    def explained(self, error: Exception) -> EngineError:
        """What DuckDB said, without the SQL that it was given: that is not the text the person wrote."""
        text = self._config.redact(str(error)).strip()
        text = re.sub(r"\n+LINE \d+:.*", "", text, flags=re.DOTALL)
        text = re.sub(r"^(Binder|Parser|Catalog|Invalid Input|Conversion|Permission) Error: ", "", text)
        text = text.replace(f"{CATALOG}.", "")
        if "Out of Memory" in text or "bad_alloc" in text:
            text = (
                f"The query needs more memory than a query may take ({self._memory}). Select or group less."
            )
        elif "temp_directory_size" in text:
            text = "The query needs more disk than a query may take. Select, sort or group less."
        return EngineError(text[:2000])

    def _folders(self, reads: Sequence[str]) -> list[str]:
        """Where the files of these tables are: nothing else is opened, whatever the SQL says."""
        found = self._rest.tables(reads)
        if missing := [name for name in reads if name not in found]:
            raise LakeError(f"There is no table {missing[0]}.")
        places = []
        for document in found.values():
            kept = document.get("properties") or {}
            places += [str(document["location"]), *(str(kept[name]) for name in _PLACES if kept.get(name))]
        return [f"{re.sub('^s3[an]:', 's3:', place).rstrip('/')}/" for place in places]

    def _refuse_all_but_a_select(self, sql: str, reads: Sequence[str]) -> None:
        """By DuckDB's own parser: one SELECT, from these tables of the catalog."""
        import duckdb

        statements = self._connection.extract_statements(sql)
        if [each.type for each in statements] != [duckdb.StatementType.SELECT]:
            raise EngineError("Only one SELECT runs here.")
        # As a literal: for a bound value DuckDB imports pandas first, which takes longer than most queries.
        row = self._connection.execute(f"SELECT json_serialize_sql({literal(sql)}::VARCHAR)").fetchone()
        named, ctes = set(), set()
        for node in _nodes(json.loads(row[0] if row else "{}")):
            kind = node.get("type")
            if kind == "BASE_TABLE":
                parts = (node["catalog_name"], node["schema_name"], node["table_name"])
                named.add(".".join(part for part in parts if part))
            elif kind == "TABLE_FUNCTION" and node["function"]["function_name"] not in _HARMLESS:
                raise EngineError("The query may read tables only.")
            elif kind == "SHOW_REF":
                raise EngineError("Only a SELECT runs here.")
            if isinstance(node.get("cte_map"), dict):
                ctes |= {str(each["key"]) for each in node["cte_map"]["map"]}
        allowed = {f"{CATALOG}.{name}" for name in reads} | ctes
        if other := sorted(named - allowed):
            raise EngineError(f"The query may not read {other[0]}.")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document."""
    found = [tree]
    while found:
        each = found.pop()
        if isinstance(each, dict):
            yield each
            found += each.values()
        elif isinstance(each, list):
            found += each


def _plan(rows: list[tuple[Any, ...]]) -> pa.RecordBatchReader:
    import pyarrow as pa

    lines = [line for row in rows for line in str(row[-1]).splitlines()]
    return pa.table({"plan": pa.array(lines, pa.string())}).to_reader()
