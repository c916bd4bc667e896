"""Asks every component of the platform how it is, all at once, each with its own short patience."""

import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from forebay.errors import ForebayError
from forebay.lake.rest import trust
from forebay.stack.airflow_api import AirflowApi, ApiError
from forebay_ui.component import PATIENCE, Component, NotAsked, Starting, Unwell
from forebay_ui.lake import CATALOG, lake
from forebay_ui.owners import root
from forebay_ui.probe_engines import spark, sql
from forebay_ui.remedies import helped

DEADLINE = 3.0
"""After so many seconds a component counts as silent, whatever its probe is doing."""


@dataclass(frozen=True)
class _Probe:
    name: str
    ask: Callable[[], str]
    """Answers with the version; raises when it is not well."""


# Probes that hang keep their thread until their own patience ends, so it is never waited for.
_POOL = ThreadPoolExecutor(24, thread_name_prefix="forebay-probe")
_SEEN: dict[str, tuple[str, float]] = {}
_ORDER = ("bad", "warn", "unknown", "ok")
_PROCESSES = {"scheduler": "Scheduler", "dag_processor": "Dag processor", "triggerer": "Triggerer"}


def components(api: AirflowApi) -> list[Component]:
    """Every component, those with problems first."""
    running = _embedded()
    found = [helped(each, running) for each in (*_airflow(api), *_ask(_probes()))]
    return sorted((_since(each, running or {}) for each in found), key=lambda each: _ORDER.index(each.state))


def _ask(probes: list[_Probe]) -> list[Component]:
    asked = [(probe, _POOL.submit(_one, probe)) for probe in probes]
    wait([future for _, future in asked], timeout=DEADLINE)
    return [
        future.result() if future.done() else _bad(probe, f"no answer within {DEADLINE:.0f} s", "silent")
        for probe, future in asked
    ]


def _one(probe: _Probe) -> Component:
    began = time.monotonic()
    try:
        said = probe.ask()
    except Unwell as error:
        return replace(_bad(probe, str(error), "unwell"), seconds=time.monotonic() - began)
    except Starting as error:
        return Component(probe.name, "warn", "starting", seconds=time.monotonic() - began, detail=str(error))
    except NotAsked as error:
        return Component(probe.name, "unknown", "not asked", detail=str(error))
    except ForebayError as error:
        return _bad(probe, str(error), "not set up")
    except (httpx.TimeoutException, TimeoutError):
        return _bad(probe, f"no answer within {PATIENCE:.0f} s", "silent")
    except httpx.HTTPError as error:
        return _bad(probe, f"cannot be reached: {error}", "down")
    except OSError as error:
        return _bad(probe, f"cannot be reached: {error.strerror or error}", "down")
    except Exception as error:  # noqa: BLE001
        # The border of a component: drivers of databases, engines and secrets backends raise what they like, and one
        # component's trouble must not hide the others. Its text could hold a secret, so only its kind is shown.
        return _bad(probe, type(error).__name__, "broken")
    return Component(probe.name, "ok", "healthy", said, time.monotonic() - began)


def _bad(probe: _Probe, detail: str, word: str) -> Component:
    return Component(probe.name, "bad", word, detail=detail)


def _probes() -> list[_Probe]:
    return [
        _Probe("Airflow's database", _database),
        _Probe("Catalog", _catalog),
        _Probe("Store", _store),
        _Probe("Lens", _lens),
        _Probe("SQL engine", sql),
        _Probe("Spark", spark),
    ]


def _database() -> str:
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        if session.get_bind().dialect.name != "postgresql":
            session.execute(text("SELECT 1"))
            return str(session.get_bind().dialect.name)
        return f"PostgreSQL {str(session.execute(text('SHOW server_version')).scalar()).split()[0]}"


def _catalog() -> str:
    config = lake()
    with _client(config.uri, config.token_uri) as client:
        headers = {}
        if config.token_uri:
            token = client.post(config.token_uri, data=config.login())
            if token.is_error:
                raise Unwell(f"refused the credential of '{CATALOG}' (HTTP {token.status_code})")
            headers["authorization"] = f"Bearer {token.json()['access_token']}"
        answer = client.get(
            f"{config.uri}/v1/config", params={"warehouse": config.warehouse}, headers=headers
        )
    if answer.is_error:
        raise Unwell(f"does not know the warehouse '{config.warehouse}' (HTTP {answer.status_code})")
    return str(answer.headers.get("server", "Iceberg REST"))


def _store() -> str:
    config = lake()
    with _client(config.s3_endpoint) as client:
        answer = client.get(config.s3_endpoint)
    if answer.status_code >= 500:
        raise Unwell(f"answers with HTTP {answer.status_code}")
    # SeaweedFS puts the largest size of its volumes between its name and its version.
    return re.sub(r" \d+GB(?= )", "", str(answer.headers.get("server", "S3")))


def _lens() -> str:
    config = lake()
    if not config.lens:
        raise ForebayError(f"the connection '{CATALOG}' names no lens, so no run can write")
    with _client(config.lens) as client:
        answer = client.get(f"{config.lens}/health")
    if answer.is_error:
        raise Unwell(str(answer.json().get("status") or f"HTTP {answer.status_code}"))
    return f"Forebay {version('forebay')}"


def _client(*addresses: str) -> httpx.Client:
    return httpx.Client(timeout=PATIENCE, verify=trust(*addresses), trust_env=False)


def _airflow(api: AirflowApi) -> list[Component]:
    began = time.monotonic()
    try:
        health = api.get("/monitor/health")
        took, number = time.monotonic() - began, f"Airflow {api.get('/version')['version']}"
    except ApiError as error:
        unsaid = "the API server does not tell"
        return [
            Component("API server", "warn", "unwell", detail=str(error)),
            *(Component(name, "unknown", "not known", detail=unsaid) for name in _PROCESSES.values()),
        ]
    found = [Component("API server", "ok", "healthy", number, took)]
    for key, name in _PROCESSES.items():
        part = health.get(key) or {}
        beat = part.get(f"latest_{key}_heartbeat")
        if part.get("status") == "healthy":
            found.append(Component(name, "ok", "healthy", number, took))
            continue
        at = datetime.fromisoformat(str(beat)) if beat else None
        last = f"last heartbeat {at:%Y-%m-%d %H:%M:%S} UTC" if at else "never seen"
        found.append(Component(name, "bad", "silent", since=at.timestamp() if at else None, detail=last))
    return found


def _embedded() -> Mapping[str, Any] | None:
    """The supervised processes where this is the embedded stack; None elsewhere."""
    state = os.environ.get("FOREBAY_MEMBER_OF")
    if not state:
        return None
    from forebay.stack import supervisor
    from forebay.stack.layout import Stack

    try:
        return supervisor.processes(Stack(root(), Path(state)))
    except (OSError, ForebayError):
        return {}


def _since(component: Component, running: Mapping[str, Any]) -> Component:
    """With when its state began: as its process says, else since when this API server has seen it so."""
    process = running.get(component.service)
    before, at = _SEEN.get(component.name, ("", 0.0))
    if before != component.state:
        at = time.time()
        _SEEN[component.name] = (component.state, at)
    if component.since is not None:
        return component
    if process is None:
        return replace(component, since=at)
    if component.state == "ok":
        return replace(component, since=process.since)
    down = "" if process.state == "RUNNING" else f" Its process is {process.state.lower()}."
    return replace(component, since=at, detail=component.detail + down)
