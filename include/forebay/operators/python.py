"""Runs a function of a workspace's own Python in the task's process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTerminated

from forebay.lake import use
from forebay.operators.base import ForebayOperator
from forebay.operators.make import make
from forebay.spec.text import fill

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.project import LoadedJob
    from forebay.tasks.python import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `python` task."""
    return make(
        FunctionOperator, task, job,
        function=f"{job.workspace.name}.{task.function}", arguments=dict(task.arguments), **ForebayOperator.settings(job, task),
    )  # fmt: skip


class FunctionOperator(ForebayOperator):
    """Imports `function` (workspace.module.name) and calls it with `arguments`; its result is the task's XCom."""

    engine_name = "python"

    def __init__(self, *, function: str, arguments: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.arguments = arguments
        self._running = False

    def execute(self, context: Context) -> Any:
        from requests import RequestException

        values = self.values(context)
        module, _, name = self.function.rpartition(".")
        # The process was forked from the scheduler, which may have looked for this module before it was written.
        importlib.invalidate_caches()
        call = getattr(importlib.import_module(module), name)
        self._running = True
        # Whether what it adds depends on what it read nobody can see; it may say so with forebay.replay=yes.
        config = self.catalog(exclusive=self.tables)
        use(config)
        try:
            return call(**{key: filled(value, values) for key, value in self.arguments.items()})
        except RequestException as error:
            # Of the lake it is said in words; another service that the function asked speaks for itself.
            if str(getattr(error.request, "url", "")).startswith(config.uri):
                with config.reached():
                    raise
            raise

    def on_kill(self) -> None:
        # Airflow calls this in a signal handler: what it raises ends the function where it is, sleeping or waiting.
        if self._running:
            raise AirflowTaskTerminated("The task was killed.")


def filled(value: Any, values: dict[str, Any]) -> Any:
    """A value of a YAML with every `{name}` in it replaced, in lists too."""
    if isinstance(value, str):
        # A text that is one value and nothing else keeps the value's type.
        name = value[1:-1]
        if value == f"{{{name}}}" and name in values:
            return values[name]
        return fill(value, values)
    if isinstance(value, list | tuple):
        return [filled(item, values) for item in value]
    return value
