"""After publishing: what is kept for later is tagged, and what was kept long enough is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError

if TYPE_CHECKING:
    from forebay.lake.identity import Run
    from forebay.lake.publish import Published
    from forebay.lake.rest import Rest
    from forebay.operators.base import ForebayOperator


def tidy(operator: ForebayOperator, ti: Any, run: Run, rest: Rest, published: Sequence[Published]) -> None:
    """Tags the run's inputs, and drops old branches of the job's tables. Nothing of it stops a publish."""
    from forebay.lake.history import sweep
    from forebay.lake.pins import keep_inputs

    if not operator.keep:
        return
    now = datetime.now(UTC)
    inputs, failed = (timedelta(seconds=operator.keep[name]) for name in ("inputs", "failed_runs"))

    def at_work(other: Run) -> bool:
        return bool(ti.get_dr_count(dag_id=other.job, run_ids=[other.airflow], states=["queued", "running"]))

    try:
        for each in keep_inputs(rest, run, [one.table for one in published], operator.tables, inputs, now):
            operator.log.info("%s is kept for a rerun: tagged", each)
        for table, name in sweep(rest, operator.tables, failed, now, at_work):
            operator.log.info("%s: the branch of %s is older than keep_failed_runs: dropped", table, name)
    except ForebayError as error:
        operator.log.warning(
            "published; tidying up after it failed and is tried after the next run: %s", error
        )
