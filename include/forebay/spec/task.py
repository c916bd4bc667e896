"""What every task has, whatever its type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from forebay.source import Step
from forebay.spec.base import SCALAR_SCHEMA, Closed, ConnectionId, Duration, Many, Scalar, ShortForm, TaskKey
from forebay.spec.notifications import TaskNotifications

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project, WorkspaceFile

# A path below the task (or the job), and what is wrong there.
Problem = tuple[tuple[Step, ...], str]

RunIf = Literal[
    "all_success", "at_least_one_success", "none_failed", "all_done", "at_least_one_failed", "all_failed"
]


class ForEach(Closed):
    """Runs the task once per value; the value is `:item` in SQL and `{item}` in text."""

    inputs: Many[Scalar] | None = Field(default=None, description="The values.")
    task: TaskKey | None = Field(
        default=None, description="Key of a python task whose return value is the list of values."
    )
    concurrency: int | None = Field(default=None, ge=1, le=1000, description="How many run at the same time.")

    @model_validator(mode="after")
    def _one_source(self) -> ForEach:
        if (self.inputs is None) == (self.task is None):
            raise PydanticCustomError(
                "for_each", "needs exactly one of inputs (a list of values) and task (a key)"
            )
        return self


def _for_each(value: object) -> object:
    return {"inputs": value} if isinstance(value, list) else value


_VALUES = ShortForm({"type": "array", "items": SCALAR_SCHEMA})


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class BaseTask(Closed):
    """One task of a job; each type is a class Task in the module of forebay.tasks that is named like it.

    `text_fields` name the fields in which `{name}` stands for a value of the run.
    """

    text_fields: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = ""

    if TYPE_CHECKING:

        @property
        def type(self) -> str: ...

        @property
        def writes(self) -> tuple[str, ...]:
            """The tables this task writes, as namespace.table."""

        @property
        def reads(self) -> tuple[str, ...]:
            """The tables this task says it reads; those of SQL are found by `check` in the text itself."""

    @property
    def rewrites(self) -> tuple[str, ...]:
        """The tables whose files this task writes anew; their rows stay, so they remain another task's."""
        return ()

    def keeps(self, workspace: WorkspaceFile) -> tuple[str, ...]:
        """The tables that it writes whatever becomes of its run, such as results of checks."""
        return ()

    key: TaskKey = Field(description="Name of the task, unique in its job; it is Airflow's task id.")
    description: str = Field(default="", description="What the task does; shown in Airflow.")
    depends_on: Many[TaskKey] = Field(
        default=(), description="Keys of the tasks that must have ended before."
    )
    run_if: Annotated[RunIf, BeforeValidator(_lower)] = Field(
        default="all_success", description="How the tasks it depends on must have ended for this one to run."
    )
    retries: int = Field(
        default=0, ge=0, le=20, description="How many times it is tried again after a failure."
    )
    retry_delay: Duration = Field(default="10s", validate_default=True, description="Time between two tries.")
    timeout: Duration | None = Field(default=None, description="A try is ended as failed after this time.")
    conn_id: ConnectionId | None = Field(
        default=None, description="Connection to use instead of the workspace's own."
    )
    for_each: Annotated[ForEach, BeforeValidator(_for_each), _VALUES] | None = Field(
        default=None,
        description="Run the task once per value: a list, {inputs: [..]} or {task: key of a python task}.",
    )
    notifications: TaskNotifications | None = Field(default=None, description="Who hears about this task.")

    def operator(self, job: LoadedJob) -> BaseOperator:
        """The Airflow operator that runs this task."""
        raise NotImplementedError

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        """What is wrong with this task that its own YAML does not show: files, jobs that are not there."""
        return iter(())

    def texts(self) -> list[Problem]:
        """Every text in which `{name}` stands for a value of the run, after its path below the task."""
        found: list[Problem] = []
        for name in self.text_fields:
            _collect(getattr(self, name), (name,), found)
        return found


class LostTask(BaseTask):
    """Stands for a task that cannot be built, so that the tasks that wait for it are not wrong as well."""

    key: str = Field(description="Its key as it is written; empty when it has none.")

    @property
    def type(self) -> str:
        return ""

    @property
    def writes(self) -> tuple[str, ...]:
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        return ()


def _collect(value: Any, path: tuple[Step, ...], found: list[tuple[tuple[Step, ...], str]]) -> None:
    if isinstance(value, str):
        found.append((path, value))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _collect(item, (*path, index), found)
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, (*path, key), found)
