"""Reads what a run did from the snapshots it left, and from Airflow as long as Airflow remembers the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from forebay.engines.results import MAINTAIN, put_together
from forebay.engines.trino_progress import Progress
from forebay.lake.branch import Branch, Json, ancestry, snapshots, whole
from forebay.lake.diff import sides
from forebay.lake.history import Made, on_main, rolled_back
from forebay.lake.identity import Run
from forebay.lake.readings import Readings
from forebay.lake.rest import Rest
from forebay.lake.reversal import made_by
from forebay.lake.state import state
from forebay.operators.transaction import REPORT
from forebay.stack.airflow_api import AirflowApi, ApiError
from forebay.stack.runs import GONE, KnownRun, UnknownRunName, touched, waits_for_approval, words
from forebay.stack.story import OneTable, Stands, Step, Story, Written

_TASKS = 60
"""Of how many tasks what they returned is asked for."""
_LOGS, _LINES, _LINE = 3, 4, 400
_RAISED = "Task failed with exception"
"""Operators whose tasks return rows or checks."""
_KINDS = {"FunctionOperator": "python", "RunJobOperator": "run_job", "ApprovalOperator": "approval"}
QUERY = "trino_query"
"""The key of a task's state with its query's id, as in forebay.operators.engine, which imports Airflow."""
APPLICATION = "spark_application"
PAGE = "spark_page"
"""The same for a Spark application, as in forebay.operators.spark."""


def exactly(api: AirflowApi, job: str, run: str) -> KnownRun:
    """The run of this job and id; one that Airflow does not know is `gone`, whether or not it ever was."""
    name, _, mark = run.partition("#")
    try:
        found = KnownRun.of(api.run(quote(job, safe=""), quote(name, safe="")))
    except ApiError as error:
        if error.status != 404:
            raise
        return KnownRun(Run(job, run), GONE, {})
    # What a backfill did before the last one has only its snapshots left.
    return found if not mark or found.run.run == run else KnownRun(Run(job, run), GONE, {})


def story(api: AirflowApi, root: Path, rest: Rest, run: KnownRun) -> Story:
    """The whole story. Raises UnknownRunName for a run that neither Airflow nor the lake knows."""
    readings, tables = Readings(run.run, ()), []
    for table, metadata, found in touched(root, rest, run.run):
        readings.add(table, metadata)
        tables.append(
            OneTable(table, tuple(sorted(found)), tuple(_written(table, metadata, run.run)), sides(table, metadata, run.run),
                metadata)
        )  # fmt: skip
    if run.airflow == GONE and not tables:
        raise UnknownRunName(
            f"neither Airflow nor the lake knows a run '{run.run.run}' of {run.run.job}. See: forebay runs {run.run.job}"
        )
    shown = {word for each in tables for word in each.words}
    waits = "open" in shown and not run.ended and waits_for_approval(api, run)
    wrote = not shown and run.ended and run.airflow != GONE and bool(words(api, run.run).wrote)
    steps = _steps(api, run, [each for table in tables for each in table.written], readings.inputs)
    made = sorted((each.made for table in tables for each in table.written), key=lambda one: one.at)
    document = run.document
    return Story(
        run=run,
        state=state(run.airflow, shown, waits=waits, wrote=wrote),
        waits=waits,
        steps=tuple(steps),
        tables=tuple(tables),
        commits=tuple(sorted(readings.commits)),
        user=str(document.get("triggering_user_name") or "") or (made[0].user if made else "") or str(document.get("run_type") or ""),
        began=_moment(document.get("start_date")) or (made[0].at if made else None),
        seconds=document.get("duration"),
        complete=readings.complete,
    )  # fmt: skip


def _written(table: str, metadata: Mapping[str, Any], run: Run) -> list[Written]:
    known = snapshots(metadata)
    where: dict[int, Stands] = {}
    if (record := rolled_back(metadata, run)) is not None:
        where |= {
            int(each["snapshot-id"]): "rolled back"
            for each in ancestry(known, record["head"], record["base"])
        }
    if (branch := Branch.find(metadata, run.branch)) is not None:
        where |= {int(each["snapshot-id"]): "branch" for each in ancestry(known, branch.head, branch.base)}
    if (stay := on_main(metadata, run)) is not None:
        where |= dict.fromkeys(stay.snapshots, "main")
    found = [
        Written(table, Made.of(each), _bytes(each), where.get(int(each["snapshot-id"]), "gone"))
        for each in known.values()
        if made_by(each, run)
    ]
    return sorted(found, key=lambda each: each.made.at)


def _steps(
    api: AirflowApi, run: KnownRun, written: Sequence[Written], inputs: Mapping[str, list[str]]
) -> list[Step]:
    by: dict[str, list[Written]] = {}
    for each in written:
        by.setdefault(each.made.task, []).append(each)
    read = {key: tuple(found) for key, found in inputs.items()}
    steps: list[Step] = []
    logs = 0
    for number, task in enumerate(_tasks(api, run)):
        index = int(task["map_index"])
        key = str(task["task_id"]) + (f"[{index}]" if index >= 0 else "")
        mine = _standing(by.pop(key, []))
        told = _returned(api, run, task) if number < _TASKS else {}
        tables = _mapping(told.get("tables"))
        logs += task["state"] == "failed"
        steps.append(
            Step(
                key, str(task["state"] or ""), _kind(task, mine), _moment(task["start_date"]), task["duration"],
                int(task["try_number"]), mine, read.get(str(task["task_id"]), ()),
                {name: int(figures["rows"]) for name, figures in tables.items() if "rows" in figures},
                {name: put_together(figures) for name, figures in tables.items() if figures.get("mode") == MAINTAIN},
                _mapping(told.get("checks")),
                _said(api, run, task) if task["state"] == "failed" and logs <= _LOGS else (),
                *(_query(api, run, task) if number < _TASKS else ("", None)),
                _page(api, run, task) if number < _TASKS else "",
            )
        )  # fmt: skip
    for key, found in by.items():
        mine = _standing(found)
        last = mine[-1].made
        steps.append(
            Step(key, "wrote", last.engine, mine[0].made.at, None, last.number, mine, read.get(key.partition("[")[0], ()))
        )  # fmt: skip
    return sorted(steps, key=lambda each: (each.at is None, each.at or 0))


def _standing(written: Sequence[Written]) -> tuple[Written, ...]:
    """What counts of it: what earlier tries had written, and what was written anew on publishing, is left out."""
    return tuple(each for each in written if each.stands != "gone") or tuple(written)


def _tasks(api: AirflowApi, run: KnownRun) -> list[Json]:
    return api.task_instances(quote(run.run.job, safe=""), _airflow(run)) if run.document else []


def _airflow(run: KnownRun) -> str:
    return quote(run.run.airflow, safe="")


def _kind(task: Json, mine: Sequence[Written]) -> str:
    if mine and mine[-1].made.engine:
        return mine[-1].made.engine
    name = str(task.get("operator_name") or task.get("operator") or "")
    return _KINDS.get(name) or name.removesuffix("Operator").lower()


def _returned(api: AirflowApi, run: KnownRun, task: Json) -> Mapping[str, Any]:
    if task["state"] != "success" or task.get("operator_name") not in REPORT:
        return {}
    return _mapping(
        api.xcom(quote(run.run.job, safe=""), _airflow(run), str(task["task_id"]), int(task["map_index"]))
    )


def _said(api: AirflowApi, run: KnownRun, task: Json) -> tuple[str, ...]:
    try:
        lines = api.log(
            quote(run.run.job, safe=""), _airflow(run), str(task["task_id"]), int(task["try_number"]), int(task["map_index"])
        )  # fmt: skip
    except ApiError:
        return ()
    told = [line.strip() for text in lines for line in text.splitlines() if line.strip()]
    # What went wrong comes after this; before it is what the task said, and libraries' warnings.
    told = told[max((at + 1 for at, line in enumerate(told) if line == _RAISED), default=0) :] or told
    return tuple(line if len(line) <= _LINE else f"{line[:_LINE]}…" for line in told[-_LINES:])


def _query(api: AirflowApi, run: KnownRun, task: Json) -> tuple[str, Progress | None]:
    if not task["start_date"]:
        return "", None
    if task.get("operator_name") == "SparkOperator":
        return str(_kept(api, run, task, APPLICATION).get("application") or ""), None
    if task.get("operator_name") not in ("SqlOperator", "ChecksOperator", "MaintainOperator"):
        return "", None
    kept = _kept(api, run, task, QUERY)
    return str(kept.get("query") or ""), Progress.kept(kept.get("progress"))


def _page(api: AirflowApi, run: KnownRun, task: Json) -> str:
    """Where Spark itself shows the task; only while it runs, for another task may have the port later."""
    if task["state"] != "running" or task.get("operator_name") != "SparkOperator":
        return ""
    return str(_kept(api, run, task, PAGE).get("address") or "")


def query_of(api: AirflowApi, run: KnownRun, task: Json) -> str:
    """The id of the query that a task left word of, in its engine; empty where it left none."""
    return str(_kept(api, run, task, QUERY).get("query") or "")


def _kept(api: AirflowApi, run: KnownRun, task: Json, key: str) -> Mapping[str, Any]:
    base = f"/dags/{quote(run.run.job, safe='')}/dagRuns/{_airflow(run)}/taskInstances/{task['task_id']}"
    try:
        kept = api.get(f"{base}/state-store/{key}", map_index=task["map_index"])["value"]
    except ApiError as error:
        if error.status == 404:
            return {}
        raise
    return _mapping(kept)


def _bytes(snapshot: Mapping[str, Any]) -> int | None:
    return whole((snapshot.get("summary") or {}).get("added-files-size"))


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _moment(text: object) -> float | None:
    return datetime.fromisoformat(str(text)).timestamp() if text else None
