"""Whether the stack's services are well, asked of the services themselves."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import httpx
import psutil

from forebay.stack import supervisor
from forebay.stack.layout import Stack
from forebay.stack.services import AIRFLOW, names, services
from forebay.stack.trino_access import certificate

_HEALTH_NAMES = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


@dataclass(frozen=True)
class ServiceStatus:
    """One service: `state` is up, starting, down or failed; memory in bytes (PSS of its whole process tree)."""

    name: str
    state: str
    health: str
    pid: int | None
    port: int | None
    memory: int
    since: str | None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def status(stack: Stack) -> list[ServiceStatus]:
    """Every service with its port, memory and health."""
    states = supervisor.processes(stack)
    bad = unhealthy(stack) if states else dict.fromkeys(names(stack), "not running")
    result = []
    for service in services(stack):
        process = states.get(service.name)
        alive = process is not None and process.state in ("RUNNING", "STARTING", "STOPPING")
        port = stack.ports[service.port] if service.port else None
        if process is None or process.state in ("STOPPED", "EXITED"):
            state = "down"
        elif process.state in ("FATAL", "BACKOFF"):
            state = "failed"
        else:
            state = "starting" if service.name in bad else "up"
        result.append(
            ServiceStatus(
                service.name,
                state,
                bad.get(service.name, "healthy"),
                process.pid if process and alive else None,
                port,
                tree_memory(process.pid) if process and alive else 0,
                datetime.fromtimestamp(process.since).astimezone().isoformat() if process and alive else None,
            )
        )
    return result


def unhealthy(stack: Stack, among: Sequence[str] | None = None) -> dict[str, str]:
    """The services, all or those of `among`, that are not well, with the reason."""
    states = supervisor.processes(stack)
    asked = names(stack) if among is None else among
    reasons: dict[str, str] = {}
    for name in asked:
        process = states.get(name)
        if process is None or process.state != "RUNNING":
            reasons[name] = (process.detail or process.state.lower()) if process else "not running"
    for service in services(stack):
        # Another program may answer on its port: nothing is believed of it, and no password is sent to it.
        port = stack.ports[service.port] if service.port else 0
        name = service.name
        if port and name in asked and name not in reasons and not _listens(states[name], port):
            reasons[name] = f"does not listen on port {port} yet"
    with httpx.Client(timeout=5, trust_env=False) as client:
        for name, ask in _ASKED.items():
            if name in asked and name not in reasons and (reason := ask(client, stack)):
                reasons[name] = reason
        airflow = [name for name in AIRFLOW if name in asked and name not in reasons]
        if airflow and not _listens(states.get("api-server"), stack.ports["airflow"]):
            reasons.update(dict.fromkeys(airflow, "the API server does not listen yet"))
        elif airflow:
            reasons.update(_airflow(client, stack, airflow, states))
    return reasons


def _store(client: httpx.Client, stack: Stack) -> str | None:
    form = {
        "grant_type": "client_credentials",
        "client_id": stack.secrets["access_key"],
        "client_secret": stack.secrets["secret_key"],
        "scope": "catalog",
    }
    try:
        token = client.post(f"{stack.url('catalog')}/v1/oauth/tokens", data=form)
        if token.is_error:
            return f"the catalog refused our key (HTTP {token.status_code})"
        header = {"authorization": f"Bearer {token.json()['access_token']}"}
        answer = client.get(
            f"{stack.url('catalog')}/v1/config", params={"warehouse": "warehouse"}, headers=header
        )
        if answer.is_error:
            return f"the catalog does not know its warehouse (HTTP {answer.status_code})"
        client.get(stack.url("s3"))
    except httpx.HTTPError as error:
        return f"does not answer yet ({type(error).__name__})"
    return None


def _lens(client: httpx.Client, stack: Stack) -> str | None:
    try:
        answer = client.get(f"{stack.url('lens')}/health")
        return None if answer.is_success else str(answer.json().get("status"))
    except (httpx.HTTPError, ValueError) as error:
        return f"does not answer yet ({type(error).__name__})"


def _trino(_client: httpx.Client, stack: Stack) -> str | None:
    try:
        # It is trusted by its own certificate, and nothing else is by that.
        trusted = ssl.create_default_context(cafile=str(certificate(stack)))
        answer = httpx.get(f"{stack.url('trino')}/v1/info", verify=trusted, timeout=5, trust_env=False)
        return "is still starting" if answer.is_error or answer.json().get("starting") else None
    except (httpx.HTTPError, OSError, ValueError) as error:
        return f"does not answer yet ({type(error).__name__})"


def _postgres(_client: httpx.Client, stack: Stack) -> str | None:
    import psycopg2

    from forebay.stack.services import database_url

    try:
        psycopg2.connect(database_url(stack, "postgresql"), connect_timeout=3).close()
    except psycopg2.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return None


_ASKED = {"store": _store, "postgres": _postgres, "lens": _lens, "trino": _trino}


def _airflow(
    client: httpx.Client, stack: Stack, names: Sequence[str], states: dict[str, supervisor.Process]
) -> dict[str, str]:
    try:
        answer = client.get(f"{stack.url('airflow')}/api/v2/monitor/health").raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return {name: f"the API server does not answer ({type(error).__name__})" for name in names}
    reasons = {}
    for name in names:
        if name == "api-server":
            continue
        part = answer.get(_HEALTH_NAMES[name], {})
        beat = part.get(f"latest_{_HEALTH_NAMES[name]}_heartbeat")
        # A heartbeat from before this start belongs to the process that was there earlier.
        if part.get("status") != "healthy":
            reasons[name] = f"Airflow says {part.get('status') or 'unknown'}"
        elif beat is None or datetime.fromisoformat(beat).timestamp() < states[name].since - 1:
            reasons[name] = "no heartbeat since it started"
    return reasons


def _listens(process: supervisor.Process | None, port: int) -> bool:
    """Whether a supervised process, or one below it, listens on a port."""
    if process is None or not process.pid:
        return False
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        for member in (parent, *parent.children(recursive=True)):
            for connection in member.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


def tree_memory(pid: int) -> int:
    """Memory in bytes of a process and its descendants, shared pages in proportion (PSS)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_full_info().pss
    return total


def log_tail(stack: Stack, name: str, lines: int) -> str:
    """The last lines of a service's log."""
    try:
        text = (stack.logs / f"{name}.log").read_text(errors="replace")
    except OSError:
        return "(no log yet)"
    return "\n".join(text.splitlines()[-lines:])
