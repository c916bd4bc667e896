"""Checks a table's rows against rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from forebay.operators.base import ForebayOperator
from forebay.operators.make import make

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.checks.run import Outcome
    from forebay.lake.connection import CatalogConfig
    from forebay.project import LoadedJob
    from forebay.tasks.checks import Task


def build(task: Task, job: LoadedJob) -> BaseOperator:
    """The operator of a `checks` task."""
    from forebay.checks.rules import rules_of

    namespace = task.table.partition(".")[0]
    return make(
        ChecksOperator, task, job,
        table=task.table, rules=[rule.as_dict() for rule in rules_of(task.expect)], job_name=job.dag_id,
        results_namespace=namespace if job.workspace.owns(namespace) else job.workspace.name,
        conn_id=task.conn_id or job.workspace.spec.connections.sql,
        **ForebayOperator.settings(job, task),
    )  # fmt: skip


class ChecksOperator(ForebayOperator):
    """Looks at `table` with `rules`, keeps what it found in <results_namespace>.check_results."""

    engine_name = "duckdb"

    def __init__(
        self,
        *,
        table: str,
        rules: list[dict[str, Any]],
        conn_id: str,
        job_name: str = "",
        results_namespace: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table, self.rules, self.conn_id = table, rules, conn_id
        self._sql: Connection | None = None
        self.job_name, self.results_namespace = job_name, results_namespace or table.partition(".")[0]

    def pre_execute(self, context: Context) -> None:
        """Names this try; on Trino, earlier tries of the task are ended before their rows are put back."""
        from forebay.operators.engine import before_a_try

        self._sql = self.connection(self.conn_id)
        before_a_try(self, self._sql, self.conn_id, context)
        super().pre_execute(context)

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay import sqltext
        from forebay.checks import results
        from forebay.checks.evaluate import GX_ROWS
        from forebay.checks.rules import from_dicts
        from forebay.checks.run import check, failure
        from forebay.engines.duckdb import DuckDBEngine
        from forebay.engines.trino_errors import TrinoError
        from forebay.operators.engine import Engines, blamed, counting, kind_of

        connection = self._sql or self.connection(self.conn_id)
        kind_of(connection, self.conn_id)
        settings = connection.extra_dejson
        values = self.values(context)
        with (
            DuckDBEngine(
                # The rows that stay depend on those that were there.
                self.catalog(exclusive=self.tables),
                memory_limit=str(settings.get("memory_limit", "1GB")),
                threads=int(settings.get("threads", 2)),
                macros=sqltext.MACROS,
            ) as engine,
            counting(self, connection, context) as counter,
        ):
            self._engine = Engines(engine, counter) if counter is not None else engine
            try:
                outcome = check(
                    engine,
                    self.table,
                    from_dicts(self.rules),
                    values,
                    run=str(values["run_id"]),
                    gx_rows=int(settings.get("gx_rows", GX_ROWS)),
                    log=self.log.info,
                    counter=counter,
                )
            except TrinoError as error:
                raise blamed(error) from error
            self.log.info("%s", results.summary(self.table, outcome.verdicts))
            # Kept whether the rules hold or not, and whatever becomes of the run.
            self._keep(self.catalog(main=True).main(), outcome, context, str(values["run_id"]))
        found = {"table": self.table, **results.tally(outcome.verdicts)}
        self._tell(context, found)
        if outcome.failed:
            # A retry would see the same rows.
            raise AirflowFailException(failure(self.table, outcome.failed))
        return {"checks": found, **self.report(context, outcome.tables)}

    def _keep(self, config: CatalogConfig, outcome: Outcome, context: Context, run_id: str) -> None:
        from forebay.checks import results

        origin = results.Origin(
            job=self.job_name or str(getattr(self, "dag_id", "")),
            task=self.task_id,
            run_id=run_id,
            try_number=int(getattr(context.get("ti"), "try_number", 1) or 1),
            table_name=self.table,
        )
        seen = outcome.checked.snapshot_id
        rows = results.result_rows(outcome.verdicts, origin, seen, datetime.now(UTC))
        assert self._who is not None
        try:
            results.keep(config, self.results_namespace, rows, self._who, {self.table: seen})
        except Exception as error:  # noqa: BLE001  the verdict counts more than its record
            name = f"{self.results_namespace}.{results.TABLE}"
            self.log.warning("The results could not be kept in %s: %s", name, config.redact(str(error)))

    def _tell(self, context: Context, found: dict[str, Any]) -> None:
        """Put the counts on the events of the tables this task publishes itself."""
        events: Any = context.get("outlet_events")
        if events is not None:
            for asset in self.outlets or ():
                events[asset].extra.update(checks=found)
