"""Putting values where a statement says `:name`: as typed literals on the syntax tree, never as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from sqlglot import exp

from forebay.errors import ForebayError, suggestion

_DIGITS = 38
"""Of a decimal, on both sides of its point."""

Scalar = str | int | float | Decimal | bool | date | datetime | None
Value = Scalar | Sequence[Scalar]


def bind(tree: exp.Expr, values: Mapping[str, Value]) -> exp.Expr:
    """A copy of the tree with every `:name` replaced by its value.

    A date becomes DATE '…', a datetime TIMESTAMP '…' (or TIMESTAMP WITH TIME ZONE),
    a list ARRAY[…].
    Raises ForebayError for a name without a value, and for a value SQL cannot hold.
    """
    bound = tree.copy()
    for node in list(bound.find_all(exp.Placeholder)):
        name = node.name
        if name not in values:
            raise ForebayError(f"no value for :{name}.{suggestion(name, values)}")
        literal = literal_of(values[name], name)
        if node is bound:
            bound = literal
        else:
            node.replace(literal)
    return bound


def literal_of(value: Value, name: str = "value") -> exp.Expr:
    """The literal of one value; `name` is what an error calls it."""
    if value is None:
        return exp.null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, int):
        return _whole(value, name)
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, Decimal):
        return _decimal(value, name)
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return _cast(value.isoformat(), "DATE")
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return exp.Array(expressions=[literal_of(item, name) for item in value])
    raise ForebayError(f":{name} cannot be a {type(value).__name__}")


def _cast(text: str, kind: str) -> exp.Expr:
    to = exp.DataType.build(kind, dialect="trino")
    return exp.Cast(this=exp.Literal.string(text), to=to)


def _text(value: str, name: str) -> exp.Expr:
    if "\x00" in value:
        raise ForebayError(f":{name} holds a NUL character, which no engine can store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ForebayError(f":{name} holds half a character (a lone surrogate)") from None
    return exp.Literal.string(value)


def _whole(value: int, name: str) -> exp.Expr:
    if not -(2**63) <= value < 2**63:
        raise ForebayError(f":{name} is too large for a bigint")
    # Negative numbers are cast as text: `-` before a literal binds weaker than what may stand around it.
    return exp.Literal.number(value) if value >= 0 else _cast(str(value), _integer_type(value))


def _integer_type(value: int) -> str:
    return "INTEGER" if value >= -(2**31) else "BIGINT"


def _double(value: float) -> exp.Expr:
    if math.isnan(value):
        return _cast("nan", "DOUBLE")
    if math.isinf(value):
        return _cast("inf" if value > 0 else "-inf", "DOUBLE")
    return _cast(repr(value), "DOUBLE")


def _decimal(value: Decimal, name: str) -> exp.Expr:
    if not value.is_finite():
        raise ForebayError(f":{name} is {value}, which a decimal cannot hold")
    # Looked at before it is written out: 1e3000000000 would be so many zeros.
    if int(value.as_tuple().exponent) < -_DIGITS or (value and value.adjusted() >= _DIGITS):
        raise ForebayError(f":{name} has more than the {_DIGITS} digits that a decimal can hold")
    if not value:
        value = value.quantize(Decimal(1).scaleb(min(0, int(value.as_tuple().exponent))))
    text = format(value, "f")
    digits = text.lstrip("-").replace(".", "").lstrip("0")
    scale = len(text.partition(".")[2])
    precision = max(len(digits), scale, 1)
    if precision > _DIGITS:
        raise ForebayError(f":{name} has {precision} digits, more than the {_DIGITS} a decimal can hold")
    return _cast(text, f"DECIMAL({precision}, {scale})")


def _moment(value: datetime) -> exp.Expr:
    if value.tzinfo is None or value.utcoffset() is None:
        return _cast(value.replace(tzinfo=None).isoformat(sep=" "), "TIMESTAMP(6)")
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    return _cast(f"{text}+00:00", "TIMESTAMP(6) WITH TIME ZONE")
