"""A table's columns as the rules see them, and the values of a rule in a column's type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError, suggestion

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.types import IcebergType

NUMBERS = ("int", "long", "float", "double", "decimal")
FLOATS = ("float", "double")
ORDERED = (*NUMBERS, "date", "timestamp", "timestamptz", "string")


@dataclass(frozen=True)
class Column:
    """A column: its name as the table has it, and the first word of its Iceberg type."""

    name: str
    kind: str
    shown: str
    """Its type as Trino writes it."""
    type: IcebergType


class Columns:
    """The columns of a table, found whatever their capitals."""

    def __init__(self, table: str, schema: Schema) -> None:
        from forebay.engines.columns import trino_name

        self.table = table
        self.all = [
            Column(
                each.name,
                str(each.field_type).partition("(")[0].partition("<")[0],
                trino_name(each.field_type),
                each.field_type,
            )
            for each in schema.fields
        ]
        self._by_name: Mapping[str, Column] = {column.name.lower(): column for column in self.all}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def __getitem__(self, name: str) -> Column:
        try:
            return self._by_name[name.lower()]
        except KeyError:
            raise ForebayError(self.missing([name])) from None

    def missing(self, names: Iterable[str]) -> str:
        """The message about names that are no columns."""
        lines = [
            f"{self.table} has no column '{name}'.{suggestion(name, self._by_name, '')}"
            for name in dict.fromkeys(names)
        ]
        return " ".join(lines) + f" Its columns: {', '.join(column.name for column in self.all)}."


def value_of(column: Column, value: Any, what: str) -> Any:
    """A value of the YAML in a column's type: text as date, time or decimal. Raises ForebayError."""
    if value is None:
        return None
    try:
        made = _READ[column.kind](value) if column.kind in _READ else None
    except (ValueError, TypeError, InvalidOperation, OverflowError):
        made = None
    if made is None:
        raise ForebayError(f"{what}: {value!r} is no value of column {column.name}, which is {column.shown}")
    return made


def plain(value: Any) -> Any:
    """A whole decimal as an integer."""
    return int(value) if getattr(value, "as_tuple", None) and value == value.to_integral_value() else value


def _number(value: Any) -> int | float | Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if value == int(value) else value


def _decimal(value: Any) -> Decimal | None:
    return None if isinstance(value, bool) else Decimal(str(value))


def _float(value: Any) -> float | None:
    return None if isinstance(value, bool | str) else float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise ValueError
    return value if isinstance(value, date) else date.fromisoformat(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    made = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return made.astimezone(UTC).replace(tzinfo=None) if made.tzinfo else made


_READ: dict[str, Any] = {
    "int": _number,
    "long": _number,
    "float": _float,
    "double": _float,
    "decimal": _decimal,
    "string": _text,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _moment,
    "timestamptz": lambda value: _moment(value).replace(tzinfo=UTC),
}
