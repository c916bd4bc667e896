"""Which jobs are there, and why is one not running?

Every job with what it waits for, problems first; one job with all causes, its newest runs, and a button that starts it.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from forebay.errors import ForebayError
from forebay.lake.rest import Rest
from forebay.project import LoadedJob, Project
from forebay.stack.airflow_api import ApiError
from forebay.stack.runs import Listed, listed
from forebay.stack.why import Reason, of_job
from forebay_ui.auth import Visiting
from forebay_ui.auth import of_job as of_job_right
from forebay_ui.html import render, segment
from forebay_ui.lake import lake
from forebay_ui.owners import root
from forebay_ui.run_of import Job, answered
from forebay_ui.tables import attempt

TITLE = "Jobs"
router, api = APIRouter(), APIRouter()

_PAGE, _MOST, _RUNS = 100, 2000, 10
_ORDER = ("bad", "warn", "run", "wait", "ok")

Sees = Depends(of_job_right("GET"))
Starts = Depends(of_job_right("POST"))


class Start(BaseModel, extra="forbid"):
    """What a program sends to start a run."""

    parameters: dict[str, Any] = Field(
        {}, description="Values of the job's parameters; the others have their defaults."
    )


@dataclass(frozen=True)
class Row:
    """A job in the list."""

    job: str
    level: str
    word: str
    evidence: str
    description: str
    schedule: str
    next_run: str
    paused: bool
    last_run: str
    last_state: str
    last_at: str


@router.get("", response_class=HTMLResponse)
def jobs(request: Request, who: Visiting, q: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
    with answered():
        rows, total = _rows(who, q.strip())
    return render(
        request, "jobs.html", who=who, places=request.app.state.places, title="Jobs", rows=rows, total=total, q=q.strip(),
    )  # fmt: skip


@router.get("/{job}", response_class=HTMLResponse, dependencies=[Sees])
def job(request: Request, who: Visiting, job: Job) -> HTMLResponse:
    return _page(request, who, job)


@router.get("/{job}/why", response_class=HTMLResponse, dependencies=[Sees])
def why(request: Request, job: Job) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/jobs/{segment(job)}", 303)


def given(parameters: str) -> dict[str, Any]:
    """A run's parameters as they were typed. Raises ValueError."""
    try:
        values = json.loads(parameters or "{}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values


@router.post("/{job}/runs", response_class=HTMLResponse, dependencies=[Starts])
def start_form(
    request: Request, who: Visiting, job: Job, parameters: Annotated[str, Form(max_length=20_000)] = ""
) -> Response:
    try:
        values = given(parameters)
    except ValueError as error:
        return _page(
            request,
            who,
            job,
            422,
            f"Nothing was started: the parameters are no JSON object ({error}).",
            parameters,
        )
    try:
        run = who.api.start(job, values)
    except ApiError as error:
        if error.status not in (400, 409, 422):
            with answered():
                raise
        return _page(request, who, job, error.status, f"Nothing was started. {error}", parameters)
    root_path = request.scope.get("root_path", "")
    return RedirectResponse(f"{root_path}/runs/{segment(job)}/{segment(run['dag_run_id'])}", 303)  # fmt: skip


@api.get("/jobs")
def list_jobs(
    who: Visiting, q: Annotated[str, Query(max_length=200, description="A part of the job's name.")] = ""
) -> list[dict[str, Any]]:
    """The jobs you may see, those with problems first."""
    with answered():
        return [_row_document(each) for each in _rows(who, q)[0]]


@api.get("/jobs/{job}", dependencies=[Sees])
def describe_job(who: Visiting, job: Job) -> dict[str, Any]:
    """One job: its schedule, parameters, tasks and tables."""
    with answered():
        dag = who.api.get(f"/dags/{segment(job)}/details")
    loaded = attempt(lambda: _loaded(job))
    return {
        "job": job,
        "description": dag["description"] or "",
        "owners": dag["owners"],
        "paused": dag["is_paused"],
        "schedule": dag["timetable_summary"],
        "next_run": dag["next_dagrun_run_after"],
        "max_concurrent_runs": dag["max_active_runs"],
        "parameters": {} if isinstance(loaded, str) else {
            name: {"type": each.type, "default": each.default, "required": each.required, "description": each.description}
            for name, each in loaded.spec.parameters.items()
        },
        "tasks": [] if isinstance(loaded, str) else [
            {"task": each.key, "type": each.type, "depends_on": list(each.depends_on), "writes": list(each.writes)}
            for each in loaded.spec.tasks
        ],
        "mistakes": loaded if isinstance(loaded, str) else "",
    }  # fmt: skip


@api.get("/jobs/{job}/runs", dependencies=[Sees])
def list_runs(
    who: Visiting, job: Job, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> list[dict[str, Any]]:
    """The newest runs of a job, and how what they wrote stands."""
    with answered():
        return [{"id": each.run.run.run, **each.document()} for each in _runs(who, job, limit)]


@api.post("/jobs/{job}/runs", dependencies=[Starts], status_code=201)
def start_run(
    request: Request, response: Response, who: Visiting, job: Job, asked: Start | None = None
) -> dict[str, Any]:
    """Starts a run; its id, and the state it begins in: `queued`."""
    with answered():
        run = who.api.start(job, asked.parameters if asked else {})
    name = str(run["dag_run_id"])
    here = f"{request.scope.get('root_path', '')}/api/v1/runs/{segment(job)}/{segment(name)}"
    response.headers["location"] = here
    return {"id": name, "job": job, "run_id": name, "state": run["state"], "url": here}


@api.get("/jobs/{job}/why", dependencies=[Sees])
def why_job(who: Visiting, job: Job) -> list[dict[str, Any]]:
    """Why no run of a job starts now, problems first."""
    return [each.document() for each in _why(who, job)]


def _page(
    request: Request, who: Visiting, job: str, status: int = 200, said: str = "", parameters: str = ""
) -> HTMLResponse:
    reasons = _why(who, job)
    loaded = attempt(lambda: _loaded(job))
    spec = None if isinstance(loaded, str) else loaded.spec
    if not parameters and spec is not None:
        needed = {name: None for name, each in spec.parameters.items() if each.required}
        parameters = json.dumps(needed, indent=1) if needed else ""
    return render(
        request, "job.html", status=status, who=who, places=request.app.state.places, title=job, job=job, reasons=reasons,
        runs=attempt(lambda: _runs(who, job, _RUNS)), spec=spec, said=said, parameters=parameters, csrf=who.csrf,
        may_start=who.may_job("POST", job), workspace=job.partition(".")[0],
        reads=lambda table: who.reads(table.rpartition(".")[0]),
    )  # fmt: skip


def _why(who: Visiting, job: str) -> list[Reason]:
    with answered():
        return of_job(who.api, root(), job)


def _runs(who: Visiting, job: str, limit: int) -> list[Listed]:
    with Rest(lake(), timeout=30) as rest:
        return listed(who.api, root(), rest, job, limit)


def _loaded(job: str) -> LoadedJob:
    workspace, _, name = job.partition(".")
    return Project(root()).load_job(workspace, name)


def _rows(who: Visiting, words: str) -> tuple[list[Row], int]:
    """Problems first, then by name; and how many there are when there are too many."""
    found: list[dict[str, Any]] = []
    total = 1
    while len(found) < min(total, _MOST):
        only = {"dag_id_pattern": words} if words else {}
        page = who.api.request(
            "GET", "/ui/dags", params={"limit": _PAGE, "offset": len(found), "dag_runs_limit": 1, "order_by": "dag_id", **only}
        )  # fmt: skip
        total = int(page["total_entries"])
        found += page["dags"]
        if not page["dags"]:
            break
    # What Airflow runs for Forebay itself is no job of a workspace, and has no dot in its name.
    ours = [each for each in found if "." in str(each["dag_id"])]
    rows = [*_broken(who, words, {str(each["dag_id"]) for each in found}), *map(_row, ours)]
    total -= len(found) - len(ours)
    return sorted(rows, key=lambda each: (_ORDER.index(each.level), each.job)), total


def _row(dag: dict[str, Any]) -> Row:
    last = next(iter(dag["latest_dag_runs"]), None) or {}
    state = str(last.get("state") or "")
    tables = _names(dag.get("asset_expression"))
    schedule = f"after {', '.join(tables)}" if tables else str(dag.get("timetable_summary") or "by hand")
    if dag["has_import_errors"]:
        level, word, evidence = "bad", "import error", "its YAML has mistakes"
    elif dag["is_paused"]:
        level, word, evidence = "warn", "paused", "no run starts"
    elif dag.get("pending_actions"):
        level, word, evidence = "warn", "waits for approval", str(dag["pending_actions"][0]["subject"])
    elif state == "failed":
        level, word, evidence = "bad", "last run failed", ""
    elif state in ("running", "queued"):
        level, word, evidence = "run", state, ""
    else:
        level, word, evidence = ("ok", "idle", "") if state else ("wait", "never ran", "")
    return Row(
        str(dag["dag_id"]), level, word, evidence, str(dag.get("description") or ""), schedule,
        str(dag.get("next_dagrun_run_after") or ""), bool(dag["is_paused"]), str(last.get("run_id") or last.get("dag_run_id") or ""),
        state, str(last.get("end_date") or last.get("start_date") or last.get("run_after") or ""),
    )  # fmt: skip


def _names(expression: Any) -> list[str]:
    """The tables in what a job waits for, as Airflow writes it."""
    if isinstance(expression, dict):
        asset = expression.get("asset")
        return [str(asset["name"])] if asset else [n for each in expression.values() for n in _names(each)]
    return [name for each in expression for name in _names(each)] if isinstance(expression, list) else []


def _broken(who: Visiting, words: str, known: set[str]) -> list[Row]:
    """Jobs that Airflow never read, because their YAML is broken; those of workspaces that the visitor reads.

    One that Airflow knows and did not list is somebody else's, or one too many; only its stale ones it leaves out itself.
    """
    project = Project(root())
    with create_session() as session:
        stale = {
            str(job): bool(gone) for job, gone in session.execute(select(DagModel.dag_id, DagModel.is_stale))
        }
    found = []
    for workspace in project.workspace_names():
        if not who.may("GET", workspace):
            continue
        for name in project.job_names(workspace):
            job = f"{workspace}.{name}"
            if name == "workspace" or job in known or words.lower() not in job.lower():
                continue
            if job in stale and not (stale[job] and job in who.jobs):
                continue
            try:
                project.load_job(workspace, name)
                word, level, evidence = "not read yet", "warn", "it takes a moment after a change"
            except ForebayError as error:
                word, level, evidence = "import error", "bad", str(error)[:300]
            found.append(Row(job, level, word, evidence, "", "", "", False, "", "", ""))
    return found


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "job": row.job,
        "state": row.word,
        "level": row.level,
        "evidence": row.evidence,
        "description": row.description,
        "schedule": row.schedule or None,
        "next_run": row.next_run or None,
        "paused": row.paused,
        "last_run": {"run_id": row.last_run, "state": row.last_state, "at": row.last_at}
        if row.last_run
        else None,
    }
