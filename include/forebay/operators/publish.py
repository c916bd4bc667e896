"""The last task of a job: publishes what the run wrote, all tables at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from forebay.operators.base import ForebayOperator, kept
from forebay.operators.make import table_asset
from forebay.operators.tidy import tidy
from forebay.operators.transaction import XCOM, told, written_by
from forebay.spec.job import APPROVE, PUBLISH

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

    from forebay.project import LoadedJob


def add(dag: DAG, job: LoadedJob) -> None:
    """Adds `publish`, and `approve` before it where the job asks for it, behind all tasks of the job."""
    tables = sorted({*job.writes, *job.rewrites})
    if not tables or job.spec.publish == "each":
        return
    with dag:
        last: BaseOperator = PublishOperator(
            task_id=PUBLISH,
            retries=2,
            retry_delay=timedelta(seconds=5),
            trigger_rule="none_failed",
            # Who waits for a table waits for its rows, and files that are put together have the same ones.
            outlets=[table_asset(table) for table in sorted(job.writes)],
            tasks=sorted(task.key for task in job.spec.tasks if task.writes or task.rewrites),
            checks=sorted(task.key for task in job.spec.tasks if task.type == "checks"),
            tables=tables,
            catalog_conn_id=job.workspace.spec.connections.catalog,
            keep=kept(job),
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
    # As Airflow does for the run itself: what counts is how its last tasks ended. A failure that another task
    # answers with run_if is no failure of the run; what the failed task wrote is not published. But what a check
    # refused is never published, whatever comes after the check.
    waited_for = {key for task in job.spec.tasks for key in task.depends_on}
    for task in job.spec.tasks:
        if task.key not in waited_for or task.type == "checks":
            last.set_upstream(dag.get_task(task.key))


class PublishOperator(ForebayOperator):
    """Makes what the run wrote everybody's, in one commit, or changes nothing."""

    def __init__(self, *, tasks: list[str], checks: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks, self.checks = tasks, checks

    def pre_execute(self, context: Context) -> None:
        """It writes nothing of its own."""

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Nobody comes after it."""

    def execute(self, context: Context) -> dict[str, Any]:
        from forebay.lake.identity import Run
        from forebay.lake.publish import publish
        from forebay.lake.rest import Rest
        from forebay.lake.retry import leave_out_failed

        ti: Any = context["ti"]
        run = Run.named(ti.dag_id, ti.run_id, getattr(context["dag_run"], "conf", None))
        words = [word for key in self.tasks for word in words_of(ti, key)]
        found = [each["checks"] for key in self.checks for each in words_of(ti, key, "return_value")]
        tries = {str(word["task"]): int(word["try"]) for word in words}
        began = {str(word["task"]): float(word.get("began", 0)) for word in words}
        wrote = written_by(words)
        with Rest(self.catalog(main=True)) as rest:
            for table in leave_out_failed(rest, run, self.tables, set(tries)):
                self.log.info("%s: what failed tasks wrote was taken off the run's branch", table)
            results = publish(rest, run, self.tables, tries, wrote, began)
            told(self, context, results, found)
            tidy(self, ti, run, rest, results)
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


def words_of(ti: Any, key: str, name: str = XCOM) -> list[dict[str, Any]]:
    """What a task left for this one; of a mapped task one for each index, of a skipped task none."""
    found = ti.xcom_pull(task_ids=key, key=name)
    if found is None:
        return []
    return [found] if isinstance(found, dict) else [word for word in found if word]
