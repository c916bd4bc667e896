"""Who owns what, which jobs and tables belong together, and does what is declared exist?

One line for each workspace, and a page of its jobs, tables, connections, limits, last failures and drift.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select

from forebay.lake.index import Entry, View
from forebay.project import LoadedJob, Project, Workspace
from forebay.spec.workspace import WorkspaceSpec
from forebay_ui import declared
from forebay_ui.auth import Visiting, Visitor, of_workspace
from forebay_ui.drift import Drift, KnownDag, drift
from forebay_ui.html import render
from forebay_ui.lake import connection, index
from forebay_ui.owners import root

TITLE, PLACE = "Workspaces", 20
router, api = APIRouter(), APIRouter()
Sees = Depends(of_workspace("GET"))

_WEEK = timedelta(days=7)
_FAILURES = 10


@dataclass(frozen=True)
class Last:
    """A run, as a list shows it."""

    job: str
    run: str
    state: str
    at: float | None


@dataclass(frozen=True)
class Line:
    """A workspace in the list of all."""

    name: str
    owner: str
    description: str
    jobs: int
    tables: int | None
    runs: int
    failed: int
    last_failed: Last | None
    problem: str


@dataclass(frozen=True)
class JobLine:
    """A job of a workspace, declared or known to Airflow, or both."""

    name: str
    job: LoadedJob | None
    schedule: str
    writes: tuple[str, ...]
    dag: KnownDag | None
    last: Last | None
    broken: bool

    @property
    def state(self) -> tuple[str, str]:
        if self.broken:
            return "bad", "has mistakes"
        if self.dag is None or self.dag.stale:
            return "bad", "not in Airflow"
        if self.dag.broken:
            return "bad", "not loaded"
        return ("warn", "paused") if self.dag.paused else ("ok", "on")


@dataclass(frozen=True)
class Whole:
    """Everything a workspace's page shows."""

    workspace: Workspace
    jobs: list[JobLine]
    tables: list[tuple[str, str, Entry | None]]
    """Name, the job that writes it as its YAML says, and the table as it is."""
    connections: list[tuple[str, list[str], bool]]
    failures: list[Last]
    drift: list[Drift]

    @property
    def spec(self) -> WorkspaceSpec | None:
        return self.workspace.spec


@router.get("", response_class=HTMLResponse)
def workspaces(request: Request, who: Visiting) -> HTMLResponse:
    view = index().view()
    return render(
        request, "workspaces.html", who=who, places=request.app.state.places, title="Workspaces",
        lines=_lines(who, view), view=view,
    )  # fmt: skip


def whole_of(workspace: str, who: Visiting, _: Annotated[None, Sees]) -> Whole:
    """The workspace in the path, once the visitor is known to be allowed to see it."""
    dags = _dags(who, workspace)
    if workspace not in who.owners.names and not dags:
        raise HTTPException(404, f"There is no workspace '{workspace}'.")
    found = declared.workspace(root(), workspace)
    view = index().view()
    last = _last_runs(list(dags))
    named = {
        conn_id: (uses, connection(conn_id) is not None)
        for conn_id, uses in declared.connections(found).items()
    }
    ran = {job for job, run in last.items() if run.state == "success"}
    entries = _owned(who, view, workspace) if view.at is not None else None
    writers = {each.name: each.job for each in declared.tables(found)}
    names = sorted({*writers, *(entries or ())})
    return Whole(
        found,
        _jobs(found, dags, last),
        [(name, writers.get(name, ""), (entries or {}).get(name)) for name in names],
        [(conn_id, uses, there) for conn_id, (uses, there) in sorted(named.items())],
        _failures(list(dags)),
        drift(found, dags, entries, {conn_id: there for conn_id, (_, there) in named.items()}, ran),
    )


Found = Annotated[Whole, Depends(whole_of)]


@router.get("/{workspace}", response_class=HTMLResponse)
def workspace(request: Request, who: Visiting, workspace: str, found: Found) -> HTMLResponse:
    return render(
        request, "workspace.html", who=who, places=request.app.state.places, title=workspace, workspace=workspace,
        found=found, spec=found.spec, view=index().view(wait=0.1), has_connections=_has(request, "connections"),
    )  # fmt: skip


@api.get("/workspaces")
def list_workspaces(who: Visiting) -> list[dict[str, Any]]:
    """The workspaces you may see, with the number of their jobs and tables, and the last week's runs."""
    return [asdict(line) for line in _lines(who, index().view())]


@api.get("/workspaces/{workspace}")
def describe_workspace(workspace: str, found: Found) -> dict[str, Any]:
    """A workspace: its jobs, tables, connections, limits, last failures, and what differs from what is declared."""
    spec = found.spec
    return {
        "workspace": workspace,
        "owner": spec.owner if spec else None,
        "description": spec.description if spec else "",
        "limits": spec.limits.model_dump(mode="json") if spec else None,
        "jobs": [
            {
                "job": each.name, "state": each.state[1], "schedule": each.schedule, "writes": list(each.writes),
                "last": asdict(each.last) if each.last else None,
            }
            for each in found.jobs
        ],
        "tables": [
            {"table": name, "job": job or None, "exists": entry is not None, "rows": entry.rows if entry else None}
            for name, job, entry in found.tables
        ],
        "connections": [
            {"connection_id": conn_id, "uses": uses, "exists": there} for conn_id, uses, there in found.connections
        ],
        "failures": [asdict(each) for each in found.failures],
        "drift": [asdict(each) for each in found.drift],
    }  # fmt: skip


