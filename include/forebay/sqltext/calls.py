"""One function call: Trino's name and arguments to DuckDB's."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from forebay.errors import suggestion
from forebay.sqltext import formats
from forebay.sqltext.allowed import function_name
from forebay.sqltext.functions import MACRO, NOT_HERE, REFUSED, RENAMED, REWRITTEN, SAME, known_functions
from forebay.sqltext.macros import BODIES
from forebay.sqltext.words import words
from forebay.sqltext.zones import Refusal, at_time_zone, local_time, with_timezone

Args = list[exp.Expr]


def call(name: str, *args: exp.Expr) -> exp.Expr:
    """A call of a DuckDB function or macro."""
    return exp.Anonymous(this=name, expressions=list(args))


def translate_call(node: exp.Expr) -> exp.Expr:
    """The call in DuckDB's words. Raises Refusal for a function that is not carried over."""
    if not isinstance(node.this, str):
        return node
    name = function_name(node)
    args = node.expressions
    count = len(args)
    low, high = ARITY.get(name, (0, 99))
    if not low <= count <= high:
        expected = str(low) if low == high else f"{low} to {high}"
        raise Refusal(f"{name} takes {expected} arguments here, not {count}")
    if name in REWRITTEN:
        return _REWRITES[name](node, args)
    if name in MACRO:
        counts = [len(parameters.split(", ")) for parameters, _ in BODIES[name]]
        if count not in counts:
            raise Refusal(f"{name} takes {' or '.join(map(str, counts))} arguments here, not {count}")
        node.set("this", f"trino_{name}")
        return node
    if name in SAME or name in RENAMED:
        node.set("this", RENAMED.get(name, name))
        return node
    if name in REFUSED:
        raise Refusal(f"function {name} is not available on the embedded engine; {REFUSED[name]}")
    if name in NOT_HERE:
        raise Refusal(f"function {name} is not available on the embedded engine, so no job can use it")
    raise Refusal(f"unknown function {name[:80]}.{suggestion(name, known_functions(), listing='')}")


# How many arguments a function has in Trino where DuckDB would take others, or mean something else by them.
ARITY: dict[str, tuple[int, int]] = {
    **dict.fromkeys(words("now pi uuid"), (0, 0)),
    **dict.fromkeys(words("count"), (0, 1)),
    **dict.fromkeys(words("e infinity nan"), (0, 0)),
    **dict.fromkeys(
        words(
            """
            any_value approx_distinct arbitrary array_agg avg cardinality chr codepoint count_if date day
            from_hex from_unixtime from_utf8 histogram hour json_format last_day_of_month length ln
            log10 log2 lower md5 minute month quarter reverse second sha1 sha256 sum to_hex
            to_unixtime to_utf8 truncate try upper week year
            """
        ),
        (1, 1),
    ),
    **dict.fromkeys(words("listagg ltrim max min round rtrim trim"), (1, 2)),
    **dict.fromkeys(
        words(
            """
            all_match any_match approx_percentile at_timezone atan2 bitwise_and bitwise_or
            bitwise_xor date_format date_parse element_at filter format_datetime json_extract
            json_extract_scalar log none_match nullif parse_datetime pow power regexp_like
            regexp_split split starts_with strpos transform with_timezone
            """
        ),
        (2, 2),
    ),
    **dict.fromkeys(words("max_by min_by regexp_extract_all replace sequence"), (2, 3)),
    **dict.fromkeys(words("date_add date_diff lpad rpad translate"), (3, 3)),
    "bitwise_not": (1, 1),
    "concat_ws": (2, 99),
    "map": (0, 2),
}


def _literal(arg: exp.Expr, what: str) -> str:
    if not isinstance(arg, exp.Literal) or not arg.is_string:
        raise Refusal(f"{what} must be written as a string, not computed, on the embedded engine")
    return str(arg.name)


def _concat(node: exp.Expr, args: Args) -> exp.Expr:
    if len(args) < 2:
        raise Refusal("concat takes two or more arguments")
    joined = args[0].copy()
    for arg in args[1:]:
        joined = exp.DPipe(this=joined, expression=exp.Paren(this=arg.copy()), safe=False)
    return exp.Paren(this=joined)


_UNITS = {
    **{
        unit: (1, unit)
        for unit in ("millisecond", "second", "minute", "hour", "day", "week", "month", "year")
    },
    "quarter": (3, "month"),
}


