"""Asks the engine of a task that is at work how its query stands there: whether it waits in the engine's queue."""

import ssl
from urllib.parse import quote

import httpx

from forebay.engines.trino_client import Server
from forebay.errors import ForebayError
from forebay.lake.branch import Json
from forebay.project import Project
from forebay.stack.dossier import query_of
from forebay.stack.runs import KnownRun
from forebay.stack.why_run import Engine
from forebay_ui.lake import connection
from forebay_ui.owners import root
from forebay_ui.visitor_api import VisitorApi

_PATIENCE = 2.0


def engine_of(api: VisitorApi, run: KnownRun) -> Engine:
    """For `why_run.of_run`: asks Trino about the query that a task left word of."""

    def ask(task: Json) -> tuple[str, str] | None:
        query = query_of(api, run, task)
        server = _server(run, str(task["task_id"])) if query else None
        if server is None:
            return None
        try:
            answer = httpx.get(
                f"{server.address}/v1/query/{query}",
                params={"pruned": "true"},
                headers={"x-trino-user": server.user},
                auth=(server.user, server.password) if server.password else None,
                verify=server.verify if isinstance(server.verify, bool) else _trusting(server.verify),
                timeout=_PATIENCE,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            return "Trino does not answer", f"query {query}: {type(error).__name__}"
        if answer.is_error:
            return "Trino no longer knows the query", f"query {query}: HTTP {answer.status_code}"
        found = answer.json()
        group = ".".join(map(str, found.get("resourceGroupId") or ()))
        waited = str((found.get("queryStats") or {}).get("queuedTime") or "")
        how = f"Trino: {str(found.get('state') or 'unknown').lower()}"
        return (
            how,
            f"query {query}{f' in the group {group}' if group else ''}{f', queued {waited}' if waited else ''}",
        )

    return ask


def engine_link(run: KnownRun, task: str, query: str) -> str:
    """The engine's own page of a task's query; empty where there is none."""
    server = _server(run, task) if query else None
    return f"{server.address}/ui/query.html?{quote(query, safe='')}" if server else ""


def _trusting(file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)


def _server(run: KnownRun, task: str) -> Server | None:
    """The Trino that a task's connection names; None where it runs on something else."""
    workspace, _, name = run.run.job.partition(".")
    try:
        job = Project(root()).load_job(workspace, name)
        named = next((getattr(each, "conn_id", None) for each in job.spec.tasks if each.key == task), None)
        found = connection(named or job.workspace.spec.connections.sql)
        if found is None or found.conn_type != "trino":
            return None
        return Server.from_connection(found.host, found.port, found.login, found.password, found.extra_dejson)
    except ForebayError:
        return None
