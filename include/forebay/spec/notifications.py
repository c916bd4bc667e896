"""Who hears about a run or a task, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from forebay.spec.base import DURATION_SCHEMA, Closed, DottedName, Duration, Many, ShortForm, Some

Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]


class EmailNotification(Closed):
    """An e-mail through Airflow's SMTP connection."""

    email: Some[Email] = Field(description="Addresses to write to.")


class NotifierNotification(Closed):
    """Any Airflow notifier class: Slack, Teams, PagerDuty, your own."""

    notifier: DottedName = Field(
        description="Import path of the class: airflow.providers.slack.notifications.slack.SlackNotifier."
    )
    arguments: dict[str, JsonValue] = Field(
        default={}, description="Arguments of the class; secrets belong in its connection."
    )


def _kind(value: Any) -> str:
    found = "notifier" in value if isinstance(value, dict) else isinstance(value, NotifierNotification)
    return "<notifier>" if found else "<email>"


def _mapping(value: object) -> object:
    if isinstance(value, dict | Closed):
        return value
    raise PydanticCustomError(
        "notification", "must be {{email: [addresses]}} or {{notifier: dotted.path.Class}}"
    )


Notification = Annotated[
    Annotated[EmailNotification, Tag("<email>")] | Annotated[NotifierNotification, Tag("<notifier>")],
    Discriminator(_kind),
    BeforeValidator(_mapping),
]


_OF_A_TASK = "belongs to a task's notifications: Airflow tells of a run only that it succeeded or failed"


class Notifications(Closed):
    """What is sent when a run has ended."""

    elsewhere: ClassVar[Mapping[str, str]] = {"on_start": _OF_A_TASK, "on_retry": _OF_A_TASK}

    on_success: Many[Notification] = Field(default=(), description="When it has succeeded.")
    on_failure: Many[Notification] = Field(default=(), description="When it has failed for good.")


class TaskNotifications(Notifications):
    """What is sent at each event of a task."""

    on_start: Many[Notification] = Field(default=(), description="When it starts.")
    on_retry: Many[Notification] = Field(default=(), description="When it failed and is tried again.")


class Deadline(Closed):
    """The time by which a run must be done, else people are told."""

    after: Duration = Field(description="How long a run may take, e.g. 2h.")
    reference: Literal["queued", "logical_date"] = Field(
        default="queued",
        alias="from",
        description="When the time starts: as the run is queued, or at its logical date.",
    )
    notify: Many[Notification] = Field(
        default=(), description="Who is told; as default those of notifications.on_failure."
    )


def _deadline(value: object) -> object:
    return {"after": value} if isinstance(value, str | int) and not isinstance(value, bool) else value


DeadlineField = Annotated[Deadline, BeforeValidator(_deadline), ShortForm(DURATION_SCHEMA)]
