"""What must hold inside one job beyond the shape of its YAML: names, files, tables it may write."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from forebay.errors import suggestion
from forebay.spec.base import NAME, PATTERN_WORDS, duration_text
from forebay.spec.job import APPROVE, PUBLISH
from forebay.spec.schedule import CronSchedule
from forebay.spec.task import BaseTask, LostTask, Problem
from forebay.spec.text import RUN_VALUES, TextError, names_in
from forebay.tasks.python import Task as Python

if TYPE_CHECKING:
    from forebay.project import LoadedJob, Project

PRESETS = frozenset(("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"))


def is_name(text: str) -> bool:
    """Whether a workspace or job may be called so."""
    return re.fullmatch(NAME, text) is not None and len(text) <= 100


def workspace_name_problem(name: str) -> str | None:
    """Why a workspace may not be called so; None when it may."""
    if not is_name(name):
        return f"it must be {PATTERN_WORDS[NAME]}"
    if name == "forebay" or name in sys.stdlib_module_names:
        return "Python has a module of this name, which would hide the workspace's own Python"
    return None


def job_problems(job: LoadedJob, project: Project) -> list[Problem]:
    """Everything wrong with one job that can be seen without reading SQL or other jobs."""
    found = [*_job_problems(job), *_order_problems(job)]
    for index, task in enumerate(job.spec.tasks):
        for path, message in _task_problems(job, index, task, project):
            found.append((("tasks", index, *path), message))
    return found


def unknown_value(job: LoadedJob, index: int, name: str, sign: str) -> str | None:
    """What is wrong with a name in a task's text or SQL, written as `sign` (':day'); None when it has a value."""
    spec = job.spec
    if name == "item":
        if spec.tasks[index].for_each or not job.intact("tasks", index, "for_each"):
            return None
        return f"{sign} exists only in a task with for_each"
    if name in spec.parameters or name in RUN_VALUES or not job.intact("parameters", name):
        return None
    known = {*spec.parameters, *RUN_VALUES, *(["item"] if spec.tasks[index].for_each else [])}
    return f"{sign} is no parameter of the job and no value of the run.{suggestion(name, known)}"


def _job_problems(job: LoadedJob) -> Iterator[Problem]:
    spec, limits = job.spec, job.workspace.spec.limits
    if isinstance(spec.schedule, CronSchedule):
        short = not isinstance(job.document.data["schedule"], dict)
        if problem := cron_problem(spec.schedule.cron):
            yield ("schedule",) if short else ("schedule", "cron"), problem
        if problem := timezone_problem(spec.schedule.timezone):
            yield ("schedule", "timezone"), problem
    for name, parameter in spec.parameters.items():
        if name in RUN_VALUES or name == "item":
            yield ("parameters", name), f"'{name}' is a value every run has. Give the parameter another name"
        if own := parameter.own_problem():
            yield ("parameters", name, own[0]), own[1]
        if parameter.required and spec.schedule is not None:
            message = (
                "needs a default, because this job also starts by itself and nobody gives it a value then"
            )
            yield ("parameters", name), f"{message}. Add default, or write schedule: none"
    if spec.max_concurrent_runs > limits.max_concurrent_runs:
        yield ("max_concurrent_runs",), f"is above the workspace's limit of {limits.max_concurrent_runs}"
    if spec.timeout and limits.timeout and spec.timeout > limits.timeout:
        yield ("timeout",), f"is above the workspace's limit of {duration_text(limits.timeout)}"


def _order_problems(job: LoadedJob) -> Iterator[Problem]:
    first: dict[str, int] = {}
    # A task whose key cannot be read may be the one that is waited for.
    lost = not job.intact("tasks") or any(not task.key for task in job.spec.tasks)
    for index, task in enumerate(job.spec.tasks):
        if not task.key:
            continue
        if task.key in (PUBLISH, APPROVE):
            message = (
                f"the key '{task.key}' is that of the task which is added to publish a run. Use another one"
            )
            yield ("tasks", index, "key"), message
        if task.key in first:
            line, _ = job.document.place(("tasks", first[task.key], "key"))
            yield (
                ("tasks", index, "key"),
                f"the key '{task.key}' is already that of the task on line {line}. Rename one",
            )
        else:
            first[task.key] = index
    for index, task in enumerate(job.spec.tasks):
        for position, key in enumerate(task.depends_on):
            path = ("tasks", index, "depends_on", position)
            if key == task.key:
                yield path, f"'{key}' waits for itself. Remove it"
            elif key not in first and not lost:
                yield path, f"no task has the key '{key}'.{suggestion(key, first)}"
    if job.spec.publish == "each":
        yield from _shared_tables(job)
    above = {t.key: [key for key in t.depends_on if key in first and key != t.key] for t in job.spec.tasks}
    if cycle := find_cycle(above):
        message = f"tasks wait for each other: {' → '.join(cycle)}. Remove one of these depends_on"
        yield ("tasks", first[cycle[0]], "depends_on"), message


