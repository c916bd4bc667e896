"""Runs a `sql` task on the engine its connection names: DuckDB here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.errors import ForebayError, JobSpecError
from forebay.operators.base import ForebayOperator, definition, layout
from forebay.operators.make import make

if TYPE_CHECKING:
    from airflow.sdk import Context

    from forebay.project import LoadedJob
    from forebay.tasks.sql import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `sql` task."""
    return make(
        SqlOperator, task, job,
        sql=task.sql, file=str(job.sql_path(task.file)) if task.file else None,
        table=task.table, layout=layout(task), mode=task.mode, merge_key=list(task.merge_key),
        writes=list(task.declared_writes), conn_id=task.conn_id or job.workspace.spec.connections.sql,
        **ForebayOperator.settings(job, task),
    )  # fmt: skip


class SqlOperator(ForebayOperator):
    """Runs SQL in Trino's dialect: a SELECT into `table`, or statements that write `writes`."""

    engine_name = "duckdb"

    def __init__(
        self,
        *,
        conn_id: str,
        sql: str | None = None,
        file: str | None = None,
        table: str | None = None,
        layout: dict[str, Any] | None = None,
        mode: str = "overwrite",
        merge_key: list[str] | None = None,
        writes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.sql = sql
        self.file = file
        self.table = table
        self.layout = layout or {}
        self.mode = mode
        self.merge_key = merge_key or []
        self.writes = writes or []

    def execute(self, context: Context) -> Any:
        from forebay import sqltext
        from forebay.engines.duckdb import DuckDBEngine

        script = sqltext.parse(
            Path(self.file).read_text() if self.file else str(self.sql), self.file or "sql"
        )
        if script.mistakes:
            raise JobSpecError(script.mistakes)
        undeclared = sorted(set(script.writes) - set(self.writes))
        if undeclared:
            raise ForebayError(
                f"the SQL writes {', '.join(undeclared)}, which the task does not declare. Add writes."
            )
        values = self.values(context)
        statements = [sqltext.to_duckdb(statement.bind(values)) for statement in script.statements]
        connection = self.connection(self.conn_id)
        if connection.conn_type != "duckdb":
            raise ForebayError(
                f"connection {self.conn_id} is of type {connection.conn_type}; sql tasks run on duckdb."
            )
        settings = connection.extra_dejson
        # A SELECT that reads its own table would not give the same after another writer's rows; what a mode itself
        # looks at, the engine says.
        plain = self.table is not None and self.table not in script.reads
        with DuckDBEngine(
            self.catalog(connection, exclusive=() if plain else self.tables),
            memory_limit=str(settings.get("memory_limit", "1GB")),
            threads=int(settings.get("threads", 2)),
            macros=sqltext.MACROS,
        ) as engine:
            self._engine = engine
            if self.table is not None:
                target = definition(self.table, self.layout, self.name_of(context))
                return self.report(context, [engine.write(statements[0], target, self.mode, self.merge_key)])  # type: ignore[arg-type]
            changed, results = engine.script(statements, self.writes)
            for statement, rows in zip(script.statements, changed, strict=True):
                self.log.info("%s%s", statement.kind, "" if rows is None else f": {rows:,} rows")
            return self.report(context, results)
