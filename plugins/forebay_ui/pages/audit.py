"""Who did what, and when?

Airflow's own audit log, of which the console's pages are a part: runs, jobs, connections, tables, queries.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from forebay_ui.audit import KINDS, Happened, Wanted, events, record
from forebay_ui.auth import Visiting, Visitor, audits
from forebay_ui.csvtext import lines
from forebay_ui.html import query, render

TITLE, PLACE = "Audit", 90
Sees = Depends(audits)
router, api = APIRouter(dependencies=[Sees]), APIRouter(dependencies=[Sees])

_PAGE = 100
EXPORT = 50_000
"""Events that one export holds at most."""
DAYS = 90
"""How far back is looked where nobody says from when: the log may hold years."""
_SHOWN = ("connection_id", "conn_id", "query", "to", "from", "workspace")
_ELSEWHERE = ("table", "method", "dag_id", "dag_run_id")
_WORDS = {
    "trigger_dag_run": "started a run",
    "clear_dag_run": "cleared a run",
    "patch_dag_run": "marked a run",
    "delete_dag_run": "deleted a run",
    "post_clear_task_instances": "cleared tasks",
    "patch_task_instance": "marked a task",
    "patch_dag": "paused or unpaused a job",
    "create_backfill": "started a backfill",
    "cancel_backfill": "cancelled a backfill",
    "post_connection": "made a connection",
    "put_connection": "changed a connection",
    "patch_connection": "changed a connection",
    "delete_connection": "deleted a connection",
    "bulk_connections": "changed connections",
    "update_hitl_detail": "answered an approval",
    "forebay.roll_back": "rolled a table back",
    "forebay.publish_run": "published a run",
    "forebay.discard_run": "discarded a run",
    "forebay.rollback_run": "rolled a run back",
    "forebay.rerun_run": "had a run done again",
    "forebay.replay_run": "put quarantined rows back",
    "forebay.compare_run": "looked at what a run changed",
    "forebay.sample": "looked at rows",
    "forebay.compare": "compared two snapshots",
    "forebay.connection_check": "checked a connection",
    "forebay.audit_export": "exported the audit log",
    "forebay.query_history": "looked at everybody's queries",
    "forebay.query_read": "looked at somebody's query",
    "forebay.query_cancel": "cancelled somebody's query",
    "forebay.query_saved": "saved a query",
    "forebay.query_removed": "removed a saved query",
}  # fmt: skip

Text = Annotated[str, Query(max_length=200)]
Number = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
Most = Annotated[int, Query(ge=1, le=EXPORT, description="At most so many events.")]


@dataclass(frozen=True)
class Filter:
    """The filter as it stands in the address."""

    kind: str
    who: str
    event: str
    job: str
    about: str
    since: str
    until: str

    @property
    def empty(self) -> bool:
        return self == Filter("people", "", "", "", "", "", "")

    def wanted(self, before: int | None = None) -> Wanted:
        """Days are whole days in UTC, the last one included. Without a first day it is the last `DAYS`."""
        until = _moment("until", self.until)
        if until is not None and len(self.until) == len("2026-01-01"):
            until += timedelta(days=1)
        since = _moment("since", self.since) or (until or datetime.now(UTC)) - timedelta(days=DAYS)
        return Wanted(self.kind, self.who, self.event, self.job, self.about, since, until, before)


def filtered(
    kind: Annotated[Literal["people", "console", "runs", "connections", "all"], Query()] = "people",
    who_did: Annotated[str, Query(alias="by", max_length=200, description="Who did it.")] = "",
    event: Text = "",
    job: Text = "",
    about: Annotated[str, Query(max_length=200, description="A text in the details, such as a table.")] = "",
    since: Annotated[
        str, Query(max_length=40, description=f"A day or a moment (UTC); without it the last {DAYS} days.")
    ] = "",
    until: Annotated[
        str, Query(max_length=40, description="A day, which is included, or a moment (UTC).")
    ] = "",
) -> Filter:
    for name, value in (("by", who_did), ("event", event), ("job", job), ("about", about)):
        if "\0" in value:
            raise HTTPException(422, f"{name}: there is no such text.")
    found = Filter(
        kind, who_did.strip(), event.strip(), job.strip(), about.strip(), since.strip(), until.strip()
    )
    found.wanted()
    return found


Filtered = Annotated[Filter, Depends(filtered)]


@router.get("", response_class=HTMLResponse)
def audit(request: Request, who: Visiting, wanted: Filtered, before: Number = None) -> HTMLResponse:
    found = list(islice(events(who, wanted.wanted(before), _PAGE + 1), _PAGE + 1))
    older = found[_PAGE - 1].number if len(found) > _PAGE else None
    asked = _asked(wanted)
    return render(
        request, "audit.html", who=who, places=request.app.state.places, title="Audit", wanted=wanted, kinds=KINDS,
        found=found[:_PAGE], older=query({**asked, "before": older}) if older else "", asked=query(asked), later=before,
        word=word, told=told, most=EXPORT, days=DAYS, whole=query({**asked, "since": "1970-01-01"}),
    )  # fmt: skip


@router.get("/export.csv")
def export_csv(
    who: Visiting, wanted: Filtered, before: Number = None, limit: Most = EXPORT
) -> StreamingResponse:
    _noted(who, wanted, "csv")

    def rows() -> Iterator[list[object]]:
        yield ["when", "who", "event", "what", "job", "run", "task", "details"]
        last = 0
        for number, each in enumerate(events(who, wanted.wanted(before), limit + 1)):
            if number == limit:
                rest = f"There are older events. Ask again with before={last} for those."
                yield ["", "", "", "", "", "", "", rest]
                return
            last = each.number
            yield [
                _iso(each),
                each.who,
                each.event,
                word(each.event),
                each.job,
                each.run,
                each.task,
                each.details,
            ]

    return _file(lines(rows()), "csv", "text/csv; charset=utf-8")


@router.get("/export.json")
def export_json(
    who: Visiting, wanted: Filtered, before: Number = None, limit: Most = EXPORT
) -> StreamingResponse:
    _noted(who, wanted, "json")

    def parts() -> Iterator[str]:
        yield '{"events": ['
        last, older = 0, None
        for number, each in enumerate(events(who, wanted.wanted(before), limit + 1)):
            if number == limit:
                older = last
                break
            last = each.number
            yield f"{',' if number else ''}\n{json.dumps(plain(each))}"
        yield f'\n], "older": {json.dumps(older)}}}\n'

    return _file(parts(), "json", "application/json")


@api.get("/audit")
def list_audit(
    who: Visiting, wanted: Filtered, before: Number = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """What people did, newest first; `older` is the next page's `before`."""
    found = list(islice(events(who, wanted.wanted(before), limit + 1), limit + 1))
    older = found[limit - 1].number if len(found) > limit else None
    return {"events": [plain(each) for each in found[:limit]], "older": older}


