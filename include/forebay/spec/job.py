"""A job's YAML: when it starts, what it is given, and its tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forebay.spec.base import Closed, Duration, Many, Name, Some, Tag
from forebay.spec.notifications import DeadlineField, Notifications
from forebay.spec.parameters import Parameter
from forebay.spec.schedule import Schedule
from forebay.tasks import AnyTask

PUBLISH, APPROVE = "publish", "approve"
"""Keys of the tasks that are added to a job which writes tables."""


class JobSpec(Closed):
    """One job: an Airflow dag named <workspace>.<file name>."""

    description: str = Field(default="", description="What the job is for; shown in Airflow.")
    tags: Many[Tag] = Field(default=(), description="Tags in Airflow, besides those of the workspace.")
    schedule: Schedule = Field(
        default=None,
        description="When it starts: a cron expression, {cron, timezone}, {after: [tables], condition: all}, "
        "continuous, or none (only by hand).",
    )
    parameters: dict[Name, Parameter] = Field(
        default={}, description="Values a run is given, by their names."
    )
    max_concurrent_runs: int = Field(default=1, ge=1, le=1000, description="Runs at the same time.")
    publish: Literal["together", "each", "after_approval"] = Field(
        default="together",
        description="When what a run wrote is seen by others: all tables at once when all tasks are done, each "
        "task's tables when that task is done, or all at once after a person approved in Airflow.",
    )
    timeout: Duration | None = Field(default=None, description="A run is ended as failed after this time.")
    deadline: DeadlineField | None = Field(
        default=None, description="Time by which a run must be done, else people are told."
    )
    notifications: Notifications | None = Field(
        default=None, description="Who hears about runs; the workspace's by default."
    )
    tasks: Some[AnyTask] = Field(description="What the job does, in any order; depends_on gives the order.")
