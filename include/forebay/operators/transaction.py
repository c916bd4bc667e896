"""What makes a task part of its run's transaction: its name in the lake, its way back, and publishing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.files import git_commit
from forebay.lake.identity import Run, TaskTry
from forebay.operators.rerun import pins

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.lake.reversal import Published
    from forebay.operators.base import ForebayOperator

XCOM = "forebay"
"""Where tasks leave word of what they wrote for the task `publish`."""
REPORT = frozenset(
    (
        "IngestOperator",
        "SqlOperator",
        "SparkOperator",
        "ChecksOperator",
        "MaintainOperator",
        "PublishOperator",
    )
)
"""Operators that return what they did to tables, in a shape of ours."""


def named(operator: ForebayOperator, context: Context) -> TaskTry:
    """This try's name in the lake."""
    ti: Any = context["ti"]
    run: Any = context["dag_run"]
    mapped = f"[{ti.map_index}]" if (ti.map_index if ti.map_index is not None else -1) >= 0 else ""
    return TaskTry(
        job=ti.dag_id,
        run=Run.named(ti.dag_id, ti.run_id, run.conf).run,
        task=f"{ti.task_id}{mapped}",
        number=ti.try_number,
        engine=operator.engine_name,
        commit=_commit(ti),
        user=run.triggering_user_name or str(getattr(run.run_type, "value", run.run_type)),
        writes=tuple(operator.tables),
        began=time.time(),
        pins=pins(run, ti.task_id),
        keep=operator.keep.get("failed_runs", 0.0),
    )


def begin(operator: ForebayOperator, context: Context) -> TaskTry:
    """This try's name in the lake; rows of its earlier tries are taken off the run's branches first."""
    who = named(operator, context)
    if who.pins:
        operator.log.info("reads as of another run: %s", ", ".join(who.pins))
    if who.number > 1 and who.writes:
        _put_back(operator, who)
    if who.run != who.airflow and who.writes:
        _done_again(operator, who)
    return who


def _done_again(operator: ForebayOperator, who: TaskTry) -> None:
    from forebay.lake.again import refuse_doubling
    from forebay.lake.rest import Rest

    with Rest(operator.catalog(main=True)) as rest:
        refuse_doubling(rest, who, getattr(operator, "mode", "") == "append")


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
    """Leaves word for the task `publish` and for later; with `publish: each` publishes this task's tables now."""
    if not who.writes:
        return
    ti: Any = context["ti"]
    word = {
        "task": who.task,
        "try": who.number,
        "began": who.began,
        "wrote": list(wrote),
        "commit": who.commit,
    }
    if operator._gone:
        word["gone"] = operator._gone
    ti.xcom_push(XCOM, word)
    if operator.publish != "each":
        return
    from forebay.lake.publish import publish
    from forebay.lake.rest import Rest
    from forebay.operators.tidy import tidy

    with Rest(operator.catalog(main=True)) as rest:
        results = publish(rest, who, who.writes, {who.task: who.number}, wrote, {who.task: who.began})
        told(operator, context, results)
        tidy(operator, ti, who, rest, results)


def written_by(words: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The tables that tasks wrote and none of them dropped again."""
    wrote = {str(table) for word in words for table in word["wrote"]}
    return tuple(sorted(wrote.difference(*(word.get("gone") or () for word in words))))


def told(
    operator: Any, context: Context, results: Sequence[Published], checks: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Logs what was published, and leaves an event on the asset of each table that changed, and on no other.

    `checks` says what checks of the run found: the table, and how many rules passed, failed and so on.
    """
    assets = {str(getattr(asset, "name", "")): asset for asset in operator.outlets or ()}
    run: Run | None = None
    events: Any = context.get("outlet_events")
    ti: Any = context["ti"]
    run = Run.named(ti.dag_id, ti.run_id, getattr(context["dag_run"], "conf", None))
    for each in results:
        how = " on top of what another writer wrote" if each.replayed else ""
        how = " (it was already)" if each.again else how
        operator.log.info("published %s%s: %s", each.table, how, each.words)
        if events is not None and each.table in assets:
            events[assets[each.table]].extra.update(
                snapshot_id=str(each.snapshot_id), added=each.added, removed=each.removed, run=run.run
            )
            if of_table := [one for one in checks if one.get("table") == each.table]:
                words = of_table[0].keys() - {"table"}
                events[assets[each.table]].extra["checks"] = {
                    word: sum(int(one[word]) for one in of_table) for word in sorted(words)
                }
    if not results:
        operator.log.info("nothing to publish: no table was changed")
    changed = {each.table for each in results}
    operator.outlets = [asset for name, asset in assets.items() if name in changed]


def _commit(ti: Any) -> str:
    """The Git commit of the job's text: the bundle's, else the repository's; empty where there is none."""
    version = getattr(getattr(ti, "bundle_instance", None), "version", None)
    if version:
        return str(version)
    return git_commit(os.environ.get("FOREBAY_ROOT"))
