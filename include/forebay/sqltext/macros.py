"""Trino functions that DuckDB has under no name, written as DuckDB macros.

Macros take untyped parameters only: DuckDB cannot tell the type of an aggregate when it picks an overload,
and would pick a wrong one. Where a result must keep its argument's type, `cast_to_type` carries it over, and
`typeof` is a constant for DuckDB's optimizer. A failing CAST raises, because error() is refused inside TRY.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIX = "trino_"

Overloads = tuple[tuple[str, str], ...]  # (parameters, body)

_DOUBLE = "typeof({}) IN ('DOUBLE', 'FLOAT')"
_MANTISSA = "regexp_replace(regexp_replace(x, '^-', ''), 'e.*$', '')"


def _whole(kind: str, cast: str) -> str:
    # Trino rounds halves away from zero and reads no fraction out of text; DuckDB rounds to even and does.
    return (
        f"CASE WHEN {_DOUBLE.format('x')}"
        f" THEN {cast}(round(TRY_CAST(CAST(x AS VARCHAR) AS DOUBLE)) AS {kind})"
        f" WHEN typeof(x) = 'VARCHAR'"
        f" THEN {cast}(CASE WHEN regexp_full_match(CAST(x AS VARCHAR), '[-+]?[0-9]+')"
        f" THEN CAST(x AS VARCHAR) ELSE concat('not a whole number: ', CAST(x AS VARCHAR)) END AS {kind})"
        f" ELSE {cast}(x AS {kind}) END"
    )


def _null_if_any_null(function: str) -> Overloads:
    several = [", ".join("abcdefgh"[:count]) for count in range(1, 9)]
    null = " OR ".join
    return tuple(
        (p, f"CASE WHEN {null(f'{a} IS NULL' for a in p.split(', '))} THEN NULL ELSE {function}({p}) END")
        for p in several
    )


def _keeps_type(function: str) -> Overloads:
    # DuckDB gives a double for an integer (and sign a tinyint for all); round keeps the type, as Trino does.
    kept = f"cast_to_type({function}(x), round(x))"
    whole = "typeof(x) LIKE '%INT' OR typeof(x) = 'INTEGER'"
    body = f"CASE WHEN {whole} THEN cast_to_type(x, round(x)) ELSE {kept} END"
    return (("x", kept if function == "sign" else body),)


BODIES: dict[str, Overloads] = {
    # operators
    "divide": (
        (
            "a, b",
            "CASE WHEN b = 0 THEN cast_to_type(CASE WHEN typeof(a + b) IN ('DOUBLE', 'FLOAT')"
            " THEN CAST(a AS DOUBLE) / CAST(b AS DOUBLE) ELSE CAST('Division by zero' AS DOUBLE) END, a + b)"
            " ELSE cast_to_type(a // b, a + b) END",
        ),
    ),
    "mod": (
        (
            "a, b",
            "CASE WHEN b = 0 THEN cast_to_type(CASE WHEN typeof(a + b) IN ('DOUBLE', 'FLOAT')"
            " THEN CAST('nan' AS DOUBLE) ELSE CAST('Division by zero' AS DOUBLE) END, a + b) ELSE a % b END",
        ),
    ),
    "ceil": _keeps_type("ceil"),
    "ceiling": _keeps_type("ceil"),
    "floor": _keeps_type("floor"),
    "sign": _keeps_type("sign"),
    "round": (("x", "round(x)"), ("x, n", "cast_to_type(round(x, n), x + x)")),
    "plus": (("x, i", "cast_to_type(x + i, x)"),),
    "minus": (("x, i", "cast_to_type(x - i, x)"),),
    "avg_of": (
        ("s, n", "CASE WHEN n = 0 THEN NULL ELSE cast_to_type(CAST(s AS DOUBLE) / n, ceil(s) + s) END"),
    ),
    **{f"to_{kind}": (("x", _whole(kind, "CAST")),) for kind in ("tinyint", "smallint", "integer", "bigint")},
    **{
        f"try_{kind}": (("x", _whole(kind, "TRY_CAST")),)
        for kind in ("tinyint", "smallint", "integer", "bigint")
    },
    "to_text": (
        (
            "x",
            "CASE WHEN typeof(x) IN ('DOUBLE', 'FLOAT') THEN trino_scientific(CAST(x AS VARCHAR))"
            " WHEN typeof(x) = 'TIMESTAMP' THEN trino_moment(CAST(x AS VARCHAR), '')"
            " WHEN typeof(x) = 'TIMESTAMP WITH TIME ZONE'"
            " THEN trino_moment(regexp_replace(CAST(x AS VARCHAR), '[+-][0-9:]+$', ''), ' UTC')"
            " WHEN typeof(x) = 'JSON' THEN json_extract_string(TRY_CAST(CAST(x AS VARCHAR) AS JSON), '$')"
            " ELSE CAST(x AS VARCHAR) END",
        ),
    ),
    "moment": (
        (
            "x, zone",
            "CASE WHEN position('.' IN x) > 0 THEN rpad(x, CAST(strpos(x, '.') + 6 AS INTEGER), '0')"
            " ELSE x || '.000000' END || zone",
        ),
    ),
    "scientific": (
        (
            "x",
            "CASE x WHEN 'nan' THEN 'NaN' WHEN 'inf' THEN 'Infinity' WHEN '-inf' THEN '-Infinity'"
            " WHEN '0.0' THEN '0E0' WHEN '-0.0' THEN '-0E0' ELSE"
            " CASE WHEN x LIKE '-%' THEN '-' ELSE '' END"
            f" || trino_digits(regexp_replace(ltrim(replace({_MANTISSA}, '.', ''), '0'), '0+$', ''))"
            " || 'E' || CAST(coalesce(TRY_CAST(nullif(regexp_extract(x, 'e(.*)$', 1), '') AS INTEGER), 0)"
            f" + strpos({_MANTISSA} || '.', '.') - 2"
            f" - CASE WHEN {_MANTISSA} LIKE '0.%'"
            f" THEN length(regexp_extract({_MANTISSA}, '^0[.](0*)', 1)) + 1"
            " ELSE 0 END + 0 AS VARCHAR) END",
        ),
    ),
    "digits": (("d", "d[1] || '.' || CASE WHEN length(d) > 1 THEN d[2:] ELSE '0' END"),),
    "millis": (("x", "time_bucket(INTERVAL 1 millisecond, x + INTERVAL 500 microsecond)"),),
    "seconds": (("x", "time_bucket(INTERVAL 1 second, x + INTERVAL 500 millisecond)"),),
    # null rules
    "greatest": _null_if_any_null("greatest"),
    "least": _null_if_any_null("least"),
    # dates
    "date_trunc": (("u, x", "cast_to_type(date_trunc(u, x), x)"),),
    "millisecond": (("x", "millisecond(x) % 1000"),),
    # text
    "substr": (
        (
            "s, i",
            "CASE WHEN i = 0 OR i < -length(s) THEN CASE WHEN s IS NULL THEN NULL ELSE '' END"
            " ELSE substr(s, i) END",
        ),
        (
            "s, i, n",
            "CASE WHEN s IS NULL OR i IS NULL OR n IS NULL THEN NULL"
            " WHEN i = 0 OR i < -length(s) OR n <= 0 THEN '' ELSE substr(s, i, n) END",
        ),
    ),
    "split_part": (
        (
            "s, d, i",
            "CASE WHEN i <= 0"
            " THEN CAST(CAST('split_part: the index must be greater than zero' AS INTEGER) AS VARCHAR)"
            " WHEN i > len(string_split(s, d)) THEN NULL ELSE split_part(s, d, i) END",
        ),
    ),
    "trim": (("s", "regexp_replace(s, '^[ \\t\\n\\x0B\\f\\r]+|[ \\t\\n\\x0B\\f\\r]+$', '', 'g')"),),
    "ltrim": (("s", "regexp_replace(s, '^[ \\t\\n\\x0B\\f\\r]+', '')"),),
    "rtrim": (("s", "regexp_replace(s, '[ \\t\\n\\x0B\\f\\r]+$', '')"),),
    "regexp_extract": (
        ("s, p", "CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p) END"),
        ("s, p, g", "CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p, g) END"),
    ),
    "regexp_count": (("s, p", "CAST(len(regexp_extract_all(s, p)) AS BIGINT)"),),
    # arrays and maps
    "contains": (
        (
            "a, x",
            "CASE WHEN x IS NULL OR a IS NULL THEN NULL WHEN list_contains(a, x) THEN true"
            " WHEN list_count(a) < len(a) THEN NULL ELSE false END",
        ),
    ),
    "array_position": (
        ("a, x", "CASE WHEN a IS NULL OR x IS NULL THEN NULL ELSE coalesce(list_position(a, x), 0) END"),
    ),
    "array_distinct": (("a", "list_filter(a, lambda v, i: list_position(a, v) = i)"),),
    "array_remove": (
        ("a, x", "CASE WHEN x IS NULL THEN NULL ELSE list_filter(a, lambda v: v IS NULL OR v <> x) END"),
    ),
    "array_sort": (("a", "list_sort(a, 'ASC', 'NULLS LAST')"),),
    "array_max": (("a", "CASE WHEN list_count(a) < len(a) THEN NULL ELSE list_max(a) END"),),
    "array_min": (("a", "CASE WHEN list_count(a) < len(a) THEN NULL ELSE list_min(a) END"),),
    "array_join": (
        ("a, s", "coalesce(array_to_string(a, s), CASE WHEN a IS NOT NULL THEN '' END)"),
        ("a, s, n", "array_to_string(list_transform(a, lambda v: coalesce(CAST(v AS VARCHAR), n)), s)"),
    ),
    "array_union": (("a, b", "trino_array_distinct(a || b)"),),
    "array_intersect": (
        ("a, b", "list_filter(trino_array_distinct(a), lambda v: list_position(b, v) IS NOT NULL)"),
    ),
    "array_except": (
        ("a, b", "list_filter(trino_array_distinct(a), lambda v: list_position(b, v) IS NULL)"),
    ),
    "element_at": (("c, k", "c[k]"),),
    "slice": (
        (
            "a, i, n",
            "CASE WHEN i < 0 THEN list_slice(a, len(a) + i + 1, len(a) + i + n)"
            " ELSE list_slice(a, i, i + n - 1) END",
        ),
    ),
    "repeat": (("x, n", "list_transform(range(n), lambda i: x)"),),
    "any_match": (
        (
            "a",
            "CASE WHEN a IS NULL THEN NULL WHEN list_contains(a, true) THEN true"
            " WHEN list_count(a) < len(a) THEN NULL ELSE false END",
        ),
    ),
    "all_match": (
        (
            "a",
            "CASE WHEN a IS NULL THEN NULL WHEN list_contains(a, false) THEN false"
            " WHEN list_count(a) < len(a) THEN NULL ELSE true END",
        ),
    ),
    "none_match": (("a", "NOT trino_any_match(a)"),),
    # JSON
    "json_extract_scalar": (
        (
            "j, p",
            "CASE WHEN NOT coalesce(json_valid(CAST(j AS VARCHAR)), false) THEN NULL"
            " WHEN json_type(CAST(j AS VARCHAR), p) IN ('OBJECT', 'ARRAY') THEN NULL"
            " ELSE json_extract_string(CAST(j AS VARCHAR), p) END",
        ),
    ),
    "json_extract": (
        (
            "j, p",
            "CASE WHEN json_valid(CAST(j AS VARCHAR)) THEN json_extract(CAST(j AS VARCHAR), p) END",
        ),
    ),
    "json_array_length": (
        (
            "j",
            "CASE WHEN coalesce(json_valid(CAST(j AS VARCHAR)), false)"
            " AND json_type(CAST(j AS VARCHAR)) = 'ARRAY'"
            " THEN CAST(json_array_length(CAST(j AS VARCHAR)) AS BIGINT) END",
        ),
    ),
    "json_parse": (("s", "json(s)"),),
    # numbers
    "random_up_to": (("n", "cast_to_type(floor(random() * n), n)"),),
    "random_between": (("a, b", "cast_to_type(a + floor(random() * (b - a)), a)"),),
}


def _callees_first(
    bodies: dict[str, Overloads],
) -> list[tuple[str, Overloads]]:
    # DuckDB looks a macro's functions up when the macro is made.
    done: dict[str, Overloads] = {}

    def add(name: str) -> None:
        if name not in done:
            for called in re.findall(PREFIX + r"(\w+)\(", " ".join(body for _, body in bodies[name])):
                add(called)
            done[name] = bodies[name]

    for name in bodies:
        add(name)
    return list(done.items())


_STATEMENTS = {
    name: f"CREATE OR REPLACE TEMP MACRO {PREFIX}{name}"
    + ", ".join(f" ({parameters}) AS ({body})" for parameters, body in overloads)
    for name, overloads in _callees_first(BODIES)
}
MACROS: tuple[str, ...] = tuple(_STATEMENTS.values())


def macros_for(texts: Iterable[str]) -> tuple[str, ...]:
    """Those of MACROS that DuckDB needs for statements in its dialect. All of them take 20 ms."""
    needed: set[str] = set()
    looked_at = list(texts)
    while looked_at:
        # sqlglot writes what it does not know as a function of its own in capitals.
        called = set(re.findall(PREFIX + r"(\w+)", looked_at.pop().lower())) & _STATEMENTS.keys() - needed
        needed |= called
        looked_at += [_STATEMENTS[name] for name in called]
    return tuple(statement for name, statement in _STATEMENTS.items() if name in needed)
