"""What makes a task part of its run's transaction: its name in the lake, its way back, and publishing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forebay.lake.identity import Run, TaskTry

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.lake.publish import Published
    from forebay.operators.base import ForebayOperator

XCOM = "forebay"


def begin(operator: ForebayOperator, context: Context) -> TaskTry:
    """This try's name in the lake; rows of its earlier tries are taken off the run's branches first."""
    ti: Any = context["ti"]
    run: Any = context["dag_run"]
    mapped = f"[{ti.map_index}]" if (ti.map_index if ti.map_index is not None else -1) >= 0 else ""
    who = TaskTry(
        job=ti.dag_id,
        run=ti.run_id,
        task=f"{ti.task_id}{mapped}",
        number=ti.try_number,
        engine=operator.engine_name,
        commit=_commit(ti),
        user=run.triggering_user_name or str(getattr(run.run_type, "value", run.run_type)),
        writes=tuple(operator.tables),
        began=time.time(),
    )
    if who.number > 1 and who.writes:
        _put_back(operator, who)
    return who


def _put_back(operator: ForebayOperator, who: TaskTry) -> None:
    from forebay.lake.publish import take_back
    from forebay.lake.rest import Rest
    from forebay.lake.retry import AlreadyPublished, put_back

    with Rest(operator.catalog(main=True)) as rest:
        try:
            changed = put_back(rest, who)
        except AlreadyPublished:
            # Its tables were published on their own just before the task was killed: not a run that is done.
            if operator.publish != "each" or not take_back(rest, who, who.writes):
                raise
            changed = put_back(rest, who)
    for table in changed:
        operator.log.info("%s: what earlier tries of this task wrote was taken off the run's branch", table)


def end(operator: ForebayOperator, context: Context, who: TaskTry, wrote: Sequence[str]) -> None:
    """Leaves word for the task `publish`; with `publish: each` publishes this task's tables now."""
    if not who.writes:
        return
    ti: Any = context["ti"]
    if operator.publish != "each":
        ti.xcom_push(XCOM, {"task": who.task, "try": who.number, "wrote": list(wrote)})
        return
    from forebay.lake.publish import publish
    from forebay.lake.rest import Rest

    with Rest(operator.catalog(main=True)) as rest:
        told(operator, context, publish(rest, who, who.writes, {who.task: who.number}, wrote))


def told(operator: Any, context: Context, results: Sequence[Published]) -> None:
    """Logs what was published, and leaves an event on the asset of each table that changed, and on no other."""
    assets = {str(getattr(asset, "name", "")): asset for asset in operator.outlets or ()}
    run: Run | None = None
    events: Any = context.get("outlet_events")
    ti: Any = context["ti"]
    run = Run(ti.dag_id, ti.run_id)
    for each in results:
        how = " on top of what another writer appended" if each.replayed else ""
        how = " (it was already)" if each.again else how
        operator.log.info(
            "published %s%s: %s rows added, %s removed",
            each.table,
            how,
            f"{each.added:,}",
            f"{each.removed:,}",
        )
        if events is not None and each.table in assets:
            events[assets[each.table]].extra.update(
                snapshot_id=str(each.snapshot_id), added=each.added, removed=each.removed, run=run.run
            )
    if not results:
        operator.log.info("nothing to publish: no table was changed")
    changed = {each.table for each in results}
    operator.outlets = [asset for name, asset in assets.items() if name in changed]


def _commit(ti: Any) -> str:
    """The Git commit of the job's text: the bundle's, else the repository's; empty where there is none."""
    version = getattr(getattr(ti, "bundle_instance", None), "version", None)
    if version:
        return str(version)
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=os.environ.get("FOREBAY_ROOT"), capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
