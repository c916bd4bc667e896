"""The conditions of checks tasks (`where`, `sql`): their syntax, their values, whether the engine can run them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from forebay.check.sql import inline
from forebay.errors import Mistake
from forebay.project import LoadedJob
from forebay.rules import unknown_value
from forebay.source import Step, dotted
from forebay.tasks.checks import Task


def mistakes(jobs: Iterable[LoadedJob]) -> Iterator[Mistake]:
    """Every mistake in the conditions of these jobs."""
    for job in jobs:
        for index, task in enumerate(job.spec.tasks):
            if not isinstance(task, Task):
                continue
            for number, rule in enumerate(task.expect):
                for key in ("where", "sql"):
                    path: tuple[Step, ...] = ("tasks", index, "expect", number, key)
                    if (text := getattr(rule, key)) is not None and job.intact(*path):
                        yield from _condition(job, index, path, text)


def _condition(job: LoadedJob, index: int, path: tuple[Step, ...], text: str) -> Iterator[Mistake]:
    from forebay.checks.conditions import Condition

    source = inline(job, path, text)
    condition = Condition(text, source.file, source.line_offset, source.column_offset)
    where = dotted(path)
    yield from (replace(mistake, where=where) for mistake in condition.mistakes)
    for mark in condition.placeholders:
        if problem := unknown_value(job, index, mark.name, f":{mark.name}"):
            yield Mistake(source.file, mark.line, mark.column, where, problem)
