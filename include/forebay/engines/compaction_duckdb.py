"""What Trino's optimize does, where SQL runs on DuckDB: files are read with their deletes and written as fewer ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from forebay.engines.duckdb import BATCH_ROWS, DuckDBEngine, lake_name, ordering, sorting
from forebay.lake.commit import Draft
from forebay.lake.connection import LakeError
from forebay.lake.datafiles import DataFileWriter, one_file
from forebay.lake.tables import TableDefinition

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table

_FULL = 2
"""Files are put together until they have this many times the size of a small one. What they become is then large, also
where it takes less room than they did, so that no file is written anew for ever."""
_ROWS = "forebay_rows"


def rewrite(engine: DuckDBEngine, name: str, table: Table, small: int) -> None:
    """Commits a snapshot on the engine's branch of `table` in which larger files take the place of small ones.

    PyIceberg reads them, by the ids of their columns and without deleted rows; DuckDB sorts them where the table is
    sorted, and counts the table's rows before and after, for it finds deleted rows by a way of its own. Raises Conflict
    where somebody else wrote the branch meanwhile, and LakeError where rows would be lost or come back.
    """
    rows = _count(engine, name)
    draft = Draft(engine.config, TableDefinition(name), (), table)
    made: list[DataFile] = []
    gone: list[FileScanTask] = []
    readable = [task for task in table.scan().plan_files() if _replaceable(table, task)]
    for together in chosen(readable, small):
        engine.background.check()
        files = _written(engine, draft, table, together)
        before, after = (
            sum(each.record_count for each in some) for some in ([t.file for t in together], files)
        )
        if after > before or (after < before and not any(each.delete_files for each in together)):
            raise LakeError(
                f"{name}: {before:,} rows were to be read and {after:,} were. Nothing was changed."
            )
        made += files
        gone += together
    if not gone:
        return
    engine.background.check()
    draft.commit(made, "form", [each.file.file_path for each in gone])
    if (now := _count(engine, name)) != rows:
        raise LakeError(f"{name}: DuckDB counts {rows:,} rows and then {now:,}. Nothing was changed.")


def chosen(tasks: Sequence[FileScanTask], small: int) -> list[list[FileScanTask]]:
    """Files that become one, partition by partition: small ones, and all with deleted rows."""
    parts: dict[object, list[list[FileScanTask]]] = defaultdict(lambda: [[]])
    for task in tasks:
        if task.file.file_size_in_bytes >= small and not task.delete_files:
            continue
        groups = parts[task.file.spec_id, task.file.partition]
        if sum(each.file.file_size_in_bytes for each in groups[-1]) >= _FULL * small:
            groups.append([])
        groups[-1].append(task)
    return [
        group
        for groups in parts.values()
        for group in groups
        if len(group) > 1 or any(each.delete_files for each in group)
    ]


def _replaceable(table: Table, task: FileScanTask) -> bool:
    """Whether PyIceberg finds its manifest: not by a partition of a column that was dropped since."""
    fields = table.specs()[task.file.spec_id].fields
    return {each.source_id for each in fields} <= table.schema().field_ids


def _written(
    engine: DuckDBEngine, draft: Draft, table: Table, together: Sequence[FileScanTask]
) -> list[DataFile]:
    metadata, first = draft.metadata, together[0].file
    today = first.spec_id == metadata.default_spec_id
    rows = _read(engine, table, together)
    order = sorting(draft) if today else ordering(draft)
    if order and _comes_back(table):
        rows = _sorted(engine, table, rows, order)
    if today:
        file = one_file(metadata, draft.io, first.partition, rows)
        return [] if file is None else [file]
    # Of another partitioning: one file may have rows of several of today's partitions.
    writer = DataFileWriter(metadata, draft.io)
    for batch in rows:
        writer.write(batch)
    return writer.close()


def _read(engine: DuckDBEngine, table: Table, together: Sequence[FileScanTask]) -> Iterator[pa.RecordBatch]:
    """The files' rows in today's columns, one file after the other and never a whole one in memory."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files

    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    for task in together:
        deletes = _read_all_delete_files(table.io, [task])
        for batch in _cast(table, scan._record_batches_from_scan_tasks_and_deletes([task], deletes)):
            engine.background.check()
            yield batch


def _comes_back(table: Table) -> bool:
    """Whether DuckDB gives all of the table's types back as it was given them. Without that, rows stay in their order."""
    from pyiceberg.types import FixedType, UUIDType

    schema = table.schema()
    return not any(isinstance(schema.find_type(each), FixedType | UUIDType) for each in schema.field_ids)


def _sorted(
    engine: DuckDBEngine, table: Table, rows: Iterator[pa.RecordBatch], order: str
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    columns = schema_to_pyarrow(table.schema(), include_field_ids=False)
    engine.connection.register(_ROWS, pa.RecordBatchReader.from_batches(columns, rows))
    try:
        found = engine.connection.execute(f"SELECT * FROM {_ROWS} ORDER BY {order}")
        yield from _cast(table, found.to_arrow_reader(BATCH_ROWS))
    finally:
        engine.connection.unregister(_ROWS)


def _cast(table: Table, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """With the types that the table's columns have, which differ from file to file: large texts, how NULL is told."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    columns = schema_to_pyarrow(table.schema(), include_field_ids=False)
    for batch in batches:
        yield from pa.Table.from_batches([batch]).cast(columns).to_batches()


def _count(engine: DuckDBEngine, name: str) -> int:
    row = engine.connection.execute(f"SELECT count(*) FROM {lake_name(name)}").fetchone()
    assert row is not None
    return int(row[0])
