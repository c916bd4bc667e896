"""Each kind of rule as SQL: syntax trees in Trino's dialect, with literals and never pasted text.

A kind that is not here, or that does not fit the column's type, goes to Great Expectations itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from forebay.checks.columns import FLOATS, NUMBERS, ORDERED, Column, plain, value_of
from forebay.checks.compile import (
    Compiled,
    Figure,
    Inner,
    RowTest,
    Shape,
    all_of,
    any_of,
    fn,
    is_null,
    is_value,
    where_of,
)
from forebay.checks.conditions import Condition
from forebay.checks.names import COMPOUND_UNIQUE
from forebay.checks.regex import portable
from forebay.checks.rules import Rule
from forebay.errors import ForebayError
from forebay.sqltext import literal_of


def compiled(rule: Rule, inner: Inner) -> Compiled | None:
    """The rule in SQL, or None where Great Expectations itself must look. Raises ForebayError for wrong values."""
    known = KINDS.get(rule.kind)
    return known(rule, inner) if known is not None else None


def _on_column(
    rule: Rule, inner: Inner, unexpected: Callable[[exp.Expr, Column], exp.Expr | None]
) -> RowTest | None:
    name = rule.arguments["column"]
    column, value = inner.columns[name], inner.column(name)
    refused = unexpected(value, column)
    if refused is None:
        return None
    return RowTest(rule, where_of(rule, inner), is_null(value), refused, ((column.name, value),))


def _nulls(refuse_null: bool) -> Callable[[Rule, Inner], RowTest]:
    def build(rule: Rule, inner: Inner) -> RowTest:
        name = rule.arguments["column"]
        value = inner.column(name)
        refused = is_null(value) if refuse_null else is_value(value)
        return RowTest(rule, where_of(rule, inner), None, refused, ((inner.columns[name].name, value),))

    return build


def _unique(rule: Rule, inner: Inner) -> RowTest:
    names = rule.columns
    values = [inner.column(name) for name in names]
    ignore = rule.arguments.get("ignore_row_if", "all_values_are_missing")
    nulls = [is_null(value) for value in values]
    missing = {
        "all_values_are_missing": all_of(*nulls),
        "any_value_is_missing": any_of(nulls),
    }.get(ignore, exp.false())
    shows = tuple((inner.columns[name].name, value) for name, value in zip(names, values, strict=True))
    return RowTest(rule, where_of(rule, inner), missing, None, shows, tuple(values))


def _beyond(rule: Rule, value: exp.Expr, low: exp.Expr | None, high: exp.Expr | None) -> exp.Expr:
    below = exp.LTE if rule.arguments.get("strict_min") else exp.LT
    above = exp.GTE if rule.arguments.get("strict_max") else exp.GT
    parts: list[exp.Expr] = []
    if low is not None:
        parts.append(below(this=value.copy(), expression=low))
    if high is not None:
        parts.append(above(this=value.copy(), expression=high))
    return any_of(parts)


def _literal(column: Column, value: Any, what: str) -> exp.Expr | None:
    made = value_of(column, value, what)
    return None if made is None else literal_of(made)


def _between(rule: Rule, inner: Inner) -> RowTest | None:
    def refused(value: exp.Expr, column: Column) -> exp.Expr | None:
        if column.kind not in ORDERED:
            return None
        low = _literal(column, rule.arguments.get("min_value"), f"{rule.label}: min")
        high = _literal(column, rule.arguments.get("max_value"), f"{rule.label}: max")
        return _beyond(rule, value, low, high)

    return _on_column(rule, inner, refused)


def _in_set(negated: bool) -> Callable[[Rule, Inner], RowTest | None]:
    def build(rule: Rule, inner: Inner) -> RowTest | None:
        def refused(value: exp.Expr, column: Column) -> exp.Expr | None:
            given = rule.arguments.get("value_set")
            if column.kind not in (*ORDERED, "boolean") or given is None:
                return None
            what = f"{rule.label}: values"
            known = [literal_of(value_of(column, each, what)) for each in given if each is not None]
            inside = exp.In(this=value.copy(), expressions=known) if known else exp.false()
            return all_of(is_value(value), inside if negated else exp.Not(this=inside))

        return _on_column(rule, inner, refused)

    return build


def _regex(negated: bool) -> Callable[[Rule, Inner], RowTest | None]:
    def build(rule: Rule, inner: Inner) -> RowTest | None:
        def refused(value: exp.Expr, column: Column) -> exp.Expr | None:
            pattern = portable(str(rule.arguments.get("regex", "(.*)?")))
            if column.kind != "string" or pattern is None:
                return None
            found = fn("regexp_like", value, exp.Literal.string(pattern))
            return found if negated else exp.Not(this=found)

        return _on_column(rule, inner, refused)

    return build


def _like(negated: bool) -> Callable[[Rule, Inner], RowTest | None]:
    def build(rule: Rule, inner: Inner) -> RowTest | None:
        def refused(value: exp.Expr, column: Column) -> exp.Expr | None:
            given = rule.arguments
            patterns = given.get("like_pattern_list") or [given.get("like_pattern")]
            if column.kind != "string":
                raise ForebayError(f"{rule.label}: needs a text column; {column.name} is {column.shown}")
            found: list[exp.Expr] = [
                exp.Like(this=value.copy(), expression=exp.Literal.string(str(pattern)))
                for pattern in patterns
            ]
            if escape := given.get("escape"):
                found = [exp.Escape(this=one, expression=exp.Literal.string(str(escape))) for one in found]
            some = any_of(found) if given.get("match_on", "any") == "any" or negated else all_of(*found)
            return some if negated else exp.Not(this=some)

        return _on_column(rule, inner, refused)

    return build


def _length(rule: Rule, inner: Inner) -> RowTest | None:
    def refused(value: exp.Expr, column: Column) -> exp.Expr | None:
        if column.kind != "string":
            return None
        given = rule.arguments
        low, high = given.get("min_value", given.get("value")), given.get("max_value", given.get("value"))
        bounds = [None if each is None else literal_of(each) for each in (low, high)]
        return _beyond(rule, fn("length", value), *bounds)

    return _on_column(rule, inner, refused)


def _sql(rule: Rule, inner: Inner) -> RowTest:
    value = inner.condition(rule.arguments["sql"])
    named = Condition(rule.arguments["sql"]).columns
    shows = tuple((inner.columns[name].name, inner.column(name)) for name in named)
    return RowTest(rule, where_of(rule, inner), is_null(value), exp.Not(this=value.copy()), shows)


def _references(rule: Rule, inner: Inner) -> RowTest:
    name, to = rule.arguments["column"], rule.arguments["to"]
    value = inner.column(name)
    found = inner.found_in(name, to["table"], to["column"])
    refused = all_of(is_value(value), exp.Not(this=found))
    shows = ((inner.columns[name].name, value),)
    return RowTest(rule, where_of(rule, inner), is_null(value), refused, shows)


def _row_count(rule: Rule, inner: Inner) -> Figure:
    def judge(sums: Mapping[str, Any]) -> tuple[bool, Any]:
        given = rule.arguments
        low, high = given.get("min_value", given.get("value")), given.get("max_value", given.get("value"))
        return within(sums["n"], low, high, given), sums["n"]

    return Figure(rule, where_of(rule, inner), {"n": exp.Literal.number(1)}, judge)


def _figure(name: str) -> Callable[[Rule, Inner], Figure | None]:
    def build(rule: Rule, inner: Inner) -> Figure | None:
        column = inner.columns[rule.arguments["column"]]
        value = inner.column(column.name)
        numeric = column.kind in NUMBERS
        known = (*ORDERED, "boolean") if name == "distinct" else ORDERED
        if column.kind not in known or (name in ("sum", "mean") and not numeric):
            return None
        bound = column if name in ("min", "max") else None
        given = rule.arguments
        low, high = (
            value_of(bound, given.get(key), f"{rule.label}: {key[:3]}") if bound else given.get(key)
            for key in ("min_value", "max_value")
        )
        sums = _SUMS[name](value, column)

        def judge(found: Mapping[str, Any]) -> tuple[bool, Any]:
            observed = _OBSERVED[name](found) if name in _OBSERVED else found["n"]
            if observed is None or observed != observed:
                return False, None
            return within(observed, low, high, given), observed

        return Figure(rule, where_of(rule, inner), sums, judge)

    return build


def _total(value: exp.Expr, column: Column) -> exp.Expr:
    # Whole numbers are added up exactly: a bigint's sum may be larger than a bigint.
    if column.kind in FLOATS or column.kind == "decimal":
        return value.copy()
    return exp.cast(value.copy(), "DECIMAL(38, 0)", dialect="trino")


_SUMS: dict[str, Callable[[exp.Expr, Column], dict[str, exp.Expr]]] = {
    "min": lambda value, _: {"n": value},
    "max": lambda value, _: {"n": value},
    "sum": lambda value, column: {"n": _total(value, column)},
    "mean": lambda value, column: {"n": _total(value, column), "d": value},
    "distinct": lambda value, _: {"n": exp.Distinct(expressions=[value.copy()])},
}
_OBSERVED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "sum": lambda found: 0 if found["n"] is None else plain(found["n"]),
    "mean": lambda found: float(found["n"]) / found["d"] if found["d"] else None,
}
AGGREGATES = {
    "expect_column_min_to_be_between": "min",
    "expect_column_max_to_be_between": "max",
    "expect_column_sum_to_be_between": "sum",
    "expect_column_mean_to_be_between": "sum",
}
"""The aggregate of a figure's `n`, where it is not count."""


