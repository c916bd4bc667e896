"""Airflow's connections as the doctor takes them, and which of them a visitor may see or check."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow.models.connection import Connection as AirflowConnection
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from forebay.connections import doctor
from forebay.connections.model import Connection, Report, Side
from forebay.connections.named import Use, named
from forebay.connections.types.duckdb import names_catalog
from forebay.project import Project
from forebay_ui import lake
from forebay_ui.auth import Visitor, team_of
from forebay_ui.connection_log import Result, keep, newest
from forebay_ui.owners import root
from forebay_ui.worker_checks import from_worker

log = logging.getLogger(__name__)

Origin = Literal["airflow", "outside", "missing"]
FROM: dict[Side, str] = {"server": "from the API server", "worker": "from a worker"}
BOTH: tuple[Side, ...] = ("server", "worker")

_WORST = ("bad", "warn", "ok")
_FRESH = 5.0
_ENVIRONMENT = "AIRFLOW_CONN_"
_ENGINES = ("duckdb", "spark")
"""Types whose check uses another connection: the catalog's that they name."""
_ROUNDS = threading.BoundedSemaphore(4)


@dataclass(frozen=True)
class Known:
    """A connection of the list: one that Airflow stores, one from the environment or a secrets backend, or a missing one."""

    conn_id: str
    conn_type: str
    title: str
    about: str
    origin: Origin
    uses: tuple[Use, ...]
    sides: Mapping[Side, Result]
    """The last result from each side that has checked it."""
    may_check: bool

    @property
    def last(self) -> Result | None:
        """The result to look at first: the worse one, and of equals that from where tasks run."""
        return min(
            self.sides.values(),
            key=lambda each: (_WORST.index(each.state), each.side != "worker"),
            default=None,
        )

    @property
    def differs(self) -> bool:
        """Whether it works on one side and not on the other."""
        return len({each.state == "bad" for each in self.sides.values()}) > 1

    @property
    def state(self) -> tuple[str, str]:
        """As a class and a word."""
        if self.origin == "missing":
            return "bad", "missing"
        if self.last is None:
            return "", "not checked yet"
        word = f"{FROM[self.last.side]}: {self.last.word}" if self.differs else self.last.word
        return self.last.state, word

    @property
    def jobs(self) -> list[str]:
        return sorted({use.job for use in self.uses if use.job})


def where() -> str:
    """Where checks of the console run."""
    return f"API server on {socket.gethostname()}"


def stored(conn_id: str) -> Connection | None:
    """A connection with its secrets, from wherever Airflow keeps it, a team's too: for those who may see it."""
    found = lake.connection(conn_id, team_of(conn_id))
    return None if found is None else _taken(found)


def known(who: Visitor) -> list[Known]:
    """All connections the visitor may see, problems first; and missing ones that jobs they may see name."""
    uses = {
        conn_id: tuple(use for use in each if who.may("GET", use.workspace))
        for conn_id, each in _jobs_name().items()
    }
    rows = {each.conn_id: each for each in _rows(who)}
    outside = {
        name.removeprefix(_ENVIRONMENT).lower() for name in os.environ if name.startswith(_ENVIRONMENT)
    }
    wanted, ids, missing = {name for name, each in uses.items() if each}, _all_ids(), set[str]()
    for conn_id in sorted((outside | wanted) - set(rows)):
        may_see = who.may_connection("GET", conn_id)
        if conn_id in ids and not may_see:
            continue
        # One from the environment or a secrets backend is there, also for those who may not see it.
        found = stored(conn_id)
        if found is not None and may_see:
            rows[conn_id] = found
        elif found is None and conn_id in wanted - ids:
            missing.add(conn_id)
    results = newest(rows)
    may = who.may_connection("PUT", "")
    listed = [
        Known(
            conn_id, each.conn_type, doctor.title(each.conn_type), doctor.about(each),
            "outside" if conn_id in outside else "airflow", uses.get(conn_id, ()), results.get(conn_id, {}),
            may or who.may_connection("PUT", conn_id),
        )
        for conn_id, each in rows.items()
    ]  # fmt: skip
    listed += [Known(name, "", "", "", "missing", uses[name], {}, False) for name in missing]
    order = ["bad", "warn", "", "ok"]
    return sorted(listed, key=lambda each: (order.index(each.state[0]), each.conn_id))


