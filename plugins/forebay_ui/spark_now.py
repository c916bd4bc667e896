"""Asks Kubernetes how the Spark application of a task stands: whether its driver waits for room, or for the operator."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from forebay.connections import network
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.types import kubernetes
from forebay.engines.spark_application import GROUP, LABEL, PLURAL, VERSION, selector
from forebay.engines.spark_reasons import state_of, waiting
from forebay.lake.identity import TaskTry
from forebay.lake.rest import trust
from forebay.placement import placement

_PATIENCE = 2.0
_QUEUES = ("no node takes its driver", "the Spark operator has not taken it up")
"""How the reasons begin that are a queue; others need somebody, such as an image that is not there."""


def application_now(found: Connection, who: TaskTry) -> tuple[str, str] | None:
    """How the newest application of a task stands, and what that is taken from. None where there is none to ask about."""
    try:
        access = kubernetes.access_of(found, found.host)
        verify = network.trusting(access.authorities) if access.authorities else trust(access.server)
    except (Wrong, OSError, ValueError):
        # Its login is a program's or in a file, which nobody opens because a connection says so.
        return None
    namespace = str(found.extra.get("namespace") or placement(who.workspace).namespace)
    with httpx.Client(
        base_url=access.server, verify=verify, timeout=_PATIENCE, trust_env=False,
        headers={"authorization": f"Bearer {access.token}"} if access.token else {},
    ) as client:  # fmt: skip
        try:
            asked = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
            there = _items(client, asked, selector(who))
            if not there:
                return None
            application = max(there, key=lambda each: int(each["metadata"]["labels"][f"{LABEL}try"]))
            name = str(application["metadata"]["name"])
            pods = _items(
                client, f"/api/v1/namespaces/{namespace}/pods", f"sparkoperator.k8s.io/app-name={name}"
            )
        except httpx.HTTPStatusError as error:
            return "Kubernetes does not tell", f"{namespace}: HTTP {error.response.status_code}"
        except httpx.HTTPError as error:
            return "Kubernetes does not answer", f"{access.server}: {type(error).__name__}"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "What answers is no Kubernetes", access.server
    try:
        made = datetime.fromisoformat(str(application["metadata"]["creationTimestamp"]))
        reason = waiting(application, pods, (datetime.now(UTC) - made).total_seconds())
        state = "queued" if reason.startswith(_QUEUES) else state_of(application).lower().replace("_", " ")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "What answers is no Kubernetes", access.server
    return f"Spark: {state}", f"application {name} in {namespace}{f': {reason}' if reason else ''}"


def _items(client: httpx.Client, path: str, chosen: str) -> list[Mapping[str, Any]]:
    answer = client.get(path, params={"labelSelector": chosen})
    answer.raise_for_status()
    return list(answer.json()["items"])
