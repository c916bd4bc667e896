"""Trino's types: as Iceberg's, as Arrow's, and how Trino writes Iceberg's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay.lake.connection import LakeError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.types import IcebergType

Signature = dict[str, Any]
"""A type as Trino's protocol tells it: `rawType`, and `arguments`."""

_ICEBERG = {
    "boolean": "BooleanType",
    **dict.fromkeys(("tinyint", "smallint", "integer"), "IntegerType"),
    "bigint": "LongType",
    "real": "FloatType",
    "double": "DoubleType",
    "date": "DateType",
    "time": "TimeType",
    "timestamp": "TimestampType",
    "timestamp with time zone": "TimestamptzType",
    **dict.fromkeys(("varchar", "char", "uuid", "json"), "StringType"),
    "varbinary": "BinaryType",
}
_WRITTEN = {
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "REAL",
    "string": "VARCHAR",
    "time": "TIME(6)",
    "timestamp": "TIMESTAMP(6)",
    "timestamptz": "TIMESTAMP(6) WITH TIME ZONE",
    "binary": "VARBINARY",
}


def iceberg_type(kind: Signature) -> IcebergType:
    """A Trino type as an Iceberg type; nested field ids are placeholders."""
    from pyiceberg import types

    raw, inner = str(kind["rawType"]), [argument["value"] for argument in kind.get("arguments") or ()]
    if raw in _ICEBERG:
        return getattr(types, _ICEBERG[raw])()  # type: ignore[no-any-return]
    if raw == "decimal":
        return types.DecimalType(int(inner[0]), int(inner[1]))
    if raw == "array":
        return types.ListType(-1, iceberg_type(inner[0]), False)
    if raw == "map":
        return types.MapType(-1, iceberg_type(inner[0]), -2, iceberg_type(inner[1]), False)
    if raw == "row":
        return types.StructType(
            *(
                types.NestedField(-1 - number, _field_name(field, number), iceberg_type(field["typeSignature"]), required=False)
                for number, field in enumerate(inner)
            )
        )  # fmt: skip
    if raw == "unknown":
        raise LakeError("NULL has no type; write CAST(NULL AS varchar) or another type")
    raise LakeError(f"a table cannot hold type {raw}; cast it to varchar or another type")


def arrow_type(kind: Signature) -> pa.DataType:
    """A Trino type as the Arrow type of a result's column."""
    import pyarrow as pa

    raw, inner = str(kind["rawType"]), [argument["value"] for argument in kind.get("arguments") or ()]
    simple: dict[str, pa.DataType] = {
        "boolean": pa.bool_(),
        "tinyint": pa.int8(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "real": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamp with time zone": pa.timestamp("us", "UTC"),
        "varbinary": pa.binary(),
        "unknown": pa.null(),
    }
    if raw in simple:
        return simple[raw]
    if raw == "decimal":
        return pa.decimal128(int(inner[0]), int(inner[1]))
    if raw == "array":
        return pa.list_(arrow_type(inner[0]))
    if raw == "map":
        return pa.map_(arrow_type(inner[0]), arrow_type(inner[1]))
    if raw == "row":
        return pa.struct(
            [
                (_field_name(field, number), arrow_type(field["typeSignature"]))
                for number, field in enumerate(inner)
            ]
        )
    return pa.string()


def plain(value: Any, kind: Signature) -> Any:
    """A value of Trino's client as Arrow takes it: rows as dictionaries, maps as pairs."""
    raw, inner = str(kind["rawType"]), [argument["value"] for argument in kind.get("arguments") or ()]
    if value is None:
        return None
    if raw == "array":
        return [plain(item, inner[0]) for item in value]
    if raw == "map":
        return [(plain(key, inner[0]), plain(item, inner[1])) for key, item in value.items()]
    if raw == "row":
        return {
            _field_name(field, number): plain(item, field["typeSignature"])
            for number, (field, item) in enumerate(zip(inner, value, strict=True))
        }
    return str(value) if raw == "uuid" else value


def written(kind: IcebergType) -> str:
    """An Iceberg type as Trino's SQL writes it."""
    from pyiceberg.types import DecimalType, FixedType, ListType, MapType, StructType

    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, ListType):
        return f"ARRAY({written(kind.element_type)})"
    if isinstance(kind, MapType):
        return f"MAP({written(kind.key_type)}, {written(kind.value_type)})"
    if isinstance(kind, StructType):
        fields = ", ".join(f'"{part.name}" {written(part.field_type)}' for part in kind.fields)
        return f"ROW({fields})"
    if isinstance(kind, FixedType):
        return "VARBINARY"
    return _WRITTEN.get(str(kind), str(kind).upper())


def cast(column: str, given: Signature, to: IcebergType) -> str:
    """SQL that gives a column of a SELECT the type its table has."""
    if given["rawType"] == "json":
        # CAST would take the text out of a JSON string and refuse everything else.
        return f"json_format({column})"
    return f"CAST({column} AS {written(to)})"


def _field_name(field: dict[str, Any], number: int) -> str:
    named = field.get("fieldName") or {}
    return str(named.get("name") or f"field{number}")
