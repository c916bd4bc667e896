"""The worksheet's queries as Airflow remembers them, and the engine they run on.

Who queried which tables is in the audit log for all who may see it. The text and its parameters are in a row of
that log which Airflow itself shows to nobody: the history, for whoever wrote it and for admins.
"""

import atexit
import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from airflow.models.log import Log
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from forebay import sqltext
from forebay.errors import ForebayError
from forebay.query.limits import Limits
from forebay.query.on_trino import server_of
from forebay.query.pool import Pool
from forebay.query.process import Engine, Setup, sweep
from forebay_ui import audit
from forebay_ui.audit import HIDDEN
from forebay_ui.auth import Visitor
from forebay_ui.lake import connection, lake

_EVENT = "forebay.query_text"
_SAVED = "forebay.query."
_TITLE = 80
_LOST = 60.0
_NO_YEAR = 253_402_300_800.0
"""The first second of the year 10000, which is none of a calendar of ours."""
_SLUG = re.compile(r"[^a-z0-9]+")


class NoRight(ForebayError):
    """Their role does not allow it."""


@dataclass(frozen=True)
class Past:
    """A query that somebody ran."""

    id: str
    who: str
    owner: str
    """The user's id, as Airflow knows it."""
    at: float
    workspace: str
    sql: str
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: str = ""
    format: str = "rows"
    tables: tuple[str, ...] = ()
    state: str = "running"
    """running, done, failed, cancelled, or lost where the server went away."""
    rows: int | None = None
    seconds: float | None = None
    error: str = ""
    cap: int = Limits().seconds
    """Seconds after which it is ended."""


@dataclass(frozen=True)
class Saved:
    """A query that a workspace keeps."""

    name: str
    workspace: str
    title: str
    sql: str
    by: str
    at: float


@lru_cache(maxsize=1)
def pool() -> Pool:
    """The processes of this server's queries, and none of those that servers before it left."""
    made = Pool()
    atexit.register(made.close)
    threading.Thread(target=sweep, name="forebay-query-sweep", daemon=True).start()
    return made


def workspaces(who: Visitor) -> list[str]:
    """Where they may query: the workspaces whose jobs they may edit."""
    return [name for name in who.owners.names if who.may("PUT", name)]


def must_query(who: Visitor, workspace: str) -> None:
    """Raises NoRight for a workspace in which they may not query."""
    if not who.may("PUT", workspace):
        raise NoRight(
            f"Your role in Airflow does not let you query in the workspace '{workspace}': that takes the right to edit its "
            "jobs. Ask its owner for it."
        )


def setup(who: Visitor, workspace: str) -> Setup:
    """The engine of a workspace's SQL, on what is published. Raises ForebayError."""
    file = who.owners.files.get(workspace)
    conn_id = file.spec.connections.sql if file is not None else "lake_sql"
    # Two questions to Airflow's database, or whatever keeps its connections, at the same time.
    with ThreadPoolExecutor(1) as beside:
        catalog = beside.submit(lake)
        found = connection(conn_id)
    if found is None:
        raise ForebayError(f"Airflow has no connection '{conn_id}', which names the SQL engine.")
    config, extra = catalog.result().published(), found.extra_dejson
    limits = Limits.from_extra(extra)
    engine: Engine
    if found.conn_type == "duckdb":
        engine, server = "duckdb", {}
    elif found.conn_type == "trino":
        engine, server = "trino", server_of(found.host, found.port, found.login, found.password, extra)
        # Trino has the lake's keys: the query's process needs none.
        config = replace(config, access_key="", secret_key="", client_secret="")
    else:
        raise ForebayError(
            f"connection {conn_id} is of type {found.conn_type}; SQL runs on duckdb and trino. Correct its type in Airflow."
        )
    return Setup(engine, config, limits, server, tuple(sqltext.MACROS) if engine == "duckdb" else ())


def remember(who: Visitor, asked: Past) -> None:
    """Notes a query before anybody gets its rows: in the audit, and with its text in the history, both or neither."""
    noted = audit.row(
        who, "query", workspace=asked.workspace, query=asked.id, engine=asked.engine, tables=list(asked.tables),
        format=asked.format,
    )  # fmt: skip
    text = Log(
        event=_EVENT,
        dag_id=HIDDEN,
        run_id=asked.id,
        owner=asked.owner,
        owner_display_name=asked.who,
        extra=json.dumps(_kept(asked)),
    )
    with create_session() as session:
        session.add_all([noted, text])


def ended(query: str, **result: Any) -> None:
    """Notes how a query ended."""
    with create_session() as session:
        row = session.scalar(select(Log).where(Log.dag_id == HIDDEN, Log.run_id == query))
        if row is not None:
            row.extra = json.dumps({**json.loads(row.extra or "{}"), **result})


def new(who: Visitor, workspace: str, sql: str, **more: Any) -> Past:
    """A query that is about to run."""
    user = str(who.user.get_id())
    return Past(uuid.uuid4().hex[:16], who.name, user, time.time(), workspace, sql, **more)


