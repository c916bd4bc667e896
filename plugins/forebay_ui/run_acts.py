"""Publish, discard and roll back a run: a page that says what will happen, then the deed, noted in Airflow's audit log.

This file must not have `from __future__ import annotations` (see auth.py).
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from forebay.lake.connection import LakeError
from forebay.lake.publish import discard
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back
from forebay.stack.acts import (
    broken,
    may_publish,
    publish_run,
    published_document,
    to_discard,
    to_roll_back,
)
from forebay_ui import audit
from forebay_ui.auth import of_job
from forebay_ui.html import query
from forebay_ui.lake import index, lake, whole
from forebay_ui.owners import root
from forebay_ui.plans import Shown, may_do, running, shown
from forebay_ui.plans import document as plan_shown
from forebay_ui.run_of import The, TheRun, answered, show

Changes = Depends(of_job("PUT"))
router, api = APIRouter(dependencies=[Changes]), APIRouter(dependencies=[Changes])

_PATIENCE = 60.0
Act = Literal["publish", "discard", "rollback"]
Done = dict[str, Any]
_SAID: dict[Act, str] = {"publish": "published", "discard": "discarded", "rollback": "rolled back"}


class Publish(BaseModel, extra="forbid"):
    """What a program sends to publish a run."""

    force: bool = Field(
        False, description="Publish what a failed run wrote, although its checks may not have run."
    )


class RollBack(BaseModel, extra="forbid"):
    """What a program sends to roll a run back."""

    plan: str = Field(max_length=64, description="`digest` of the plan that was looked at.")


class Command(BaseModel, extra="forbid"):
    """What a command tells of itself before it changes the lake."""

    act: Act | Literal["replay", "compact"]
    tables: list[Annotated[str, Field(max_length=500)]] = Field(max_length=1000)


@router.get("/{job}/{run}/publish", response_class=HTMLResponse)
def ask_publish(request: Request, the: The) -> HTMLResponse:
    return _page(request, the, "publish")


@router.get("/{job}/{run}/discard", response_class=HTMLResponse)
def ask_discard(request: Request, the: The) -> HTMLResponse:
    return _page(request, the, "discard")


@router.get("/{job}/{run}/rollback", response_class=HTMLResponse)
def ask_rollback(request: Request, the: The) -> HTMLResponse:
    return _page(request, the, "rollback")


@router.post("/{job}/{run}/publish", response_class=HTMLResponse)
def publish_form(request: Request, the: The, force: Annotated[str, Form(max_length=5)] = "") -> Response:
    return _carry_out(request, the, "publish", lambda: _publish(the, force=force == "yes"))


@router.post("/{job}/{run}/discard", response_class=HTMLResponse)
def discard_form(request: Request, the: The) -> Response:
    return _carry_out(request, the, "discard", lambda: _discard(the))


@router.post("/{job}/{run}/rollback", response_class=HTMLResponse)
def rollback_form(request: Request, the: The, plan: Annotated[str, Form(max_length=64)] = "") -> Response:
    return _carry_out(request, the, "rollback", lambda: _roll_back(the, plan))


@api.post("/runs/{job}/{run}/publish")
def publish_a_run(the: The, asked: Publish | None = None) -> Done:
    """Publishes what a run left unpublished: all its tables in one commit, or none."""
    return _publish(the, force=bool(asked and asked.force))


@api.post("/runs/{job}/{run}/discard")
def discard_a_run(the: The) -> Done:
    """Drops a run's branch, and with it what the run wrote and did not publish."""
    return _discard(the)


@api.get("/runs/{job}/{run}/rollback")
def plan_run_rollback(the: The) -> Done:
    """What rolling a run back comes to: every table and run that goes with it."""
    return plan_shown(_plan(the), "planned")


@api.post("/runs/{job}/{run}/rollback")
def roll_a_run_back(the: The, asked: RollBack) -> Done:
    """Takes a published run off again, with all that the plan says; 409 where the plan is not what was looked at."""
    return _roll_back(the, asked.plan)


@api.post("/runs/{job}/{run}/note", status_code=204)
def note_a_command(the: The, asked: Command) -> Response:
    """Notes in the audit log that you publish, discard, roll back, replay or compact by command: that works on the lake itself."""
    _owned(the, asked.tables)
    _note(the, asked.act, tables=asked.tables, by="command")
    return Response(status_code=204)


