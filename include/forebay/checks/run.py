"""A check from beginning to end: look at the table, move what is to be moved, say what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.checks import quarantine, quarantine_trino
from forebay.checks.evaluate import GX_ROWS, Checked, evaluate
from forebay.checks.rules import QUARANTINE, Rule
from forebay.checks.verdict import Verdict, json_value
from forebay.lake.commit import ATTEMPTS, Conflict
from forebay.lake.tables import load

if TYPE_CHECKING:
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.results import TableResult
    from forebay.engines.trino import TrinoEngine
    from forebay.sqltext import Value


@dataclass
class Outcome:
    """What a check found and did; `tables` are those it changed."""

    checked: Checked
    tables: list[TableResult] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdicts(self) -> list[Verdict]:
        return self.checked.verdicts

    @property
    def failed(self) -> list[Verdict]:
        return [one for one in self.verdicts if one.word == "failed"]


def check(
    engine: DuckDBEngine,
    table: str,
    rules: Sequence[Rule],
    values: Mapping[str, Value] | None = None,
    *,
    run: str = "",
    gx_rows: int = GX_ROWS,
    log: Callable[[str], None] = lambda _: None,
    counter: TrinoEngine | None = None,
) -> Outcome:
    """Look at the table with all rules, then move the rows its quarantine rules refuse.

    With `counter` Trino looks at the rows and moves them, where the rules are compiled into SQL. Nothing moves when a
    rule fails. Where another writer changes the table meanwhile, all is done again.
    """
    started = time.monotonic()
    for attempt in range(ATTEMPTS):
        outcome = Outcome(evaluate(engine, table, rules, values, gx_rows=gx_rows, log=log, counter=counter))
        try:
            if not outcome.failed:
                outcome.tables = _moved(engine, outcome.checked, run, counter)
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        outcome.seconds = time.monotonic() - started
        return outcome
    raise AssertionError("unreachable")


def _moved(
    engine: DuckDBEngine, checked: Checked, run: str, counter: TrinoEngine | None
) -> list[TableResult]:
    moving = [one for one in checked.verdicts if one.rule.severity == "quarantine"]
    if not moving:
        return []
    refusing = [one for one in moving if one.unexpected]
    if not refusing:
        # A move that ended half-way is set right even when nothing is refused any more.
        there = load(engine.config, f"{checked.columns.table}{QUARANTINE}")
        if there is None or quarantine.unfinished(there, checked.table) is None:
            return []
    if counter is not None and refusing and all(not one.by_gx for one in refusing):
        return quarantine_trino.move(counter, checked, refusing, run)
    # Great Expectations names rows by their place in a file, which Trino does not tell.
    return quarantine.move(engine, checked, refusing, run)


def failure(table: str, failed: Sequence[Verdict]) -> str:
    """The message of a check that failed: each rule with its counts, an example, and what to do."""
    lines = [
        f"{table}: {len(failed)} of its rules failed." if len(failed) > 1 else f"{table}: a rule failed."
    ]
    for one in failed:
        result = one.result
        text = f"{one.rule.label}: "
        if "unexpected_count" in result:
            looked_at = int(result["element_count"]) - int(result.get("missing_count") or 0)
            text += f"{one.unexpected:,} of {looked_at:,} rows refused"
            if one.rule.mostly not in (0.0, 1.0):
                text += f", where {one.rule.mostly:.4g} of them must be good"
            if shown := result.get("partial_unexpected_list"):
                text += f"; one is {json_value(shown[0])!r}"
        elif "observed_value" in result:
            text += f"saw {json_value(result['observed_value'])!r}"
        else:
            text += "does not hold"
        lines.append(f"  {text}")
    lines.append(
        "Correct the rows where they come from, or the rule. The table is as it was; severity: quarantine moves "
        "refused rows aside, severity: warn only tells of them."
    )
    return "\n".join(lines)
