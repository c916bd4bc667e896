"""Puts small files of tables together, on the engine its connection names: DuckDB or Trino."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator
from forebay.operators.make import make

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.results import TableResult
    from forebay.engines.trino import TrinoEngine
    from forebay.lake.rest import Rest
    from forebay.project import LoadedJob
    from forebay.tasks.maintain import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `maintain` task."""
    return make(
        MaintainOperator, task, job,
        small_files=task.small_files, conn_id=task.conn_id or job.workspace.spec.connections.sql,
        **ForebayOperator.settings(job, task),
    )  # fmt: skip


class MaintainOperator(ForebayOperator):
    """Puts files of `tables` below `small_files` bytes together, on the run's branch."""

    engine_name = "duckdb"

    def __init__(self, *, small_files: int, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.small_files, self.conn_id = small_files, conn_id
        self._sql: Connection | None = None

    def pre_execute(self, context: Context) -> None:
        """Names this try; on Trino, earlier tries of the task are ended before their files are put back."""
        from forebay.operators.engine import before_a_try, kind_of

        self._sql = self.connection(self.conn_id)
        self.engine_name = kind_of(self._sql, self.conn_id)
        before_a_try(self, self._sql, self.conn_id, context)
        super().pre_execute(context)

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay.engines.trino_errors import TrinoError
        from forebay.lake.rest import Rest
        from forebay.operators.engine import blamed, kind_of, opened

        connection = self._sql or self.connection(self.conn_id)
        kind_of(connection, self.conn_id)
        with Rest(self.catalog(main=True)) as rest, opened(self, connection, context) as engine:
            self._engine = engine
            try:
                results = [self._one(engine, rest, name) for name in self.tables]
            except TrinoError as error:
                raise blamed(error) from error
        return self.report(context, results)

    def _one(self, engine: DuckDBEngine | TrinoEngine, rest: Rest, name: str) -> TableResult:
        from forebay.engines.compaction import counted, look, rewrite
        from forebay.engines.results import MAINTAIN, NO_TABLE, TableResult
        from forebay.lake.tables import row_count

        assert self._who is not None
        began = time.monotonic()
        if rest.table(name) is None:
            return TableResult(name, MAINTAIN, 0, note=NO_TABLE)
        found = look(rest, name, self.small_files, self._who.job)
        table = rewrite(engine, name, self.small_files) if found.to_do else None
        if table is None:
            why = f"left alone: {found.busy}" if found.busy else "nothing to do"
            return TableResult(name, MAINTAIN, 0, files=(found.files, found.files), note=why)
        files = found.files, counted(engine.config, name, table, self.small_files).files
        seconds = round(time.monotonic() - began, 3)
        return TableResult(
            name, MAINTAIN, row_count(table), snapshot_id=table.metadata.current_snapshot_id,
            seconds=seconds, files=files,
        )  # fmt: skip
