"""Runs an ordinary PySpark program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from forebay.files import SPARK_FOLDER
from forebay.spec.base import Closed, FileName, Many, Scalar, TableName
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project


Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mg]$")]


class Executors(Closed):
    """The processes that share a program's work on a cluster; on one machine there is one, the driver."""

    min: int | None = Field(
        default=None, ge=1, le=1000, description="How many at least; the connection's as default."
    )
    max: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many at most, where there is work for them; min as default.",
    )
    cores: int | None = Field(
        default=None, ge=1, le=256, description="Cores of each; the connection's as default."
    )
    memory: Memory | None = Field(
        default=None, description="Java's memory of each, e.g. 4g; the connection's as default."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Executors:
        if self.max is not None and self.max < (self.min or 1):
            raise PydanticCustomError("executors", "max is less than min")
        return self


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
    driver_memory: Memory | None = Field(
        default=None, description="Memory of the driver, e.g. 2g; the connection's as default."
    )
    executors: Executors | None = Field(
        default=None, description="How many executors, and what each gets, where Spark runs on a cluster."
    )

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        if problem := project.files(job.workspace.name).problem(SPARK_FOLDER, self.application):
            yield ("application",), problem

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.spark import build

        return build(self, job)
