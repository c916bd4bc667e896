"""Looks at a table with rules: one pass of SQL for those that are compiled, GX for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from forebay import sqltext
from forebay.checks import queries
from forebay.checks.columns import Columns
from forebay.checks.compile import FILE, ROW, ROWS, Compiled, Inner, RowTest, Shape
from forebay.checks.kinds import compiled
from forebay.checks.on_trino import asking
from forebay.checks.rules import Rule
from forebay.checks.verdict import Verdict, verdict
from forebay.engines.columns import sql_name
from forebay.engines.duckdb import lake_name
from forebay.errors import ForebayError
from forebay.lake.tables import load
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.trino import TrinoEngine

GX_ROWS = 5_000_000
"""Rows that may be read into memory for rules that are not compiled."""


@dataclass
class Checked:
    """A table as it was looked at, and what each rule found, in the order of the rules."""

    table: Table
    columns: Columns
    snapshot_id: int | None
    rows: int
    verdicts: list[Verdict]
    tests: list[Compiled | None]
    inner: Inner
    """The SELECT the tests' expressions are over."""


def evaluate(
    engine: DuckDBEngine,
    name: str,
    rules: Sequence[Rule],
    values: Mapping[str, sqltext.Value] | None = None,
    *,
    gx_rows: int = GX_ROWS,
    all_by_gx: bool = False,
    log: Callable[[str], None] = lambda _: None,
    counter: TrinoEngine | None = None,
) -> Checked:
    """Look at the table's current snapshot. Raises ForebayError for what no row can answer: a wrong column.

    With `counter` Trino counts what is compiled; the rest stays `engine`'s. With `all_by_gx` nothing is compiled that GX knows, so that both ways can be compared.
    """
    table = load(engine.config, name)
    if table is None:
        raise ForebayError(f"there is no table {name}. The task that writes it must run before the check.")
    columns = Columns(name, table.schema())
    columns_exist(rules, columns)
    inner = Inner(columns, values or {})
    _other_tables(engine, rules)
    tests = [None if all_by_gx and rule.expectation else compiled(rule, inner) for rule in rules]
    snapshot = table.metadata.current_snapshot_id
    engine.execute([f"CREATE OR REPLACE TEMP VIEW {ROWS} AS {relation(table, name, snapshot)}"])
    ask = (
        asking(counter, table, name)
        if counter is not None
        else lambda query: engine.query(sqltext.to_duckdb(query))
    )
    found, count = _counted(ask, tests, inner)
    checked = Checked(table, columns, snapshot, count, found, tests, inner)
    if others := [rule.label for rule, test in zip(rules, tests, strict=True) if test is None]:
        log(f"Great Expectations itself looks at {', '.join(others)}; importing it takes some seconds.")
        by_gx(engine, checked, rules, gx_rows)
    return checked


def relation(table: Table, name: str, snapshot: int | None) -> str:
    """DuckDB's SELECT of a snapshot's rows with the file and place of each."""
    if snapshot is None:
        nothing = ", ".join(
            f"CAST(NULL AS {sql_name(each.field_type)}) AS {quoted(each.name)}"
            for each in table.schema().fields
        )
        return f"SELECT {nothing}, CAST(NULL AS VARCHAR) AS {FILE}, CAST(NULL AS BIGINT) AS {ROW} WHERE false"
    names = ", ".join(quoted(each.name) for each in table.schema().fields)
    return (
        f"SELECT {names}, filename AS {FILE}, file_row_number AS {ROW} "
        f"FROM {lake_name(name)} AT (VERSION => {int(snapshot)})"
    )


def columns_exist(rules: Sequence[Rule], columns: Columns) -> None:
    """Raise ForebayError that names every column the rules ask for and the table does not have."""
    named = (
        name for rule in rules if rule.kind != "expect_column_to_exist"
        for name in (rule.columns if rule.kind != "expect_table_columns_to_match_ordered_list" else ())
    )  # fmt: skip
    if missing := [name for name in named if name not in columns]:
        raise ForebayError(columns.missing(missing))


