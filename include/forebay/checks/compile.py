"""What a rule becomes when it is compiled, and the SELECT that all compiled rules of a table share.

A rule about rows becomes a condition that is true for a refused row; NULL refuses nothing. NaN is no value,
as for Great Expectations on pandas: a column of floating point numbers is read as NULL where it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from forebay.checks.columns import FLOATS, Columns
from forebay.checks.conditions import Condition
from forebay.checks.rules import Rule
from forebay.errors import ForebayError
from forebay.sqltext import Value, bind

ROWS = "forebay_rows"
"""The relation every query reads: the table's columns, and FILE and ROW where rows are to be moved."""
FILE, ROW = "forebay_file", "forebay_row"
EXAMPLES = 20


@dataclass(frozen=True)
class RowTest:
    """A rule about rows; its expressions are over the inner SELECT."""

    rule: Rule
    where: exp.Expr | None
    """Rows it is about."""
    missing: exp.Expr | None
    """Of those, the rows without a value, which are not looked at; None: GX counts no missing rows."""
    unexpected: exp.Expr | None
    """Of the others, the refused ones; None: those whose `keys` occur more than once."""
    shows: tuple[tuple[str, exp.Expr], ...]
    keys: tuple[exp.Expr, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A rule about the whole table: what is added up, and what that says: (good, observed value)."""

    rule: Rule
    where: exp.Expr | None
    sums: Mapping[str, exp.Expr]
    judge: Callable[[Mapping[str, Any]], tuple[bool, Any]]


@dataclass(frozen=True)
class Shape:
    """A rule about the table's columns, which needs no rows."""

    rule: Rule
    success: bool
    observed: Any = None


Compiled = RowTest | Figure | Shape


def fn(name: str, *args: exp.Expr) -> exp.Expr:
    """A call of a Trino function."""
    return exp.Anonymous(this=name, expressions=[arg.copy() for arg in args])


class Inner:
    """The SELECT below all others: each column and condition that some rule needs, once, under a short name."""

    def __init__(self, columns: Columns, values: Mapping[str, Value]) -> None:
        self.columns, self.values = columns, values
        self._selected: dict[str, tuple[str, exp.Expr]] = {}

    def column(self, name: str) -> exp.Expr:
        """A column, NULL where it is NaN."""
        column = self.columns[name]
        raw = exp.column(column.name, quoted=True)
        made: exp.Expr = raw
        if column.kind in FLOATS:
            made = exp.Case(ifs=[exp.If(this=fn("is_nan", raw), true=exp.null())], default=raw.copy())
        return self._add(f"column {column.name}", made)

    def condition(self, text: str) -> exp.Expr:
        """A condition of the YAML, with the run's values."""
        condition = Condition(text)
        if condition.mistakes or condition.tree is None:
            raise ForebayError(f"{text!r} {condition.mistakes[0].message}")
        if missing := [name for name in condition.columns if name not in self.columns]:
            raise ForebayError(self.columns.missing(missing))
        return self._add(f"condition {text}", bind(condition.tree, self.values))

    def found_in(self, name: str, table: str, other: str) -> exp.Expr:
        """Whether a column's value occurs in another table's column."""
        raw = exp.column(self.columns[name].name, quoted=True)
        namespace, _, short = table.partition(".")
        there = exp.column(other, quoted=True)
        rows = (
            exp.select(there)
            .from_(exp.Table(this=exp.to_identifier(short), db=exp.to_identifier(namespace)))
            .where(is_value(there))
        )
        return self._add(f"{name} in {table}.{other}", exp.In(this=raw, query=rows.subquery()))

    def _add(self, key: str, made: exp.Expr) -> exp.Expr:
        if key not in self._selected:
            self._selected[key] = (f"v{len(self._selected)}", made)
        return exp.column(self._selected[key][0])

    def select(self, used: Iterable[exp.Expr], *more: str) -> exp.Subquery:
        """The SELECT as a relation `t`, of what the expressions in `used` need; `more` are columns of ROWS."""
        needed = {column.name for each in used for column in each.find_all(exp.Column)}
        parts = [made.copy().as_(name) for name, made in self._selected.values() if name in needed]
        parts += [exp.column(name, quoted=True) for name in more]
        return exp.select(*(parts or [exp.Literal.number(1).as_("one")])).from_(ROWS).subquery("t")


def where_of(rule: Rule, inner: Inner) -> exp.Expr | None:
    return inner.condition(rule.where) if rule.where else None


def is_value(node: exp.Expr) -> exp.Expr:
    return exp.Not(this=is_null(node))


def is_null(node: exp.Expr) -> exp.Expr:
    return exp.Is(this=node.copy(), expression=exp.null())


def any_of(conditions: Sequence[exp.Expr]) -> exp.Expr:
    return exp.Paren(this=exp.or_(*(one.copy() for one in conditions))) if conditions else exp.false()


def all_of(*conditions: exp.Expr | None) -> exp.Expr:
    given = [one.copy() for one in conditions if one is not None]
    return exp.Paren(this=exp.and_(*given)) if given else exp.true()
