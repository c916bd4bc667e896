"""Does my connection work, and if not, which step fails and what mends it?

Airflow's connections and those that jobs name but nobody made, with the connection doctor.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from forebay.connections import doctor
from forebay.connections.check import TITLES
from forebay.connections.model import Connection, Report, Side
from forebay.connections.types import aws, iceberg
from forebay.engines.openings import Snippet, snippets
from forebay.lake.connection import CatalogConfig, LakeError
from forebay_ui.auth import Visiting, of_connection
from forebay_ui.connection_log import Result, history
from forebay_ui.connections import BOTH, FROM, Known, checks, known, stored, to_check, uses_of
from forebay_ui.html import render
from forebay_ui.stream import NOT_COMPRESSED, stream

TITLE, PLACE = "Connections", 40
router, api = APIRouter(), APIRouter()

Sees, Checks = Depends(of_connection("GET")), Depends(of_connection("PUT"))
Ids = Annotated[
    list[str], Query(max_length=1000, description="Which connections; all you may check by default.")
]
TimeOut = Annotated[float, Query(ge=0.5, le=30, description="Seconds that one check may take.")]
Store = Annotated[
    str,
    Query(max_length=250, description="The connection of the object store, where the catalog's names none."),
]
From = Annotated[
    Side,
    Query(
        alias="from",
        description="`worker`: where tasks run, by a run of Airflow; `server`: on the API server, at once.",
    ),
]
Froms = Annotated[
    Side | Literal["both"],
    Query(alias="from", description="`worker`, `server`, or `both` of them to compare."),
]
_LINES = "application/x-ndjson"
_CATALOGS = ("iceberg", *iceberg.ALSO)
_STORES = ("aws", *aws.ALSO)


def the_connection(connection: str, _: Annotated[None, Sees]) -> Connection:
    """The connection in the path, once the visitor is known to be allowed to see it."""
    found = stored(connection)
    if found is None:
        raise HTTPException(404, f"Airflow has no connection '{connection}'.")
    return found


The = Annotated[Connection, Depends(the_connection)]


@router.get("", response_class=HTMLResponse)
def connections(request: Request, who: Visiting) -> HTMLResponse:
    found = known(who)
    return render(
        request, "connections.html", who=who, places=request.app.state.places, title="Connections", found=found,
        counts=_counts(found), sides=FROM, sees=who.may_connection("GET", ""),
        checkable=any(each.may_check for each in found),
    )  # fmt: skip


@router.post("", response_class=HTMLResponse)
def check_all(request: Request, who: Visiting) -> Response:
    found = to_check(who)
    events = checks(who, found, sides=BOTH)
    titles = {each.conn_id: (doctor.title(each.conn_type), doctor.about(each)) for each in found}
    return stream(
        request, "connections_checked.html", who=who, places=request.app.state.places, title="Connections",
        reports=(event.report for event in events if event.report), titles=titles, sides=FROM, number=len(found),
    )  # fmt: skip


@router.get("/{connection}", response_class=HTMLResponse)
def connection(request: Request, who: Visiting, the: The) -> HTMLResponse:
    past = history(the.conn_id)
    last: dict[Side, Result] = {}
    for each in past:
        last.setdefault(each.side, each)
    reports = [last[side].report for side in BOTH if side in last]
    events = [event for report in reports if report for event in _events(report)]
    return render(
        request, "connection.html", **_about(request, who, the, past), events=events, last=last, flush=""
    )


@router.post("/{connection}", response_class=HTMLResponse, dependencies=[Checks])
def check_one(request: Request, who: Visiting, the: The) -> Response:
    past = history(the.conn_id)
    events = checks(who, [the], sides=BOTH)
    return stream(request, "connection.html", **_about(request, who, the, past), events=events, last={})


@router.get("/{connection}/open", response_class=HTMLResponse)
def open_from(request: Request, who: Visiting, the: The, store: Store = "") -> HTMLResponse:
    return render(
        request, "connection_open.html", **_about(request, who, the, []), snippets=_snippets(who, the, store), store=store,
        stores=_of_type(who, _STORES),
    )  # fmt: skip


@api.get("/connections")
def list_connections(who: Visiting) -> dict[str, Any]:
    """The connections you may see, with their last results; and those that jobs name but nobody made."""
    return {"connections": [_document(each) for each in known(who)]}


@api.post("/connections/check", response_class=StreamingResponse)
def check_connections(
    who: Visiting,
    connection: Ids = [],  # noqa: B006 - FastAPI copies it
    timeout: TimeOut = doctor.TIMEOUT,
    side: Froms = "server",
) -> Response:
    """Checks connections at the same time: a line of JSON for each step as it ends, and for each report."""
    sides = BOTH if side == "both" else (side,)
    return _lines(checks(who, to_check(who, connection), timeout=timeout, sides=sides))


@api.get("/connections/{connection}")
def describe_connection(the: The, who: Visiting) -> dict[str, Any]:
    """A connection without its secrets, who uses it, and its last results."""
    return {
        "connection_id": the.conn_id, "conn_type": the.conn_type, "leads_to": doctor.about(the),
        "uses": [asdict(use) for use in uses_of(who, the.conn_id)],
        "results": [_result(each) for each in history(the.conn_id)],
    }  # fmt: skip


@api.post("/connections/{connection}/check", dependencies=[Checks])
def check_connection(
    request: Request, who: Visiting, the: The, timeout: TimeOut = doctor.TIMEOUT, side: From = "server"
) -> Response:
    """Checks a connection step by step. Answers with the report, or with lines of JSON where `Accept` says so."""
    events = checks(who, [the], timeout=timeout, sides=(side,))
    if _LINES in request.headers.get("accept", ""):
        return _lines(events)
    report = next(event.report for event in list(events) if event.report)
    return Response(json.dumps(report.document()), media_type="application/json")


@api.get("/connections/{connection}/open")
def open_connection(the: The, who: Visiting, store: Store = "") -> dict[str, Any]:
    """Ready configuration of a catalog for Spark, Trino, DuckDB, PyIceberg and Flink, without secrets."""
    found = _snippets(who, the, store)
    if isinstance(found, str):
        raise HTTPException(422, found)
    return {"openings": [asdict(each) for each in found]}


def _lines(events: Iterator[doctor.Event]) -> Response:
    def lines() -> Iterator[str]:
        for event in events:
            what = {"step": asdict(event.step)} if event.step else {}
            what |= {"report": event.report.document()} if event.report else {}
            yield json.dumps({"connection_id": event.conn_id, "side": event.side, **what}) + "\n"

    return StreamingResponse(lines(), media_type=_LINES, headers=NOT_COMPRESSED)


def _events(report: Report) -> Iterator[doctor.Event]:
    """A kept report as it came in."""
    for step in report.steps:
        yield doctor.Event(report.conn_id, step, side=report.side)
    yield doctor.Event(report.conn_id, report=report, side=report.side)


def _about(request: Request, who: Visiting, the: Connection, past: list[Result]) -> dict[str, Any]:
    plan = [(key, TITLES[key]) for key in doctor.module_of(the.conn_type).PLAN]
    return {
        "who": who, "places": request.app.state.places, "title": the.conn_id, "the": the, "past": past, "plan": plan,
        "kind": doctor.title(the.conn_type), "leads_to": doctor.about(the), "uses": uses_of(who, the.conn_id),
        "may_check": who.may_connection("PUT", the.conn_id), "sides": FROM,
        "opens": the.conn_type in _CATALOGS, "timeout": doctor.TIMEOUT,
        "catalogs": _of_type(who, _CATALOGS) if the.conn_type in _STORES else [],
    }  # fmt: skip


def _of_type(who: Visiting, types: tuple[str, ...]) -> list[str]:
    """The connections of a type that the visitor may see."""
    return sorted(each.conn_id for each in known(who) if each.conn_type in types)


def _snippets(who: Visiting, the: Connection, store: str) -> list[Snippet] | str:
    """Configuration from a catalog's connection, and a store's where the catalog's names none; or why there is none."""
    extra = dict(the.extra)
    if store:
        if not who.may_connection("GET", store):
            raise HTTPException(403, "Your role in Airflow does not let you see its connections.")
        found = stored(store)
        if found is None:
            raise HTTPException(404, f"Airflow has no connection '{store}'.")
        if found.conn_type not in _STORES:
            return f"'{store}' is of type {found.conn_type}, not aws."
        s3 = aws.store_of(found)
        extra |= {
            "s3.endpoint": s3.endpoint,
            "s3.region": s3.region,
            "s3.path-style-access": str(s3.path_style),
        }
    try:
        config = CatalogConfig.from_connection(the.host, the.login or "-", the.password or "-", extra)
    except LakeError as error:
        return f"{error} Or choose the connection of its object store here."
    return snippets(config)


def _counts(found: list[Known]) -> dict[str, int]:
    states = [each.state[0] for each in found]
    return {state: states.count(state) for state in ("ok", "warn", "bad", "")}


def _document(each: Known) -> dict[str, Any]:
    return {
        "connection_id": each.conn_id, "conn_type": each.conn_type, "leads_to": each.about, "origin": each.origin,
        "jobs": each.jobs, "workspaces": sorted({use.workspace for use in each.uses}), "may_check": each.may_check,
        "state": each.state[0] or "unknown", "last": _result(each.last) if each.last else None,
        "sides": {side: _result(one) for side, one in each.sides.items()},
    }  # fmt: skip


def _result(one: Result) -> dict[str, Any]:
    return {
        "state": one.state, "word": one.word, "step": one.step, "seconds": one.seconds, "at": one.at, "by": one.by,
        "where": one.where, "side": one.side, "report": one.report.document() if one.report else None,
    }  # fmt: skip
