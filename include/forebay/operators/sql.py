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

    from forebay.operators.resume import Left
    from forebay.project import LoadedJob
    from forebay.sqltext import Script
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
        self._left: Left | None = None

    def pre_execute(self, context: Context) -> None:
        """Names this try after its engine; on Trino it goes on with the write that a dead worker left, else ends it."""
        from forebay.operators.engine import before_a_try, kind_of
        from forebay.operators.resume import left

        self._sql = self.connection(self.conn_id)
        self.engine_name = kind_of(self._sql, self.conn_id)
        if self.table is not None and self.engine_name == "trino":
            self._left = left(self, self._sql, context, self._fingerprint(self._script(), context))
        if self._left is not None:
            # Its rows count, so they are not put back, and its name is the one that the lens knows.
            self._who = self._left.who
            return
        before_a_try(self, self._sql, self.conn_id, context)
        super().pre_execute(context)

    def _script(self) -> Script:
        from forebay import sqltext

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
        return script

    def _fingerprint(self, script: Script, context: Context) -> str:
        from forebay.operators.resume import fingerprint, sources
        from forebay.sqltext import to_trino

        values = self.values(context)
        statements = [to_trino(statement.bind(values)) for statement in script.statements]
        return fingerprint(
            statements, self.table, self.mode, self.merge_key, self.layout, sources(self, context)
        )

    def execute(self, context: Context) -> Any:
        from forebay.engines.trino_errors import TrinoError
        from forebay.engines.written import script as run_script
        from forebay.operators.engine import blamed, dialect, kind_of, opened
        from forebay.operators.resume import Keeping

        script, values = self._script(), self.values(context)
        connection = self._sql or self.connection(self.conn_id)
        kind = kind_of(connection, self.conn_id)
        resumed = self._left.at if self._left is not None else None
        keeping = None
        if kind == "trino" and self.table is not None:
            assert self._who is not None
            keeping = Keeping(self, context, self._who, self._fingerprint(script, context), resumed)
        # A SELECT that reads its own table would not give the same after another writer's rows; what a mode itself
        # looks at, the engine says.
        plain = self.table is not None and self.table not in script.reads
        # Trino's own MERGE does not say what its rows depend on.
        plain = plain and not (kind == "trino" and self.mode == "merge")
        statements = [dialect(kind)(statement.bind(values)) for statement in script.statements]
        tables = () if plain else self.tables
        with opened(self, connection, context, tables, keeping, resumed, statements) as engine:
            self._engine = engine
            try:
                if self.table is not None:
                    target = definition(self.table, self.layout, self.name_of(context))
                    mode: Any = self.mode
                    result = engine.write(statements[0], target, mode, self.merge_key)
                    if keeping is not None:
                        keeping.done()
                    return self.report(context, [result])
                changed, results = run_script(engine, statements, self.writes)
            except TrinoError as error:
                raise blamed(error, script.statements, statements) from error
            for statement, rows in zip(script.statements, changed, strict=True):
                self.log.info("%s%s", statement.kind, "" if rows is None else f": {rows:,} rows")
            return self.report(context, results)