def within(observed: Any, low: Any, high: Any, given: Mapping[str, Any]) -> bool:
    """Whether a figure lies between its bounds."""
    if low is not None and not (observed > low if given.get("strict_min") else observed >= low):
        return False
    return high is None or bool(observed < high if given.get("strict_max") else observed <= high)


def _exists(rule: Rule, inner: Inner) -> Shape:
    name, at = rule.arguments["column"], rule.arguments.get("column_index")
    if at:
        there = inner.columns.all[at : at + 1]
        return Shape(rule, bool(there) and there[0].name.lower() == name.lower())
    return Shape(rule, name in inner.columns)


def _columns(rule: Rule, inner: Inner) -> Shape:
    expected = {name.lower() for name in rule.arguments.get("column_set") or ()}
    actual = {column.name.lower() for column in inner.columns.all}
    exact = rule.arguments.get("exact_match", True)
    good = expected == actual if exact is None or exact else expected <= actual
    return Shape(rule, good, sorted(column.name for column in inner.columns.all))


_ALIASES = {"int": "integer", "double precision": "double", "string": "varchar", "float": "real"}


def _type(rule: Rule, inner: Inner) -> Shape:
    shown = inner.columns[rule.arguments["column"]].shown
    wanted = " ".join(str(rule.arguments["type"]).lower().split())
    base, _, rest = wanted.partition("(")
    if base in ("varchar", "timestamp"):
        # Iceberg has one length of text, and timestamps of six decimals.
        wanted = base + rest.partition(")")[2]
    wanted = _ALIASES.get(wanted, wanted)
    return Shape(rule, shown.replace(" ", "") == wanted.replace(" ", ""), shown)