def _date_add(node: exp.Expr, args: Args) -> exp.Expr:
    unit = _literal(args[0], "the unit of date_add").lower()
    if unit not in _UNITS:
        raise Refusal(f"date_add knows {', '.join(_UNITS)}, not '{unit[:40]}'")
    size, name = _UNITS[unit]
    step = exp.Interval(this=exp.Literal.string(str(size)), unit=exp.var(name.upper()))
    # DuckDB would round a fraction; Trino takes whole numbers only.
    return call("trino_plus", args[2], exp.Mul(this=call("trino_to_bigint", args[1]), expression=step))


def _formatted(duck: str, parsing: bool, convert: Callable[[str, bool], str]) -> Callable[..., exp.Expr]:
    def rewrite(node: exp.Expr, args: Args) -> exp.Expr:
        pattern = _literal(args[1], f"the pattern of {function_name(node)}")
        try:
            converted = convert(pattern, parsing)
        except ValueError as error:
            raise Refusal(f"'{error}' in the pattern of {function_name(node)} has no equal here") from error
        return call(duck, args[0], exp.Literal.string(converted))

    return rewrite


def _approx_percentile(node: exp.Expr, args: Args) -> exp.Expr:
    # DuckDB takes the share as a REAL only.
    share = "REAL[]" if isinstance(args[1], exp.Array) else "REAL"
    return call("approx_quantile", args[0], exp.cast(args[1], share, dialect="duckdb"))


def _parse_datetime(node: exp.Expr, args: Args) -> exp.Expr:
    parsed = _formatted("strptime", True, formats.from_joda)(node, args)
    return exp.cast(parsed, "TIMESTAMPTZ")


def _regexp_replace(node: exp.Expr, args: Args) -> exp.Expr:
    if not 2 <= len(args) <= 3:
        raise Refusal("regexp_replace takes 2 or 3 arguments")
    replacement = ""
    if len(args) == 3:
        if isinstance(args[2], exp.Lambda):
            raise Refusal("regexp_replace with a function is not available here")
        text = _literal(args[2], "the replacement of regexp_replace")
        if re.search(r"\$\{|\$\d\d", text):
            raise Refusal("named groups and group numbers above 9 are not available in regexp_replace here")
        text = re.sub(r"\\([^$])", r"\1", text).replace("\\$", "\x00").replace("\\", "\\\\")
        replacement = re.sub(r"\$(\d)", r"\\\1", text).replace("\x00", "$")
    return call("regexp_replace", args[0], args[1], exp.Literal.string(replacement), exp.Literal.string("g"))


_PATH = re.compile(r"\$(\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\]|\[\"[^\"\\*\[\]]+\"\])*\Z")


def _json(node: exp.Expr, args: Args) -> exp.Expr:
    name = function_name(node)
    path = _literal(args[1], f"the path of {name}")
    if not _PATH.match(path):
        raise Refusal(f'the path of {name} is made of $, .name, [0] and ["name"] here')
    plain = re.sub(r"\[(\"[^\"]+\")\]", r".\1", path)
    return call(f"trino_{name}", args[0], exp.Literal.string(plain))


def _sequence(node: exp.Expr, args: Args) -> exp.Expr:
    if len(args) == 2:
        up = exp.Case(
            ifs=[
                exp.If(
                    this=exp.LTE(this=args[0].copy(), expression=args[1].copy()), true=exp.Literal.number(1)
                )
            ],
            default=exp.cast(exp.Literal.string("-1"), "INTEGER"),
        )
        return call("generate_series", args[0], args[1], up)
    return call("cast_to_type", call("generate_series", *args), exp.Array(expressions=[args[0].copy()]))


def _random(node: exp.Expr, args: Args) -> exp.Expr:
    if len(args) > 2:
        raise Refusal("random takes at most 2 arguments")
    return call(("random", "trino_random_up_to", "trino_random_between")[len(args)], *args)


def _matches(node: exp.Expr, args: Args) -> exp.Expr:
    return call(f"trino_{function_name(node)}", call("list_transform", *args))


def _trimmed(node: exp.Expr, args: Args) -> exp.Expr:
    name = function_name(node)
    return call(name, *args) if len(args) == 2 else call(f"trino_{name}", *args)


def _listagg(node: exp.Expr, args: Args) -> exp.Expr:
    return call("string_agg", args[0], args[1] if len(args) == 2 else exp.Literal.string(""))


