"""Starts a run of another job."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator
from forebay.operators.make import make
from forebay.operators.python import filled

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.project import LoadedJob
    from forebay.tasks.run_job import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `run_job` task."""
    return make(
        RunJobOperator, task, job,
        trigger_dag_id=task.dag_id(job.workspace.name), conf=dict(task.parameters), wait_for_completion=task.wait,
        poke_interval=2, deferrable=False, **ForebayOperator.settings(job, task),
    )  # fmt: skip


class RunJobOperator(ForebayOperator, TriggerDagRunOperator):
    """Triggers a job with parameters and waits for its end when asked to."""

    def execute(self, context: Context) -> None:
        values = self.values(context)
        self.conf = {name: _plain(filled(text, values)) for name, text in (self.conf or {}).items()}
        TriggerDagRunOperator.execute(self, context)


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    return value.isoformat() if isinstance(value, date) else value
