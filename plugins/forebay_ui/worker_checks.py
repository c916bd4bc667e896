"""Connection checks where tasks run: a run of Forebay's own dag, whose answer is read back here."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import DagNotFound
from airflow.jobs.job import most_recent_job
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from forebay.connections import doctor, worker
from forebay.connections.model import Connection, Report, Step
from forebay.connections.sealed import Unreadable
from forebay.errors import ForebayError

log = logging.getLogger(__name__)

_EVERY = 0.2
_SCHEDULER = "SchedulerJob"
_NEW = 20.0
"""Seconds for the dag-processor of a stack that has just started."""


class NoAnswer(Exception):
    """No worker checked anything; its two arguments are what was found, and what mends it."""


def from_worker(
    by: str,
    connections: list[Connection],
    allowed: list[str],
    timeout: float,
    authorities: str,
    done: Callable[[list[Report]], None],
    patience: float = worker.PATIENCE,
) -> Iterator[doctor.Event]:
    """Has a worker check these connections for somebody whose rights were looked at; events when it is done.

    `allowed` are the ids of those that may be used besides, because these name them.

    The work begins at once, in the background, and `done` is called with what a worker reported, also when nobody takes
    the events any more. Where no worker answers, each connection's event says why; that is no result of a check.
    """
    found: queue.SimpleQueue[list[Report]] = queue.SimpleQueue()

    def ask() -> None:
        reports: list[Report] = []
        made: list[Report] = []
        try:
            reports = made = _asked(
                by, [each.conn_id for each in connections], allowed, timeout, authorities, patience
            )
        except NoAnswer as no:
            reports = [_silent(each, *map(str, no.args)) for each in connections]
        except (ForebayError, Unreadable, SQLAlchemyError) as error:
            log.exception("No worker could be asked to check connections")
            reports = [
                _silent(each, f"no worker could be asked ({type(error).__name__})", "The API server's log has the details.")
                for each in connections
            ]  # fmt: skip
        finally:
            try:
                done(made)
            finally:
                found.put(reports)

    threading.Thread(target=ask, name="forebay-ask-worker", daemon=True).start()

    def events() -> Iterator[doctor.Event]:
        for report in found.get():
            for step in report.steps:
                yield doctor.Event(report.conn_id, step, side="worker")
            yield doctor.Event(report.conn_id, report=report, side="worker")

    return events()


def _asked(
    by: str, conn_ids: list[str], allowed: list[str], timeout: float, authorities: str, patience: float
) -> list[Report]:
    run_id = f"check__{uuid.uuid4().hex}"
    _start(by, run_id, worker.order(run_id, conn_ids, allowed, timeout, authorities))
    until = time.monotonic() + patience + timeout
    while (state := _state(run_id)) not in (DagRunState.SUCCESS, DagRunState.FAILED):
        if not _scheduler_lives():
            _give_up(run_id)
            raise NoAnswer(
                "Airflow's scheduler is not running", "Without it no task starts. Start it: see Health."
            )
        if time.monotonic() > until:
            _give_up(run_id)
            raise NoAnswer(
                f"no worker did it within {patience + timeout:g} s",
                f"Tasks do not start just now: see Health, whether all slots are taken, and whether {worker.DAG_ID} is "
                "paused in Airflow.",
            )
        time.sleep(_EVERY)
    if state == DagRunState.FAILED:
        raise NoAnswer("the check's own task failed", f"Airflow has its log: {worker.DAG_ID}, run {run_id}.")
    with create_session() as session:
        rows = XComModel.get_many(
            run_id=run_id, dag_ids=worker.DAG_ID, task_ids=worker.TASK, key="return_value"
        )
        kept = session.scalars(rows).first()
        sealed = "" if kept is None else str(XComModel.deserialize_value(kept))
    return worker.answer(sealed)


def _start(by: str, run_id: str, conf: dict[str, str]) -> None:
    until = time.monotonic() + _NEW
    while True:
        try:
            trigger_dag(
                worker.DAG_ID, run_id=run_id, conf=conf,
                triggered_by=DagRunTriggeredByType.REST_API, triggering_user_name=by,
            )  # fmt: skip
        except DagNotFound:
            if time.monotonic() < until:
                time.sleep(1)
                continue
            raise NoAnswer(
                f"Airflow has no dag '{worker.DAG_ID}'",
                "Its dag-processor does not read it. In production name the bundle forebay.bundle.OwnBundle in "
                "dag_bundle_config_list, for all of Airflow's services.",
            ) from None
        return


def _state(run_id: str) -> str | None:
    asked = select(DagRun.state).where(DagRun.dag_id == worker.DAG_ID, DagRun.run_id == run_id)
    with create_session() as session:
        return session.scalar(asked)


def _scheduler_lives() -> bool:
    with create_session() as session:
        job = most_recent_job(_SCHEDULER, session=session)
        return job is not None and bool(job.is_alive())


def _give_up(run_id: str) -> None:
    """Ends the run, so that nothing of it starts later. Its order would be too old by then anyway."""
    asked = select(DagRun).where(DagRun.dag_id == worker.DAG_ID, DagRun.run_id == run_id)
    with create_session() as session:
        run = session.scalar(asked)
        if run is not None:
            run.set_state(DagRunState.FAILED)


def _silent(connection: Connection, found: str, hint: str) -> Report:
    step = Step("worker", "Ask a worker", "bad", None, found, hint)
    return replace(doctor.not_checked(connection.conn_id, step, "", connection.conn_type), side="worker")
