"""Trino's resource groups and session limits, made from the limits in each workspace.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.engines.trino import SOURCE
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from forebay.spec.workspace import Limits

_QUEUED = 1000
_INTERACTIVE = 4


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


def resource_groups(limits: Mapping[str, Limits], reader: str) -> dict[str, Any]:
    """Content of the file of Trino's resource groups: `batch` with a group for each workspace and job, `interactive`.

    A job has as many queries at work at once as it may have tasks. People's queries wait for no job's. `reader` is a
    user who asks for people only, whatever it says of itself.
    """
    workspaces = [
        _group(
            name,
            limit.max_concurrent_tasks * limit.max_concurrent_runs,
            [_group("${job}", limit.max_concurrent_tasks)],
        )
        for name, limit in sorted(limits.items())
    ]
    selectors = [
        {"source": rf"{SOURCE}{name}\.(?<job>[^.]+)", "group": f"forebay.batch.{name}.${{job}}"}
        for name in sorted(limits)
    ]
    return {
        "rootGroups": [
            {
                **_group("forebay", 1000),
                "schedulingPolicy": "weighted_fair",
                "subGroups": [
                    {**_group("interactive", _INTERACTIVE), "schedulingWeight": 3},
                    {**_group("batch", 1000, workspaces), "schedulingWeight": 1},
                ],
            }
        ],
        "selectors": [
            {"user": re.escape(reader), "group": "forebay.interactive"},
            *selectors,
            {"group": "forebay.interactive"},
        ],
    }


def session_limits(limits: Mapping[str, Limits]) -> list[dict[str, Any]]:
    """Content of the file of Trino's session properties: no query of a job runs longer than a run of it may."""
    return [
        {
            "group": rf"forebay\.batch\.{name}\..*",
            "sessionProperties": {"query_max_run_time": _duration(limit.timeout)},
        }
        for name, limit in sorted(limits.items())
        if limit.timeout is not None
    ]


def _group(name: str, running: int, subgroups: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    group: dict[str, Any] = {
        "name": name,
        "softMemoryLimit": "100%",
        "hardConcurrencyLimit": running,
        "maxQueued": _QUEUED,
    }
    return {**group, "subGroups": subgroups} if subgroups else group


def _duration(value: timedelta) -> str:
    return f"{max(1, int(value.total_seconds()))}s"
