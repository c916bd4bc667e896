"""The SELECTs over a table's rows: what all rules count in one pass, examples, and which rows are refused."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from forebay.checks.compile import EXAMPLES, FILE, ROW, Figure, Inner, RowTest, all_of, any_of, fn
from forebay.checks.kinds import AGGREGATES


def counts(tests: Sequence[RowTest | Figure], inner: Inner) -> exp.Select:
    """One row: `n`, and for the rule at position i its counts, named r<i>_<what>."""
    parts: list[exp.Expr] = [fn("count", exp.Star()).as_("n")]
    apart: list[tuple[int, RowTest]] = []
    for number, test in enumerate(tests):
        if isinstance(test, Figure):
            parts += [_sum(test, what, value).as_(f"r{number}_{what}") for what, value in test.sums.items()]
            continue
        if test.where is not None:
            parts.append(fn("count_if", test.where).as_(f"r{number}_n"))
        if test.missing is not None:
            parts.append(fn("count_if", all_of(test.where, test.missing)).as_(f"r{number}_missing"))
        if test.unexpected is None:
            apart.append((number, test))
        else:
            parts.append(fn("count_if", all_of(test.where, test.unexpected)).as_(f"r{number}_unexpected"))
    query = exp.select("*").from_(exp.select(*parts).from_(inner.select(parts)).subquery("a"))
    for number, test in apart:
        query = query.join(
            _repeated(test, inner, f"r{number}_unexpected").subquery(f"u{number}"), join_type="cross"
        )
    return query


def _sum(figure: Figure, what: str, value: exp.Expr) -> exp.Expr:
    name = AGGREGATES.get(figure.rule.kind, "count") if what == "n" else "count"
    counted = value.copy()
    if figure.where is not None:
        # The value where the condition holds, so that one pass serves all conditions.
        target = counted.expressions[0] if isinstance(counted, exp.Distinct) else counted
        chosen = exp.Case(ifs=[exp.If(this=figure.where.copy(), true=target.copy())])
        counted = exp.Distinct(expressions=[chosen]) if isinstance(counted, exp.Distinct) else chosen
    return exp.Anonymous(this=name, expressions=[counted])


def _repeated(test: RowTest, inner: Inner, name: str) -> exp.Select:
    """How many rows have keys that another row has too."""
    groups = (
        exp.select(fn("count", exp.Star()).as_("k"))
        .from_(inner.select([considered(test), *test.keys]))
        .where(considered(test))
        .group_by(*(key.copy() for key in test.keys))
        .having(exp.GT(this=fn("count", exp.Star()), expression=exp.Literal.number(1)))
    )
    total = exp.Coalesce(this=fn("sum", exp.column("k")), expressions=[exp.Literal.number(0)])
    return exp.select(total.as_(name)).from_(groups.subquery("g"))


def considered(test: RowTest) -> exp.Expr:
    """The rows a test looks at."""
    present = None if test.missing is None else exp.Not(this=test.missing.copy())
    return all_of(test.where, present)


def examples(test: RowTest, inner: Inner) -> exp.Select:
    """The values of some refused rows."""
    shows = [value.copy().as_(f"e{number}") for number, (_, value) in enumerate(test.shows)]
    shows = shows or [exp.null().as_("e0")]
    if test.unexpected is not None:
        rows = inner.select([*shows, refused(test)])
        return exp.select(*shows).from_(rows).where(refused(test)).limit(EXAMPLES)
    names = [exp.column(f"e{number}") for number in range(len(shows))]
    rows = inner.select([*shows, considered(test), *test.keys])
    among = exp.select(*shows, _occurrences(test).as_("k")).from_(rows).where(considered(test))
    twice = exp.GT(this=exp.column("k"), expression=exp.Literal.number(1))
    return exp.select(*names).from_(among.subquery("w")).where(twice).limit(EXAMPLES)


def refused(test: RowTest) -> exp.Expr:
    """True for the refused rows of a test that needs no other rows."""
    assert test.unexpected is not None
    return all_of(test.where, test.unexpected)


def _occurrences(test: RowTest) -> exp.Expr:
    """How many of the rows that the test looks at have this row's keys."""
    one, none = exp.Literal.number(1), exp.Literal.number(0)
    counted = exp.Case(ifs=[exp.If(this=considered(test), true=one)], default=none)
    return exp.Window(this=fn("sum", counted), partition_by=[key.copy() for key in test.keys])


def refusals(tests: Sequence[RowTest], inner: Inner, among: exp.Expr | None = None) -> exp.Select:
    """FILE and ROW of every row that some test refuses, and for the test at position i whether it does: r<i>.

    `among` says which rows of the relation may be refused; the others only count for uniqueness.
    """
    flags, windows = _flags(tests)
    pass_on = [FILE, ROW, *(each.name for each in among.find_all(exp.Column))] if among else [FILE, ROW]
    rows: exp.Subquery = inner.select([*flags, *windows], *pass_on)
    if windows:
        rows = exp.select(exp.Star(), *windows).from_(rows).subquery("t")
    named = [flag.copy().as_(f"r{number}") for number, flag in enumerate(flags)]
    found = exp.select(exp.column(FILE), exp.column(ROW), *named).from_(rows)
    return found.where(all_of(among, any_of(flags)))


def flagged(tests: Sequence[RowTest], inner: Inner, names: Sequence[str]) -> exp.Select:
    """Every row: FILE, the column at position i of `names` as c<i>, and for each test whether it refuses it: r<i>."""
    flags, windows = _flags(tests)
    rows = inner.select([*flags, *windows], FILE)
    own = [exp.column(name, quoted=True).as_(f"forebay_c{number}") for number, name in enumerate(names)]
    rows.set("this", rows.this.select(*own))
    if windows:
        rows = exp.select(exp.Star(), *windows).from_(rows).subquery("t")
    columns = [exp.column(f"forebay_c{number}").as_(f"c{number}") for number in range(len(names))]
    named = [flag.copy().as_(f"r{number}") for number, flag in enumerate(flags)]
    return exp.select(exp.column(FILE), *columns, *named).from_(rows)


def _flags(tests: Sequence[RowTest]) -> tuple[list[exp.Coalesce], list[exp.Expr]]:
    """For each test whether it refuses a row, never NULL; and the windows that those of uniqueness look at."""
    windows = [_occurrences(test).as_(f"k{n}") for n, test in enumerate(tests) if test.unexpected is None]
    flags = [
        exp.Coalesce(
            this=refused(test) if test.unexpected is not None else _again(number, test),
            expressions=[exp.false()],
        )
        for number, test in enumerate(tests)
    ]
    return flags, windows


def _again(number: int, test: RowTest) -> exp.Expr:
    twice = exp.GT(this=exp.column(f"k{number}"), expression=exp.Literal.number(1))
    return all_of(considered(test), twice)
