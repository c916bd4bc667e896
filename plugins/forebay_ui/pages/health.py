"""Is the platform well, and what ran and changed of late?

What is down is said first, with what mends it; whatever is down, the rest is shown.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse

from forebay.lake.index import Entry
from forebay.stack.airflow_api import ApiError
from forebay_ui.auth import Visiting
from forebay_ui.html import render
from forebay_ui.lake import index
from forebay_ui.probes import Component, components

TITLE, PLACE = "Health", 10
router, api, unlocked = APIRouter(), APIRouter(), APIRouter()

DAY = timedelta(days=1)
_RUNS, _TABLES = 100, 12


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
    bad = [each for each in found if each.state != "ok"]
    runs, trouble = _runs(who)
    view = index().view(wait=1.0)
    tables = changed(view.entries.values(), who)
    if bad:
        first = f"{len(bad)} problem{'s' if len(bad) > 1 else ''}. The other {len(found) - len(bad)} components answer."
    else:
        slowest = max(each.seconds or 0 for each in found)
        first = f"All is well: {len(found)} components answered within {max(1, round(slowest * 1000)):,} ms."
    return render(
        request, "health.html", who=who, places=request.app.state.places, title="Health", first=first,
        components=found, bad=bad, runs=runs, trouble=trouble, tables=tables[:_TABLES], more=len(tables) - _TABLES,
        view=view,
    )  # fmt: skip


@api.get("/health/components")
def health_components(found: Components) -> list[dict[str, Any]]:
    """Every component of the platform, problems first."""
    return [asdict(each) for each in found]


@unlocked.get("/health")
def health_word() -> JSONResponse:
    """Whether the console answers. Without login, and without any detail: for load balancers."""
    return JSONResponse({"status": "healthy"})


def changed(entries: Iterable[Entry], who: Visiting) -> list[Entry]:
    """Tables of the last day that the visitor may see, newest first."""
    since = time.time() - DAY.total_seconds()
    found = [each for each in entries if each.changed and each.changed > since and who.reads(each.namespace)]
    return sorted(found, key=lambda each: -(each.changed or 0))


def _runs(who: Visiting) -> tuple[list[WorkspaceRuns], str]:
    since = (datetime.now(UTC) - DAY).isoformat()
    try:
        page = who.api.get("/dags/~/dagRuns", run_after_gte=since, order_by="-run_after", limit=_RUNS)
    except ApiError as error:
        return [], str(error)
    by: dict[str, list[dict[str, Any]]] = {}
    for run in page["dag_runs"]:
        workspace, dot, _ = str(run["dag_id"]).partition(".")
        # Without a dot it is no job, but what Airflow runs for Forebay itself.
        if dot:
            by.setdefault(workspace, []).append(run)
    found = [
        WorkspaceRuns(
            name,
            len(runs),
            sum(run["state"] == "failed" for run in runs),
            sum(run["state"] in ("running", "queued") for run in runs),
            next((run for run in runs if run["state"] == "failed"), None),
        )
        for name, runs in by.items()
    ]
    note = "" if page["total_entries"] <= _RUNS else f"The last {_RUNS} of {page['total_entries']:,} runs."
    return sorted(found, key=lambda each: (-each.failed, each.workspace)), note
