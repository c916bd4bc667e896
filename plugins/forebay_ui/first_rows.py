"""The first rows of one data file, page by page: PyIceberg's own scan reads whole files, and several ahead."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forebay.lake.connection import LakeError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table

MOST = 64_000_000
"""Bytes of rows, and of the files of deletes that go with them, that are held at a time."""
_BUFFER = 1 << 20
_MANY = 4096


def batches(table: "Table", task: "FileScanTask", wanted: "Schema", limit: int) -> Iterator["pa.RecordBatch"]:
    """The file's rows in the table's columns, some at a time, without those that were deleted.

    Raises LakeError where the file is not Parquet, or its rows or deletes are too large for a page.
    """
    import pyarrow.parquet as pq
    from pyiceberg.io import pyarrow as iceberg
    from pyiceberg.manifest import FileFormat
    from pyiceberg.schema import prune_columns

    if task.file.file_format != FileFormat.PARQUET:
        raise LakeError(
            f"Its files are {task.file.file_format}, which is not read for a page: query the table."
        )
    if sum(each.file_size_in_bytes for each in task.delete_files) > MOST:
        raise LakeError(f"More than {MOST // 1_000_000} MB of deletes go with its rows: query the table.")
    deletes = iceberg._read_all_delete_files(table.io, [task]).get(task.file.file_path)
    version = table.metadata.format_version
    with (
        table.io.new_input(task.file.file_path).open() as source,
        pq.ParquetFile(source, buffer_size=_BUFFER) as file,
    ):
        schema = iceberg.pyarrow_to_schema(
            file.schema_arrow, table.metadata.name_mapping(), version <= 2, format_version=version
        )
        missing = iceberg._get_column_projection_values(
            task.file,
            wanted,
            table.metadata.schema(),
            table.metadata.specs().get(task.file.spec_id),
            schema.field_ids,
        )
        kept = prune_columns(schema, _leaves(wanted), select_full_types=False)
        columns = [field.name for field in kept.columns]
        place = 0
        for batch in file.iter_batches(_size(file, limit, bool(deletes)), columns=columns, use_threads=False):
            begin, place = place, place + batch.num_rows
            if deletes:
                batch = batch.take(iceberg._combine_positional_deletes(deletes, begin, place))
            if batch.num_rows:
                yield iceberg._to_requested_schema(
                    wanted,
                    kept,
                    batch,
                    version <= 2,
                    projected_missing_fields=missing,
                    allow_timestamp_tz_mismatch=True,
                )


def _size(file: Any, limit: int, deletes: bool) -> int:
    """How many rows are taken at a time: as many as are wanted, or more where many may be deleted."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    each = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0.0)
    if each * limit > MOST:
        raise LakeError(
            f"Its rows are larger than {MOST // limit // 1_000_000} MB each: query the columns that you need."
        )
    return max(limit, min(_MANY, int(MOST / max(1.0, each)))) if deletes else limit


def _leaves(wanted: "Schema") -> set[int]:
    """The columns' numbers as PyIceberg takes them: of nested ones what is in them."""
    from pyiceberg.types import ListType, MapType

    return {
        number for number in wanted.field_ids if not isinstance(wanted.find_type(number), (MapType, ListType))
    }
