"""Turns jobs into Airflow dags, and loads a workspace's folder of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetAll, AssetAny, CronTriggerTimetable, Param, get_parsing_context

from forebay import watch
from forebay.errors import ForebayError, JobSpecError, Mistake
from forebay.files import PYTHON_FOLDER
from forebay.garbage import not_collected
from forebay.operators import publish
from forebay.operators.make import table_asset
from forebay.operators.notify import callbacks, described
from forebay.placement import Placement, placement
from forebay.project import Project
from forebay.spec.schedule import AfterSchedule, ContinuousSchedule, CronSchedule

if TYPE_CHECKING:
    from forebay.project import LoadedJob
    from forebay.spec.parameters import Parameter

# Airflow wants a start before the first run, and starts no task of a backfill before it. By itself a job runs from
# its first publication on, never for the past.
_START = datetime(1970, 1, 1, tzinfo=UTC)

_PARAM_SCHEMAS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}


class InvalidJobs(DAG):
    """Shows mistakes as an Airflow import error of the loader."""

    mistakes: tuple[Mistake, ...] = ()

    def validate(self) -> None:
        raise JobSpecError(self.mistakes)


def load_dags(loader: str) -> dict[str, DAG]:
    """The dags of the workspace whose `jobs.py` calls this with its `__file__`, by dag id.

    A task's process asks for its own dag only, so only that job is read. Otherwise all jobs are, and those with
    mistakes are left out: forebay.bundle.JobsBundle shows them file by file. Under another bundle class, and for
    what only Airflow itself refuses, the mistakes become one import error of the loader.
    """
    folder = Path(loader).resolve().parent
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        workspace, _, name = wanted.partition(".")
        if workspace == folder.name and name:
            return {wanted: build_dag(Project(folder.parent.parent).load_job(workspace, name))}
    with not_collected():
        return _load_all(folder)


def _load_all(folder: Path) -> dict[str, DAG]:
    watched, _ = watch.refresh(folder)
    shown = "forebay.bundle" in sys.modules
    mistakes = [] if shown else [mistake for found in watched.broken.values() for mistake in found]
    dags: dict[str, DAG] = {}
    for job in watched.jobs.values():
        try:
            dags[job.dag_id] = build_dag(job)
        except JobSpecError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        invalid = InvalidJobs(f"{folder.name}.invalid_jobs")
        invalid.mistakes = tuple(mistakes)
        dags[invalid.dag_id] = invalid
    return dags


def build_dag(job: LoadedJob) -> DAG:
    """One job as an Airflow dag; raises JobSpecError when Airflow refuses what the spec allowed."""
    # The workspace's own Python is of the same commit as the job: in a Git bundle's checkout nobody else knows where.
    own = str(job.workspace.root / PYTHON_FOLDER)
    if own not in sys.path:
        sys.path.insert(0, own)
    try:
        dag = _dag(job)
        _add_tasks(dag, job)
        publish.add(dag, job)
        dag.validate()  # type: ignore[no-untyped-call]
    except JobSpecError:
        raise
    except (ForebayError, ValueError, TypeError) as error:
        raise JobSpecError([Mistake(job.file, 1, 1, "", f"Airflow cannot use this job: {error}")]) from error
    return dag


def _dag(job: LoadedJob) -> DAG:
    spec, workspace = job.spec, job.workspace.spec
    notifications = spec.notifications or workspace.notifications
    arguments: dict[str, Any] = callbacks(notifications, None)
    timeout = spec.timeout or workspace.limits.timeout
    if timeout:
        arguments["dagrun_timeout"] = timeout
    if spec.deadline:
        arguments["deadline"] = _deadlines(job)
    return DAG(
        job.dag_id,
        description=spec.description or None,
        schedule=_schedule(job),
        start_date=_START,
        catchup=False,
        params={name: _param(parameter) for name, parameter in spec.parameters.items()},
        max_active_runs=min(spec.max_concurrent_runs, workspace.limits.max_concurrent_runs),
        max_active_tasks=workspace.limits.max_concurrent_tasks,
        tags=sorted({job.workspace.name, *workspace.tags, *spec.tags}),
        default_args=_defaults(job),
        doc_md=_documentation(job),
        **arguments,
    )


def _defaults(job: LoadedJob) -> dict[str, Any]:
    """What each task of a job has, that of publishing included."""
    # A pool that is not there would keep its tasks for ever, so only a platform that makes it names one. So it is with
    # executors: a job is the same text everywhere.
    placed = placement(job.workspace.name)
    named = {"pool": placed.pool, "executor": placed.executor, "executor_config": _pod(placed)}
    return {"owner": job.workspace.spec.owner, **{key: value for key, value in named.items() if value}}


def _pod(placed: Placement) -> dict[str, Any]:
    """What a task's own pod has besides its template: the priority and the nodes that the workspace's Spark pods have."""
    if placed.executor != "KubernetesExecutor" or not (placed.priority_class or placed.node_selector):
        return {}
    # The scheduler makes the pod; for the task in it the client, half a second of imports, would be in vain.
    if get_parsing_context().dag_id is not None:
        return {}
    from kubernetes.client import V1Container, V1Pod, V1PodSpec

    spec = V1PodSpec(
        containers=[V1Container(name="base")],
        priority_class_name=placed.priority_class or None,
        node_selector=dict(placed.node_selector) or None,
    )
    return {"pod_override": V1Pod(spec=spec)}


def _add_tasks(dag: DAG, job: LoadedJob) -> None:
    tasks = {task.key: task for task in job.spec.tasks}
    waiting = dict(tasks)
    with dag:
        # A task is built after those it depends on: for_each takes its values from an operator that is there.
        while waiting:
            ready = [task for task in waiting.values() if not any(key in waiting for key in task.depends_on)]
            for task in ready:
                operator = task.operator(job)
                for key in task.depends_on:
                    operator.set_upstream(dag.get_task(key))
                del waiting[task.key]


def _schedule(job: LoadedJob) -> Any:
    schedule = job.spec.schedule
    match schedule:
        case CronSchedule():
            return CronTriggerTimetable(schedule.cron, timezone=schedule.timezone)
        case AfterSchedule():
            assets: list[Asset] = [table_asset(table) for table in schedule.after]
            return AssetAny(*assets) if schedule.condition == "any" else AssetAll(*assets)
        case ContinuousSchedule():
            return "@continuous"
    return None


def _param(parameter: Parameter) -> Param:
    schema = dict(_PARAM_SCHEMAS[parameter.type])
    for key, value in (
        ("minimum", parameter.minimum),
        ("maximum", parameter.maximum),
        ("pattern", f"^(?:{parameter.pattern})$" if parameter.pattern else None),
        ("enum", list(parameter.options) or None),
        ("description", parameter.description or None),
    ):
        if value is not None:
            schema[key] = value
    if parameter.default is None:
        return Param(**schema)
    if parameter.type == "date" and parameter.default in ("today", "yesterday"):
        # Seen when a run starts: a date written here would change the dag every day.
        note = f"Left empty: {parameter.default}."
        schema["description"] = f"{parameter.description} {note}".strip()
        schema["type"] = ["null", "string"]
        if "enum" in schema:
            schema["enum"] = [None, *schema["enum"]]
        return Param(None, **schema)
    return Param(parameter.default, **schema)


def _deadlines(job: LoadedJob) -> list[Any]:
    from airflow.sdk.definitions.callback import SyncCallback
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    from forebay.operators.notify import deadline_missed

    deadline = job.spec.deadline
    assert deadline is not None
    notifications = job.spec.notifications or job.workspace.spec.notifications
    reference = {
        "queued": DeadlineReference.DAGRUN_QUEUED_AT,
        "logical_date": DeadlineReference.DAGRUN_LOGICAL_DATE,
    }[deadline.reference]
    alerts = []
    for notification in deadline.notify or notifications.on_failure:
        path, arguments = described(notification)
        callback = SyncCallback(deadline_missed, kwargs={"path": path, "arguments": arguments})
        alerts.append(DeadlineAlert(reference=reference, interval=deadline.after, callback=callback))
    return alerts


def _documentation(job: LoadedJob) -> str:
    fence = "````"
    head = f"{job.spec.description}\n\n" if job.spec.description else ""
    return f"{head}`{job.file}`\n\n{fence}yaml\n{job.text.rstrip()}\n{fence}\n"
