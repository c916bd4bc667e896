"""Lands files in a bronze table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator, definition, layout
from forebay.operators.make import make
from forebay.spec.text import fill

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.project import LoadedJob
    from forebay.tasks.ingest import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of an `ingest` task."""
    connections = job.workspace.spec.connections
    return make(
        IngestOperator, task, job,
        files=list(task.files), table=task.table, format=task.format, csv=task.options.csv.model_dump(),
        columns=dict(task.columns), layout=layout(task), root=str(job.workspace.root),
        conn_id=task.conn_id or connections.files, sql_conn_id=connections.sql,
        **ForebayOperator.settings(job, task),
    )  # fmt: skip


class IngestOperator(ForebayOperator):
    """Appends the rows of files not landed yet, each file once."""

    engine_name = "duckdb"

    def __init__(
        self,
        *,
        files: list[str],
        table: str,
        root: str,
        format: str | None = None,
        csv: dict[str, Any] | None = None,
        columns: dict[str, str] | None = None,
        layout: dict[str, Any] | None = None,
        conn_id: str = "lake_s3",
        sql_conn_id: str = "lake_sql",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files, self.table, self.root, self.format = files, table, root, format
        self.csv, self.columns, self.layout = csv or {}, columns or {}, layout or {}
        self.conn_id, self.sql_conn_id = conn_id, sql_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay.engines.files import S3Access
        from forebay.engines.ingest import Ingest

        values = self.values(context)
        sql, files = self.connection(self.sql_conn_id), self.connection(self.conn_id)
        config, extra = self.catalog(), files.extra_dejson
        engine = Ingest(
            config,
            S3Access(
                endpoint=str(extra.get("endpoint_url") or config.s3_endpoint),
                access_key=files.login or config.access_key,
                secret_key=files.password or config.secret_key,
                region=str(extra.get("region_name") or config.s3_region),
            ),
            root=self.root or os.getcwd(),
            memory_limit=str(sql.extra_dejson.get("memory_limit", "1GB")),
            threads=int(sql.extra_dejson.get("threads", 2)),
        )
        self._engine = engine
        found = engine.run(
            [fill(text, values) for text in self.files],
            definition(self.table, self.layout, self.name_of(context)),
            format=self.format,
            csv=self.csv,
            columns=self.columns,
            log=lambda line: self.log.info("%s", line),
        )
        return self.report(context, [found])
