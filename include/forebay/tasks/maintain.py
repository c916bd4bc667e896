"""Puts small files of tables together; their rows stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from forebay.spec.base import Size, Some, TableName
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project


class Task(BaseTask):
    """Puts the small files of tables together, partition by partition; their rows stay what they are.

    The tables are those of the workspace, whichever job writes them. One that is not there yet, or in which a run has
    something unpublished, is left alone, and the task's log says so.
    """

    example: ClassVar[str] = """\
key: files
type: maintain
tables: [sales.orders, sales.totals]
"""

    type: Literal["maintain"] = Field(description="Put small files together.")
    tables: Some[TableName] = Field(description="The tables, as namespace.table.")
    small_files: Size = Field(
        default="32MB",
        validate_default=True,
        description="Files below this size are put together, from 1MB to 1GB.",
    )

    @property
    def writes(self) -> tuple[str, ...]:
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def rewrites(self) -> tuple[str, ...]:
        return self.tables

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        if self.for_each:
            yield ("for_each",), "each copy would put the same tables together. Remove it"
        writer = {table: task.key for task in job.spec.tasks for table in task.writes}
        before = list(job.spec.tasks[: next(n for n, task in enumerate(job.spec.tasks) if task is self)])
        other = {table: task.key for task in before for table in task.rewrites}
        for position, table in enumerate(self.tables):
            path = ("tables", position)
            if table in self.tables[:position]:
                yield path, f"{table} is named twice. Remove it here"
            elif table in other:
                yield path, f"{table} is put together by the task '{other[table]}' already. Remove it here"
            elif table in writer:
                yield (
                    path,
                    (
                        f"the task '{writer[table]}' of this job writes {table}, and a table that a run has written is left "
                        "alone until it is published. Put it together in a job of its own"
                    ),
                )

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.maintain import build

        return build(self, job)
