"""Checks connections where tasks run: what the console orders, and what the task of the internal dag does.

Order and answer pass through Airflow's database, where more people can read than may see connections. So both are sealed
with Airflow's Fernet key, and the order names its run: nobody can make one by hand, or use one again.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forebay.connections import doctor
from forebay.connections.model import Connection, Report, Step
from forebay.connections.sealed import Unreadable, seal, unseal
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

log = logging.getLogger(__name__)

# No dot in it: it is no job of a workspace.
DAG_ID = "forebay_check_connections"
TASK = "check"
PATIENCE = 60.0
"""Seconds in which a worker has to begin and end."""
LONGEST = 120.0
_ORDER, _ALLOWED, _TIMEOUT, _AUTHORITIES = "connections", "allowed", "timeout", "authorities"


def order(
    run_id: str, conn_ids: list[str], allowed: list[str], timeout: float, authorities: str
) -> dict[str, str]:
    """The `conf` of the run that is to check these connections. Raises ForebayError where it cannot be sealed.

    `allowed` are the connections that may be used on the way because those name them: rights are not known to a worker.
    """
    sealed = seal(
        {"run": run_id, _ORDER: conn_ids, _ALLOWED: allowed, _TIMEOUT: timeout, _AUTHORITIES: authorities}
    )
    if not sealed:
        raise ForebayError("Airflow has no fernet_key, so that nothing can be handed to a worker in secret.")
    return {"order": sealed}


def check(run_id: str, conf: Mapping[str, Any]) -> str:
    """What the task does: checks what the order names, and gives the sealed reports."""
    try:
        found = unseal(str(conf.get("order") or ""), seconds=int(PATIENCE))
    except Unreadable:
        found = {}
    if found.get("run") != run_id:
        raise ForebayError(
            "This dag is started by Forebay's console, under Connections: only there are your rights looked at. A run "
            f"that comes more than {PATIENCE:g} s late does nothing either."
        )
    where = f"worker on {socket.gethostname()}"
    known = {conn_id: _seen(conn_id) for conn_id in found[_ORDER]}
    reports = [_unknown(conn_id, where) for conn_id, each in known.items() if each is None]
    allowed = frozenset(found.get(_ALLOWED) or ())
    events = doctor.check_all(
        [each for each in known.values() if each is not None], timeout=float(found[_TIMEOUT]), where=where,
        lookup=lambda conn_id: _seen(conn_id) if conn_id in allowed else None, authorities=str(found[_AUTHORITIES]),
    )  # fmt: skip
    reports += [event.report for event in events if event.report]
    log.info("%d connections checked; Forebay's console has the results", len(reports))
    return seal({"reports": [replace(each, side="worker").document() for each in reports]})


def answer(sealed: str) -> list[Report]:
    """The reports in a task's answer. Raises Unreadable."""
    return [Report.from_document(each) for each in unseal(sealed)["reports"]]


def _seen(conn_id: str) -> Connection | None:
    """A connection as tasks get it: from the worker's secrets backend and environment, or from Airflow."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found: AirflowConnection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
    return Connection.of(
        conn_id, str(found.conn_type or ""), host=found.host, port=found.port, schema=found.schema, login=found.login,
        password=found.password, extra=found.extra,
    )  # fmt: skip


def _unknown(conn_id: str, where: str) -> Report:
    step = Step(
        "find", "Find the connection", "bad", 0.0, f"tasks find no connection '{conn_id}'",
        "The API server has it, perhaps from its own environment or secrets backend. Give the workers the same, or store it "
        "in Airflow.",
    )  # fmt: skip
    return replace(doctor.not_checked(conn_id, step, where), side="worker")
