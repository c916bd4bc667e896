"""Quarantined rows looked at again with today's rules: those that pass go back to their table.

Three commits, so that no row is lost or doubled whenever it stops: the quarantine's rows get their new verdict
(an empty `_rule` says that a row goes back), these rows are written to the table, these rows leave the quarantine.
The first and the second carry the replay's id in their summary; a replay first finishes one that did not end.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from forebay.checks import quarantine, rewrite
from forebay.checks.columns import Columns
from forebay.checks.compile import FILE, ROW, ROWS, Inner, RowTest
from forebay.checks.evaluate import GX_ROWS, Checked, by_gx, columns_exist, relation
from forebay.checks.kinds import compiled
from forebay.checks.quarantine import ADDED, REFUSED, history, last_property
from forebay.checks.rules import QUARANTINE, Rule
from forebay.checks.verdict import Verdict
from forebay.engines.columns import plan, result_columns, sql_name
from forebay.errors import ForebayError
from forebay.lake.commit import Draft
from forebay.lake.tables import TableDefinition, load
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from forebay.engines.duckdb import DuckDBEngine
    from forebay.sqltext import Value

REPLAY = "forebay.quarantine.replay"
HELD = "forebay_held"
"""Whether a row of the relation is a quarantined one; the others are the table's, for uniqueness."""
SUPERSEDED, NO_KEY = "superseded", "no merge key"
"""In `_rule`, of rows that pass but cannot be merged: a newer quarantined row has the key, or they have none."""


@dataclass
class Replay:
    """What a replay did, or with dry_run would do: rows that go back, and those that stay by their rules."""

    table: str
    returned: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    """Rows that an earlier replay, which did not end, had on their way back."""
    dry_run: bool = False


def replay(
    engine: DuckDBEngine,
    name: str,
    rules: Sequence[Rule],
    values: Mapping[str, Value] | None = None,
    *,
    merge_key: Sequence[str] = (),
    dry_run: bool = False,
    gx_rows: int = GX_ROWS,
) -> Replay:
    """Look again at the rows in a table's quarantine. Rules that only warn are left out.

    With a merge key rows that go back update those of the same key; else they are appended.
    """
    rules = [
        replace(rule, severity="quarantine") for rule in rules if rule.row_level and rule.severity != "warn"
    ]
    done = Replay(name, dry_run=dry_run)
    _both(engine, name)
    if not dry_run:
        done.finished = _finish(engine, name, merge_key)
    table, held = _both(engine, name)
    checked = _look(engine, table, held, name, rules, values or {}, gx_rows)
    done.returned, done.kept = engine.work(lambda: _decide(engine, checked, held, merge_key))
    if not dry_run:
        engine.work(lambda: _mark(engine, held, f"{name}{QUARANTINE}"))
        _finish(engine, name, merge_key)
    return done


def _both(engine: DuckDBEngine, name: str) -> tuple[Table, Table]:
    table, held = load(engine.config, name), load(engine.config, f"{name}{QUARANTINE}")
    if held is None:
        raise ForebayError(f"{name} has no quarantine: there is no table {name}{QUARANTINE}.")
    if table is None:
        raise ForebayError(f"there is no table {name} that the rows of {name}{QUARANTINE} could go back to.")
    return table, held


def _look(
    engine: DuckDBEngine, table: Table, held: Table, name: str, rules: Sequence[Rule],
    values: Mapping[str, Value], gx_rows: int,
) -> Checked:  # fmt: skip
    """Make REFUSED of the quarantined rows that some rule refuses still."""
    columns = Columns(name, table.schema())
    columns_exist(rules, columns)
    inner = Inner(columns, values)
    tests = [compiled(rule, inner) for rule in rules]
    checked = Checked(
        table,
        columns,
        table.metadata.current_snapshot_id,
        0,
        [Verdict(rule, False) for rule in rules],
        tests,
        inner,
    )
    target = f"{name}{QUARANTINE}"
    known = {each.name for each in held.schema().fields}
    own = ", ".join(
        f"CAST({quoted(each.name) if each.name in known else 'NULL'} AS {sql_name(each.field_type)}) "
        f"AS {quoted(each.name)}"
        for each in table.schema().fields
    )
    here = relation(held, target, held.metadata.current_snapshot_id)
    rows = f"SELECT {own}, {FILE}, {ROW}, true AS {HELD} FROM ({here})"
    engine.execute([f"CREATE OR REPLACE TEMP VIEW {ROWS} AS {rows}"])
    by_gx(engine, checked, rules, gx_rows)
    if any(isinstance(test, RowTest) and test.unexpected is None for test in tests):
        there = relation(table, name, checked.snapshot_id)
        engine.execute(
            [
                f"CREATE OR REPLACE TEMP VIEW {ROWS} AS {rows} UNION ALL SELECT *, false AS {HELD} FROM ({there})"
            ]
        )
    refusals = quarantine.refusals_of(checked, checked.verdicts)
    engine.work(lambda: quarantine.mark(engine, checked, refusals, exp.column(HELD)))
    return checked


