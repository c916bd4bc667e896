"""Who did what in the console, in Airflow's own audit log: written here, and read for the audit page."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.log import Log
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi import HTTPException
from sqlalchemy import ColumnElement, and_, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from forebay_ui.auth import Visitor

OURS = "forebay."
"""What every event of the console's own begins with."""

HIDDEN = "forebay:query"
"""In place of a dag's id, for what is nobody's event: no dag can have it, so neither Airflow nor this page shows the row."""

_NOT_PEOPLE = frozenset(str(state.value) for state in TaskInstanceState) | {
    "state mismatch",
    "heartbeat timeout",
    "stuck in queued reschedule",
    "stuck in queued tries exceeded",
    "cli_api_server",
    "cli_scheduler",
    "cli_dag_processor",
    "cli_triggerer",
}
"""Events that Airflow notes itself, of tasks and of its own processes: nobody did them."""
_NAMES = ("connection_id", "conn_id", "conn_type", "action", "key", "variable_key", "name", "pool_name")
"""What is shown of the body of a request about connections, variables or pools; never a value."""
_BATCH = 500
_PATIENCE = 15
"""Seconds for one look into the log, of which there may be years."""
_STOPPED = "57014"
"""What PostgreSQL calls a statement whose time was over."""
KINDS = {
    "people": "what people did",
    "console": "in the lake's pages",
    "runs": "runs and tasks",
    "connections": "connections, variables, pools",
    "all": "everything, tasks too",
}


@dataclass(frozen=True)
class Wanted:
    """Which events are asked for."""

    kind: str = "people"
    who: str = ""
    event: str = ""
    job: str = ""
    about: str = ""
    """A text in the details, such as a table's or a connection's name."""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Only those with a smaller number: the page after."""


@dataclass(frozen=True)
class Happened:
    """One row of the audit log."""

    number: int
    at: float
    """In seconds since 1970."""
    who: str
    event: str
    job: str
    run: str
    task: str
    details: str
    """JSON, as it was noted; Airflow and the console leave secrets out of it."""

    @property
    def ours(self) -> bool:
        return self.event.startswith(OURS)

    @property
    def known(self) -> dict[str, Any]:
        """The details by name; nothing where they are not a JSON object."""
        try:
            found = json.loads(self.details)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def record(
    who: Visitor, event: str, *, workspace: str = "", job: str = "", run: str = "", **details: object
) -> None:
    """Notes what somebody does in the console. `details` are names and numbers: never text that could be secret.

    With a `job`, Airflow shows the row to those who may see that job; without one to everybody who may see the
    audit log at all. The audit page also looks at the workspace; what is about none it shows to admins.
    """
    with create_session() as session:
        session.add(row(who, event, workspace=workspace, job=job, run=run, **details))


def row(
    who: Visitor, event: str, *, workspace: str = "", job: str = "", run: str = "", **details: object
) -> Log:
    """What `record` notes, for a session that has more to write."""
    kept = {"workspace": workspace, **{name: value for name, value in details.items() if value is not None}}
    made = Log(
        event=f"{OURS}{event}"[:60],
        owner=str(who.user.get_id()),
        owner_display_name=who.name,
        extra=json.dumps(kept, sort_keys=True, default=str),
    )
    made.dag_id, made.run_id = job or None, run or None
    return made


def events(who: Visitor, wanted: Wanted, limit: int) -> Iterator[Happened]:
    """What the visitor may see of it, newest first: Airflow's rules, and of the console's events their workspaces."""
    before, given = wanted.before, 0
    while given < limit:
        rows = _rows(who, wanted, before)
        for row in rows:
            if _visible(who, row):
                yield row
                given += 1
                if given == limit:
                    return
        if len(rows) < _BATCH:
            return
        before = rows[-1].number


@contextmanager
def _briefly() -> Iterator[Session]:
    """A session whose statements end after some seconds: a text is looked for in every event there is."""
    with create_session() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SET LOCAL statement_timeout = {_PATIENCE * 1000}"))
        try:
            yield session
        except DBAPIError as error:
            if _STOPPED not in (getattr(error.orig, "pgcode", ""), getattr(error.orig, "sqlstate", "")):
                raise
            session.rollback()
            raise HTTPException(
                503,
                f"Looking through the audit log took longer than {_PATIENCE} s. Ask for fewer days, or for one job.",
            ) from None


def _rows(who: Visitor, wanted: Wanted, before: int | None) -> list[Happened]:
    with _briefly() as session:
        query = select(Log).where(*_conditions(who, wanted, before)).order_by(Log.id.desc()).limit(_BATCH)
        return [
            Happened(
                row.id,
                row.dttm.timestamp() if row.dttm else 0.0,
                row.owner_display_name or row.owner or "",
                row.event,
                row.dag_id or "",
                row.run_id or "",
                row.task_id or "",
                _named(row.event, row.extra or ""),
            )
            for row in session.scalars(query)
        ]


def _conditions(who: Visitor, wanted: Wanted, before: int | None) -> list[ColumnElement[bool]]:
    # Those of jobs that Airflow has forgotten are looked at one by one.
    forgotten = and_(Log.dag_id != HIDDEN, Log.dag_id.not_in(select(DagModel.dag_id)))
    found: list[ColumnElement[bool]] = [
        or_(Log.dag_id.in_(sorted(who.jobs)), Log.dag_id.is_(None), forgotten)
    ]
    match wanted.kind:
        case "console":
            found.append(Log.event.startswith(OURS, autoescape=True))
        case "runs":
            found += [Log.dag_id.is_not(None), Log.event.not_in(_NOT_PEOPLE)]
        case "connections":
            found.append(
                or_(
                    *(
                        Log.event.contains(word, autoescape=True)
                        for word in ("connection", "variable", "pool")
                    )
                )
            )
        case "people":
            found.append(Log.event.not_in(_NOT_PEOPLE))
    if wanted.who:
        found.append(or_(Log.owner == wanted.who, Log.owner_display_name == wanted.who))
    if wanted.event:
        found.append(Log.event == wanted.event)
    if wanted.job:
        found.append(Log.dag_id == wanted.job)
    if wanted.about:
        found.append(Log.extra.icontains(wanted.about, autoescape=True))
    if wanted.since is not None:
        found.append(Log.dttm >= wanted.since)
    if wanted.until is not None:
        found.append(Log.dttm < wanted.until)
    if before is not None:
        found.append(Log.id < before)
    return found


def _named(event: str, details: str) -> str:
    """The details; of a connection or variable only its name, whatever Airflow has left of the rest."""
    if event.startswith(OURS) or not any(word in event for word in ("connection", "variable", "pool")):
        return details
    try:
        return json.dumps(_names(json.loads(details)))
    except ValueError:
        return ""


def _names(found: Any) -> Any:
    if isinstance(found, list):
        return [kept for kept in map(_names, found) if kept]
    if not isinstance(found, dict):
        return None
    kept = {name: _names(value) for name, value in found.items() if isinstance(value, dict | list)}
    names = {name: found[name] for name in _NAMES if isinstance(found.get(name), str)}
    return names | {name: value for name, value in kept.items() if value}


def _visible(who: Visitor, row: Happened) -> bool:
    if row.job and row.job not in who.jobs and not who.may("GET", row.job.partition(".")[0]):
        return False
    if not row.ours:
        return True
    if connection := str(row.known.get("connection_id") or ""):
        return who.may_connection("GET", connection)
    workspace = str(row.known.get("workspace") or "")
    return who.may("GET", workspace) if workspace else bool(row.job) or who.sees_all
