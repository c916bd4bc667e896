"""Refused rows leave their table for <table>__quarantine: good and quarantined rows are always the input.

Two tables are two commits: the rows are in quarantine before they leave the table. A task that ended between the
two leaves a quarantine whose last rows are still in the table. The next check finds that in the snapshots
(`unfinished`) and takes them out of the quarantine in the commit that brings its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from forebay import sqltext
from forebay.checks import queries, rewrite
from forebay.checks.compile import FILE, ROW, ROWS, RowTest
from forebay.checks.evaluate import Checked, relation
from forebay.checks.rules import QUARANTINE
from forebay.checks.verdict import Verdict
from forebay.engines.columns import plan, result_columns
from forebay.engines.duckdb import result_of
from forebay.lake.commit import Conflict, Draft
from forebay.lake.connection import LakeError
from forebay.lake.tables import TableDefinition, load
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from sqlglot import exp

    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.results import TableResult

REFUSED = "forebay_refused"
SOURCE = "forebay.quarantine.source"
"""In the summary of both commits: the snapshot the rows were moved out of."""
ADDED = {
    "_rule": "The rules that refused the row, parted by commas.",
    "_run": "The run that moved it.",
    "_source_snapshot": "The snapshot of the table it was moved out of.",
    "_quarantined_at": "When it was moved.",
}


@dataclass(frozen=True)
class Refusal:
    """What a rule is called, and how its refused rows are known: by a test, or by GX as file and place."""

    label: str
    test: RowTest | None
    positions: Sequence[tuple[str, int]] = ()


def refusals_of(checked: Checked, verdicts: Sequence[Verdict]) -> list[Refusal]:
    """How the rows are known that these rules refuse."""
    tests = {id(one): test for one, test in zip(checked.verdicts, checked.tests, strict=True)}
    found = []
    for one in verdicts:
        test = tests[id(one)]
        found.append(Refusal(one.rule.label, test if isinstance(test, RowTest) else None, one.positions))
    return found


def move(engine: DuckDBEngine, checked: Checked, verdicts: Sequence[Verdict], run: str) -> list[TableResult]:
    """Move the rows these rules refuse. Raises Conflict when the table changed since it was checked.

    A row that several rules refuse moves once, with the names of all of them in `_rule`.
    """
    if taken := [column for column in ADDED if column in checked.columns]:
        raise LakeError(
            f"{checked.columns.table}: its rows cannot be quarantined, because it has a column {taken[0]} already."
        )
    refusals = refusals_of(checked, verdicts)
    return engine.work(lambda: _move(engine, checked, refusals, run))


def _move(engine: DuckDBEngine, checked: Checked, refusals: Sequence[Refusal], run: str) -> list[TableResult]:
    started = time.monotonic()
    name, connection = checked.columns.table, engine.connection
    current = load(engine.config, name)
    if current is None or current.metadata.current_snapshot_id != checked.snapshot_id:
        raise Conflict(f"{name} was changed by another writer while it was checked.")
    mark(engine, checked, refusals)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE forebay_move (run VARCHAR, source BIGINT, moment TIMESTAMPTZ)"
    )
    connection.execute(
        "INSERT INTO forebay_move VALUES (?, ?, ?)", [run, checked.snapshot_id, datetime.now(UTC)]
    )
    properties = {SOURCE: str(checked.snapshot_id)}
    draft = Draft(engine.config, TableDefinition(name), [], current)
    good = rewrite.without(engine, draft, REFUSED)
    into = _into_quarantine(engine, checked, properties)
    left = result_of(good.commit(draft, properties), draft, "quarantine", deleted=good.left)
    return [replace(each, seconds=round(time.monotonic() - started, 3)) for each in (left, into)]


def mark(
    engine: DuckDBEngine, checked: Checked, refusals: Sequence[Refusal], among: exp.Expr | None = None
) -> None:
    """Make the temporary table REFUSED: file and place of each refused row, and the rules that refused it."""
    connection = engine.connection
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE forebay_flags (file VARCHAR, row BIGINT, number INTEGER)"
    )
    tests = [(number, each.test) for number, each in enumerate(refusals) if each.test is not None]
    if tests:
        query = queries.refusals([test for _, test in tests], checked.inner, among)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE forebay_found AS {sqltext.to_duckdb(query)}")
        for position, (number, _) in enumerate(tests):
            connection.execute(
                f"INSERT INTO forebay_flags SELECT {FILE}, {ROW}, {number} FROM forebay_found WHERE r{position}"
            )
    engine.background.check()
    for number, each in enumerate(refusals):
        if each.positions:
            _insert(engine, number, each.positions)
    connection.execute("CREATE OR REPLACE TEMP TABLE forebay_labels (number INTEGER, label VARCHAR)")
    for number, each in enumerate(refusals):
        connection.execute("INSERT INTO forebay_labels VALUES (?, ?)", [number, each.label])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {REFUSED} AS SELECT file, row, string_agg(label, ',' ORDER BY number) AS rule "
        "FROM (SELECT DISTINCT * FROM forebay_flags) JOIN forebay_labels USING (number) GROUP BY file, row"
    )


def _insert(engine: DuckDBEngine, number: int, positions: Sequence[tuple[str, int]]) -> None:
    import pyarrow as pa

    files, rows = zip(*positions, strict=True)
    engine.connection.register("forebay_positions", pa.table({"file": files, "row": rows}))
    engine.connection.execute(f"INSERT INTO forebay_flags SELECT file, row, {number} FROM forebay_positions")
    engine.connection.unregister("forebay_positions")


def _into_quarantine(engine: DuckDBEngine, checked: Checked, properties: dict[str, str]) -> TableResult:
    """Commit the refused rows to the quarantine; those of a move that did not finish leave it."""
    target = f"{checked.columns.table}{QUARANTINE}"
    there = load(engine.config, target)
    own = ", ".join(f"t.{quoted(column.name)}" for column in checked.columns.all)
    rows = (
        f"SELECT {own}, r.rule AS _rule, m.run AS _run, m.source AS _source_snapshot, m.moment AS _quarantined_at "
        f"FROM {ROWS} t JOIN {REFUSED} r ON r.file = t.{FILE} AND r.row = t.{ROW} CROSS JOIN forebay_move m"
    )
    columns = plan(
        target, there.schema() if there is not None else None, result_columns(engine.connection, rows),
        checked.columns.table,
    )  # fmt: skip
    definition = TableDefinition(
        target,
        comment=f"Rows of {checked.columns.table} that its checks refused.",
        column_comments=dict(ADDED),
    )
    half = unfinished(there, checked.table) if there is not None else None
    gone = "SELECT NULL AS file, NULL AS row WHERE false"
    if there is not None and half is not None:
        held = relation(there, target, there.metadata.current_snapshot_id)
        gone = f"SELECT {FILE} AS file, {ROW} AS row FROM ({held}) WHERE _source_snapshot = {int(half)}"
    engine.connection.execute(f"CREATE OR REPLACE TEMP TABLE forebay_gone AS {gone}")
    draft = Draft(
        engine.config, definition, [(name, kind) for name, kind, _ in columns.columns], there,
        columns.add, columns.widen,
    )  # fmt: skip
    written = rewrite.without(engine, draft, "forebay_gone", columns.select(f"({rows})"))
    moved = rewrite.count(engine, f"FROM {REFUSED}")
    return result_of(written.commit(draft, properties), draft, "append", inserted=moved, deleted=written.left)


def unfinished(quarantine: Table, table: Table) -> int | None:
    """The snapshot whose rows are in quarantine and still in the table; None when the last move was completed.

    A move is complete when a commit that came after its source in the table's history names it. Where the source
    has expired or was rolled back nothing is known, so nothing is taken out.
    """
    source = last_property(quarantine, SOURCE)
    done = False
    for snapshot in history(table):
        if str(snapshot.snapshot_id) == source:
            return None if done else int(source)
        done = done or summary_of(snapshot).get(SOURCE) == source
    return None


def last_property(table: Table, name: str) -> str | None:
    """The property of the newest snapshot that has it."""
    return next((found for each in history(table) if (found := summary_of(each).get(name))), None)


def history(table: Table) -> list[Any]:
    """The current snapshot and those it came from, newest first, as far as they are kept."""
    found = []
    snapshot = table.metadata.current_snapshot()
    while snapshot is not None:
        found.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None
    return found


def summary_of(snapshot: Any) -> dict[str, str]:
    """What a snapshot's commit said besides its counts."""
    return dict(snapshot.summary.additional_properties) if snapshot.summary else {}
