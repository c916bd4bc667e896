"""What ran, what did a run do, and what becomes of it?

The newest runs, and the dossier of one: it is a tab of Airflow's own page of a run, and still tells the story when
Airflow has forgotten it.
"""

from typing import Annotated, Any, Literal

from airflow.configuration import conf
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from forebay.stack.runs import KnownRun, find, last
from forebay.stack.why import Reason
from forebay.stack.why_run import of_run
from forebay_ui import run_acts, run_again, run_diff
from forebay_ui.auth import Visiting
from forebay_ui.engine_now import engine_of
from forebay_ui.html import epoch, render, segment
from forebay_ui.rows import latest
from forebay_ui.run_of import RunId, The, TheRun, answered, document, show
from forebay_ui.tables import attempt

TITLE, PLACE = "Runs", 60
router, api = APIRouter(), APIRouter()

_LISTED = 100
STATES = ("", "failed", "running", "queued", "success")
Job = Annotated[str, Query(max_length=250, description="Only runs of this job.")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("", response_class=HTMLResponse)
def runs(
    request: Request, who: Visiting, job: Job = "", state: Annotated[str, Query(max_length=20)] = ""
) -> HTMLResponse:
    with answered():
        found = last(who.api, job.strip() or None, _LISTED, state=state if state in STATES else "")
    return render(
        request, "runs.html", who=who, places=request.app.state.places, title="Runs", runs=found, job=job.strip(),
        state=state, states=STATES, most=_LISTED,
    )  # fmt: skip


@router.get("/{name}", response_class=HTMLResponse)
def by_name(request: Request, who: Visiting, name: RunId) -> Response:
    with answered():
        found = find(who.api, name)
    root = request.scope.get("root_path", "")
    return RedirectResponse(f"{root}/runs/{segment(found.run.job)}/{segment(found.run.run)}", 303)


@router.get("/{job}/{run}", response_class=HTMLResponse)
def dossier(request: Request, the: The) -> HTMLResponse:
    told = the.story
    checks = attempt(the.checks)
    return show(
        request, the, "run.html", story=told, checks=checks,
        verdicts=None if isinstance(checks, str) else latest(checks),
        reasons=[] if the.known.ended else _why(the), may=the.may_change, may_start=the.may_start,
        done=request.query_params.get("done", ""),
        untold=request.query_params.get("untold", ""),
    )  # fmt: skip


@router.get("/{job}/{run}/why", response_class=HTMLResponse)
def why(request: Request, the: The) -> HTMLResponse:
    return show(request, the, "run_why.html", reasons=_why(the))


@api.get("/runs")
def list_runs(
    who: Visiting, job: Job = "", state: Literal["", "failed", "running", "queued", "success"] = "", limit: Limit = _LISTED
) -> list[dict[str, Any]]:  # fmt: skip
    """The newest runs of the jobs you may see, as Airflow knows them."""
    with answered():
        return [_line(each) for each in last(who.api, job.strip() or None, limit, state=state)]


@api.get("/runs/{name}")
def describe_run_by_name(who: Visiting, name: RunId) -> dict[str, Any]:
    """What a run did, by its id or the unambiguous beginning or end of it."""
    with answered():
        found = find(who.api, name)
    return document(TheRun(who, found))


@api.get("/runs/{job}/{run}")
def describe_run(the: The) -> dict[str, Any]:
    """What a run did: its tasks, tables, inputs, and how what it wrote stands."""
    return document(the)


@api.get("/runs/{job}/{run}/checks")
def run_checks(the: The) -> list[dict[str, Any]]:
    """What the checks of a run found, rule by rule."""
    return [{**each, "snapshot_id": str(each["snapshot_id"] or "") or None} for each in the.checks()]


@api.get("/runs/{job}/{run}/why")
def why_run(the: The) -> list[dict[str, Any]]:
    """Why a run is not done, problems first; of one that has ended, how it ended."""
    return [each.document() for each in _why(the)]


def _line(one: KnownRun) -> dict[str, Any]:
    known = one.document
    return {
        "job": one.run.job, "run_id": one.run.run, "state": one.airflow, "kind": known["run_type"],
        "user": known["triggering_user_name"], "began": epoch(known["start_date"] or known["run_after"]),
        "seconds": known["duration"],
    }  # fmt: skip


def _why(the: TheRun) -> list[Reason]:
    with answered():
        return of_run(
            the.who.api, the.known, parallelism=conf.getint("core", "parallelism"),
            engine=engine_of(the.who.api, the.known),
        )  # fmt: skip


router.include_router(run_diff.router)
router.include_router(run_acts.router)
router.include_router(run_again.router)
api.include_router(run_diff.api)
api.include_router(run_acts.api)
api.include_router(run_again.api)
