"""Turns what all tasks have in common into an Airflow operator's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, XComArg
from airflow.sdk.definitions._internal.contextmanager import DagContext

from forebay.operators.notify import callbacks

if TYPE_CHECKING:
    from forebay.project import LoadedJob
    from forebay.spec.task import BaseTask

TRIGGER_RULES = {
    "all_success": "all_success",
    "at_least_one_success": "one_success",
    "none_failed": "none_failed",
    "all_done": "all_done",
    "at_least_one_failed": "one_failed",
    "all_failed": "all_failed",
}
"""Airflow's trigger rule for each `run_if`."""


def table_asset(table: str) -> Asset:
    """The Airflow asset of a table of the lake, written namespace.table."""
    return Asset(name=table, uri=f"iceberg://lake/{table.replace('.', '/')}")


def make(operator: type[BaseOperator], task: BaseTask, job: LoadedJob, **own: Any) -> BaseOperator:
    """Builds an operator in the current dag from a task's common fields and the type's `own` arguments.

    A task with for_each becomes a mapped operator, whose class takes the value as `item`.
    """
    arguments: dict[str, Any] = {
        "task_id": task.key,
        "retries": task.retries,
        "retry_delay": task.retry_delay,
        "trigger_rule": TRIGGER_RULES[task.run_if],
        **own,
    }
    if task.timeout:
        arguments["execution_timeout"] = task.timeout
    if task.description:
        arguments["doc_md"] = task.description
    # Otherwise publishing is what updates the assets.
    if task.writes and job.spec.publish == "each":
        arguments["outlets"] = [table_asset(table) for table in task.writes]
    if task.notifications:
        arguments.update(callbacks(task.notifications, "on_execute_callback"))
    if task.for_each is None:
        return operator(**arguments)
    if task.for_each.concurrency:
        arguments["max_active_tis_per_dagrun"] = task.for_each.concurrency
    items: Any
    if task.for_each.task is not None:
        dag = DagContext.get_current_dag()
        assert dag is not None
        items = XComArg(dag.get_task(task.for_each.task))
    else:
        items = list(task.for_each.inputs or ())
    return operator.partial(**arguments).expand(item=items)  # type: ignore[return-value]  # a mapped operator takes an operator's place in a dag
