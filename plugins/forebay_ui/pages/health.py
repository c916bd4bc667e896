"""Is the platform well, and what ran and changed of late?

What is down is said first, with what mends it; whatever is down, the rest is shown.
"""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from forebay.lake.index import Entry, View
from forebay_ui.auth import Visiting
from forebay_ui.component import Component
from forebay_ui.html import render
from forebay_ui.lake import index
from forebay_ui.probes import components

TITLE, PLACE = "Health", 10
router, api, unlocked = APIRouter(), APIRouter(), APIRouter()

DAY = timedelta(days=1)
_TABLES = 12


@dataclass(frozen=True)
class WorkspaceRuns:
    """A workspace's runs of the last day."""

    workspace: str
    runs: int
    failed: int
    running: int
    last_failed: dict[str, Any] | None

    @property
    def state(self) -> tuple[str, str]:
        if self.failed:
            return "bad", f"{self.failed} failed"
        if self.running:
            return "run", f"{self.running} running"
        return "ok", "all succeeded"


def asked(who: Visiting) -> list[Component]:
    return components(who.api)


Components = Annotated[list[Component], Depends(asked)]


@router.get("", response_class=HTMLResponse)
def health(request: Request, who: Visiting, found: Components) -> HTMLResponse:
    bad = [each for each in found if each.state in ("bad", "warn")]
    runs, trouble = _runs(who)
    view = index().view(wait=1.0)
    tables = changed(view, who)
    return render(
        request, "health.html", who=who, places=request.app.state.places, title="Health", first=said(found),
        components=found, bad=bad, runs=runs, trouble=trouble, tables=tables[:_TABLES], more=len(tables) - _TABLES,
        view=view,
    )  # fmt: skip


def said(found: list[Component]) -> str:
    """All components in a sentence."""
    bad = sum(each.state in ("bad", "warn") for each in found)
    well = [each for each in found if each.state == "ok"]
    unknown = [each.name for each in found if each.state == "unknown"]
    rest = f" Not known: {', '.join(unknown)}." if unknown else ""
    answered = f"{len(well)} component{'' if len(well) == 1 else 's'}"
    if bad:
        problems = f"{bad} problem{'' if bad == 1 else 's'}"
        return f"{problems}. The other {answered} answer{'s' if len(well) == 1 else ''}.{rest}"
    slowest = max((each.seconds or 0 for each in well), default=0)
    word = "No problem is known" if unknown else "All is well"
    return f"{word}: {answered} answered within {max(1, round(slowest * 1000)):,} ms.{rest}"


@api.get("/health/components")
def health_components(found: Components) -> list[dict[str, Any]]:
    """Every component of the platform, problems first."""
    return [asdict(each) for each in found]


@api.get("/health/day")
def health_day(who: Visiting) -> dict[str, Any]:
    """The last day of what you may see: each workspace's runs, and the tables that changed, newest first."""
    runs, trouble = _runs(who)
    tables = changed(index().view(wait=1.0), who)
    return {
        "runs": [{**asdict(each), "state": each.state[1]} for each in runs],
        "trouble": trouble,
        "tables": [
            {"table": each.table, "changed": each.changed, "rows": each.rows, "job": each.last.job if each.last else ""}
            for each in tables
        ],
    }  # fmt: skip


@unlocked.get("/health")
def health_word() -> JSONResponse:
    """Whether the console answers. Without login, and without any detail: for load balancers."""
    return JSONResponse({"status": "healthy"})


def changed(view: View, who: Visiting) -> list[Entry]:
    """Tables of the last day that the visitor may see, newest first; none as long as only some have been read."""
    entries = view.entries.values() if view.at is not None else ()
    since = time.time() - DAY.total_seconds()
    found = [each for each in entries if each.changed and each.changed > since and who.reads(each.namespace)]
    return sorted(found, key=lambda each: -(each.changed or 0))


def _runs(who: Visiting) -> tuple[list[WorkspaceRuns], str]:
    """By workspace the runs of the last day that the visitor may see; or why they are not known."""
    try:
        with create_session() as session:
            mine = [DagRun.dag_id.in_(sorted(who.jobs)), DagRun.run_after >= datetime.now(UTC) - DAY]
            counted = session.execute(
                select(DagRun.dag_id, DagRun.state, func.count())
                .where(*mine)
                .group_by(DagRun.dag_id, DagRun.state)
            ).all()
            newest = (
                select(func.max(DagRun.id)).where(*mine, DagRun.state == "failed").group_by(DagRun.dag_id)
            )
            failed = session.execute(
                select(DagRun.dag_id, DagRun.run_id)
                .where(DagRun.id.in_(newest))
                .order_by(DagRun.run_after.desc())
            ).all()
    except SQLAlchemyError:
        return [], "Airflow's database does not answer. See above what mends it."
    by: dict[str, Counter[str]] = {}
    for job, state, number in counted:
        workspace, dot, _ = str(job).partition(".")
        # Without a dot it is no job, but what Airflow runs for Forebay itself.
        if dot:
            by.setdefault(workspace, Counter())[str(state)] += number
    last: dict[str, dict[str, Any]] = {}
    for job, run in failed:
        last.setdefault(str(job).partition(".")[0], {"dag_id": job, "dag_run_id": run})
    found = [
        WorkspaceRuns(
            name, states.total(), states["failed"], states["running"] + states["queued"], last.get(name)
        )
        for name, states in by.items()
    ]
    return sorted(found, key=lambda each: (-each.failed, each.workspace)), ""
