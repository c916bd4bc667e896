"""Which column types a SELECT gives, which the table has, and how the one fits the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.lake.connection import LakeError
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType

# Unsigned and huge integers become bigint as Trino's sum and count are; a value too large fails the cast.
_SIMPLE = {
    "boolean": "boolean",
    **dict.fromkeys(("tinyint", "smallint", "integer", "utinyint", "usmallint"), "int"),
    **dict.fromkeys(("bigint", "uinteger", "ubigint", "hugeint", "uhugeint"), "long"),
    "float": "float",
    "double": "double",
    "date": "date",
    "time": "time",
    **dict.fromkeys(("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"), "timestamp"),
    "timestamp with time zone": "timestamptz",
    **dict.fromkeys(("varchar", "enum", "uuid", "json"), "string"),
    "blob": "binary",
}
_NAMES = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
    "uuid": "UUID",
    "binary": "BLOB",
}
_TRINO = {
    "int": "integer",
    "long": "bigint",
    "float": "real",
    "string": "varchar",
    "timestamptz": "timestamp with time zone",
    "binary": "varbinary",
}


@dataclass(frozen=True)
class Plan:
    """How a SELECT's columns become the table's: the columns in table order and what the table gains."""

    columns: tuple[tuple[str, IcebergType, str | None], ...]
    """Name, type, and the SELECT's column that fills it (None: stays NULL)."""
    add: tuple[tuple[str, IcebergType], ...] = ()
    widen: tuple[tuple[str, IcebergType], ...] = ()

    def select(self, source: str, only_given: bool = False) -> str:
        """SQL that gives the table's columns from the relation `source`."""
        parts = [
            f"CAST({quoted(given) if given else 'NULL'} AS {sql_name(kind)}) AS {quoted(name)}"
            for name, kind, given in self.columns
            if given or not only_given
        ]
        return f"SELECT {', '.join(parts)} FROM {source}"


def result_columns(connection: DuckDBPyConnection, select: str) -> list[tuple[str, Any]]:
    """Names and DuckDB types of a SELECT's columns, without running it."""
    relation = connection.sql(select)
    return list(zip(relation.columns, relation.types, strict=True))


def plan(
    table: str,
    schema: Schema | None,
    columns: Sequence[tuple[str, Any]],
    source: str = "the SELECT",
    type_of: Callable[[Any], IcebergType] | None = None,
) -> Plan:
    """Fit columns (name, the engine's type; DuckDB's unless `type_of` reads another's) to the table's schema, or to a new table when there is none.

    Names become lower case, as in Trino. Raises LakeError that names every column that does not fit.
    """
    problems = []
    given: dict[str, tuple[str, IcebergType]] = {}
    for name, kind in columns:
        if name.lower() in given:
            problems.append(f"{source} has two columns {name.lower()!r}: name one of them with AS")
            continue
        try:
            given[name.lower()] = (name, (type_of or iceberg_type)(kind))
        except LakeError as error:
            problems.append(f"column {name!r}: {error}")
    ordered: list[tuple[str, IcebergType, str | None]] = []
    widen = []
    for column in schema.fields if schema is not None else ():
        found = given.pop(column.name.lower(), None)
        if found is None:
            if column.required:
                problems.append(f"{source} lacks the required column {column.name!r}")
            ordered.append((column.name, column.field_type, None))
            continue
        final = fit(found[1], column.field_type)
        if final is None:
            want, have = trino_name(column.field_type), trino_name(found[1])
            problems.append(
                f"column {column.name!r} is {want} in the table and {have} in {source}: "
                f"use CAST({found[0]} AS {want})"
            )
            continue
        if final != column.field_type:
            widen.append((column.name, final))
        ordered.append((column.name, final, found[0]))
    new = [(name, kind) for name, (_, kind) in given.items()]
    if problems:
        raise LakeError(f"{table}: {'; '.join(problems)}.")
    ordered.extend((name, kind, given[name][0]) for name, kind in new)
    return Plan(tuple(ordered), tuple(new) if schema is not None else (), tuple(widen))


