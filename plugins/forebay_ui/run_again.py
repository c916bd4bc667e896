"""Do a run again: with its parameters and dates, and where that is asked for on the tables it read, with the code it ran.

A page that says what either comes to, then the new run; and the same for programs.

This file must not have `from __future__ import annotations` (see auth.py).
"""

from typing import Annotated, Any

import pendulum
from airflow.exceptions import ParamValidationError
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from forebay.errors import ForebayError
from forebay.lake.rest import Rest
from forebay.stack.rerun import ANYWAY, Again, plan
from forebay_ui import audit
from forebay_ui.auth import of_job
from forebay_ui.html import query, segment
from forebay_ui.lake import lake
from forebay_ui.owners import root
from forebay_ui.run_of import The, TheRun, answered, show

Starts = Depends(of_job("POST"))
router, api = APIRouter(dependencies=[Starts]), APIRouter(dependencies=[Starts])

_PATIENCE = 60.0
_HIDDEN = "a table of another workspace"


class Rerun(BaseModel, extra="forbid"):
    """What a program sends to have a run done again."""

    as_of: bool = Field(
        False,
        description="Read the tables as the old run did, and run the commit that it ran where the bundle is versioned.",
    )
    anyway: bool = Field(
        False, description="Although the code is another one, or not all that was read is known."
    )


@router.get("/{job}/{run}/rerun", response_class=HTMLResponse)
def ask_rerun(request: Request, the: The) -> HTMLResponse:
    return _page(request, the)


@router.post("/{job}/{run}/rerun", response_class=HTMLResponse)
def rerun_form(
    request: Request,
    the: The,
    as_of: Annotated[str, Form(max_length=5)] = "",
    anyway: Annotated[str, Form(max_length=5)] = "",
) -> Response:
    try:
        run_id, _ = _do_again(the, Rerun(as_of=as_of == "yes", anyway=anyway == "yes"))
    except HTTPException as error:
        if error.status_code not in (400, 404, 409):
            raise
        return _page(request, the, status=error.status_code, said=str(error.detail))
    also = query({"done": "again", "tab": "1" if "tab" in request.query_params else ""})
    root = request.scope.get("root_path", "")
    return RedirectResponse(f"{root}/runs/{segment(the.job)}/{segment(run_id)}?{also}", 303)


@api.post("/runs/{job}/{run}/rerun", status_code=201)
def do_a_run_again(
    request: Request, response: Response, the: The, asked: Rerun | None = None
) -> dict[str, Any]:
    """Starts a run that does this one again; 409 where it would not be as it was and you did not say `anyway`."""
    run_id, again = _do_again(the, asked or Rerun.model_validate({}))
    here = f"{request.scope.get('root_path', '')}/api/v1/runs/{segment(the.job)}/{segment(run_id)}"
    response.headers["location"] = here
    inputs = again.inputs or {}
    seen = {task: [pin for pin in listed if the.reads(pin)] for task, listed in inputs.items()}
    hidden = {pin for listed in inputs.values() for pin in listed if not the.reads(pin)}
    return again.document(run_id) | {
        "id": run_id,
        "inputs": None if again.inputs is None else seen,
        "inputs_hidden": len(hidden),
        "url": here,
    }


def _do_again(the: TheRun, asked: Rerun) -> tuple[str, Again]:
    """Starts the new run: its id, and what it was given."""
    with answered(409), Rest(lake(), timeout=_PATIENCE) as rest:
        again = _plan(the, rest, asked, old_code=True)
        again.sure(anyway=asked.anyway)
        try:
            if again.commit:
                return _on_old_code(the, again), again
        except _NoCode as error:
            if not asked.anyway:
                raise ForebayError(f"{error}{ANYWAY}, with today's code") from error
            again = _plan(the, rest, asked, old_code=False)
        audit.record(
            the.who, "rerun_run", workspace=the.workspace, job=the.job, run=the.known.run.airflow, as_of=asked.as_of,
        )  # fmt: skip
        return again.start(the.who.api), again


