"""The kinds of value all specs are made of: names, tables, durations, lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

T = TypeVar("T")

NAME = r"^[a-z][a-z0-9_]*$"
KEY = r"^[a-z][a-z0-9_-]*$"
NAMESPACE = r"^[a-z][a-z0-9_]*$"
TABLE = r"^[a-z][a-z0-9_]*\.[a-z_][a-z0-9_]*$"
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*$"
CONNECTION = r"^[A-Za-z0-9_.-]+$"
FUNCTION = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"
FILE = r"^[^\x00-\x1f\\]+$"
DURATION = r"^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
SIZE = r"^([1-9][0-9]{0,3})(MB|GB)$"

# What a pattern asks for, in words: shown in place of the regular expression.
PATTERN_WORDS = {
    NAME: "lower-case letters, digits and _, beginning with a letter",
    KEY: "lower-case letters, digits, _ and -, beginning with a letter",
    TABLE: "a table written namespace.table, in lower-case letters, digits and _",
    COLUMN: "a column name of letters, digits and _",
    CONNECTION: "a connection id of letters, digits, _, - and .",
    FUNCTION: "a dotted name such as module.function",
    FILE: "a file name",
    SIZE: "a size such as 32MB, from 1MB to 1GB",
}


class Closed(BaseModel):
    """A part of a spec: unknown keys are refused, values never change, text is never read as a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    # Keys that people look for here although they belong somewhere else: what the message says about each.
    elsewhere: ClassVar[Mapping[str, str]] = {}


class ShortForm:
    """Tells an editor about a shorter way to write a value, which a validator takes apart."""

    def __init__(self, *schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [*self.schemas, handler(schema)]}


# YAML gives lists; specs hold tuples. Only the container is lenient, what is in it stays strict.
Many = Annotated[tuple[T, ...], Field(strict=False)]
Some = Annotated[tuple[T, ...], Field(strict=False, min_length=1)]

Name = Annotated[str, StringConstraints(pattern=NAME, max_length=100)]
TaskKey = Annotated[str, StringConstraints(pattern=KEY, max_length=100)]
Namespace = Annotated[str, StringConstraints(pattern=NAMESPACE, max_length=100)]
TableName = Annotated[str, StringConstraints(pattern=TABLE, max_length=200)]
ColumnName = Annotated[str, StringConstraints(pattern=COLUMN, max_length=200)]
ConnectionId = Annotated[str, StringConstraints(pattern=CONNECTION, max_length=200)]
DottedName = Annotated[str, StringConstraints(pattern=FUNCTION, max_length=300)]
FileName = Annotated[str, StringConstraints(pattern=FILE, max_length=300)]
Text = Annotated[str, StringConstraints(min_length=1)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def parse_duration(value: object) -> timedelta:
    """'30s', '5m', '2h', '1d', '1h30m' or whole seconds as a timedelta, 1 second to 366 days."""
    if isinstance(value, timedelta):
        return value
    seconds = -1
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and len(value) <= 20 and (found := re.fullmatch(DURATION, value)):
        sizes = (86400, 3600, 60, 1)
        seconds = sum(int(part[:-1]) * size for part, size in zip(found.groups(), sizes, strict=True) if part)
    if seconds < 0:
        raise PydanticCustomError(
            "duration", "must be a duration such as 30s, 5m, 2h, 1d or 1h30m, or whole seconds"
        )
    if not 1 <= seconds <= 366 * 86400:
        raise PydanticCustomError("duration", "must be between 1 second and 366 days")
    return timedelta(seconds=seconds)


def duration_text(value: timedelta) -> str:
    """A timedelta as people write it in YAML: 1h30m."""
    seconds = int(value.total_seconds())
    text = ""
    for sign, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{sign}" if count else ""
    return text


DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": DURATION}, {"type": "integer", "minimum": 1}],
    "examples": ["30s", "5m", "2h", "1d", "1h30m"],
}
Duration = Annotated[timedelta, BeforeValidator(parse_duration), WithJsonSchema(DURATION_SCHEMA)]


def parse_size(value: object) -> int:
    """'32MB' or '1GB' as bytes, 1 MB to 1 GB."""
    found = re.fullmatch(SIZE, value) if isinstance(value, str) else None
    size = int(found[1]) << (20 if found[2] == "MB" else 30) if found else 0
    if not 1 << 20 <= size <= 1 << 30:
        raise PydanticCustomError("size", f"must be {PATTERN_WORDS[SIZE]}")
    return size


SIZE_SCHEMA: dict[str, Any] = {"type": "string", "pattern": SIZE, "examples": ["32MB", "1GB"]}
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]


def _scalar(value: object) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise PydanticCustomError(
        "scalar", "must be a single value (text, number, true or false), not a list or mapping"
    )


def _scalar_or_list(value: object) -> Any:
    if isinstance(value, list | tuple):
        if all(item is None or isinstance(item, str | int | float | bool) for item in value):
            return tuple(value)
        raise PydanticCustomError("scalar", "must be a list of single values (text, numbers, true or false)")
    return _scalar(value)


def _number(value: object) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("number", "must be a number")


SCALAR_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
ScalarValue = str | int | float | bool | None
Scalar = Annotated[ScalarValue, BeforeValidator(_scalar), WithJsonSchema(SCALAR_SCHEMA)]
ScalarOrList = Annotated[
    ScalarValue | tuple[ScalarValue, ...],
    BeforeValidator(_scalar_or_list),
    WithJsonSchema({"anyOf": [SCALAR_SCHEMA, {"type": "array", "items": SCALAR_SCHEMA}]}),
]
Number = Annotated[int | float, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
