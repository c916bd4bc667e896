"""Runs a PySpark program."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator
from forebay.operators.make import make
from forebay.spec.text import fill

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.project import LoadedJob
    from forebay.tasks.spark import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `spark` task."""
    return make(
        SparkOperator, task, job,
        application=str(job.spark_path(task.application)), arguments=list(task.arguments),
        writes=list(task.writes), conf=dict(task.conf), driver_memory=task.driver_memory,
        conn_id=task.conn_id or job.workspace.spec.connections.spark, **ForebayOperator.settings(job, task),
    )  # fmt: skip


class SparkOperator(ForebayOperator):
    """Runs the program with the catalog `lake` configured and follows its output."""

    engine_name = "spark"

    def __init__(
        self,
        *,
        application: str,
        arguments: list[str] | None = None,
        writes: list[str] | None = None,
        conf: dict[str, Any] | None = None,
        driver_memory: str | None = None,
        conn_id: str = "lake_spark",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application, self.arguments, self.writes = application, arguments or [], writes or []
        self.conf, self.driver_memory, self.conn_id = conf or {}, driver_memory, conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay.engines.spark import SparkEngine

        values = self.values(context)
        connection = self.connection(self.conn_id)
        extra = connection.extra_dejson
        engine = SparkEngine(
            self.catalog(connection),
            jars=os.environ.get("FOREBAY_JARS", ""),
            master=connection.host or "local[*]",
            driver_memory=self.driver_memory or str(extra.get("driver_memory", "1g")),
        )
        self._engine = engine
        results = engine.run(
            self.application,
            [fill(text, values) for text in self.arguments],
            values=values,
            conf=self.conf,
            writes=self.writes,
            log=lambda line: self.log.info("%s", line),
        )
        return self.report(context, results)
