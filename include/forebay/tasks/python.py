"""Calls a function of the workspace's own Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from forebay.files import PYTHON_FOLDER
from forebay.spec.base import ColumnName, DottedName, Many, ScalarOrList, TableName
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project


class Task(BaseTask):
    """Calls a function of the workspace's own Python; what it returns is the task's XCom."""

    text_fields: ClassVar[tuple[str, ...]] = ("arguments",)
    example: ClassVar[str] = """\
key: report
type: python
function: reports.send
arguments: {run: "{run_id}"}
"""

    type: Literal["python"] = Field(description="Call a Python function.")
    function: DottedName = Field(description="module.function; the module is a file in include/<workspace>/.")
    arguments: dict[ColumnName, ScalarOrList] = Field(
        default={},
        description="Arguments of the function by name; {name} in a text stands for a value of the run.",
    )
    writes: Many[TableName] = Field(default=(), description="Tables the function writes, as namespace.table.")
    reads: Many[TableName] = Field(default=(), description="Tables the function reads, as namespace.table.")

    @property
    def module(self) -> str:
        """The dotted module of the function, below the workspace's package."""
        return self.function.rpartition(".")[0]

    @property
    def module_file(self) -> str:
        """The module's file, relative to include/<workspace>/."""
        return self.module.replace(".", "/") + ".py"

    @property
    def function_name(self) -> str:
        """The function's own name."""
        return self.function.rpartition(".")[2]

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        if problem := project.files(job.workspace.name).problem(PYTHON_FOLDER, self.module_file):
            yield ("function",), problem

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.python import build

        return build(self, job)