def checks(
    who: Visitor,
    connections: list[Connection],
    *,
    timeout: float = doctor.TIMEOUT,
    sides: Sequence[Side] = ("server",),
) -> Iterator[doctor.Event]:
    """Runs checks here, on a worker, or both at the same time: events of the one, then of the other.

    Results are kept under the visitor's name. At most four rounds go on at the same time.
    """
    if not _ROUNDS.acquire(blocking=False):
        raise HTTPException(429, "Others are checking connections just now. Try again in a moment.")
    # For nothing there is no need of a worker.
    sides = sides if connections else ("server",)
    sides_done = count(1)

    def done(reports: list[Report]) -> None:
        if next(sides_done) == len(sides):
            _ROUNDS.release()
        try:
            keep(who, reports)
        except SQLAlchemyError:
            # The answer must reach the page all the same.
            log.exception("The results of %d connection checks were not kept", len(reports))

    given: dict[Side, Iterator[doctor.Event]] = {}
    if "worker" in sides:
        named = {names_catalog(each) for each in connections if each.conn_type in _ENGINES}
        allowed = sorted(conn_id for conn_id in named if who.may_connection("PUT", conn_id))
        given["worker"] = from_worker(who.name, connections, allowed, timeout, _authorities(), done)
    if "server" in sides:
        given["server"] = doctor.check_all(
            connections, timeout=timeout, where=where(), done=done, authorities=_authorities(),
            # Whoever makes a connection of their own may name in it one that is not theirs.
            lookup=lambda conn_id: stored(conn_id) if who.may_connection("PUT", conn_id) else None,
        )  # fmt: skip
    return chain.from_iterable(given[side] for side in sides)


def to_check(who: Visitor, conn_ids: Iterable[str] = ()) -> list[Connection]:
    """Those of the connections that exist and the visitor may check; all by default."""
    asked = list(conn_ids) or [
        each.conn_id for each in known(who) if each.may_check and each.origin != "missing"
    ]
    found = []
    for conn_id in dict.fromkeys(asked):
        if not who.may_connection("PUT", conn_id):
            raise HTTPException(
                403, "Your role in Airflow does not let you check its connections. Ask an admin for it."
            )
        each = stored(conn_id)
        if each is None:
            raise HTTPException(404, f"Airflow has no connection '{conn_id}'.")
        found.append(each)
    return found


def uses_of(who: Visitor, conn_id: str) -> list[Use]:
    """The jobs the visitor may see that name a connection."""
    return [use for use in _jobs_name().get(conn_id, ()) if who.may("GET", use.workspace)]


def _rows(who: Visitor) -> list[Connection]:
    allowed = get_auth_manager().get_authorized_connections(user=who.user, method="GET")
    if not allowed:
        return []
    with create_session() as session:
        return [_taken(row) for row in session.scalars(select(AirflowConnection)) if row.conn_id in allowed]


def _all_ids() -> set[str]:
    with create_session() as session:
        return set(session.scalars(select(AirflowConnection.conn_id)))


def _taken(row: AirflowConnection) -> Connection:
    try:
        password, extra = row.password, row.extra
    except (AirflowException, ValueError):
        # Stored under a key that Airflow no longer has.
        password, extra = None, None
    return Connection.of(
        str(row.conn_id), str(row.conn_type or ""), host=row.host, port=row.port, schema=row.schema,
        login=row.login, password=password, extra=extra,
    )  # fmt: skip


class _Names:
    """What the jobs name, read again in the background when it is older than some seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, list[Use]] = {}
        self._at = 0.0

    def __call__(self) -> dict[str, list[Use]]:
        if not self._at:
            self._read()
        elif time.monotonic() - self._at > _FRESH:
            threading.Thread(target=self._read, name="forebay-named", daemon=True).start()
        return self._found

    def _read(self) -> None:
        with self._lock:
            if time.monotonic() - self._at > _FRESH or not self._at:
                self._found = named(Project(root()))
                self._at = time.monotonic()


_jobs_name = _Names()


@lru_cache(maxsize=1)
def _authorities_file() -> Path | None:
    state = os.environ.get("FOREBAY_MEMBER_OF")
    if not state:
        return None
    from forebay.stack import trino_access
    from forebay.stack.layout import Stack

    return trino_access.certificate(Stack(root(), Path(state)))


def _authorities() -> str:
    """The certificate that the embedded stack made for its own Trino."""
    file = _authorities_file()
    return file.read_text() if file is not None and file.is_file() else ""