def _shared_tables(job: LoadedJob) -> Iterator[Problem]:
    """With `publish: each` a task publishes its tables as they stand, so nobody else may be at work on them."""
    first: dict[str, str] = {}
    for index, task in enumerate(job.spec.tasks):
        for path, table in written(task):
            other = f"another copy of {task.key}" if task.for_each else first.get(table)
            if other is not None:
                yield (
                    ("tasks", index, *path),
                    f"{table} is also written by {other}: with publish: each, one of them would publish what the other has "
                    "half done. Let one task write the table, or write publish: together",
                )
            first.setdefault(table, task.key)


def find_cycle(above: dict[str, list[str]]) -> list[str] | None:
    """One cycle of a graph (node to those it points to), its first node again at the end; or None."""
    state: dict[str, int] = {}
    for start in above:
        if start in state:
            continue
        stack = [(start, iter(above[start]))]
        state[start] = 1
        while stack:
            node, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                state[node] = 2
                stack.pop()
            elif state.get(target) == 1:
                names = [name for name, _ in stack]
                return [*names[names.index(target) :], target]
            elif target not in state and target in above:
                state[target] = 1
                stack.append((target, iter(above[target])))
    return None


def _task_problems(job: LoadedJob, index: int, task: BaseTask, project: Project) -> Iterator[Problem]:
    workspace = job.workspace
    for path, table in written(task):
        namespace = table.partition(".")[0]
        if not workspace.owns(namespace):
            own = ", ".join(sorted({workspace.name, *workspace.spec.namespaces}))
            message = f"the workspace {workspace.name} may not write {table}: its namespaces are {own}"
            message += f", and those that begin with {workspace.name}_. "
            yield path, f"{message}Add '{namespace}' to namespaces in workspace.yaml if it is this team's"
    if task.conn_id is not None and workspace.complete:
        known = workspace.spec.connections
        names = {known.catalog, known.sql, known.spark, known.files, *known.allowed}
        if task.conn_id not in names:
            near = suggestion(task.conn_id, names)
            message = f"the workspace names no connection '{task.conn_id}'.{near}"
            yield ("conn_id",), f"{message} Others are listed under connections.allowed in workspace.yaml"
    if task.text_fields:
        yield from _text_problems(job, index, task)
    if task.for_each and task.for_each.task:
        yield from _for_each_problems(job, index, task, task.for_each.task)
    yield from task.problems(job, project)


def written(task: BaseTask) -> Iterator[Problem]:
    """Every table a task writes, or whose files it writes anew, after its path below the task."""
    named = getattr(task, "table", None)
    for position, table in enumerate(task.rewrites):
        yield ("tables", position), table
    for position, table in enumerate(task.writes):
        yield ("table",) if named else ("writes", position), table


def _text_problems(job: LoadedJob, index: int, task: BaseTask) -> Iterator[Problem]:
    for path, text in task.texts():
        if "{" not in text and "}" not in text:
            continue
        try:
            for name in names_in(text):
                if problem := unknown_value(job, index, name, f"{{{name}}}"):
                    yield path, problem
        except TextError as error:
            yield path, str(error)


def _for_each_problems(job: LoadedJob, index: int, task: BaseTask, key: str) -> Iterator[Problem]:
    path = ("for_each", "task")
    target = next((other for other in job.spec.tasks if other.key == key), None)
    python = [other.key for other in job.spec.tasks if isinstance(other, Python) and other.key != task.key]
    if target is None:
        if job.intact("tasks") and all(other.key for other in job.spec.tasks):
            yield path, f"no task has the key '{key}'.{suggestion(key, python, 'Python tasks')}"
    elif not isinstance(target, Python | LostTask):
        yield path, f"'{key}' is a task of type {target.type}; only a python task returns a list"
    elif key not in task.depends_on and job.intact("tasks", index, "depends_on"):
        yield path, f"the task must wait for '{key}'. Add it to depends_on"


@lru_cache(maxsize=1024)
def cron_problem(text: str) -> str | None:
    """Why a cron expression cannot be used; None when it can."""
    if text.startswith("@"):
        return None if text in PRESETS else f"unknown schedule '{text}'.{suggestion(text, PRESETS)}"
    if len(text.split()) != 5:
        return (f"'{text}' is no cron expression: five fields are needed (minute hour day month weekday), "
                "e.g. \"0 5 * * *\" for every day at 5:00")  # fmt: skip
    from croniter import croniter  # type: ignore[import-untyped]
    from croniter.croniter import CroniterBadDateError, CroniterError  # type: ignore[import-untyped]

    try:
        croniter(text).get_next()
    except CroniterBadDateError:
        return f"'{text}' never comes: there is no such day"
    except (CroniterError, ValueError, KeyError) as error:
        return f"'{text}' is no cron expression: {error}"
    return None


@lru_cache(maxsize=1024)
def timezone_problem(name: str) -> str | None:
    """Why a time zone cannot be used; None when it can."""
    if name == "UTC":
        return None
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        near = suggestion(name, available_timezones(), "")
        return f"unknown time zone '{name}'.{near} Use an IANA name such as Europe/Berlin"
    return None
