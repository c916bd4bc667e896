"""Runs a `sql` task on the engine its connection names: DuckDB or Trino."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.errors import ForebayError, JobSpecError
from forebay.operators.base import ForebayOperator, definition, layout
from forebay.operators.make import make

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

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
        self._sql: Connection | None = None

    def pre_execute(self, context: Context) -> None:
        """Names this try after its engine; on Trino, earlier tries of the task are ended before their rows are put back."""
        from forebay.operators.engine import before_a_try

        self._sql = self.connection(self.conn_id)
        self.engine_name = before_a_try(self, self._sql, self.conn_id, context)
        super().pre_execute(context)

    def execute(self, context: Context) -> Any:
        from forebay import sqltext
        from forebay.engines.trino_client import TrinoError
        from forebay.operators.engine import blamed, kind_of, opened

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
        connection = self._sql or self.connection(self.conn_id)
        kind = kind_of(connection, self.conn_id)
        # A SELECT that reads its own table would not give the same after another writer's rows; what a mode itself
        # looks at, the engine says.
        plain = self.table is not None and self.table not in script.reads
        # Trino's own MERGE does not say what its rows depend on.
        plain = plain and not (kind == "trino" and self.mode == "merge")
        with opened(self, connection, context, () if plain else self.tables) as engine:
            self._engine = engine
            statements = [engine.dialect(statement.bind(values)) for statement in script.statements]
            try:
                if self.table is not None:
                    target = definition(self.table, self.layout, self.name_of(context))
                    mode: Any = self.mode
                    return self.report(context, [engine.write(statements[0], target, mode, self.merge_key)])
                changed, results = engine.script(statements, self.writes)
            except TrinoError as error:
                raise blamed(error, script.statements, statements) from error
            for statement, rows in zip(script.statements, changed, strict=True):
                self.log.info("%s%s", statement.kind, "" if rows is None else f": {rows:,} rows")
            return self.report(context, results)
