"""AT TIME ZONE: DuckDB keeps no zone with a value, so only uses that end in local time are carried over."""

from __future__ import annotations

from sqlglot import exp

from forebay.sqltext.allowed import function_name
from forebay.sqltext.words import words


class Refusal(Exception):
    """What cannot be carried over; its text is for the author of the SQL."""


_CLOCK = words(
    """
    year quarter month week week_of_year day day_of_month day_of_week dow day_of_year doy
    year_of_week yow hour minute second millisecond date_format format_datetime date
    last_day_of_month
    """
)
_INSTANT = words("to_unixtime date_diff")
_LOCAL_TYPES = frozenset((exp.DType.DATE, exp.DType.TIMESTAMP, exp.DType.TIME))


def at_time_zone(node: exp.Expr, moment: exp.Expr, zone: exp.Expr) -> exp.Expr:
    """The local time of a moment in a zone, where the query asks for nothing but that."""
    instant = exp.cast(moment, "TIMESTAMPTZ")
    if _is_zone_change(node.parent):
        return instant
    if not _wants_clock(node):
        raise Refusal(
            "values keep no time zone here: use AT TIME ZONE inside hour(), date_format(), "
            "cast(… AS date) or cast(… AS timestamp)"
        )
    return exp.Anonymous(this="timezone", expressions=[zone, instant])


def with_timezone(node: exp.Expr, moment: exp.Expr, zone: exp.Expr) -> exp.Expr:
    """The moment at which a zone's clocks show a local time."""
    parent = node.parent
    compared = isinstance(parent, (exp.Predicate, exp.Between))
    taken = isinstance(parent, exp.Anonymous) and function_name(parent) in _INSTANT
    if not (compared or taken or _is_zone_change(parent)):
        raise Refusal("values keep no time zone here: follow with_timezone(…) by AT TIME ZONE and a cast")
    return exp.Anonymous(this="timezone", expressions=[zone, exp.cast(moment, "TIMESTAMP")])


def _is_zone_change(node: exp.Expr | None) -> bool:
    if isinstance(node, exp.Paren):
        return _is_zone_change(node.parent)
    return isinstance(node, exp.AtTimeZone) or (
        isinstance(node, exp.Anonymous) and function_name(node) == "at_timezone"
    )


def _wants_clock(node: exp.Expr) -> bool:
    parent = node.parent
    if isinstance(parent, exp.Paren):
        return _wants_clock(parent)
    if isinstance(parent, exp.Extract):
        return True
    if isinstance(parent, (exp.Cast, exp.TryCast)):
        return parent.args["to"].this in _LOCAL_TYPES
    if isinstance(parent, exp.Anonymous):
        name = function_name(parent)
        return name in _CLOCK or (name == "date_trunc" and _wants_clock(parent))
    return False
