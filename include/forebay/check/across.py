"""What must hold between jobs: who writes a table, who owns it, and that no job starts itself in a circle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from forebay.errors import Mistake, suggestion
from forebay.project import LoadedJob, WorkspaceFile, claim
from forebay.rules import find_cycle, written
from forebay.source import Step
from forebay.spec.schedule import AfterSchedule
from forebay.spec.task import LostTask
from forebay.tasks.run_job import Task as RunJob

Path = tuple[Step, ...]
MOST_CYCLES = 20


def mistakes(loaded: Sequence[LoadedJob], files: Sequence[WorkspaceFile], unread: bool) -> Iterator[Mistake]:
    """Every mistake between the jobs of all workspaces; `unread` when there are jobs that cannot be read."""
    jobs = {job.dag_id: job for job in loaded}
    writers: dict[str, tuple[LoadedJob, Path]] = {}
    yield from _namespaces(files)
    for job in loaded:
        yield from _tables(job, writers, files)
    # A table that nobody seems to write may be written by what cannot be read.
    unread = unread or any(map(_may_write_more, loaded))
    kept = {table for job in loaded for table in job.keeps}
    for job in loaded:
        yield from _after(job, writers, unread)
        if not unread:
            yield from _rewritten(job, {*writers, *kept})
        yield from _started(job, jobs)
    yield from _circles(jobs, writers)


def _namespaces(files: Sequence[WorkspaceFile]) -> Iterator[Mistake]:
    """A namespace belongs to one workspace: the one that is named like it, or the first that lists it."""
    owner = {file.name: file.name for file in files}
    for file in files:
        for position, namespace in enumerate(file.spec.namespaces):
            first = owner.setdefault(namespace, file.name)
            if first != file.name:
                message = (
                    f"the namespace {namespace} belongs to the workspace {first} already. Remove it here"
                )
                yield file.document.mistake(("namespaces", position), message)


def _rank(file: WorkspaceFile, namespace: str) -> int:
    return claim(namespace, file.name, file.spec.namespaces)


def _tables(
    job: LoadedJob, writers: dict[str, tuple[LoadedJob, Path]], files: Sequence[WorkspaceFile]
) -> Iterator[Mistake]:
    for index, task in enumerate(job.spec.tasks):
        for below, table in written(task):
            path: Path = ("tasks", index, *below)
            first, place = (job, path) if table in task.rewrites else writers.setdefault(table, (job, path))
            if first is not job:
                line, _ = first.document.place(place)
                message = (
                    f"the table {table} is already written by the job {first.dag_id} ({first.file}:{line})"
                )
                yield job.document.mistake(path, f"{message}. One job writes a table: use another name")
            namespace = table.partition(".")[0]
            best = max(files, key=partial(_rank, namespace=namespace), default=job.workspace)
            if _rank(best, namespace) > _rank(job.workspace, namespace) and path not in job.wrong:
                message = f"the table {table} belongs to the workspace {best.name}. Use another namespace"
                yield job.document.mistake(path, message)


def _may_write_more(job: LoadedJob) -> bool:
    """Whether a part that says what the job writes cannot be read."""
    if not job.wrong:
        return False
    fields = ("table", "writes")
    return not job.intact("tasks") or any(
        isinstance(task, LostTask) or not all(job.intact("tasks", index, field) for field in fields)
        for index, task in enumerate(job.spec.tasks)
    )


def _after(job: LoadedJob, writers: dict[str, tuple[LoadedJob, Path]], unread: bool) -> Iterator[Mistake]:
    if not isinstance(job.spec.schedule, AfterSchedule):
        return
    for position, table in enumerate(job.spec.schedule.after):
        if table not in writers and not unread:
            message = f"no job writes {table}, so this job would never start.{suggestion(table, writers, '')}"
            yield job.document.mistake(("schedule", "after", position), message)


def _rewritten(job: LoadedJob, known: Collection[str]) -> Iterator[Mistake]:
    for index, task in enumerate(job.spec.tasks):
        for position, table in enumerate(task.rewrites):
            path = ("tasks", index, "tables", position)
            if table not in known and path not in job.wrong:
                message = f"no job writes {table}, so it has no files.{suggestion(table, known, '')}"
                yield job.document.mistake(path, message)


def _started(job: LoadedJob, jobs: dict[str, LoadedJob]) -> Iterator[Mistake]:
    for index, task in enumerate(job.spec.tasks):
        if not isinstance(task, RunJob) or (target := jobs.get(task.dag_id(job.workspace.name))) is None:
            continue
        known = target.spec.parameters
        for name, value in task.parameters.items():
            path = ("tasks", index, "parameters", name)
            if name not in known:
                if not target.intact("parameters", name):
                    continue
                message = f"the job {target.dag_id} has no parameter '{name}'.{suggestion(name, known)}"
                yield job.document.mistake(path, message, key=True)
            elif not (isinstance(value, str) and "{" in value) and (reason := known[name].problem(value)):
                yield job.document.mistake(path, f"{reason} (parameter of {target.dag_id})")
        missing = [name for name, each in known.items() if each.required and name not in task.parameters]
        if missing and job.intact("tasks", index, "parameters"):
            message = f"the job {target.dag_id} must be given {', '.join(missing)}. Add it under parameters"
            yield job.document.mistake(("tasks", index, "job"), message)


def _circles(jobs: dict[str, LoadedJob], writers: dict[str, tuple[LoadedJob, Path]]) -> Iterator[Mistake]:
    """Jobs that would start each other for ever, through tables, run_job or both."""
    causes: dict[str, dict[str, Path]] = {name: {} for name in jobs}
    for name, job in jobs.items():
        if isinstance(job.spec.schedule, AfterSchedule):
            for position, table in enumerate(job.spec.schedule.after):
                if table in writers:
                    causes[name].setdefault(writers[table][0].dag_id, ("schedule", "after", position))
        for index, task in enumerate(job.spec.tasks):
            if not isinstance(task, RunJob) or ("tasks", index, "job") in job.wrong:
                continue
            if (target := task.dag_id(job.workspace.name)) in jobs:
                causes[target].setdefault(name, ("tasks", index, "job"))
    graph = {name: list(starters) for name, starters in causes.items()}
    for _ in range(MOST_CYCLES):
        cycle = find_cycle(graph)
        if cycle is None:
            return
        path = causes[cycle[0]][cycle[1]]
        holder = jobs[cycle[0] if path[0] == "schedule" else cycle[1]]
        names = " → ".join(reversed(cycle))
        if len(cycle) == 2:
            message = "the job writes this table itself, so it would start itself for ever. Remove it here"
        else:
            message = f"jobs would start each other for ever: {names}. Remove one of these starts"
        yield holder.document.mistake(path, message)
        graph[cycle[0]].remove(cycle[1])
