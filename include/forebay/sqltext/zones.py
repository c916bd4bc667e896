"""AT TIME ZONE: DuckDB keeps no zone with a value, so only uses that end in local time are carried over."""

from __future__ import annotations

import re

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
_SHOWN_TYPES = _LOCAL_TYPES | {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.JSON}
_SHOWN = _CLOCK | words("date_trunc concat concat_ws format to_iso8601")
_EXACT_UNITS = words("hour minute second millisecond")
_WRITTEN_ZONE = re.compile(r"(?<=\d)\s*([+-]\d{2}:\d{2}|[A-Za-z][A-Za-z0-9_/+-]*)\s*$")
_UTC = frozenset(("+00:00", "-00:00", "z", "utc", "gmt", "ut", "zulu", "etc/utc", "etc/gmt", "etc/zulu"))


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


def local_time(node: exp.Expr, text: str) -> str | None:
    """The local time of a moment that is written with a zone other than UTC, where nothing but that is asked for.

    None where the moment alone counts, or the zone is UTC. `node` is the moment as it is written.
    """
    written = _WRITTEN_ZONE.search(text)
    if written is None or written[1].lower() in _UTC:
        return None
    if _wants_clock(node):
        return text[: written.start()]
    if _shows_zone(node):
        raise Refusal(
            f"values keep no time zone here, and this needs the moment's own ({written[1][:40]}): write the moment in UTC, or "
            "ask inside hour(), date_format(), cast(… AS date) or cast(… AS timestamp)"
        )
    return None


def _shows_zone(node: exp.Expr) -> bool:
    """Whether something around a moment would be another in another zone."""
    parent = node.parent
    if parent is None or isinstance(parent, (exp.Query, exp.Predicate, exp.Between, exp.In)):
        return False
    if isinstance(parent, exp.Anonymous):
        name = function_name(parent)
        if name in _INSTANT or _is_zone_change(parent):
            return False
        if name in _SHOWN or (name == "date_add" and _unit(parent) not in _EXACT_UNITS):
            return True
    if _is_zone_change(parent):
        return False
    if isinstance(parent, (exp.Cast, exp.TryCast)) and parent.args["to"].this in _SHOWN_TYPES:
        return True
    if isinstance(parent, (exp.Add, exp.Sub)) and _has_months(parent):
        return True
    return isinstance(parent, (exp.Extract, exp.DPipe)) or _shows_zone(parent)


def _unit(call: exp.Anonymous) -> str:
    unit = call.expressions[0] if call.expressions else None
    return str(unit.name).lower() if isinstance(unit, exp.Literal) else ""


def _has_months(sum_of: exp.Expr) -> bool:
    """Whether months or years are added: how long they are depends on the local day."""
    return any(
        str(interval.args.get("unit") or "").upper() in ("MONTH", "YEAR")
        for interval in sum_of.find_all(exp.Interval)
    )


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
