"""What all of Forebay's operators share: the values of a run, the connections, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import BaseOperator

from forebay.engines.results import NO_TABLE
from forebay.errors import ForebayError
from forebay.operators.rerun import moments

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.engines.results import TableResult
    from forebay.lake.connection import CatalogConfig
    from forebay.lake.identity import TaskTry
    from forebay.lake.tables import TableDefinition
    from forebay.project import LoadedJob
    from forebay.spec.table import TableLayout
    from forebay.spec.task import BaseTask


class Engine(Protocol):
    """What on_kill needs of the engine that does the work."""

    def cancel(self) -> None: ...


class ForebayOperator(BaseOperator):
    """Resolves a run's values, shows its engine the run's own branch, and stops it when Airflow kills the task."""

    engine_name = ""

    def __init__(
        self,
        *,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        catalog_conn_id: str = "lake_catalog",
        tables: Sequence[str] = (),
        publish: str = "together",
        keep: Mapping[str, float] | None = None,
        item: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tables, self.publish, self.keep = list(tables), publish, dict(keep or {})
        self.parameters = {name: dict(value) for name, value in (parameters or {}).items()}
        self.catalog_conn_id = catalog_conn_id
        self.item = item
        self._engine: Engine | None = None
        self._who: TaskTry | None = None
        self._wrote: list[str] = []
        self._gone: list[str] = []
        """Tables it may write that are not there after it, such as one that it dropped."""

    @staticmethod
    def settings(job: LoadedJob, task: BaseTask) -> dict[str, Any]:
        """The arguments every operator of a job takes."""
        return {
            "tables": [*task.writes, *task.rewrites],
            "publish": job.spec.publish,
            "keep": kept(job),
            "parameters": {
                name: {"type": parameter.type, "default": parameter.default}
                for name, parameter in job.spec.parameters.items()
            },
            "catalog_conn_id": job.workspace.spec.connections.catalog,
        }

    def values(self, context: Context) -> dict[str, Any]:
        """The job's parameters, typed, and the run's values. `today` is the day the run began, in UTC.

        A backfilled run's is the day of its data interval's end.
        """
        from forebay.spec.parameters import Parameter

        run: Any = context["dag_run"]
        when = moments(run)
        given: Mapping[str, Any] = context.get("params") or {}
        values: dict[str, Any] = {}
        for name, fields in self.parameters.items():
            value = given.get(name)
            value = fields["default"] if value is None else value
            try:
                values[name] = (
                    None
                    if value is None
                    else Parameter(type=fields["type"]).resolve(value, when.started.date())
                )
            except ForebayError as error:
                raise ForebayError(f"parameter {name} {error}") from None
        values["run_id"] = run.run_id
        values["logical_date"] = when.logical_date
        values["data_interval_start"] = when.data_interval_start
        values["data_interval_end"] = when.data_interval_end
        if self.item is not None:
            values["item"] = self.item
        return values

    def pre_execute(self, context: Context) -> None:
        """Names this try, and takes what earlier tries of the task wrote off the run's branch."""
        from forebay.operators.transaction import begin

        self._who = begin(self, context)

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Tells the task `publish` which try counts and what it wrote; with `publish: each`, publishes that."""
        from forebay.operators.transaction import end

        assert self._who is not None
        end(self, context, self._who, self._wrote)

    def name_of(self, context: Context) -> str:
        """The run's name in the lake, as `forebay runs` shows it."""
        return self._who.run if self._who is not None else str(context["dag_run"].run_id)

    def catalog(self, *, main: bool = False, exclusive: Sequence[str] = ()) -> CatalogConfig:
        """The lake as this try sees it; with `main` as everybody does.

        It is the workspace's catalog for every engine: a run is one transaction. New rows of `exclusive` tables
        depend on the rows that were there, so they are not repeated on top of another writer's.
        """
        from forebay.lake.connection import CatalogConfig

        found = self.connection(self.catalog_conn_id)
        config = CatalogConfig.from_connection(found.host, found.login, found.password, found.extra_dejson)
        if main:
            return config
        assert self._who is not None
        return config.seen_by(replace(self._who, exclusive=tuple(exclusive)))

    @staticmethod
    def connection(conn_id: str) -> Connection:
        """An Airflow connection by its id."""
        from airflow.sdk import BaseHook

        found: Connection = BaseHook.get_connection(conn_id)
        return found

    def report(self, context: Context, results: Sequence[TableResult]) -> dict[str, Any]:
        """Log a line for each table, put the figures on its asset's event, and give the task's XCom."""
        events: Any = context.get("outlet_events")
        assets = {str(getattr(asset, "name", "")): asset for asset in self.outlets or ()}
        for result in results:
            self.log.info("%s", result)
            if result.changed:
                self._wrote.append(result.table)
            elif result.note == NO_TABLE:
                self._gone.append(result.table)
            if events is not None and result.table in assets and result.snapshot_id:
                events[assets[result.table]].extra.update(
                    rows=result.rows, snapshot_id=str(result.snapshot_id)
                )
        return {"tables": {result.table: result.xcom() for result in results}}

    def on_kill(self) -> None:
        if self._engine is not None:
            self._engine.cancel()


def kept(job: LoadedJob) -> dict[str, float]:
    """How long the workspace keeps what runs leave behind, in seconds."""
    workspace = job.workspace.spec
    return {
        "failed_runs": workspace.keep_failed_runs.total_seconds(),
        "inputs": workspace.keep_inputs.total_seconds(),
    }


def layout(task: TableLayout) -> dict[str, Any]:
    """A task's table layout as an operator's argument."""
    return {
        "partitioned_by": list(task.partitioned_by),
        "sorted_by": list(task.sorted_by),
        "comment": task.comment or "",
        "column_comments": dict(task.column_comments),
        "audit": task.audit,
    }


def definition(table: str, fields: Mapping[str, Any], run: str) -> TableDefinition:
    """The engine's definition from `layout`; `run` is the run's name in the lake."""
    from forebay.lake.tables import Audit, TableDefinition

    return TableDefinition(
        name=table,
        partitioned_by=tuple(fields.get("partitioned_by", ())),
        sorted_by=tuple(fields.get("sorted_by", ())),
        comment=str(fields.get("comment", "")),
        column_comments=dict(fields.get("column_comments", {})),
        audit=Audit(run, datetime.now(UTC)) if fields.get("audit") else None,
    )