def _cardinality(node: exp.Expr, args: Args) -> exp.Expr:
    # DuckDB measures lists and maps by different names; a map column fails there with a clear message.
    of_map = isinstance(args[0], exp.Map) or (
        isinstance(args[0], exp.Anonymous) and "map" in str(args[0].this)
    )
    return call("cardinality" if of_map else "len", args[0])


def _map(node: exp.Expr, args: Args) -> exp.Expr:
    return call("map", *args)


def _digest(name: str) -> Callable[[exp.Expr, Args], exp.Expr]:
    return lambda node, args: call("unhex", call(name, args[0]))


def _cast(kind: str) -> Callable[[exp.Expr, Args], exp.Expr]:
    return lambda node, args: exp.cast(args[0], kind)


def _from_iso8601(node: exp.Expr, args: Args) -> exp.Expr:
    text = args[0]
    if isinstance(text, exp.Literal) and (local := local_time(node, text.name)) is not None:
        return exp.cast(exp.Literal.string(local), "TIMESTAMP")
    return exp.cast(text, "TIMESTAMPTZ")


def _number(text: str) -> Callable[[exp.Expr, Args], exp.Expr]:
    return lambda node, args: exp.cast(exp.Literal.string(text), "DOUBLE")


def _to(name: str) -> Callable[[exp.Expr, Args], exp.Expr]:
    return lambda node, args: call(name, *args)


def _average(node: exp.Expr, args: Args) -> exp.Expr:
    node.set("this", "avg")  # replaced by duckdb.py together with its OVER and FILTER
    return node


def _both(cls: type[exp.Expr]) -> Callable[[exp.Expr, Args], exp.Expr]:
    return lambda node, args: exp.Paren(
        this=cls(this=exp.Paren(this=args[0]), expression=exp.Paren(this=args[1]))
    )


def _count_if(node: exp.Expr, args: Args) -> exp.Expr:
    # DuckDB's own is NULL where no row has a value; Trino's is 0.
    return call("count", exp.Case(ifs=[exp.If(this=args[0], true=exp.Literal.number(1))]))


_REWRITES: dict[str, Callable[[exp.Expr, Args], exp.Expr]] = {
    **dict.fromkeys(("any_match", "all_match", "none_match"), _matches),
    **dict.fromkeys(("trim", "ltrim", "rtrim"), _trimmed),
    **dict.fromkeys(("json_extract", "json_extract_scalar"), _json),
    **dict.fromkeys(("rand", "random"), _random),
    **dict.fromkeys(("now", "current_timestamp"), lambda node, args: call("now")),
    "at_timezone": lambda node, args: at_time_zone(node, args[0], args[1]),
    "avg": _average,
    "bitwise_and": _both(exp.BitwiseAnd),
    "bitwise_or": _both(exp.BitwiseOr),
    "approx_percentile": _approx_percentile,
    "bitwise_not": lambda node, args: exp.BitwiseNot(this=exp.Paren(this=args[0])),
    "cardinality": _cardinality,
    "concat": _concat,
    "count_if": _count_if,
    "date": _cast("DATE"),
    "date_add": _date_add,
    "date_format": _formatted("strftime", False, formats.from_mysql),
    "date_parse": _formatted("strptime", True, formats.from_mysql),
    "e": _number("2.718281828459045"),
    "element_at": lambda node, args: call("trino_element_at", *args),
    "filter": _to("list_filter"),
    "format_datetime": _formatted("strftime", False, formats.from_joda),
    "from_iso8601_date": _cast("DATE"),
    "from_iso8601_timestamp": _from_iso8601,
    "if": _to("if"),
    "infinity": _number("inf"),
    "json_format": _cast("TEXT"),
    "listagg": _listagg,
    "localtimestamp": lambda node, args: exp.cast(call("now"), "TIMESTAMP"),
    "log": _to("log"),
    "map": _map,
    "md5": _digest("md5"),
    "nan": _number("nan"),
    "parse_datetime": _parse_datetime,
    "regexp_replace": _regexp_replace,
    "row": _to("row"),
    "replace": lambda node, args: call("replace", *args, *([exp.Literal.string("")] * (3 - len(args)))),
    "sequence": _sequence,
    "sha1": _digest("sha1"),
    "sha256": _digest("sha256"),
    "substring": _to("trino_substr"),
    "transform": _to("list_transform"),
    "try": _to("try"),
    "with_timezone": lambda node, args: with_timezone(node, args[0], args[1]),
}
