"""Results of connection checks, kept in Airflow's audit log: who checked what, when, from where, and how it went.

Whoever may read the audit log sees the outcome. The report itself, with its addresses and names, is encrypted by Airflow's
own key, for those who may see the connection.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow.models.crypto import get_fernet
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import select

from forebay.connections.model import Report
from forebay_ui.auth import Visitor

EVENT = "forebay.connection_check"
_RECENT = 2000
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
                "report": _sealed(report),
            }
            session.add(
                Log(
                    event=EVENT,
                    owner=str(who.user.get_id()),
                    owner_display_name=who.name,
                    extra=json.dumps(kept),
                )
            )


def newest(conn_ids: Iterable[str]) -> dict[str, Result]:
    """The last result of each of these connections that was checked of late."""
    asked, found = set(conn_ids), dict[str, Result]()
    query = select(Log).where(Log.event == EVENT).order_by(Log.id.desc()).limit(_RECENT)
    with create_session() as session:
        for row in session.scalars(query):
            known = _known(row)
            conn_id = str(known.get("connection_id", ""))
            if conn_id in asked and conn_id not in found:
                found[conn_id] = _result(row, known)
                if len(found) == len(asked):
                    break
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
        _opened(str(known.get("report") or "")),
    )


def _sealed(report: Report) -> str:
    fernet = get_fernet()
    if not fernet.is_encrypted:
        return ""
    packed = zlib.compress(json.dumps(report.document()).encode())
    return fernet.encrypt(b64encode(packed)).decode()


def _opened(text: str) -> Report | None:
    if not text:
        return None
    try:
        packed = b64decode(get_fernet().decrypt(text))
        return Report.from_document(json.loads(zlib.decompress(packed)))
    except Exception:  # noqa: BLE001 - sealed with a key that is gone, or by another version: the outcome is still there
        return None
