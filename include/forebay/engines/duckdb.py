"""SQL on DuckDB: a SELECT into a table, statements as they are, or rows to look at."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from forebay.engines import merge
from forebay.engines.audit import audited
from forebay.engines.background import Background, EngineError
from forebay.engines.columns import Plan, plan, result_columns, sql_name
from forebay.engines.results import TableResult
from forebay.engines.session import connect, remove_spill, spill_folder
from forebay.lake.branch import PARTITIONS, REPLAY
from forebay.lake.commit import ATTEMPTS, Conflict, Draft, is_conflict
from forebay.lake.connection import CATALOG, CatalogConfig, LakeError
from forebay.lake.datafiles import DataFileWriter
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.lake.unpublished import explained
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from pyiceberg.table import Table

    from forebay.sqltext import Statement

Mode = Literal["overwrite", "overwrite_partitions", "append", "merge"]
Result = TypeVar("Result")
BATCH_ROWS = 65_536
_AWAY = re.compile("Could not (establish connection|connect to server)|Failed to connect|HTTP 5[0-9][0-9]")


class DuckDBEngine:
    """One task's DuckDB. Use it with `with`; `cancel` may be called from a signal handler at any time.

    SQL given to it is DuckDB's, with tables written lake.namespace.table (see forebay.sqltext).
    """

    def __init__(
        self,
        config: CatalogConfig,
        *,
        memory_limit: str = "1GB",
        threads: int = 2,
        folders: Sequence[str] = (),
        macros: Sequence[str] = (),
        secrets: Sequence[str] = (),
    ) -> None:
        self.config = config
        self._memory_limit, self._threads, self._folders, self._macros = (
            memory_limit,
            threads,
            folders,
            macros,
        )
        self._secrets = secrets
        self._connection: DuckDBPyConnection | None = None
        self._spill = ""
        self.background: Background[Any] = Background(self._interrupt)

    def __enter__(self) -> DuckDBEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection and of what it spilled."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._spill:
            remove_spill(self._spill)
            self._spill = ""

    def cancel(self) -> None:
        """Stop what runs; the waiting call raises Cancelled. Nothing is committed after that."""
        self.background.cancel()

    def _interrupt(self) -> None:
        if self._connection is not None:
            self._connection.interrupt()

    @staticmethod
    def dialect(statement: Statement) -> str:
        """A statement as this engine takes it."""
        from forebay.sqltext import to_duckdb

        return to_duckdb(statement)

    @property
    def connection(self) -> DuckDBPyConnection:
        """The locked-down connection, opened at first use."""
        if self._connection is None:
            self._spill = spill_folder()
            self._connection = connect(
                self.config,
                spill=self._spill,
                memory_limit=self._memory_limit,
                threads=self._threads,
                folders=self._folders,
                secrets=self._secrets,
            )
            for macro in self._macros:
                self._connection.execute(macro)
        return self._connection

    def write(
        self,
        select: str,
        definition: TableDefinition,
        mode: Mode = "overwrite",
        merge_key: Sequence[str] = (),
    ) -> TableResult:
        """Put a SELECT's rows into a table, created when missing, in one commit.

        A column the table lacks is added; one the SELECT lacks stays NULL (merge: keeps its value).
        """
        return self._run(lambda: self._write(select, definition, mode, tuple(merge_key)))

    def execute(self, statements: Sequence[str]) -> list[int | None]:
        """Run statements in turn, each its own commit; the rows each changed, where DuckDB says so."""
        return self._run(lambda: [self._statement(text) for text in statements])

    def query(self, select: str, limit: int | None = None) -> pa.Table:
        """The rows of a SELECT as an Arrow table, at most `limit`."""
        bounded = select if limit is None else f"SELECT * FROM ({select}\n) LIMIT {int(limit)}"
        return self._run(lambda: self.connection.execute(bounded).to_arrow_table())

    def work(self, function: Callable[[], Result]) -> Result:
        """Run a function of several steps on `connection`, where `cancel` can stop it between them."""
        return self._run(function)

    def batches(self, select: str) -> Iterator[pa.RecordBatch]:
        """The rows of a SELECT, streamed; for the thread that calls."""
        yield from self.connection.execute(select).to_arrow_reader(BATCH_ROWS)

    def _run(self, work: Callable[[], Result]) -> Result:
        import duckdb

        try:
            result: Result = self.background.run(work)
            return result
        except duckdb.Error as error:
            raise EngineError(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        import duckdb

        text = self.config.redact(str(error)).strip()
        if isinstance(error, duckdb.OutOfMemoryException):
            text += (
                f"\nThe query needed more than memory_limit ({self._memory_limit}). Raise memory_limit in "
                "the extra of the SQL connection, or select less."
            )
        if isinstance(error, duckdb.IOException) and _AWAY.search(text):
            text += "\nIs it up? forebay status"
        return text

    def _statement(self, text: str) -> int | None:
        import duckdb

        for attempt in range(ATTEMPTS):
            self.background.check()
            try:
                row = self.connection.execute(text).fetchone()
                return (
                    int(row[0]) if row and isinstance(row[0], int) and not isinstance(row[0], bool) else None
                )
            except duckdb.Error as error:
                if attempt == ATTEMPTS - 1 or not is_conflict(error):
                    raise
                time.sleep(0.1 * 2**attempt)
        return None

    def _write(
        self, select: str, definition: TableDefinition, mode: Mode, key: tuple[str, ...]
    ) -> TableResult:
        started = time.monotonic()
        for attempt in range(ATTEMPTS):
            with ThreadPoolExecutor(1) as beside:
                # Opening DuckDB takes as long as the first word with catalog and store, and neither waits for the other.
                opening = beside.submit(lambda: self.connection)
                table = load(self.config, definition.name)
                if table is not None:
                    table.io.new_output(table.location())
                opening.result()
            try:
                columns = result_columns(self.connection, select)
                rows = audited(select, [name for name, _ in columns], definition)
                if rows != select:
                    columns = result_columns(self.connection, rows)
                self.background.check()
                with explained(self.config, definition, table):
                    schema = table.schema() if table is not None else None
                    columns_plan = plan(definition.name, schema, columns)
                    draft = Draft(
                        self.config,
                        definition,
                        [(name, kind) for name, kind, _ in columns_plan.columns],
                        table,
                        columns_plan.add,
                        columns_plan.widen,
                    )
                    if mode == "overwrite_partitions" and draft.metadata.spec().is_unpartitioned():
                        raise LakeError(
                            f"{definition.name} has no partitions, so mode: overwrite_partitions has nothing to "
                            "go by. Use overwrite or merge, or set partitioned_by before the table is created."
                        )
                if mode == "merge":
                    result = merge.run(self, rows, columns_plan, draft, key)
                else:
                    result = self._replace(rows, columns_plan, draft, mode)
                return finish(result, started)
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _replace(self, select: str, columns: Plan, draft: Draft, mode: Mode) -> TableResult:
        files, written = self.files(columns.select(f"({select}\n)"), draft)
        replace: dict[str, Any] = {"overwrite": "everything", "overwrite_partitions": "partitions"}
        # An overwrite of an empty table takes nothing out, but is no mere append either.
        properties = {"overwrite": {REPLAY: "no"}, "overwrite_partitions": {REPLAY: PARTITIONS}}.get(mode)
        table, taken = draft.commit(files, replace.get(mode, "nothing"), properties=properties)
        return result_of(table, draft, mode, inserted=written, deleted=taken)

    def files(self, select: str, draft: Draft) -> tuple[list[Any], int]:
        """Write a SELECT's rows (the draft's columns, in order) as data files; not committed yet."""
        if order := ordering(draft):
            select = f"SELECT * FROM ({select}) ORDER BY {order}"
        writer = DataFileWriter(draft.metadata, draft.io)
        for batch in self.connection.execute(select).to_arrow_reader(BATCH_ROWS):
            self.background.check()
            writer.write(batch)
        files = writer.close()
        self.background.check()
        return files, writer.rows


def lake_name(table: str) -> str:
    """A table's name as DuckDB needs it."""
    return ".".join([CATALOG, *(quoted(part) for part in table.split("."))])


