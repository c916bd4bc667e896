"""Write record batches as the data files of a table, one partition per file, in bounded memory."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from forebay.lake.store import asked

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionKey
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.typedef import Record

FLUSH_BYTES = 96 * 1024 * 1024
"""Arrow bytes held before a file is written; Parquet makes them three to ten times smaller."""


class DataFileWriter:
    """Takes batches in the table's column order, gives data files that no snapshot names yet.

    Batches sorted by partition make the fewest files. PyIceberg's own writer streams to unpartitioned tables
    only and needs a compiled extra for bucket and month, so partitions are split here.
    """

    def __init__(self, metadata: TableMetadata, io: FileIO, flush_bytes: int = FLUSH_BYTES) -> None:
        self._metadata, self._io, self._flush_bytes = metadata, io, flush_bytes
        self._uuid, self._numbers = uuid.uuid4(), itertools.count()
        self._batches: list[pa.RecordBatch] = []
        self._held = 0
        self.rows = 0
        self.files: list[DataFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        self._batches.append(batch)
        self._held += batch.nbytes
        self.rows += batch.num_rows
        if self._held >= self._flush_bytes:
            self._flush()

    def close(self) -> list[DataFile]:
        self._flush()
        return self.files

    def _flush(self) -> None:
        if not self._batches:
            return
        import pyarrow as pa
        from pyiceberg.io.pyarrow import write_file
        from pyiceberg.table import WriteTask

        table = pa.Table.from_batches(self._batches)
        self._batches, self._held = [], 0
        schema = self._metadata.schema()
        tasks = (
            WriteTask(
                write_uuid=self._uuid,
                task_id=next(self._numbers),
                schema=schema,
                record_batches=part.to_batches(),
                partition_key=key,
            )
            for key, part in self._parts(table)
        )
        with asked(str(self._io.properties.get("s3.endpoint", ""))):
            self.files.extend(write_file(self._io, self._metadata, tasks))

    def _parts(self, table: pa.Table) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
        spec = self._metadata.spec()
        if spec.is_unpartitioned():
            yield None, table
            return
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
        from pyiceberg.typedef import Record

        schema = self._metadata.schema()
        names = [f"k{number}" for number in range(len(spec.fields))]
        codes: list[Any] = []
        values: list[list[Any]] = []
        for field in spec.fields:
            column = schema.find_column_name(field.source_id) or ""
            source = schema.find_type(field.source_id)
            code, distinct = _grouped(
                table[column].combine_chunks(), str(field.transform), _partitioner(field, source)
            )
            codes.append(code)
            values.append(distinct)
        keys = pa.table(codes, names=names)
        ascending = [(name, "ascending") for name in names]
        order = pc.sort_indices(keys, sort_keys=ascending)
        groups = keys.group_by(names).aggregate([([], "count_all")]).sort_by(ascending).to_pylist()
        if len(groups) > 1:
            table = table.take(order)
        start = 0
        for group in groups:
            record = [values[number][group[name]] for number, name in enumerate(names)]
            pairs = zip(spec.fields, record, strict=True)
            key = PartitionKey([PartitionFieldValue(field, value) for field, value in pairs], spec, schema)
            # Its own derivation refuses two partition fields over one column.
            key.__dict__["partition"] = Record(*record)
            yield key, table.slice(start, group["count_all"])
            start += group["count_all"]


def one_file(
    metadata: TableMetadata, io: FileIO, partition: Record, batches: Iterable[pa.RecordBatch]
) -> DataFile | None:
    """Rows of one partition of today's partitioning as one file, however many; None where there are none.

    As PyIceberg's `write_file`, which holds a file's rows in memory: here it is a row group's.
    """
    import pyarrow as pa
    from pyiceberg.io.fileformat import FileFormatFactory
    from pyiceberg.io.pyarrow import _to_requested_schema
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.partitioning import PartitionKey
    from pyiceberg.schema import sanitize_column_names
    from pyiceberg.table.locations import load_location_provider

    schema, spec = metadata.schema(), metadata.spec()
    in_file, model = sanitize_column_names(schema), FileFormatFactory.get(FileFormat.PARQUET)
    key = PartitionKey([], spec, schema)
    key.__dict__["partition"] = partition
    places = load_location_provider(metadata.location, metadata.properties)
    name = f"00000-0-{uuid.uuid4()}.{model.file_extension()}"
    output = io.new_output(places.new_data_location(name, None if spec.is_unpartitioned() else key))
    writer = model.create_writer(output, in_file, metadata.properties)
    rows = 0
    with asked(str(io.properties.get("s3.endpoint", ""))):
        try:
            for group in _groups(batches):
                parts = [
                    _to_requested_schema(in_file, schema, batch, include_field_ids=True, format_model=model)
                    for batch in group
                ]
                writer.write(pa.Table.from_batches(parts))
                rows += sum(batch.num_rows for batch in group)
        finally:
            if rows:
                writer.close()
    if not rows:
        return None
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=output.location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=len(output),
        sort_order_id=None,
        spec_id=spec.spec_id,
        equality_ids=None,
        key_metadata=None,
        **writer.result().to_serialized_dict(),
    )


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches with rows, as many together as a row group takes."""
    group: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        if batch.num_rows:
            group.append(batch)
            held += batch.nbytes
        if held >= FLUSH_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _partitioner(field: Any, source: Any) -> Callable[[Any], Any]:
    from pyiceberg.partitioning import _to_partition_representation

    transform = field.transform.transform(source)
    return lambda value: transform(_to_partition_representation(source, value))


def _grouped(array: pa.Array, transform: str, partition: Callable[[Any], Any]) -> tuple[pa.Array, list[Any]]:
    """A group number for each row, and for each number its partition value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Fewer distinct values to look at one by one: times are cut to the unit first, texts to the width.
    if transform in ("year", "month", "day", "hour"):
        array = pc.floor_temporal(array, unit=transform)
    elif transform.startswith("truncate") and pa.types.is_string(array.type):
        array = pc.utf8_slice_codeunits(array, 0, int(transform[9:-1]))
    encoded = array.dictionary_encode(null_encoding="encode")
    groups: dict[Any, int] = {}
    numbers = [groups.setdefault(partition(value), len(groups)) for value in encoded.dictionary.to_pylist()]
    return pa.array(numbers, pa.int32()).take(encoded.indices), list(groups)