def _decide(
    engine: DuckDBEngine, checked: Checked, held: Table, key: Sequence[str]
) -> tuple[int, dict[str, int]]:
    """Make forebay_decided: file, place, old and new `_rule` of each row; gives how many pass, others by rule."""
    target = f"{checked.columns.table}{QUARANTINE}"
    rows = relation(held, target, held.metadata.current_snapshot_id)
    passing = "CASE WHEN r.rule IS NOT NULL THEN r.rule ELSE '' END"
    if key:
        names = [f"q.{quoted(checked.columns[name].name)}" for name in key]
        nothing = " OR ".join(f"{name} IS NULL" for name in names)
        newest = (
            f"row_number() OVER (PARTITION BY r.rule IS NULL, {', '.join(names)} "
            f"ORDER BY q._quarantined_at DESC, q.{FILE}, q.{ROW})"
        )
        passing = (
            f"CASE WHEN r.rule IS NOT NULL THEN r.rule WHEN {nothing} THEN '{NO_KEY}' "
            f"WHEN {newest} > 1 THEN '{SUPERSEDED}' ELSE '' END"
        )
    connection = engine.connection
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE forebay_decided AS SELECT q.{FILE} AS file, q.{ROW} AS row, q._rule AS old, "
        f"{passing} AS rule FROM ({rows}) q LEFT JOIN {REFUSED} r ON r.file = q.{FILE} AND r.row = q.{ROW}"
    )
    found: list[Any] = connection.execute(
        "SELECT rule, count(*) FROM forebay_decided GROUP BY rule ORDER BY 2 DESC, 1"
    ).fetchall()
    counts = {str(rule): int(count) for rule, count in found}
    return counts.pop("", 0), counts


def _mark(engine: DuckDBEngine, held: Table, target: str) -> None:
    """The first commit: every row whose verdict changed gets its new `_rule`."""
    engine.connection.execute(
        "CREATE OR REPLACE TEMP TABLE forebay_changed AS SELECT file, row, rule FROM forebay_decided "
        "WHERE rule IS DISTINCT FROM old"
    )
    if rewrite.count(engine, "FROM forebay_changed"):
        draft = Draft(engine.config, TableDefinition(target), [], held)
        written = rewrite.without(engine, draft, "forebay_changed", replaced={"_rule": "r.rule"})
        written.commit(draft, {REPLAY: uuid.uuid4().hex})


def _finish(engine: DuckDBEngine, name: str, key: Sequence[str]) -> int:
    """The second and the third commit: rows on their way back reach the table and leave the quarantine."""
    table, held = _both(engine, name)
    target, config = f"{name}{QUARANTINE}", engine.config
    rows = relation(held, target, held.metadata.current_snapshot_id)
    going = f"({rows}) q WHERE q._rule = ''"
    count = engine.work(lambda: rewrite.count(engine, f"FROM {going}"))
    if not count:
        return 0
    own = [field.name for field in held.schema().fields if field.name not in ADDED]
    back = f"SELECT {', '.join(f'q.{quoted(one)}' for one in own)} FROM {going}"
    mark = last_property(held, REPLAY)
    if key:
        # The same rows merged twice change nothing the second time.
        engine.write(back, TableDefinition(name), "merge", list(key))
    elif not mark or all(quarantine.summary_of(each).get(REPLAY) != mark for each in history(table)):

        def append() -> None:
            columns = plan(name, table.schema(), result_columns(engine.connection, back), target)
            draft = Draft(config, TableDefinition(name), [], table, columns.add, columns.widen)
            files, _ = engine.files(columns.select(f"({back})"), draft)
            draft.commit(files, "nothing", (), {REPLAY: mark or ""})

        engine.work(append)

    def leave() -> None:
        engine.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE forebay_going AS SELECT q.{FILE} AS file, q.{ROW} AS row FROM {going}"
        )
        draft = Draft(config, TableDefinition(target), [], held)
        rewrite.without(engine, draft, "forebay_going").commit(draft, {})

    engine.work(leave)
    return count