def _publish(the: TheRun, *, force: bool) -> Done:
    with answered(409), Rest(lake(), timeout=_PATIENCE) as rest:
        told = the.story
        _owned(the, [each.table for each in told.tables])
        may_publish(the.who.api, the.known, force=force)
        _note(the, "publish", tables=[each.table for each in told.tables], force=force)
        done = publish_run(the.who.api, root(), rest, the.known, force=force)
    index().changed([each.table for each in done.tables])
    return published_document(the.known.run, done) | {"untold": sorted(done.untold)}


def _discard(the: TheRun) -> Done:
    with answered(409), Rest(lake(), timeout=_PATIENCE) as rest:
        opened = to_discard(root(), rest, the.known)
        _owned(the, opened)
        _note(the, "discard", tables=opened)
        dropped = discard(rest, the.known.run, opened)
    index().changed(dropped)
    return {"job": the.job, "run_id": the.name, "state": "discarded", "tables": dropped}


def _plan(the: TheRun) -> Shown:
    with answered(409), Rest(lake(), timeout=_PATIENCE) as rest:
        found = to_roll_back(root(), rest, the.known, lambda: whole(rest))
    if not found.tables:
        raise HTTPException(409, f"{the.known.name} was rolled back before.")
    return shown(the.who, found)


def _roll_back(the: TheRun, seen: str) -> Done:
    # Through the lens where there is one: there writers of one table take turns.
    with answered(409), Rest(lake().main(), timeout=_PATIENCE) as rest:
        found = shown(the.who, to_roll_back(root(), rest, the.known, lambda: whole(rest)))
        if not found.refused and not found.plan.tables:
            raise HTTPException(409, f"{the.known.name} was rolled back before.")
        may_do(found, seen)
        tables = [each.table for each in found.plan.tables]
        _note(the, "rollback", tables=tables, runs=found.runs)
        try:
            done = roll_back(rest, lambda: whole(rest), found.plan, cascade=True)
        except LakeError as error:
            raise HTTPException(409, lake().redact(str(error))) from error
    index().changed(tables)
    return plan_shown(shown(the.who, done), "rolled back")


def _owned(the: TheRun, tables: list[str]) -> None:
    """A run's tables are its workspace's; one that came to belong to another is that one's to change."""
    owners = {the.who.owners.of(table.rpartition(".")[0]) for table in tables}
    if refused := sorted(each for each in owners if not the.who.may("PUT", each)):
        named = [each if the.who.may("GET", each) else "another workspace" for each in refused]
        raise HTTPException(
            403,
            f"It is about tables of {', '.join(named)}, which your role in Airflow does not let you change.",
        )


def _note(the: TheRun, act: str, **details: object) -> None:
    """Before it is done: nothing is done that is not noted."""
    audit.record(
        the.who, f"{act}_run", workspace=the.workspace, job=the.job, run=the.known.run.airflow, **details
    )


def _carry_out(request: Request, the: TheRun, act: Act, work: Callable[[], Done]) -> Response:
    try:
        done = work()
    except HTTPException as error:
        if error.status_code not in (400, 409):
            raise
        return _page(request, the, act, status=error.status_code, said=str(error.detail))
    also = query(
        {
            "done": _SAID[act],
            "untold": ", ".join(done.get("untold") or ()),
            "tab": "1" if "tab" in request.query_params else "",
        }
    )
    return RedirectResponse(f"{request.scope.get('root_path', '')}/{the.path}?{also}", 303)  # fmt: skip


def _page(request: Request, the: TheRun, act: Act, *, status: int = 200, said: str = "") -> HTMLResponse:
    told, plan = the.story, None
    if act not in told.acts and not said:
        word, meaning = told.headline
        said = f"There is nothing to {'roll back' if act == 'rollback' else act}: {word.lower()}, {meaning}."
    elif act == "rollback" and act in told.acts:
        try:
            plan = _plan(the)
        except HTTPException as error:
            status, said = error.status_code, str(error.detail)
    with answered():
        failed, never = (
            broken(the.who.api, the.known) if act == "publish" and the.known.airflow == "failed" else ([], [])
        )
    return show(
        request, the, "run_act.html", status, act=act, story=told, said=said, possible=act in told.acts, found=plan,
        running=running(plan) if plan else [], failed=failed, never=never, csrf=the.who.csrf,
    )  # fmt: skip