def ordering(draft: Draft) -> str:
    """ORDER BY terms that put the rows of one file together, then in the table's sort order."""
    schema, metadata = draft.schema(), draft.metadata
    terms = []
    for field in metadata.spec().fields:
        column, transform = quoted(schema.find_column_name(field.source_id) or ""), str(field.transform)
        if transform in ("year", "month", "day", "hour"):
            terms.append(f"date_trunc('{transform}', {column})")
        elif transform.startswith("truncate") and sql_name(schema.find_type(field.source_id)) == "VARCHAR":
            terms.append(f"left({column}, {int(transform[9:-1])})")
        elif not transform.startswith("bucket"):
            terms.append(column)
    return ", ".join(filter(None, (*terms, sorting(draft))))


def sorting(draft: Draft) -> str:
    """ORDER BY terms of the table's sort order."""
    schema, metadata, terms = draft.schema(), draft.metadata, []
    order = metadata.sort_order_by_id(metadata.default_sort_order_id)
    for field in order.fields if order else ():
        column = quoted(schema.find_column_name(field.source_id) or "")
        terms.append(f"{column} {field.direction.name} {field.null_order.name.replace('_', ' ')}")
    return ", ".join(terms)


def result_of(
    table: Table, draft: Draft, mode: str, *, inserted: int = 0, updated: int = 0, deleted: int = 0
) -> TableResult:
    """The report of a commit."""
    return TableResult(
        table=draft.definition.name,
        mode=mode,
        rows=row_count(table),
        snapshot_id=table.metadata.current_snapshot_id,
        created=draft.creates,
        inserted=inserted,
        updated=updated,
        deleted=deleted,
    )


def finish(result: TableResult, started: float) -> TableResult:
    """The same with the time it took."""
    from dataclasses import replace

    return replace(result, seconds=round(time.monotonic() - started, 3))
