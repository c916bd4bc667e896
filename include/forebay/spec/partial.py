"""What can be read of a job whose YAML has mistakes, so that the rest of its mistakes show at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from forebay.errors import nearest
from forebay.source import Document, Step
from forebay.spec.job import JobSpec
from forebay.spec.mistakes import data_path, known_keys, only_entries_wrong
from forebay.spec.task import BaseTask, LostTask

Path = tuple[Step, ...]

# Stands where a job needs a task, while the rest of it is read.
_ANY_TASK = {"key": "any", "type": "run_job", "job": "any"}


def readable_part(document: Document) -> tuple[JobSpec, set[Path]]:
    """The job without the parts that are wrong, and their paths.

    A part is a field, or an entry of a mapping such as parameters; it gets its default. A task that cannot do
    without one is a LostTask, so that the others keep their positions.
    """
    # A value behind a duplicate key or a tag is not read as it was meant, and nobody knows which ones that are.
    wrong: set[Path] = {()} if document.mistakes else set()
    head, dropped = _pruned({**document.data, "tasks": [_ANY_TASK]})
    assert head is not None
    wrong |= dropped
    given = document.data.get("tasks")
    if not isinstance(given, list):
        given = []
        wrong.add(("tasks",))
    tasks: list[BaseTask] = []
    for index, task in enumerate(given):
        spec, dropped = _pruned({"tasks": [task]})
        key = task.get("key") if isinstance(task, dict) else None
        tasks.append(spec.tasks[0] if spec else LostTask(key=key if isinstance(key, str) else ""))
        wrong |= {("tasks", index, *part[2:]) for part in dropped}
    return head.model_copy(update={"tasks": tuple(tasks)}), wrong


def _pruned(data: dict[str, Any]) -> tuple[JobSpec | None, set[Path]]:
    """The job that is left when each wrong part is left out, and these parts; None when a task is one of them."""
    dropped: set[Path] = set()
    while True:
        try:
            return JobSpec.model_validate(data), dropped
        except ValidationError as error:
            found = {part for detail in error.errors(include_url=False) for part in _parts(data, detail)}
        if found <= dropped or ("tasks", 0) in found:
            return None, dropped | found
        for part in found - {("tasks",)}:
            data = _without(data, part)
        dropped |= found


def _parts(data: dict[str, Any], detail: ErrorDetails) -> Iterator[Path]:
    """The parts that one mistake makes unusable."""
    if only_entries_wrong(detail):
        return
    path, _ = data_path(data, detail["loc"])
    if detail["type"] == "missing":
        yield _part(path[:-1])
    elif detail["type"] == "field":
        yield _part([*path, detail["ctx"]["field"]])
    else:
        yield _part(path)
    if detail["type"] == "extra_forbidden":
        near = nearest(str(path[-1]), known_keys(JobSpec, detail["loc"][:-1]))
        if near:
            yield _part([*path[:-1], near])  # what was meant is there, under a wrong name


def _part(path: list[Step]) -> Path:
    head = 2 if path[0] == "tasks" else 0
    keys = takewhile(lambda step: isinstance(step, str), path[head:])
    return (*path[:head], *list(keys)[: 1 if head else 2])


def _without(data: Any, part: Path) -> Any:
    """The same data without the value at `part`, if there is one; what was given is not changed."""
    step, below = part[0], part[1:]
    if isinstance(data, list) and isinstance(step, int):
        return [*data[:step], _without(data[step], below), *data[step + 1 :]]
    if not isinstance(data, dict) or step not in data:
        return data
    if below:
        return {**data, step: _without(data[step], below)}
    return {key: value for key, value in data.items() if key != step}
