"""One run as its pages show it: read for this request, once its visitor may see it.

This file must not have `from __future__ import annotations` (see auth.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Request
from fastapi.responses import HTMLResponse

from forebay.errors import ForebayError
from forebay.lake.connection import LakeError
from forebay.lake.publish import PublishConflict
from forebay.lake.rest import Rest
from forebay.lake.rollback import BuiltOn
from forebay.stack.airflow_api import ApiError
from forebay.stack.dossier import exactly, story
from forebay.stack.runs import KnownRun, UnknownRunName, find
from forebay.stack.story import Story, Written
from forebay_ui.auth import Visiting, Visitor, of_job
from forebay_ui.engine_now import engine_link
from forebay_ui.html import render, segment
from forebay_ui.lake import lake
from forebay_ui.owners import root
from forebay_ui.rows import checks_of_run

_PATIENCE = 30.0

_TEXT = r"^[^\x00-\x1f\x7f]+$"

Job = Annotated[str, Path(max_length=250, pattern=_TEXT, description="<workspace>.<job>")]
RunId = Annotated[
    str,
    Path(max_length=250, pattern=_TEXT, description="The run's id, as `forebay runs` names it, or `latest`."),
]


@contextmanager
def answered(refused: int = 404) -> Iterator[None]:
    """What Airflow and the lake refuse, with the status that says who has to do something; else `refused`."""
    try:
        yield
    except (PublishConflict, BuiltOn) as error:
        raise HTTPException(409, lake().redact(str(error))) from error
    except ApiError as error:
        status = error.status if error.status in (400, 401, 403, 404, 409, 422) else 503
        raise HTTPException(status, str(error)) from error
    except UnknownRunName as error:
        raise HTTPException(404, str(error)) from error
    except LakeError:
        raise
    except ForebayError as error:
        raise HTTPException(refused, str(error)) from error


@dataclass(frozen=True)
class TheRun:
    """A run that the visitor may see, by its job and id."""

    who: Visitor
    known: KnownRun

    @property
    def job(self) -> str:
        return self.known.run.job

    @property
    def name(self) -> str:
        return self.known.run.run

    @property
    def workspace(self) -> str:
        return self.known.run.workspace

    @cached_property
    def may_change(self) -> bool:
        return self.who.may_job("PUT", self.job)

    @cached_property
    def may_start(self) -> bool:
        return self.who.may_job("POST", self.job)

    @cached_property
    def story(self) -> Story:
        with answered(), Rest(lake(), timeout=_PATIENCE) as rest:
            return story(self.who.api, root(), rest, self.known)

    def reads(self, table: str) -> bool:
        """Whether the visitor may see a table, named alone or with its snapshot: `namespace.table@1`."""
        return self.who.reads(table.partition("@")[0].rpartition(".")[0])

    @property
    def path(self) -> str:
        """Its page, below the console's own address."""
        return f"runs/{segment(self.job)}/{segment(self.name)}"

    def checks(self) -> list[dict[str, Any]]:
        """What its checks found, of tables that the visitor may see."""
        told = self.story
        tables = {each.table for each in told.tables} | {
            str(step.checks.get("table") or "") for step in told.steps if step.checks
        }
        namespaces = {self.workspace} | {name.rpartition(".")[0] for name in tables if name}
        found = checks_of_run(
            lake(), [name for name in namespaces if self.who.reads(name)], self.job, self.known.run.airflow
        )
        return [row for row in found if self.who.reads(str(row["table_name"]).rpartition(".")[0])]


def run_of(job: Job, run: RunId, who: Visiting, _: Annotated[None, Depends(of_job("GET"))]) -> TheRun:
    """The run in the path; whether there is such a run shows when its story is told."""
    with answered():
        return TheRun(who, find(who.api, f"{job}/latest") if run == "latest" else exactly(who.api, job, run))


The = Annotated[TheRun, Depends(run_of)]


def show(request: Request, the: TheRun, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page of a run: alone, or as a tab of Airflow's own page of it."""
    tab = "tab" in request.query_params
    return render(
        request, template, status=status, who=the.who, places=request.app.state.places, the=the, run=the.known,
        title=f"{the.job} {the.name}", here_root=f"{request.scope.get('root_path', '')}/{the.path}", tab=tab,
        also="?tab=1" if tab else "", engine_link=engine_link, reads=the.reads, **context,
    )  # fmt: skip


def document(the: TheRun) -> dict[str, Any]:
    """The whole story as JSON; snapshots' ids are text, since JavaScript would round them."""
    told, run, reads = the.story, the.known, the.reads
    inputs = {name: tasks for name, tasks in told.inputs.items() if reads(name)}
    word, meaning = told.headline
    return {
        "id": the.name,
        "job": the.job,
        "run_id": the.name,
        "workspace": the.workspace,
        "state": told.state,
        "airflow": run.airflow,
        "headline": f"{word}: {meaning}",
        "remembered": told.remembered,
        "waits_for_approval": told.waits,
        "branch": run.run.branch,
        "commits": list(told.commits),
        "user": told.user,
        "began": told.began,
        "seconds": told.seconds,
        "acts": told.acts if the.may_change else [],
        "tasks": [
            {
                "task": step.key,
                "state": step.state,
                "kind": step.kind,
                "at": step.at,
                "seconds": step.seconds,
                "tries": step.tries,
                "wrote": [_written(each) for each in step.wrote if reads(each.table)],
                "rows_after": {name: rows for name, rows in step.totals.items() if reads(name)},
                "files": {name: words for name, words in step.files.items() if reads(name)},
                "read": [name for name in step.read if reads(name)],
                "checks": dict(step.checks) if reads(str(step.checks.get("table") or "")) else {},
                "said": list(step.said),
                "query": step.query,
                "engine_link": engine_link(the.known, step)[1],
                "progress": asdict(step.progress) if step.progress else None,
            }
            for step in told.steps
        ],
        "tables": [
            {
                "table": each.table,
                "states": list(each.words),
                "added": each.added,
                "removed": each.removed,
                "bytes": each.bytes,
                "from_snapshot_id": _id(each.sides.old if each.sides else None),
                "to_snapshot_id": _id(each.sides.new if each.sides else None),
            }
            for each in told.tables
            if reads(each.table)
        ],
        "inputs": [{"table": name, "tasks": tasks} for name, tasks in inputs.items()],
        "inputs_hidden": len(told.inputs) - len(inputs),
        "inputs_complete": told.complete,
    }


def _written(one: Written) -> dict[str, Any]:
    return {
        "table": one.table,
        "snapshot_id": str(one.made.snapshot),
        "operation": one.made.operation,
        "at": one.made.at,
        "try": one.made.number,
        "engine": one.made.engine,
        "added": one.made.added,
        "removed": one.made.removed,
        "bytes": one.bytes,
        "stands": one.stands,
    }


def _id(number: int | None) -> str | None:
    return None if number is None else str(number)