def iceberg_type(kind: Any) -> IcebergType:
    """A DuckDB type as an Iceberg type; nested field ids are placeholders."""
    from pyiceberg.types import DecimalType, ListType, MapType, NestedField, StructType

    if kind.id in _SIMPLE:
        return _primitive(_SIMPLE[kind.id])
    if kind.id == "decimal":
        (_, precision), (_, scale) = kind.children
        return DecimalType(precision, scale)
    if kind.id in ("list", "array"):
        return ListType(-1, iceberg_type(kind.children[0][1]), False)
    if kind.id == "map":
        key, value = (iceberg_type(child) for _, child in kind.children)
        return MapType(-1, key, -2, value, False)
    if kind.id == "struct":
        return StructType(
            *(
                NestedField(-1 - number, name, iceberg_type(child), required=False)
                for number, (name, child) in enumerate(kind.children)
            )
        )
    if kind.id in ("sqlnull", "null", "unknown"):
        raise LakeError("NULL has no type; write CAST(NULL AS varchar) or another type")
    raise LakeError(f"a table cannot hold type {kind}; cast it to varchar or another type")


def _primitive(name: str) -> IcebergType:
    from pyiceberg import types

    classes = {"int": "Integer", "timestamptz": "Timestamptz"}
    return getattr(types, f"{classes.get(name, name.capitalize())}Type")()  # type: ignore[no-any-return]


def fit(have: IcebergType, want: IcebergType) -> IcebergType | None:
    """The type the table's column needs to take these values: `want`, a wider one, or None.

    Iceberg can widen int to bigint, real to double and a decimal's precision; values are cast as Trino casts
    them on its own (integer to double, date to timestamp), never by cutting something off.
    """
    from pyiceberg.types import DecimalType, ListType, MapType, StructType

    names = (str(have), str(want))
    if sql_name(have) == sql_name(want) or names in _IMPLICIT:
        return want
    if names in (("long", "int"), ("double", "float")):
        return have
    if isinstance(want, DecimalType) and names[0] in ("int", "long"):
        return want
    if isinstance(have, DecimalType) and names[1] == "double":
        return want
    if isinstance(have, DecimalType) and isinstance(want, DecimalType):
        digits = max(have.precision - have.scale, want.precision - want.scale) + want.scale
        return DecimalType(digits, want.scale) if have.scale <= want.scale and digits <= 38 else None
    if isinstance(have, ListType) and isinstance(want, ListType):
        return want if fit(have.element_type, want.element_type) == want.element_type else None
    if isinstance(have, MapType) and isinstance(want, MapType):
        same = fit(have.key_type, want.key_type) == want.key_type
        return want if same and fit(have.value_type, want.value_type) == want.value_type else None
    if isinstance(have, StructType) and isinstance(want, StructType):
        if [field.name.lower() for field in have.fields] != [field.name.lower() for field in want.fields]:
            return None
        pairs = zip(have.fields, want.fields, strict=True)
        return (
            want if all(fit(one.field_type, two.field_type) == two.field_type for one, two in pairs) else None
        )
    return None


_IMPLICIT = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "double"),
    ("float", "double"),
    ("date", "timestamp"),
    ("string", "uuid"),
}


def sql_name(kind: IcebergType) -> str:
    """The DuckDB name of an Iceberg type."""
    from pyiceberg.types import DecimalType, FixedType, ListType, MapType, StructType

    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, ListType):
        return f"{sql_name(kind.element_type)}[]"
    if isinstance(kind, MapType):
        return f"MAP({sql_name(kind.key_type)}, {sql_name(kind.value_type)})"
    if isinstance(kind, StructType):
        return (
            f"STRUCT({', '.join(f'{quoted(part.name)} {sql_name(part.field_type)}' for part in kind.fields)})"
        )
    if isinstance(kind, FixedType):
        return "BLOB"
    try:
        return _NAMES[str(kind)]
    except KeyError:
        raise LakeError(f"a column of type {kind} cannot be written here") from None


def trino_name(kind: IcebergType) -> str:
    """The name of the type as a person writes it in SQL."""
    return _TRINO.get(str(kind), str(kind))
