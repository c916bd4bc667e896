"""After publishing: what is kept for later is tagged, and what was kept long enough is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forebay.lake.identity import Run
    from forebay.lake.rest import Rest
    from forebay.lake.reversal import Published
    from forebay.operators.base import ForebayOperator


def tidy(operator: ForebayOperator, ti: Any, run: Run, rest: Rest, published: Sequence[Published]) -> None:
    """Tags the run's inputs, and drops old branches of the job's tables. Nothing of it stops a publish."""
    from forebay.lake.history import sweep
    from forebay.lake.pins import keep_inputs

    if not operator.keep:
        return
    now = datetime.now(UTC)
    inputs, failed = (timedelta(seconds=operator.keep[name]) for name in ("inputs", "failed_runs"))

    try:
        for each in keep_inputs(rest, run, [one.table for one in published], operator.tables, inputs, now):
            operator.log.info("%s is kept for a rerun: tagged", each)
        for table, name in sweep(rest, operator.tables, failed, now, lambda other: at_work(ti, other)):
            operator.log.info("%s: the branch of %s is older than keep_failed_runs: dropped", table, name)
    except Exception as error:  # noqa: BLE001  the tables are published, whatever is wrong here
        operator.log.warning(
            "published; tidying up after it failed and is tried after the next run: %s",
            rest.config.redact(str(error) or type(error).__name__),
        )


def at_work(ti: Any, run: Run) -> bool:
    """Whether Airflow says that a run has not ended; one that it has forgotten has."""
    return bool(ti.get_dr_count(dag_id=run.job, run_ids=[run.airflow], states=["queued", "running"]))