KINDS: dict[str, Callable[[Rule, Inner], Compiled | None]] = {
    "expect_column_values_to_not_be_null": _nulls(refuse_null=True),
    "expect_column_values_to_be_null": _nulls(refuse_null=False),
    "expect_column_values_to_be_unique": _unique,
    COMPOUND_UNIQUE: _unique,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set(negated=False),
    "expect_column_values_to_not_be_in_set": _in_set(negated=True),
    "expect_column_values_to_match_regex": _regex(negated=False),
    "expect_column_values_to_not_match_regex": _regex(negated=True),
    "expect_column_values_to_match_like_pattern": _like(negated=False),
    "expect_column_values_to_not_match_like_pattern": _like(negated=True),
    "expect_column_values_to_match_like_pattern_list": _like(negated=False),
    "expect_column_values_to_not_match_like_pattern_list": _like(negated=True),
    "expect_column_value_lengths_to_be_between": _length,
    "expect_column_value_lengths_to_equal": _length,
    "sql": _sql,
    "references": _references,
    "expect_table_row_count_to_be_between": _row_count,
    "expect_table_row_count_to_equal": _row_count,
    "expect_column_to_exist": _exists,
    "expect_table_columns_to_match_set": _columns,
    "type": _type,
    "expect_column_min_to_be_between": _figure("min"),
    "expect_column_max_to_be_between": _figure("max"),
    "expect_column_sum_to_be_between": _figure("sum"),
    "expect_column_mean_to_be_between": _figure("mean"),
    "expect_column_unique_value_count_to_be_between": _figure("distinct"),
}
