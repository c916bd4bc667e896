"""Asks the engine of a task that is at work how its work stands there: whether it waits in the engine's queue."""

from urllib.parse import quote

import httpx
from airflow.models import Connection

from forebay.engines.trino_client import Server
from forebay.errors import ForebayError
from forebay.lake.branch import Json
from forebay.lake.identity import TaskTry
from forebay.project import Project
from forebay.stack.dossier import query_of
from forebay.stack.runs import KnownRun
from forebay.stack.story import Step
from forebay.stack.why_run import Engine
from forebay_ui.connections import stored
from forebay_ui.lake import connection
from forebay_ui.owners import root
from forebay_ui.pod_now import pod_now
from forebay_ui.spark_now import application_now
from forebay_ui.visitor_api import VisitorApi

_PATIENCE = 2.0


def engine_of(api: VisitorApi, run: KnownRun) -> Engine:
    """For `why_run.of_run`: asks Trino about the query that a task left word of, Kubernetes about its application or pod."""

    def ask(task: Json) -> tuple[str, str] | None:
        if task["state"] in ("queued", "up_for_retry", "failed"):
            return pod_now(task)
        if task.get("operator_name") == "SparkOperator":
            return _application(run, task)
        query = query_of(api, run, task)
        server = _server(_connection(run, str(task["task_id"]))) if query else None
        if server is None:
            return None
        return query_now(server, query)

    return ask


def query_now(server: Server, query: str) -> tuple[str, str]:
    """How a query stands in Trino, and what that is taken from; whatever answers there."""
    try:
        answer = httpx.get(
            f"{server.address}/v1/query/{query}",
            params={"pruned": "true"},
            headers={"x-trino-user": server.user},
            auth=(server.user, server.password) if server.password else None,
            verify=server.trust(),
            timeout=_PATIENCE,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return "Trino does not answer", f"query {query}: {type(error).__name__}"
    except (OSError, ValueError) as error:
        # The authorities that its connection names.
        return "Trino cannot be asked", f"query {query}: its certificate authorities: {type(error).__name__}"
    if answer.is_error:
        return "Trino no longer knows the query", f"query {query}: HTTP {answer.status_code}"
    try:
        found = answer.json()
        group = ".".join(map(str, found.get("resourceGroupId") or ()))
        waited = str((found.get("queryStats") or {}).get("queuedTime") or "")
        how = f"Trino: {str(found.get('state') or 'unknown').lower()}"
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "What answers is no Trino", f"query {query}: {server.address}"
    return (
        how,
        f"query {query}{f' in the group {group}' if group else ''}{f', queued {waited}' if waited else ''}",
    )


def _application(run: KnownRun, task: Json) -> tuple[str, str] | None:
    named = _connection(run, str(task["task_id"]))
    found = stored(named.conn_id) if named is not None and named.conn_type == "kubernetes" else None
    if found is None:
        return None
    index = f"[{task['map_index']}]" if int(task["map_index"]) >= 0 else ""
    return application_now(found, TaskTry(run.run.job, run.run.run, f"{task['task_id']}{index}"))


def engine_link(run: KnownRun, step: Step) -> tuple[str, str]:
    """What the engine's own page of a task's work is called, and its address; empty where there is none.

    People's browsers may reach it elsewhere than tasks do: `ui` in the extra of a Trino connection says where, and
    `history` in that of a Spark connection where its history server is.
    """
    if step.page:
        return "Spark, live", step.page
    found = _connection(run, step.task) if step.query else None
    if found is None:
        return "", ""
    name = quote(step.query, safe="")
    if found.conn_type == "trino":
        server = _server(found)
        address = _address(found, "ui") or (f"{server.address}/ui" if server else "")
        return "Query in Trino", f"{address}/query.html?{name}" if address else ""
    address = _address(found, "history")
    return "Spark's history", f"{address}/history/{name}/" if address else ""


def _address(found: Connection, name: str) -> str:
    """An address out of a connection's extra; whatever else may stand there, such as javascript:, is no link."""
    said = str(found.extra_dejson.get(name) or "").rstrip("/")
    return said if said.startswith(("https://", "http://")) else ""


def _connection(run: KnownRun, task: str) -> Connection | None:
    """The connection on which a task's work is done; None where none is known any more."""
    workspace, _, name = run.run.job.partition(".")
    try:
        job = Project(root()).load_job(workspace, name)
        spec = next((each for each in job.spec.tasks if each.key == task), None)
        usual = job.workspace.spec.connections
        named = usual.spark if getattr(spec, "type", "") == "spark" else usual.sql
        return connection(getattr(spec, "conn_id", None) or named)
    except ForebayError:
        return None


def _server(found: Connection | None) -> Server | None:
    """The Trino of a connection; None where it is another engine's."""
    if found is None or found.conn_type != "trino":
        return None
    try:
        return Server.from_connection(found.host, found.port, found.login, found.password, found.extra_dejson)
    except ForebayError:
        return None
