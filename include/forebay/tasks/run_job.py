"""Starts another job and waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from forebay.errors import suggestion
from forebay.spec.base import PATTERN_WORDS, Name, Scalar
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project

JOB = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$"
PATTERN_WORDS[JOB] = "a job written <workspace>.<job>, or <job> for one of the same workspace"


class Task(BaseTask):
    """Starts another job and, as default, waits until its run has ended."""

    text_fields: ClassVar[tuple[str, ...]] = ("parameters",)
    example: ClassVar[str] = """\
key: refresh
type: run_job
job: example_target
"""

    type: Literal["run_job"] = Field(description="Start another job.")
    job: Annotated[str, StringConstraints(pattern=JOB, max_length=200)] = Field(
        description="The job: <workspace>.<job>, or <job> for one of the same workspace."
    )
    parameters: dict[Name, Scalar] = Field(
        default={}, description="Values the run is given; {name} in a text stands for a value of this run."
    )
    wait: bool = Field(
        default=True, description="Whether the task ends with the run, and fails if it failed."
    )

    def dag_id(self, workspace: str) -> str:
        """The job's full name, seen from `workspace`."""
        return self.job if "." in self.job else f"{workspace}.{self.job}"

    @property
    def writes(self) -> tuple[str, ...]:
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        target, _, name = self.dag_id(job.workspace.name).partition(".")
        if f"{target}.{name}" == job.dag_id:
            yield ("job",), "the job would start itself"
        elif not project.has_job(target, name):
            known = {
                f"{each}.{other}" for each in project.workspace_names() for other in project.job_names(each)
            }
            yield (
                ("job",),
                f"there is no job {target}.{name}.{suggestion(f'{target}.{name}', known - {job.dag_id})}",
            )

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.run_job import build

        return build(self, job)