def _lines(who: Visitor, view: View) -> list[Line]:
    names = {*who.owners.names, *(job.partition(".")[0] for job in who.jobs if "." in job)}
    seen = sorted(name for name in names if who.may("GET", name))
    counts: dict[str, int] = {}
    for namespace, tables in view.tables.items():
        owner = who.owners.of(namespace)
        counts[owner] = counts.get(owner, 0) + len(tables)
    runs, failed = _week(who)
    project = Project(root())
    found = []
    for name in seen:
        file = who.owners.files.get(name)
        mine = [number for job, number in runs.items() if job.partition(".")[0] == name]
        bad = [last for last in failed if last.job.partition(".")[0] == name]
        jobs = (
            len([each for each in project.job_names(name) if each != "workspace"])
            if name in who.owners.names
            else 0
        )
        problem = (
            ""
            if file
            else "workspace.yaml has mistakes"
            if name in who.owners.names
            else "its files are not here"
        )
        found.append(
            Line(
                name, file.spec.owner if file else "", file.spec.description if file else "", jobs,
                counts.get(name, 0) if view.at is not None else None, sum(mine), len(bad), bad[0] if bad else None, problem,
            )
        )  # fmt: skip
    return sorted(found, key=lambda line: (not line.problem, not line.failed, line.name))


def _week(who: Visitor) -> tuple[dict[str, int], list[Last]]:
    """The last week's runs by job, and those that failed, newest first."""
    since = datetime.now(UTC) - _WEEK
    mine = DagRun.dag_id.in_(sorted(who.jobs))
    with create_session() as session:
        counted = session.execute(
            select(DagRun.dag_id, func.count()).where(mine, DagRun.run_after >= since).group_by(DagRun.dag_id)
        )
        runs = {str(job): int(number) for job, number in counted}
        failed = session.execute(
            select(DagRun.dag_id, DagRun.run_id, DagRun.end_date)
            .where(mine, DagRun.run_after >= since, DagRun.state == "failed")
            .order_by(DagRun.run_after.desc())
            .limit(1000)
        )
        return runs, [Last(job, run, "failed", _at(end)) for job, run, end in failed]


def _dags(who: Visitor, workspace: str) -> dict[str, KnownDag]:
    mine = [job for job in who.jobs if job.startswith(f"{workspace}.")]
    with create_session() as session:
        return {
            dag.dag_id: KnownDag(
                dag.dag_id, bool(dag.is_paused), bool(dag.is_stale), bool(dag.has_import_errors), dag.max_active_tasks,
                dag.max_active_runs, _at(dag.next_dagrun_create_after),
            )
            for dag in session.scalars(select(DagModel).where(DagModel.dag_id.in_(mine)))
        }  # fmt: skip


def _last_runs(jobs: list[str]) -> dict[str, Last]:
    newest = (
        select(DagRun.dag_id, func.max(DagRun.id).label("id"))
        .where(DagRun.dag_id.in_(jobs))
        .group_by(DagRun.dag_id)
        .subquery()
    )
    with create_session() as session:
        found = session.execute(
            select(DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.run_after).join(
                newest, DagRun.id == newest.c.id
            )
        )
        return {job: Last(job, run, str(state), _at(after)) for job, run, state, after in found}


def _failures(jobs: list[str]) -> list[Last]:
    with create_session() as session:
        found = session.execute(
            select(DagRun.dag_id, DagRun.run_id, DagRun.end_date)
            .where(DagRun.dag_id.in_(jobs), DagRun.state == "failed")
            .order_by(DagRun.id.desc())
            .limit(_FAILURES)
        )
        return [Last(job, run, "failed", _at(end)) for job, run, end in found]


def _jobs(found: Workspace, dags: Mapping[str, KnownDag], last: Mapping[str, Last]) -> list[JobLine]:
    lines = [
        JobLine(
            job.dag_id,
            job,
            declared.schedule(job),
            job.writes,
            dags.get(job.dag_id),
            last.get(job.dag_id),
            False,
        )
        for job in found.jobs.values()
    ]
    for name in found.broken:
        full = f"{found.name}.{name}"
        lines.append(JobLine(full, found.faulty.get(name), "", (), dags.get(full), last.get(full), True))
    known = {line.name for line in lines}
    lines += [
        JobLine(dag_id, None, "", (), dag, last.get(dag_id), False)
        for dag_id, dag in dags.items()
        if dag_id not in known and not dag.stale
    ]
    return sorted(lines, key=lambda line: (line.state[0] != "bad", line.name))


def _owned(who: Visitor, view: View, workspace: str) -> dict[str, Entry]:
    return {
        name: entry for name, entry in view.entries.items() if who.owners.of(entry.namespace) == workspace
    }


def _has(request: Request, slug: str) -> bool:
    return any(place.slug == slug for place in request.app.state.places)


def _at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
