"""Runs a PySpark program: on this machine, or on Kubernetes where the connection is of that type."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.errors import ForebayError
from forebay.files import PYTHON_FOLDER
from forebay.operators.base import ForebayOperator
from forebay.operators.make import make
from forebay.spec.text import fill

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.engines.spark_kubernetes import SparkOnKubernetes
    from forebay.project import LoadedJob
    from forebay.tasks.spark import Task

TYPES = ("spark", "kubernetes")
APPLICATION = "spark_application"
"""Where a task's state keeps the name under which Spark's history server has its application."""
PAGE = "spark_page"
"""Where it keeps the address of Spark's own page, which is there as long as the program runs."""


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `spark` task."""
    return make(
        SparkOperator, task, job,
        application=str(job.spark_path(task.application)), arguments=list(task.arguments),
        folders=[str(job.spark_path("")), str(job.workspace.root / PYTHON_FOLDER)],
        writes=list(task.writes), conf=dict(task.conf), driver_memory=task.driver_memory,
        executors=task.executors.model_dump(exclude_none=True) if task.executors else None,
        conn_id=task.conn_id or job.workspace.spec.connections.spark, **ForebayOperator.settings(job, task),
    )  # fmt: skip


class SparkOperator(ForebayOperator):
    """Runs the program with the catalog `lake` configured and follows its output."""

    engine_name = "spark"

    def __init__(
        self,
        *,
        application: str,
        folders: list[str] | None = None,
        arguments: list[str] | None = None,
        writes: list[str] | None = None,
        conf: dict[str, Any] | None = None,
        driver_memory: str | None = None,
        executors: dict[str, Any] | None = None,
        conn_id: str = "lake_spark",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application, self.arguments, self.writes = application, arguments or [], writes or []
        # What the program may import, the first before the others: its own folder, and what workspaces share.
        self.folders = folders or [str(Path(application).parent)]
        self.conf, self.driver_memory, self.conn_id = conf or {}, driver_memory, conn_id
        self.executors = executors or {}
        self._spark: Connection | None = None
        self._cluster: SparkOnKubernetes | None = None

    def pre_execute(self, context: Context) -> None:
        """Names this try; on Kubernetes it is an earlier one where that one's application still does the work."""
        self._spark = self.connection(self.conn_id)
        if self._spark.conn_type not in TYPES:
            raise ForebayError(
                f"connection {self.conn_id} is of type {self._spark.conn_type}; Spark programs run on "
                f"{' and '.join(TYPES)}. Correct its type in Airflow, or name another connection as conn_id."
            )
        if self._spark.conn_type == "kubernetes":
            from forebay.operators.spark_kubernetes import go_on, opened

            self._engine = self._cluster = opened(self, self._spark, context)
            if (who := go_on(self, self._cluster, context)) is not None:
                self._who = who
                return
        super().pre_execute(context)

    def execute(self, context: Context) -> dict[str, Any]:
        connection = self._spark or self.connection(self.conn_id)
        if self._cluster is not None:
            assert self._who is not None
            return self.report(context, self._cluster.run(self._who, self.catalog(), self.writes))
        from forebay.engines.spark import SparkEngine
        from forebay.engines.spark_settings import modules

        values = self.values(context)
        extra, where = connection.extra_dejson, master(connection)
        local = where.startswith("local")
        engine = SparkEngine(
            self.catalog(),
            jars=os.environ.get("FOREBAY_JARS", ""),
            master=where,
            driver_memory=self.driver_memory or str(extra.get("driver_memory", "1g")),
            modules={} if local else modules(self.folders),
        )
        self._engine = engine
        results = engine.run(
            self.application,
            [fill(text, values) for text in self.arguments],
            values=values,
            conf={**of_connection(extra, where, self.executors), **self.conf},
            writes=self.writes,
            log=lambda line: self.log.info("%s", line),
            on_application=self.keep_application(context),
            on_page=self._keeping(context, PAGE, "address"),
        )
        return self.report(context, results)

    def keep_application(self, context: Context) -> Callable[[str], None]:
        """Puts the application's name in Spark into the task's state, for those who look at the run later."""
        return self._keeping(context, APPLICATION, "application")

    def _keeping(self, context: Context, key: str, name: str) -> Callable[[str], None]:
        store: Any = context.get("task_state_store")

        def keep(value: str) -> None:
            if store is None:
                return
            try:
                store.set(key, {name: value})
            except Exception as error:  # noqa: BLE001  the work matters more than the way to look at it
                self.log.warning("The %s %s could not be kept: %s", name, value, error)

        return keep

    def post_execute(self, context: Context, result: Any = None) -> None:
        super().post_execute(context, result)
        if self._cluster is not None and self._who is not None:
            self._cluster.collected(self._who)


def of_connection(extra: dict[str, Any], where: str, executors: dict[str, Any]) -> dict[str, str]:
    """Spark's settings by the extra of a connection of type `spark`, with the executors that a task asks for."""
    from forebay.engines.spark_settings import event_log, plain, shared_out

    conf = event_log(extra)
    if not where.startswith("local"):
        conf |= shared_out(extra, executors, standalone=where.startswith("spark://"))
    if extra.get("queue"):
        conf["spark.yarn.queue"] = str(extra["queue"])
    return conf | {str(key): plain(value) for key, value in (extra.get("conf") or {}).items()}


def master(connection: Connection) -> str:
    """Where a connection of type `spark` sends programs, in Spark's words; a standalone master has a port."""
    host = connection.host or "local[*]"
    if str(connection.extra_dejson.get("deploy-mode") or "client") != "client":
        raise ForebayError(
            f"connection {connection.conn_id}: deploy-mode is {connection.extra_dejson['deploy-mode']}. A task follows its "
            "program, so the driver is with the task: take deploy-mode out of the extra, or say client."
        )
    if not host.startswith("spark://"):
        return host
    named = host.removeprefix("spark://").split(",")
    return "spark://" + ",".join(
        each if ":" in each else f"{each}:{connection.port or 7077}" for each in named
    )
