"""Takes a table back to an earlier snapshot, after somebody has seen all that goes with it and typed its name.

This file must not have `from __future__ import annotations` (see auth.py).
"""

import itertools
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from forebay.lake.built_on import NotBetweenRuns, Plan, plan_to
from forebay.lake.connection import LakeError
from forebay.lake.history import Made
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back
from forebay_ui.auth import Visiting, Visitor
from forebay_ui.html import segment
from forebay_ui.lake import index, lake, whole
from forebay_ui.plans import Shown, document, may_do, running, shown
from forebay_ui.table_diff import on_main
from forebay_ui.tables import Changes, Table, The, note, number_of, show

router, api = APIRouter(dependencies=[Changes]), APIRouter(dependencies=[Changes])

_PATIENCE = 60.0
_LISTED = 200

Target = Annotated[
    int,
    Query(
        ge=0, le=2**63 - 1, description="A snapshot of main between two runs; 0 is before there were rows."
    ),
]


class Confirmed(BaseModel, extra="forbid"):
    """What a program sends to take a table back."""

    snapshot: int = Field(ge=0, le=2**63 - 1, description="Where to: a snapshot of main, or 0 for no rows.")
    plan: str = Field(max_length=64, description="`digest` of the plan that was looked at.")
    confirm: str = Field(max_length=500, description="The table's name: namespace.table.")


@router.get("/{namespace}/{table}/rollback", response_class=HTMLResponse, name="table_rollback")
def ask(
    request: Request, who: Visiting, the: The, snapshot: Annotated[str, Query(max_length=40)] = ""
) -> HTMLResponse:
    return _page(request, who, the, number_of("snapshot", snapshot))


@router.post("/{namespace}/{table}/rollback", response_class=HTMLResponse, name="table_rollback_post")
def carry_out(
    request: Request,
    who: Visiting,
    the: The,
    snapshot: Annotated[str, Form(max_length=40)] = "",
    plan: Annotated[str, Form(max_length=64)] = "",
    confirm: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    number = number_of("snapshot", snapshot)
    if number is None:
        raise HTTPException(422, "snapshot: say where to go back to.")
    if confirm.strip() != the.name:
        return _page(
            request, who, the, number, status=422, said=f"Nothing was done: type {the.name} to confirm it."
        )
    try:
        _do(who, the, number, plan)
    except HTTPException as error:
        if error.status_code != 409:
            raise
        return _page(request, who, the, number, status=409, said=str(error.detail))
    root = request.scope.get("root_path", "")
    name = f"{segment(the.namespace)}/{segment(the.name.rpartition('.')[2])}"
    return RedirectResponse(f"{root}/catalog/{name}/history?back={number}", 303)


@api.get("/catalog/{namespace}/{table}/rollback")
def plan_rollback(who: Visiting, the: The, snapshot: Target) -> dict[str, Any]:
    """What taking a table back to a snapshot comes to: every table and run that goes with it."""
    return document(shown(who, _plan(the, snapshot)), "planned")


@api.post("/catalog/{namespace}/{table}/rollback")
def do_rollback(who: Visiting, the: The, asked: Confirmed) -> dict[str, Any]:
    """Takes a table back, with all that the plan says; 409 where the plan is not any more what was looked at."""
    if asked.confirm != the.name:
        raise HTTPException(422, f"confirm: must be '{the.name}'. Nothing was done.")
    return document(_do(who, the, asked.snapshot, asked.plan), "rolled back")


def targets(the: Table) -> list[Made]:
    """Main's snapshots but the current one, newest first, that have a run's end or another writer's rows below what is next."""
    line = on_main(the)
    return [below for above, below in itertools.pairwise(line) if above.by is None or above.by != below.by][
        :_LISTED
    ]


def _plan(the: Table, snapshot: int) -> Plan:
    with Rest(lake(), timeout=_PATIENCE) as rest:
        try:
            return plan_to(whole(rest), the.name, snapshot or None)
        except NotBetweenRuns as error:
            raise HTTPException(422, str(error)) from None


def _do(who: Visitor, the: Table, snapshot: int, seen: str) -> Shown:
    # Through the lens where there is one: there writers of one table take turns.
    with Rest(lake().main(), timeout=_PATIENCE) as rest:
        try:
            found = shown(who, plan_to(whole(rest), the.name, snapshot or None))
        except NotBetweenRuns as error:
            raise HTTPException(422, str(error)) from None
        may_do(found, seen)
        if not found.plan.tables:
            raise HTTPException(409, f"{the.name} is there already. Nothing was done.")
        tables = [each.table for each in found.plan.tables]
        # Noted before it is done: nothing is done that is not noted.
        note(who, "roll_back", the, to=snapshot or "no rows", tables=tables, runs=found.runs)
        try:
            done = roll_back(rest, lambda: whole(rest), found.plan, cascade=True)
        except LakeError as error:
            note(who, "roll_back_failed", the, to=snapshot or "no rows")
            raise HTTPException(409, lake().redact(str(error))) from error
    index().changed(tables)
    return shown(who, done)


def _page(
    request: Request, who: Visitor, the: Table, snapshot: int | None, *, status: int = 200, said: str = ""
) -> HTMLResponse:
    found: Shown | None = None
    if snapshot is not None:
        try:
            found = shown(who, _plan(the, snapshot))
        except HTTPException as error:
            status, said = int(error.status_code), str(error.detail)
    return show(
        request, who, the, "history", "table_rollback.html", status, snapshot=snapshot, found=found, said=said,
        targets=targets(the), running=running(found) if found else [], to=Made.of(the.snapshot(snapshot)) if snapshot and found else None,
        stays=_stays(who, the, found) if found else [], ends_at_none=bool(on_main(the)), csrf=who.csrf,
    )  # fmt: skip


def _stays(who: Visitor, the: Table, found: Shown) -> list[tuple[str, str]]:
    """Tables made from it, with the job, that stay as they are: they read what is older."""
    gone = {each.table for each in found.plan.tables}
    edges = index().view(wait=0.5).graph.down(the.name)
    kept = {
        (e.target, e.job) for e in edges if e.target not in gone and who.reads(e.target.rpartition(".")[0])
    }
    return sorted(kept)
