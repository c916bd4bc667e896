"""The SQL of all jobs: its syntax, its values, the tables it writes, whether the embedded engine runs it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from forebay.errors import Mistake, suggestion
from forebay.project import LoadedJob
from forebay.rules import unknown_value
from forebay.source import Step
from forebay.tasks.sql import Task

MAX_BYTES = 1_000_000
TEXTS_PER_WORKER = 200


@dataclass(frozen=True, slots=True)
class SqlText:
    """A SQL text and where it begins in its file; one in a file of its own is read where it is examined."""

    file: str
    text: str = ""
    line_offset: int = 0
    column_offset: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a SQL text does, as plain values: one (kind, line, column, writes) per statement."""

    mistakes: tuple[Mistake, ...]
    statements: tuple[tuple[str, int, int, tuple[str, ...]], ...]
    reads: tuple[str, ...] = ()
    values: tuple[tuple[str, int, int], ...] = ()
    unread: str = ""
    """Why there is nothing to examine."""


def examine(source: SqlText) -> Examined:
    """Reads one SQL text."""
    from forebay.sqltext import parse, untranslatable

    text = source.text
    if source.path:
        try:
            with open(source.path, "rb") as stream:
                text = stream.read(MAX_BYTES + 1).decode()
        except UnicodeDecodeError as error:
            return Examined(
                (), (), unread=f"is not valid UTF-8 (byte {error.start + 1}). Save the file as UTF-8"
            )
        except OSError as error:
            return Examined((), (), unread=f"cannot be read: {error.strerror}")
    script = parse(text, source.file, source.line_offset, source.column_offset)
    found = list(script.mistakes)
    if not found:
        for statement in script.statements:
            found += untranslatable(statement, keep=False)
    statements = tuple((each.kind, each.line, each.column, each.writes) for each in script.statements)
    values = tuple((mark.name, mark.line, mark.column) for mark in script.placeholders)
    return Examined(tuple(found), statements, script.reads, values)


def source_of(job: LoadedJob, index: int) -> SqlText:
    """The SQL of a job's task."""
    task = job.spec.tasks[index]
    assert isinstance(task, Task)
    if task.file is None:
        return inline(job, ("tasks", index, "sql"), task.sql or "")
    path = str(job.sql_path(task.file))
    return SqlText(os.path.relpath(path, job.workspace.root), path=path)


def inline(job: LoadedJob, path: Sequence[Step], text: str) -> SqlText:
    """Where SQL inside YAML begins: below a | or >, or beside its key."""
    line, column = job.document.place(path)
    rows = job.document.text.splitlines()
    sign = rows[line - 1][column - 1 : column] if line <= len(rows) else ""
    if sign in ("|", ">"):
        filled = next((row for row in rows[line:] if row.strip()), "")
        return SqlText(job.file, text, line, len(filled) - len(filled.lstrip(" ")))
    return SqlText(job.file, text, line - 1, column if sign in ("'", '"') else column - 1)


def mistakes(jobs: Iterable[LoadedJob]) -> Iterator[Mistake]:
    """Every mistake in the SQL of these jobs."""
    tasks: list[tuple[LoadedJob, int, SqlText]] = []
    for job in jobs:
        for index, task in enumerate(job.spec.tasks):
            # A file that is not there, or outside its folder, is a mistake already.
            if not isinstance(task, Task) or ("tasks", index, "file") in job.wrong:
                continue
            tasks.append((job, index, source_of(job, index)))
    examined = _examine_all(list(dict.fromkeys(source for _, _, source in tasks)))
    for job, index, source in tasks:
        found = examined[source]
        if found.unread:
            task = job.spec.tasks[index]
            assert isinstance(task, Task)
            yield job.document.mistake(("tasks", index, "file"), f"{task.file} {found.unread}")
        else:
            yield from _task_mistakes(job, index, source, found)


def _examine_all(sources: Sequence[SqlText]) -> dict[SqlText, Examined]:
    """Reads every text once; many are shared out among the cores, since a syntax tree is made in Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    workers = min(cores, len(sources) // TEXTS_PER_WORKER)
    if workers < 2:
        return {source: examine(source) for source in sources}
    import multiprocessing

    import forebay.sqltext  # noqa: F401  (before the fork: the workers inherit it)

    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return dict(zip(sources, pool.imap(examine, sources, chunksize=50), strict=True))


def _task_mistakes(job: LoadedJob, index: int, source: SqlText, found: Examined) -> Iterator[Mistake]:
    task = job.spec.tasks[index]
    assert isinstance(task, Task)
    # In the YAML itself a place is also named by its path; in a .sql file line and column say it all.
    where = f"tasks[{index}].sql" if task.file is None else ""
    yield from (replace(mistake, where=where) for mistake in found.mistakes)
    for name, line, column in found.values:
        if problem := unknown_value(job, index, name, f":{name}"):
            yield Mistake(source.file, line, column, where, problem)
    if found.mistakes or not (job.intact("tasks", index, "table") and job.intact("tasks", index, "writes")):
        return
    if task.table:
        kind, line, column, _ = found.statements[0]
        if kind != "select":
            message = f"a task with table holds one SELECT; this is {kind}. Write writes: in place of table:"
            yield Mistake(source.file, line, column, where, message)
        elif len(found.statements) > 1:
            _, line, column, _ = found.statements[1]
            message = (
                "a task with table holds one SELECT; this is a second statement. Make it a task of its own"
            )
            yield Mistake(source.file, line, column, where, message)
        return
    yield from _declared(job, index, task, source, found, where)


def _declared(
    job: LoadedJob, index: int, task: Task, source: SqlText, found: Examined, where: str
) -> Iterator[Mistake]:
    done: set[str] = set()
    for kind, line, column, writes in found.statements:
        done.update(writes)
        if kind == "select":
            message = "the rows of this SELECT go nowhere. Name the table they go into with table:"
            yield Mistake(source.file, line, column, where, message)
        for table in writes:
            if table not in task.writes:
                near = suggestion(table, task.writes, "")
                message = f"writes {table}, which the task '{task.key}' in {job.file} does not declare.{near}"
                message += f" Add writes: [{table}] to it"
                yield Mistake(source.file, line, column, where, message)
    for position, table in enumerate(task.declared_writes):
        if table not in done:
            message = (
                f"no statement writes {table}.{suggestion(table, done, '')} Remove it, or correct the SQL"
            )
            yield job.document.mistake(("tasks", index, "writes", position), message)
