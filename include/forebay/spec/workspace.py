"""workspace.yaml: who owns a folder of jobs, and what they may touch."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from forebay.spec.base import Closed, ConnectionId, Duration, Many, Namespace, Tag, Text
from forebay.spec.notifications import Notifications


def _a_day(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise PydanticCustomError("keep", "must be at least 1d")
    return value


# A run may work for hours before its branch shows it: what is swept after less could be its own.
Keep = Annotated[Duration, AfterValidator(_a_day)]


class Connections(Closed):
    """The Airflow connections a workspace's jobs use; each decides where the work runs."""

    catalog: ConnectionId = Field(default="lake_catalog", description="The Iceberg catalog.")
    sql: ConnectionId = Field(default="lake_sql", description="Where sql tasks run.")
    spark: ConnectionId = Field(default="lake_spark", description="Where spark tasks run.")
    files: ConnectionId = Field(default="lake_s3", description="Where ingest tasks find their files.")
    allowed: Many[ConnectionId] = Field(
        default=(), description="Other connections a task of this workspace may name as conn_id."
    )


class Limits(Closed):
    """What one job of the workspace may take at most."""

    max_concurrent_runs: int = Field(
        default=16, ge=1, le=1000, description="Runs of one job at the same time."
    )
    max_concurrent_tasks: int = Field(
        default=16, ge=1, le=1000, description="Tasks of one job at the same time."
    )
    timeout: Duration | None = Field(
        default=None, description="Longest time of a run; the default of jobs that set none."
    )


class WorkspaceSpec(Closed):
    """A folder of jobs that belong to one team."""

    owner: Text = Field(description="Team or person responsible; shown as the owner of every job.")
    description: str = Field(default="", description="What the workspace is for.")
    namespaces: Many[Namespace] = Field(
        default=(),
        description="Namespaces its jobs may write besides the one named like the workspace and those that "
        "begin with its name and _.",
    )
    connections: Connections = Field(default=Connections(), description="The connections its jobs use.")
    tags: Many[Tag] = Field(default=(), description="Tags of every job in Airflow.")
    limits: Limits = Field(default=Limits(), description="What one job may take at most.")
    notifications: Notifications = Field(
        default=Notifications(), description="Notifications of jobs that set none."
    )
    keep_failed_runs: Keep = Field(
        default="7d",
        validate_default=True,
        description="How long the branches of runs that ended without publishing are kept to look at; at least 1d.",
    )
    keep_inputs: Keep = Field(
        default="30d",
        validate_default=True,
        description="How long the snapshots that a published run read are kept from expiry, for forebay rerun "
        "--as-of; at least 1d.",
    )
