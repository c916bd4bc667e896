"""The last task of a job: publishes what the run wrote, all tables at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator
from forebay.operators.make import table_asset
from forebay.operators.transaction import XCOM, told

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

    from forebay.project import LoadedJob

PUBLISH, APPROVE = "publish", "approve"
"""Keys of the tasks that the compiler adds."""

# With these a task runs although one before it failed: then publishing must wait for that one as well.
_TOLERANT = frozenset(("at_least_one_success", "all_done", "at_least_one_failed", "all_failed"))


def add(dag: DAG, job: LoadedJob) -> None:
    """Adds `publish`, and `approve` before it where the job asks for it, behind all tasks of the job."""
    tables = sorted({table for task in job.spec.tasks for table in task.writes})
    if not tables or job.spec.publish == "each":
        return
    with dag:
        last: BaseOperator = PublishOperator(
            task_id=PUBLISH,
            retries=2,
            retry_delay=timedelta(seconds=5),
            trigger_rule="none_failed",
            outlets=[table_asset(table) for table in tables],
            tasks=sorted(task.key for task in job.spec.tasks if task.writes),
            tables=tables,
            catalog_conn_id=job.workspace.spec.connections.catalog,
            doc_md="Publishes all tables that the run wrote, in one commit, or none.",
        )
        if job.spec.publish == "after_approval":
            from airflow.providers.standard.operators.hitl import ApprovalOperator

            approve = ApprovalOperator(
                task_id=APPROVE,
                subject=f"Publish {', '.join(tables)}?",
                body="What would change: `forebay diff {{ run_id }}`. Until it is approved nobody else sees it.",
                trigger_rule="none_failed",
                fail_on_reject=True,
            )
            last.set_upstream(approve)
            last = approve
    behind: dict[str, list[str]] = {task.key: [] for task in job.spec.tasks}
    for task in job.spec.tasks:
        for key in task.depends_on:
            behind[key].append(task.run_if)
    for key, rules in behind.items():
        if not rules or any(rule in _TOLERANT for rule in rules):
            last.set_upstream(dag.get_task(key))


class PublishOperator(ForebayOperator):
    """Makes what the run wrote everybody's, in one commit, or changes nothing."""

    def __init__(self, *, tasks: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks

    def pre_execute(self, context: Context) -> None:
        """It writes nothing of its own."""

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Nobody comes after it."""

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay.lake.identity import Run
        from forebay.lake.publish import publish
        from forebay.lake.rest import Rest

        ti: Any = context["ti"]
        run = Run(ti.dag_id, ti.run_id)
        words = [word for key in self.tasks for word in _words(ti, key)]
        tries = {str(word["task"]): int(word["try"]) for word in words}
        wrote = sorted({str(table) for word in words for table in word["wrote"]})
        with Rest(self.catalog(main=True)) as rest:
            results = publish(rest, run, self.tables, tries, wrote)
        told(self, context, results)
        return {
            "published": {
                each.table: {
                    "snapshot_id": str(each.snapshot_id),
                    "added": each.added,
                    "removed": each.removed,
                }
                for each in results
            }
        }


def _words(ti: Any, key: str) -> list[dict[str, Any]]:
    """What a task left for this one; of a mapped task one for each index, of a skipped task none."""
    found = ti.xcom_pull(task_ids=key, key=XCOM)
    if found is None:
        return []
    return [found] if isinstance(found, dict) else [word for word in found if word]