def _other_tables(engine: DuckDBEngine, rules: Sequence[Rule]) -> None:
    for rule in rules:
        if rule.kind == "references":
            to = rule.arguments["to"]
            other = load(engine.config, to["table"])
            if other is None:
                raise ForebayError(f"{rule.label}: there is no table {to['table']}.")
            Columns(to["table"], other.schema())[to["column"]]


def _counted(
    ask: Callable[[exp.Expr], pa.Table], tests: Sequence[Compiled | None], inner: Inner
) -> tuple[list[Verdict], int]:
    """A verdict for each test; those GX is to look at get an empty one."""
    asked = [test for test in tests if test is not None and not isinstance(test, Shape)]
    row = ask(queries.counts(asked, inner)).to_pylist()[0]
    found = []
    number = 0
    for test in tests:
        if test is None:
            found.append(Verdict(_NO_RULE, False))
            continue
        one = verdict(test, number, row)
        if isinstance(test, RowTest) and one.unexpected:
            shown = ask(queries.examples(test, inner))
            one.result["partial_unexpected_list"] = _shown(shown, [name for name, _ in test.shows])
        number += not isinstance(test, Shape)
        found.append(one)
    return found, int(row["n"])


_NO_RULE = Rule("", "", "")


def _shown(rows: pa.Table, names: Sequence[str]) -> list[Any]:
    """Values of one column, or a mapping for each row, as GX shows them."""
    if len(names) == 1:
        return list(rows.column(0).to_pylist())
    return [dict(zip(names, row.values(), strict=False)) for row in rows.to_pylist()]


def by_gx(engine: DuckDBEngine, checked: Checked, rules: Sequence[Rule], limit: int) -> None:
    """Fills in the verdicts of the rules that are not compiled; one frame for each condition on rows."""
    from forebay.checks import gx

    waiting = [number for number, test in enumerate(checked.tests) if test is None]
    for where in dict.fromkeys(rules[number].where for number in waiting):
        numbers = [number for number in waiting if rules[number].where == where]
        some = [rules[number] for number in numbers]
        names = [*_names(some, checked.columns), FILE, ROW]
        chosen = Inner(checked.columns, checked.inner.values)
        condition = chosen.condition(where) if where else exp.true()
        wanted = [exp.column(name, quoted=True) for name in names]
        query = exp.select(*wanted).from_(chosen.select([condition], *names)).where(condition)
        rows = engine.query(sqltext.to_duckdb(query.limit(limit + 1)))
        if rows.num_rows > limit:
            raise ForebayError(
                f"{checked.columns.table} has more than {limit:,} rows, too many to read into memory for "
                f"{', '.join(rule.label for rule in some)}. Give the rule a where, use a short name that is compiled "
                "into SQL, or raise gx_rows in the extra of the SQL connection."
            )
        frame = gx.frame(rows)
        ids = frame[[FILE, ROW]]
        results = gx.beside(
            lambda frame=frame, some=some: gx.validate(
                frame.drop(columns=[FILE, ROW]), some, checked.columns
            ),  # type: ignore[misc]
            engine.background.check,
        )
        for number, result in zip(numbers, results, strict=True):
            positions = result["result"].pop("unexpected_index_list", None)
            for key in ("unexpected_list", "unexpected_index_query", "partial_unexpected_index_list"):
                result["result"].pop(key, None)
            one = Verdict(rules[number], result["success"], result["result"], by_gx=True)
            if rules[number].severity == "quarantine" and one.unexpected:
                if positions is None:
                    raise ForebayError(
                        f"{rules[number].label}: Great Expectations does not say which rows it refuses, so they cannot "
                        "be moved. Use severity fail or warn."
                    )
                one.positions = [tuple(row) for row in ids.iloc[positions].itertuples(index=False)]
            checked.verdicts[number] = one


def _names(rules: Sequence[Rule], columns: Columns) -> list[str]:
    named = dict.fromkeys(columns[name].name for rule in rules for name in rule.columns if name in columns)
    whole = any(not rule.columns or rule.kind.startswith("expect_table") for rule in rules)
    return [column.name for column in columns.all] if whole else list(named)
