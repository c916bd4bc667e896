"""A result's rows as text for a page, as CSV that no spreadsheet takes for formulas, or as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

Format = Literal["rows", "csv", "parquet"]

# What makes a spreadsheet run a cell (also in the wide forms that some of them take for the same); a number may begin so.
_FORMULA, _NUMBER = "^ *[=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20]", r"^[+-][0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"
_TYPES: dict[str, str] = {
    "bool": "boolean", "int8": "tinyint", "int16": "smallint", "int32": "integer", "int64": "bigint", "uint8": "smallint",
    "uint16": "integer", "uint32": "bigint", "uint64": "decimal(20, 0)", "float": "real", "double": "double",
    "string": "varchar", "large_string": "varchar", "string_view": "varchar", "binary": "varbinary",
    "large_binary": "varbinary", "date32[day]": "date", "null": "unknown", "month_day_nano_interval": "interval",
}  # fmt: skip


class Writer(Protocol):
    """Gives the bytes of a result piece by piece."""

    def write(self, batch: pa.RecordBatch) -> bytes: ...

    def close(self) -> bytes: ...


def writer(kind: Format, schema: pa.Schema) -> Writer:
    """A writer of rows with this schema."""
    made: dict[Format, Callable[[pa.Schema], Writer]] = {"rows": _Rows, "csv": _Csv, "parquet": _Parquet}
    return made[kind](schema)


def type_name(kind: pa.DataType) -> str:
    """An Arrow type in Trino's words."""
    if str(kind) in _TYPES:
        return _TYPES[str(kind)]
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp with time zone" if kind.tz else "timestamp"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_map(kind):
        return f"map({type_name(kind.key_type)}, {type_name(kind.item_type)})"
    if pa.types.is_struct(kind):
        return f"row({', '.join(f'{field.name} {type_name(field.type)}' for field in kind)})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"array({type_name(kind.value_type)})"
    return str(kind)


def texts(column: pa.Array) -> pa.Array:
    """A column's values as people read them."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_nested(kind) or kind == pa.month_day_nano_interval():
        return pa.array([_json(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())
    if pa.types.is_timestamp(kind) and not kind.tz and kind.unit == "us":
        # Without the zeros of a fraction that is none.
        return pc.replace_substring_regex(pc.cast(column, pa.string()), r"\.000000$", "")
    return pc.cast(column, pa.string())


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_leaf)


def _leaf(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class _Rows:
    """One line of JSON for each batch; every value is text or null, since JSON's numbers are not exact."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = len(schema)

    def write(self, batch: pa.RecordBatch) -> bytes:
        columns = [texts(batch.column(number)).to_pylist() for number in range(self._columns)]
        rows = list(zip(*columns, strict=True))
        line = json.dumps({"type": "rows", "rows": rows}, ensure_ascii=False, separators=(",", ":"))
        return line.encode("utf-8", "replace") + b"\n"

    def close(self) -> bytes:
        return b""


class _Csv:
    def __init__(self, schema: pa.Schema) -> None:
        names = [harmless(pa.array([name])).to_pylist()[0] for name in schema.names]
        quoted = ",".join('"' + name.replace('"', '""') + '"' for name in names)
        self._head = f"{quoted}\n".encode()

    def write(self, batch: pa.RecordBatch) -> bytes:
        columns = [_cells(column) for column in batch.columns]
        sink = io.BytesIO()
        table = pa.Table.from_arrays(columns, names=[str(number) for number in range(len(columns))])
        csv.write_csv(table, sink, csv.WriteOptions(include_header=False))
        return self._taken() + sink.getvalue()

    def close(self) -> bytes:
        return self._taken()

    def _taken(self) -> bytes:
        head, self._head = self._head, b""
        return head


def _cells(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    return harmless(texts(column))


def harmless(column: pa.Array) -> pa.Array:
    """Texts that no spreadsheet runs: one that begins like a formula gets an apostrophe before it."""
    risky = pc.and_(
        pc.match_substring_regex(column, _FORMULA), pc.invert(pc.match_substring_regex(column, _NUMBER))
    )
    return pc.if_else(
        risky,
        pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type)),
        column,
    )


class _Parquet:
    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Taken()
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._sink, "w"), schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch)
        return self._sink.take()

    def close(self) -> bytes:
        self._writer.close()
        return self._sink.take()


class _Taken(io.RawIOBase):
    """A file that hands on what is written to it; it is never read again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
