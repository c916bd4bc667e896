"""Refused rows leave their table for its quarantine, by Trino: good and quarantined rows are always the input.

Trino does not tell a row's place in its file. So the good rows of each file that holds a refused one are written anew,
and then those files leave the table. That is one commit more than on DuckDB, on the branch of the run: where a task
ends between them, its next try takes all of it back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from forebay.checks.compile import FILE, RowTest
from forebay.checks.on_trino import over
from forebay.checks.quarantine import ADDED, SOURCE, refusals_of
from forebay.checks.queries import flagged
from forebay.checks.rules import QUARANTINE
from forebay.engines.columns import plan
from forebay.engines.results import TableResult
from forebay.engines.trino_write import prepared
from forebay.lake.commit import Conflict, Draft
from forebay.lake.connection import LakeError
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.sqlquote import literal, quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType

    from forebay.checks.evaluate import Checked
    from forebay.checks.verdict import Verdict
    from forebay.engines.trino import TrinoEngine

_ATTEMPTS = 5


def move(engine: TrinoEngine, checked: Checked, verdicts: Sequence[Verdict], run: str) -> list[TableResult]:
    """Move the rows these rules refuse. Raises Conflict when the table changed since it was checked."""
    if taken := [column for column in ADDED if column in checked.columns]:
        raise LakeError(
            f"{checked.columns.table}: its rows cannot be quarantined, because it has a column {taken[0]} already."
        )
    refusals = refusals_of(checked, verdicts)
    tests = [each.test for each in refusals if isinstance(each.test, RowTest)]
    labels = [each.label for each in refusals]
    return engine.work(lambda: _move(engine, checked, tests, labels, run))


def _move(
    engine: TrinoEngine, checked: Checked, tests: Sequence[RowTest], labels: Sequence[str], run: str
) -> list[TableResult]:
    started = time.monotonic()
    name = checked.columns.table
    current = load(engine.config, name)
    if current is None or current.metadata.current_snapshot_id != checked.snapshot_id:
        raise Conflict(f"{name} was changed by another writer while it was checked.")
    names = [field.name for field in current.schema().fields]
    rows = over(flagged(tests, checked.inner, names), current, name)
    any_of = " OR ".join(f"r{number}" for number in range(len(tests)))
    touched = engine.statement(
        f"SELECT {FILE}, count(*), count_if({any_of}) FROM ({rows}) GROUP BY 1 HAVING count_if({any_of}) > 0"
    ).rows
    paths = [str(path) for path, _, _ in touched]
    gone = sum(int(refused) for _, _, refused in touched)
    stay = sum(int(count) for _, count, _ in touched) - gone
    target = f"{name}{QUARANTINE}"
    held, moved = _into(engine, checked, current, target, rows, any_of, labels, run)
    left = _good_rows(engine, current, name, rows, any_of, paths)
    if (moved, left) != (gone, stay):
        raise LakeError(
            f"{name}: {gone:,} rows should have been moved and {stay:,} kept, and {moved:,} and {left:,} were. Nothing is "
            "published. Run the task again; if that happens again, it is a fault of Forebay."
        )
    after = _drop(engine, checked, paths)
    seconds = round(time.monotonic() - started, 3)
    return [
        TableResult(
            name, "quarantine", row_count(after), deleted=gone,
            snapshot_id=after.metadata.current_snapshot_id, seconds=seconds,
        ),
        TableResult(
            target, "append", row_count(held), inserted=moved,
            snapshot_id=held.metadata.current_snapshot_id, seconds=seconds,
        ),
    ]  # fmt: skip


def _into(
    engine: TrinoEngine,
    checked: Checked,
    table: Table,
    target: str,
    rows: str,
    any_of: str,
    labels: Sequence[str],
    run: str,
) -> tuple[Table, int]:
    """The quarantine with the refused rows, and how many came."""
    from pyiceberg.types import LongType, StringType, TimestamptzType

    added: list[IcebergType] = [StringType(), StringType(), LongType(), TimestamptzType()]
    own = [(field.name, field.field_type) for field in table.schema().fields]
    there = load(engine.config, target)
    columns = plan(
        target, there.schema() if there is not None else None, [*own, *zip(ADDED, added, strict=True)], checked.columns.table,
        type_of=lambda kind: kind,
    )  # fmt: skip
    comment = f"Rows of {checked.columns.table} that its checks refused."
    prepared(
        engine.config, TableDefinition(target, comment=comment, column_comments=dict(ADDED)), columns, there
    )
    rules = ", ".join(f"CASE WHEN r{number} THEN {literal(label)} END" for number, label in enumerate(labels))
    values = (
        f"array_join(ARRAY[{rules}], ',') AS _rule, {literal(run)} AS _run, BIGINT '{checked.snapshot_id}' AS _source_snapshot, "
        f"TIMESTAMP '{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC' AS _quarantined_at"
    )
    chosen = ", ".join(f"c{number}" for number in range(len(own)))
    into = ", ".join(quoted(name) for name in (*(name for name, _ in own), *ADDED))
    answer = engine.statement(
        f"INSERT INTO {_written(target)} ({into}) SELECT {chosen}, {values} FROM ({rows}) WHERE {any_of}"
    )
    held = load(engine.config, target)
    if held is None:
        raise LakeError(f"{target} was dropped while it was written.")
    return held, answer.count or 0


def _good_rows(
    engine: TrinoEngine, table: Table, name: str, rows: str, any_of: str, paths: Sequence[str]
) -> int:
    """The rows of these files that stay, written anew beside them; how many."""
    names = [field.name for field in table.schema().fields]
    into = ", ".join(map(quoted, names))
    chosen = ", ".join(f"c{number}" for number in range(len(names)))
    inside = ", ".join(map(literal, paths))
    answer = engine.statement(
        f"INSERT INTO {_written(name)} ({into}) SELECT {chosen} FROM ({rows}) WHERE {FILE} IN ({inside}) AND NOT ({any_of})"
    )
    return answer.count or 0


def _drop(engine: TrinoEngine, checked: Checked, paths: Sequence[str]) -> Table:
    """Takes the old files out of the table."""
    name = checked.columns.table
    for _ in range(_ATTEMPTS):
        engine.background.check()
        table = load(engine.config, name)
        try:
            after, _gone = Draft(engine.config, TableDefinition(name), [], table).commit(
                [], "files", paths, {SOURCE: str(checked.snapshot_id)}
            )
            return after
        except Conflict:
            # Another task of the run only added rows, or the files are really gone: the next look tells.
            continue
    raise LakeError(
        f"{name}: another task of the run changes it while its refused rows are moved. Let one come after the other "
        "(depends_on), and run the task again."
    )


def _written(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))
