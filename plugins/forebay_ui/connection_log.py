"""Results of connection checks, kept in Airflow's audit log: who checked what, when, from where, and how it went.

Whoever may read the audit log sees the outcome. The report itself, with its addresses and names, is encrypted by Airflow's
own key, for those who may see the connection.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import func, select

from forebay.connections.model import Report, Side
from forebay.connections.sealed import Unreadable, seal, unseal
from forebay_ui.auth import Visitor

EVENT = "forebay.connection_check"
_KEPT = 20


@dataclass(frozen=True)
class Result:
    """How a check went, and who asked for it. `report` is None where it cannot be read any more."""

    conn_id: str
    state: str
    step: str
    seconds: float
    at: float
    by: str
    where: str
    side: Side
    report: Report | None

    @property
    def word(self) -> str:
        if self.report is not None:
            return self.report.word
        return "works" if self.state == "ok" else f"failed at: {self.step}"


def keep(who: Visitor, reports: Iterable[Report]) -> None:
    """Notes checks in the audit log."""
    with create_session() as session:
        for report in reports:
            worst = report.worst
            kept = {
                "connection_id": report.conn_id,
                "state": report.state,
                "step": worst.key if worst else "",
                "seconds": round(report.seconds, 3),
                "where": report.where,
                "side": report.side,
                "report": seal(report.document()),
            }
            session.add(
                Log(
                    event=EVENT,
                    # Where the database finds the newest ones without reading all the reports.
                    task_id=report.conn_id,
                    run_id=report.side,
                    owner=str(who.user.get_id()),
                    owner_display_name=who.name,
                    extra=json.dumps(kept),
                )
            )


def newest(conn_ids: Iterable[str]) -> dict[str, dict[Side, Result]]:
    """The last results of each of these connections that was ever checked: one for each side that checked it."""
    last = (
        select(func.max(Log.id))
        .where(Log.event == EVENT, Log.task_id.in_(sorted(conn_ids)))
        .group_by(Log.task_id, Log.run_id)
    )
    found: dict[str, dict[Side, Result]] = {}
    with create_session() as session:
        for row in session.scalars(select(Log).where(Log.id.in_(last))):
            known = _known(row)
            found.setdefault(str(row.task_id), {})[_side(known)] = _result(row, known)
    return found


def history(conn_id: str) -> list[Result]:
    """The last results of one connection, newest first."""
    query = (
        select(Log)
        .where(
            Log.event == EVENT,
            Log.extra.startswith(json.dumps({"connection_id": conn_id})[:-1], autoescape=True),
        )
        .order_by(Log.id.desc())
        .limit(_KEPT)
    )
    with create_session() as session:
        rows = [(row, _known(row)) for row in session.scalars(query)]
        return [_result(row, known) for row, known in rows if known.get("connection_id") == conn_id]


def _known(row: Log) -> dict[str, Any]:
    try:
        found = json.loads(row.extra or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _result(row: Log, known: dict[str, Any]) -> Result:
    return Result(
        str(known.get("connection_id", "")),
        str(known.get("state", "")),
        str(known.get("step", "")),
        float(known.get("seconds") or 0),
        row.dttm.timestamp() if row.dttm else 0.0,
        row.owner_display_name or row.owner or "",
        str(known.get("where", "")),
        _side(known),
        _opened(str(known.get("report") or "")),
    )


def _side(known: dict[str, Any]) -> Side:
    return "worker" if known.get("side") == "worker" else "server"


def _opened(text: str) -> Report | None:
    try:
        return Report.from_document(unseal(text))
    except (Unreadable, TypeError, KeyError):
        # Sealed with a key that is gone, or by another version: the outcome is still there.
        return None
