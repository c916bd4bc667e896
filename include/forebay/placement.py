"""Where a workspace's work goes on a platform: its pool and executor in Airflow, its namespace on Kubernetes, its priority
and nodes.

The chart tells Airflow's pods, in FOREBAY_WORKSPACES; on one machine nobody does, and nothing is placed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from forebay.errors import ForebayError


class PlacementError(ForebayError):
    """FOREBAY_WORKSPACES is not what the chart writes."""


@dataclass(frozen=True)
class Placement:
    """Where the work of one workspace goes."""

    namespace: str
    pool: str = ""
    """Airflow's pool of its tasks; empty for Airflow's own."""
    executor: str = ""
    """Airflow's executor of its tasks; empty for the first of those that Airflow has."""
    priority_class: str = ""
    """Kubernetes' priority class of its pods; empty for the cluster's own."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that its pods may run on."""


def placement(workspace: str, environ: Mapping[str, str] | None = None) -> Placement:
    """Where a workspace's work goes; a workspace that the platform does not name has a namespace only."""
    said = _said((os.environ if environ is None else environ).get("FOREBAY_WORKSPACES", ""))
    own = said.get(workspace, {})
    nodes = own.get("nodeSelector") or {}
    if not isinstance(nodes, dict):
        raise PlacementError(f"FOREBAY_WORKSPACES: nodeSelector of {workspace} is no mapping of labels.")
    return Placement(
        namespace=str(own.get("namespace") or f"forebay-{workspace.replace('_', '-')}"),
        pool=str(own.get("pool") or ""),
        executor=str(own.get("executor") or ""),
        priority_class=str(own.get("priorityClass") or ""),
        node_selector={str(name): str(value) for name, value in nodes.items()},
    )


@lru_cache(maxsize=4)
def _said(text: str) -> dict[str, dict[str, object]]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise PlacementError(
            "FOREBAY_WORKSPACES is no JSON object with one object for each workspace. It comes from the ConfigMap "
            "forebay-workspaces, which forebay platform --only forebay writes."
        )
    return found
