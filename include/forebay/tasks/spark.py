"""Runs an ordinary PySpark program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from forebay.files import SPARK_FOLDER
from forebay.spec.base import FileName, Many, Scalar, TableName
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project


class Task(BaseTask):
    """Runs an ordinary PySpark program; the catalog `lake` is configured for it."""

    text_fields: ClassVar[tuple[str, ...]] = ("arguments",)
    example: ClassVar[str] = """\
key: clean
type: spark
application: clean.py
arguments: ["--day", "{run_id}"]
writes: [sales.silver_orders]
"""

    type: Literal["spark"] = Field(description="Run a PySpark program.")
    application: FileName = Field(description="The program, a file in spark_jobs/<workspace>/.")
    arguments: Many[str] = Field(
        default=(), description="Arguments of the program; {name} stands for a value of the run."
    )
    writes: Many[TableName] = Field(default=(), description="Tables the program writes, as namespace.table.")
    reads: Many[TableName] = Field(default=(), description="Tables the program reads, as namespace.table.")
    conf: dict[str, Scalar] = Field(
        default={}, description="Spark settings, e.g. spark.sql.shuffle.partitions: 8."
    )
    driver_memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mg]$")] | None = Field(
        default=None, description="Memory of the driver, e.g. 2g; the connection's as default."
    )

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        if problem := project.files(job.workspace.name).problem(SPARK_FOLDER, self.application):
            yield ("application",), problem

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.spark import build

        return build(self, job)