def _page(request: Request, the: TheRun, *, status: int = 200, said: str = "") -> HTMLResponse:
    """What doing it again comes to, as it was and on today's tables; why not, where it cannot be done."""
    then, now = _looked(the, as_of=True), _looked(the, as_of=False)
    inputs = then.inputs if isinstance(then, Again) and then.inputs else {}
    pins = sorted({pin for listed in inputs.values() for pin in listed})
    seen = [pin for pin in pins if the.reads(pin)]
    return show(
        request, the, "run_again.html", status, story=the.story, said=said, csrf=the.who.csrf, then=then, now=now,
        seen=seen, hidden=len(pins) - len(seen),
    )  # fmt: skip


def _looked(the: TheRun, *, as_of: bool) -> Again | str:
    asked = Rerun(as_of=as_of, anyway=False)
    try:
        with answered(409), Rest(lake(), timeout=_PATIENCE) as rest:
            again = _plan(the, rest, asked, old_code=True)
            try:
                with create_session() as session:
                    if again.commit:
                        _code(session, the, again)
            except _NoCode as error:
                again = _plan(the, rest, asked, old_code=False)
                again.doubts.append(str(error))
            return again
    except HTTPException as error:
        if error.status_code != 409:
            raise
        return str(error.detail)


class _NoCode(ForebayError):
    """Airflow cannot run the code that the old run had."""


def _plan(the: TheRun, rest: Rest, asked: Rerun, *, old_code: bool) -> Again:
    return plan(
        the.who.api, root(), rest, the.known, as_of=asked.as_of, old_code=old_code,
        shown=lambda pin: pin if the.reads(pin) else _HIDDEN,
    )  # fmt: skip


def _on_old_code(the: TheRun, again: Again) -> str:
    """Starts the run on the version of the job that the old run had; its id. Raises _NoCode.

    Airflow's API starts runs on the newest version. A run that names an older one, with its bundle's commit, is what any
    run is once somebody has pushed: the scheduler takes its tasks from that version, and workers check out that commit.
    """
    moment = pendulum.now("UTC")
    with create_session() as session:
        version, dag = _code(session, the, again)
        run_id = dag.timetable.generate_run_id(
            run_type=DagRunType.MANUAL, run_after=moment, data_interval=None
        )
        try:
            run = dag.create_dagrun(
                run_id=run_id, run_after=moment, conf=again.conf, run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.REST_API, triggering_user_name=the.who.name, state=DagRunState.QUEUED,
                session=session,
            )  # fmt: skip
        except (ParamValidationError, ValueError) as error:
            raise HTTPException(409, f"The code of then does not take its parameters: {error}") from error
        # It was made on the newest version; nobody has seen it yet.
        run.created_dag_version, run.bundle_version = version, again.commit
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.dag_id == the.job, TaskInstance.run_id == run_id)
            .values(dag_version_id=version.id)
        )
        run.note = (again.note, the.who.user.get_id())
        session.add(
            audit.row(
                the.who, "rerun_run", workspace=the.workspace, job=the.job, run=the.known.run.airflow, as_of=True,
                commit=again.commit, new_run=run_id,
            )
        )  # fmt: skip
    return run_id


def _code(session: Session, the: TheRun, again: Again) -> tuple[DagVersion, SerializedDAG]:
    """The job as the old run had it. Raises _NoCode."""
    job = session.get(DagModel, the.job)
    if job is None or job.is_stale:
        raise HTTPException(
            409,
            f"{the.job} is not in its bundle any more, and Airflow starts no run of such a job. Put its file back.",
        )
    run = session.scalar(
        select(DagRun).where(DagRun.dag_id == the.job, DagRun.run_id == the.known.run.airflow)
    )
    # The version is not asked for its commit: while only files beside the job change, Airflow writes the newest there.
    version = (run and run.created_dag_version) or DagVersion.get_latest_version(
        the.job, bundle_version=again.commit, session=session
    )
    if version is None:
        raise _NoCode(_gone(the, again))
    if version.bundle_name != job.bundle_name:
        raise _NoCode(
            f"{the.known.name} ran with commit {again.commit} of the bundle {version.bundle_name}; the job comes from "
            f"{job.bundle_name} now, where that commit is not looked for."
        )
    dag = DBDagBag(load_op_links=False).get_dag(version.id, session)
    if dag is None:
        raise _NoCode(_gone(the, again))
    return version, dag


def _gone(the: TheRun, again: Again) -> str:
    return (
        f"{the.known.name} ran with commit {again.commit}, but Airflow has no version of the job of then any more: "
        "airflow db clean takes old ones. Set the bundle's branch back to that commit to have it."
    )