def word(event: str) -> str:
    """An event in a reader's words."""
    return _WORDS.get(event) or event.removeprefix("forebay.").replace("_", " ")


def told(one: Happened) -> str:
    """The details in one line."""
    known = one.known
    if not known:
        return one.details
    first = [name for name in _SHOWN if name in known]
    rest = [name for name in known if name not in first and name not in _ELSEWHERE]
    return " · ".join(
        f"{name} {_short(known[name])}" for name in (*first, *rest) if known[name] not in (None, "", {})
    )


def plain(one: Happened) -> dict[str, Any]:
    """An event as JSON."""
    found = {**asdict(one), "at": _iso(one), "what": word(one.event)}
    return {**found, "details": one.known or one.details}


def _noted(who: Visitor, wanted: Filter, format: str) -> None:
    """Notes an export before it is made: what was looked for is a text of theirs and is not noted, but that it was."""
    by = [name for name in ("who", "event", "job", "about") if getattr(wanted, name)]
    record(
        who, "audit_export", format=format, kind=wanted.kind, since=wanted.since or None, until=wanted.until or None,
        filtered=", ".join(by) or None,
    )  # fmt: skip


def _asked(wanted: Filter) -> dict[str, object]:
    names = {"kind": wanted.kind if wanted.kind != "people" else "", "by": wanted.who}
    return names | {name: getattr(wanted, name) for name in ("event", "job", "about", "since", "until")}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _iso(one: Happened) -> str:
    return datetime.fromtimestamp(one.at, UTC).isoformat(timespec="milliseconds")


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    # Near the ends of the calendar there is no day after, and no moment in another zone.
    if found is None or not 1970 <= found.year <= 9000:
        raise HTTPException(422, f"{name}: '{text[:40]}' is no day like 2026-01-31 and no moment since 1970.")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _file(parts: Iterator[str], ending: str, media: str) -> StreamingResponse:
    name = f"audit-{datetime.now(UTC):%Y-%m-%d}.{ending}"
    return StreamingResponse(
        parts, media_type=media, headers={"content-disposition": f'attachment; filename="{name}"'}
    )
