"""Trino's resource groups and session limits: here from the limits in each workspace.yaml, in the chart from its values.

Both have this one shape: helm/forebay/templates/trino.yaml makes the same of the same shares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.engines.trino import SOURCE
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from forebay.spec.workspace import Limits

_MOST = 1000
_QUEUED = 1000
_INTERACTIVE = 4


@dataclass(frozen=True)
class Share:
    """What a workspace's jobs may take of Trino at most."""

    queries: int
    """Queries that run at once."""
    queued: int = _QUEUED
    """Queries that wait at most, before others are refused."""
    job_queries: int | None = None
    """Queries of one job that run at once; as many as of the workspace where it is None."""
    memory_percent: int = 100
    """Of Trino's memory: with more in use no further query begins."""
    weight: int = 1
    """How often it is its turn, against other workspaces."""
    max_run_time: str = ""
    """Longest time of one query, with its wait, as Trino writes it: 2h."""
    max_memory: str = ""
    """Most memory of one query on all nodes together: 20GB."""


def limits_of(root: Path) -> dict[str, Limits]:
    """The limits of each workspace of a repository; one whose workspace.yaml has a mistake is left out."""
    from forebay.project import Project

    project = Project(root)
    found = {}
    for name in project.workspace_names():
        try:
            found[name] = project.load_workspace_file(name).spec.limits
        except (ForebayError, OSError):
            # Its jobs do not load either, and `forebay check` says why.
            continue
    return found


def shares(limits: Mapping[str, Limits]) -> dict[str, Share]:
    """What each workspace.yaml lets its jobs take: a job has as many queries at work at once as it may have tasks."""
    return {
        name: Share(
            queries=limit.max_concurrent_tasks * limit.max_concurrent_runs,
            job_queries=limit.max_concurrent_tasks,
            max_run_time="" if limit.timeout is None else _duration(limit.timeout),
        )
        for name, limit in limits.items()
    }


def resource_groups(
    given: Mapping[str, Share], reader: str, interactive: int = _INTERACTIVE
) -> dict[str, Any]:
    """Content of the file of Trino's resource groups: `batch` with a group for each workspace and job, `interactive`.

    People's queries, of which `interactive` run at once, wait for no job's. `reader` is a user who asks for people only,
    whatever it says of itself.
    """
    workspaces = [
        {
            **_group(name, share.queries, share.queued, share.memory_percent),
            "schedulingWeight": share.weight,
            "subGroups": [_group("${job}", share.job_queries or share.queries, share.queued)],
        }
        for name, share in sorted(given.items())
    ]
    batch = {**_group("batch", _MOST), "schedulingWeight": 1, "schedulingPolicy": "weighted_fair"}
    people = {**_group("interactive", interactive), "schedulingWeight": 3}
    return {
        "rootGroups": [
            {
                **_group("forebay", _MOST),
                "schedulingPolicy": "weighted_fair",
                "subGroups": [people, {**batch, "subGroups": workspaces} if workspaces else batch],
            }
        ],
        "selectors": [
            {"user": re.escape(reader), "group": "forebay.interactive"},
            *(
                {"source": rf"{SOURCE}{name}\.(?<job>[^.]+)", "group": f"forebay.batch.{name}.${{job}}"}
                for name in sorted(given)
            ),
            {"group": "forebay.interactive"},
        ],
    }


def session_limits(given: Mapping[str, Share]) -> list[dict[str, Any]]:
    """Content of the file of Trino's session properties: how long a query of a workspace's jobs runs, how big it gets."""
    found = []
    for name, share in sorted(given.items()):
        properties = {"query_max_run_time": share.max_run_time, "query_max_memory": share.max_memory}
        if said := {key: value for key, value in properties.items() if value}:
            found.append({"group": rf"forebay\.batch\.{name}\..*", "sessionProperties": said})
    return found


def _group(name: str, running: int, queued: int = _QUEUED, percent: int = 100) -> dict[str, Any]:
    return {
        "name": name,
        "softMemoryLimit": f"{percent}%",
        "hardConcurrencyLimit": running,
        "maxQueued": queued,
    }


def _duration(value: timedelta) -> str:
    return f"{max(1, int(value.total_seconds()))}s"
