"""What shows more about a component that is not well: a command of the embedded stack, or kubectl and a runbook."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forebay_ui.component import Component

RUNBOOKS = "docs/runbooks/"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class _Help:
    service: str
    """The process of the embedded stack that it is."""
    kubectl: str
    runbook: str


def _airflow(name: str) -> _Help:
    return _Help(name, f"get pods -l tier=airflow,component={name}", "lose-a-node.md")


def _pods(service: str, name: str, runbook: str, verb: str = "get pods") -> _Help:
    return _Help(service, f"{verb} -l app.kubernetes.io/name={name}", runbook)


HELP = {
    "API server": _airflow("api-server"),
    "Scheduler": _airflow("scheduler"),
    "Dag processor": _airflow("dag-processor"),
    "Triggerer": _airflow("triggerer"),
    "Airflow's database": _Help(
        "postgres", "get cluster forebay-postgres", "lose-a-node.md#a-server-of-postgresql"
    ),
    "Catalog": _pods("store", "lakekeeper", "lose-the-catalog.md"),
    "Store": _pods("store", "seaweedfs", "lose-a-node.md#a-storage-server"),
    "Lens": _pods("lens", "lens", "lose-a-node.md#the-lens", "describe pods"),
    "SQL engine": _pods("trino", "trino", "lose-a-node.md"),
    "Spark": _pods("", "spark-operator", "lose-a-node.md"),
}


def helped(component: Component, running: Mapping[str, Any] | None) -> Component:
    """With what to do. `running` are the processes of the embedded stack, None where this is none."""
    known = HELP[component.name]
    if running is not None:
        # Without Trino the SQL engine is no process.
        service = known.service if known.service != "trino" or "trino" in running else ""
        remedy = f"forebay logs {service}" if service else "forebay doctor"
        return replace(component, service=service, remedy=remedy if _ill(component) else "")
    if not _ill(component):
        return component
    if component.word == "not set up":
        return replace(component, runbook=f"{RUNBOOKS}install.md")
    remedy = f"kubectl -n {_namespace()} {known.kubectl}"
    return replace(component, remedy=remedy, runbook=f"{RUNBOOKS}{known.runbook}")


def _ill(component: Component) -> bool:
    return component.state in ("warn", "bad")


def _namespace() -> str:
    # Only a pod has it; elsewhere it is the runbooks' own.
    if "KUBERNETES_SERVICE_HOST" in os.environ and _NAMESPACE.is_file():
        return _NAMESPACE.read_text().strip()
    return "forebay"