def history(who: Visitor, everyone: bool = False, words: str = "", limit: int = 50) -> list[Past]:
    """Queries, newest first: their own, or everybody's of the workspaces they read, where they may see that."""
    if everyone and not who.sees_all:
        raise NoRight("Only admins see what others queried.")
    if everyone:
        audit.record(who, "query_history")
    query = select(Log).where(Log.dag_id == HIDDEN, Log.event == _EVENT).order_by(Log.id.desc())
    if not everyone:
        query = query.where(Log.owner == str(who.user.get_id()))
    if words:
        # What is kept is JSON: quotes and line ends of the text are escaped there.
        query = query.where(Log.extra.icontains(json.dumps(words)[1:-1], autoescape=True))
    with create_session() as session:
        # In pieces: how many may be seen, the database cannot know.
        found = map(_past, session.scalars(query.execution_options(yield_per=limit)))
        return list(islice((each for each in found if _sees(who, each)), limit))


def _sees(who: Visitor, one: Past) -> bool:
    return one.owner == str(who.user.get_id()) or (who.sees_all and who.may("GET", one.workspace))


def past(who: Visitor, query: str, event: str = "query_read") -> Past | None:
    """One query of their own, or of anybody where they may see that; None where there is none.

    That somebody looks at another's is noted, as `event`; an empty one leaves that to the caller.
    """
    if "\0" in query:
        return None
    with create_session() as session:
        row = session.scalar(
            select(Log).where(Log.dag_id == HIDDEN, Log.run_id == query, Log.event == _EVENT)
        )
        found = None if row is None else _past(row)
    if found is None or not _sees(who, found):
        return None
    if event and found.owner != str(who.user.get_id()):
        note_others(who, event, found)
    return found


def note_others(who: Visitor, event: str, one: Past) -> None:
    """Notes what somebody does with another's query."""
    audit.record(who, event, workspace=one.workspace, query=one.id, of=one.who)


def save(who: Visitor, workspace: str, title: str, sql: str) -> Saved:
    """Keeps a query for its workspace, in place of one with the same title. Raises ForebayError."""
    title = " ".join(title.split())[:_TITLE]
    name = _SLUG.sub("-", title.lower()).strip("-")
    if not name:
        raise ForebayError(
            "Give the query a name with letters or digits, under which the workspace finds it again."
        )
    if not who.may("PUT", workspace):
        raise NoRight(f"Your role in Airflow does not let you save queries of the workspace '{workspace}'.")
    made = Saved(name, workspace, title, sql, who.name, time.time())
    kept = {"title": made.title, "sql": made.sql, "by": made.by, "at": made.at}
    key = f"{_SAVED}{workspace}.{name}"
    Variable.set(key, json.dumps(kept), description="A query that the SQL page keeps.")
    audit.record(who, "query_saved", workspace=workspace, name=name)
    return made


def saved(who: Visitor, workspace: str) -> list[Saved]:
    """A workspace's queries, by title; none where they may not read it."""
    if not who.may("GET", workspace):
        return []
    begin = f"{_SAVED}{workspace}."
    with create_session() as session:
        rows = session.scalars(select(Variable).where(Variable.key.startswith(begin, autoescape=True)))
        found = [_saved(row.key.removeprefix(begin), workspace, row.val) for row in rows]
    return sorted((each for each in found if each is not None), key=lambda each: each.title.lower())


def forget(who: Visitor, workspace: str, name: str) -> bool:
    """Removes a workspace's query; False where there is none. Raises NoRight."""
    if not who.may("PUT", workspace):
        raise NoRight(f"Your role in Airflow does not let you remove queries of the workspace '{workspace}'.")
    if _SLUG.sub("-", name) != name:
        return False
    with create_session() as session:
        gone = session.execute(delete(Variable).where(Variable.key == f"{_SAVED}{workspace}.{name}"))
        found = bool(getattr(gone, "rowcount", 0))
    if found:
        audit.record(who, "query_removed", workspace=workspace, name=name)
    return found


def _kept(asked: Past) -> dict[str, Any]:
    return {
        "workspace": asked.workspace, "sql": asked.sql, "parameters": asked.parameters, "engine": asked.engine,
        "format": asked.format, "tables": list(asked.tables), "state": asked.state, "cap": asked.cap,
    }  # fmt: skip


def _past(row: Log) -> Past:
    kept = json.loads(row.extra or "{}")
    at = row.dttm.astimezone(UTC).timestamp() if row.dttm else 0.0
    state, cap = str(kept.get("state") or "running"), int(kept.get("cap") or Limits().seconds)
    if state == "running" and datetime.now(UTC).timestamp() - at > cap + _LOST:
        state = "lost"
    return Past(
        str(row.run_id), str(row.owner_display_name or row.owner), str(row.owner), at, str(kept.get("workspace") or ""),
        str(kept.get("sql") or ""), kept.get("parameters") or {}, str(kept.get("engine") or ""),
        str(kept.get("format") or "rows"), tuple(kept.get("tables") or ()), state, kept.get("rows"),
        kept.get("seconds"), str(kept.get("error") or ""), cap,
    )  # fmt: skip


def _saved(name: str, workspace: str, text: str | None) -> Saved | None:
    try:
        kept = json.loads(text or "")
        made = Saved(
            name, workspace, str(kept["title"]), str(kept["sql"]), str(kept["by"]), float(kept["at"])
        )
        return made if 0 <= made.at < _NO_YEAR else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        # Somebody changed it by hand in Airflow's list of variables.
        return None
