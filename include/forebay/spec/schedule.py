"""When a job starts: at times, after tables change, without a pause, or only by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from forebay.spec.base import Closed, ShortForm, Some, TableName, Text


class CronSchedule(Closed):
    """Starts at the times of a cron expression."""

    cron: Text = Field(
        description="Cron expression of five fields (minute hour day month weekday), or @daily, @hourly, …"
    )
    timezone: Text = Field(
        default="UTC", description="IANA name of the time zone the expression is read in, e.g. Europe/Berlin."
    )


class AfterSchedule(Closed):
    """Starts after tables have been updated by other jobs."""

    after: Some[TableName] = Field(description="Tables written by other jobs, as namespace.table.")
    condition: Literal["all", "any"] = Field(
        default="all",
        description="all: when every table was updated since the last run; any: at each update of one.",
    )


class ContinuousSchedule(Closed):
    """Starts again whenever the previous run has ended."""


def _normal(value: object) -> object:
    if value is None or value == "none":
        return None
    if value == "continuous":
        return ContinuousSchedule()
    if isinstance(value, str):
        return {"cron": value}
    if isinstance(value, dict | Closed):
        return value
    raise PydanticCustomError(
        "schedule", "must be a cron expression, none, continuous, {cron, timezone} or {after: [tables]}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, ContinuousSchedule):
        return "<continuous>"
    after = "after" in value if isinstance(value, dict) else isinstance(value, AfterSchedule)
    return "<after>" if after else "<cron>"


_AnySchedule = Annotated[
    Annotated[CronSchedule, Tag("<cron>")]
    | Annotated[AfterSchedule, Tag("<after>")]
    | Annotated[SkipJsonSchema[ContinuousSchedule], Tag("<continuous>")],
    Discriminator(_kind),
]
_SHORT = ShortForm(
    {"enum": ["none", "continuous"], "description": "none: only by hand; continuous: again and again."},
    {"type": "string", "description": "Cron expression, read in UTC.", "examples": ["0 5 * * *", "@daily"]},
)
Schedule = Annotated[_AnySchedule | None, BeforeValidator(_normal), _SHORT]
