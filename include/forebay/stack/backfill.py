"""Airflow's backfills: which intervals a job's schedule has, starting one, and following it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote
from zoneinfo import ZoneInfo

from forebay.errors import ForebayError
from forebay.lake.coverage import Batch, Interval, OnMain, judge
from forebay.lake.identity import AGAIN, Run
from forebay.spec.schedule import AfterSchedule, ContinuousSchedule, CronSchedule
from forebay.stack.airflow_api import PAGE, AirflowApi, ApiError, Json, NoAnswer

if TYPE_CHECKING:
    from forebay.code import Code
    from forebay.project import LoadedJob

MOST = 10_000
"""Intervals of one command."""
AT_ONCE = 500
"""Intervals of one backfill of Airflow's, which makes all of its runs within one request."""
_PATIENT = 300.0


@dataclass(frozen=True)
class Span:
    """The dates that were asked for, as moments; both ends belong to it."""

    since: datetime
    until: datetime


def span(job: LoadedJob, since: str, until: str, now: datetime) -> Span:
    """From two texts; a day without a time is the whole day, read in the schedule's time zone.

    Raises ForebayError for a job without times, for what are no dates, and for a span that holds too much.
    """
    schedule = cron_of(job)
    zone = ZoneInfo(schedule.timezone)
    first, last = _moment("--from", since, zone, clock.min), _moment("--to", until, zone, clock.max)
    if first > last:
        raise ForebayError(f"--from {since} is after --to {until}. Swap them.")
    if first >= now:
        raise ForebayError(
            f"--from {since} is not over yet: a backfill does what is past. forebay run starts one now."
        )
    last = min(last, now)
    count = sum(1 for _ in _ticks(schedule, first, last, MOST + 1))
    if count > MOST:
        raise ForebayError(
            f"{job.dag_id} has more than {MOST:,} intervals from {since} to {until}. Do it in parts: give an earlier --to."
        )
    return Span(first, last)


def cron_of(job: LoadedJob) -> CronSchedule:
    """The times a job starts at; raises ForebayError for one that has none."""
    by_hand = f"Start a run with the values you need (forebay run {job.dag_id} --param NAME=VALUE)"
    match job.spec.schedule:
        case CronSchedule() as schedule:
            return schedule
        case AfterSchedule(after=tables):
            when = f"after {', '.join(tables)} changed"
            do = "Backfill the job that writes them: this one follows"
        case ContinuousSchedule():
            when, do = "again and again", by_hand
        case _:
            when, do = "only by hand", by_hand
    raise ForebayError(
        f"{job.dag_id} starts {when}, so it has no intervals to fill. {do}, or give it a cron schedule in {job.file}."
    )


def _moment(option: str, text: str, zone: ZoneInfo, otherwise: clock) -> datetime:
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), otherwise, zone).astimezone(UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ForebayError(
            f"{option} {text!r} is no date. Write a day such as 2026-01-31, or 2026-01-31T05:00."
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def _ticks(schedule: CronSchedule, since: datetime, until: datetime, most: int) -> Iterator[datetime]:
    """About where the intervals are: counts them and cuts them into parts; Airflow says where they are."""
    from croniter import croniter  # type: ignore[import-untyped]

    zone = ZoneInfo(schedule.timezone)
    found = croniter(schedule.cron, since.astimezone(zone) - timedelta(seconds=1), ret_type=datetime)
    for _ in range(most):
        tick: datetime = found.get_next()
        if tick > until:
            return
        yield tick.astimezone(UTC)


def runs_within(api: AirflowApi, job: str, since: datetime, until: datetime) -> dict[datetime, Json]:
    """Airflow's runs by their logical date; of several the one that began last."""
    found: dict[datetime, Json] = {}
    path, between = f"/dags/{quote(job, safe='')}/dagRuns", (since.isoformat(), until.isoformat())
    for run in api.pages(
        path, "dag_runs", logical_date_gte=between[0], logical_date_lte=between[1], order_by="logical_date"
    ):
        when = datetime.fromisoformat(str(run["logical_date"])).astimezone(UTC)
        before = found.get(when)
        if before is None or str(run["start_date"] or "") > str(before["start_date"] or ""):
            found[when] = run
    return found


def intervals(
    api: AirflowApi,
    job: LoadedJob,
    asked: Span,
    main: OnMain,
    code: Code,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[Interval]:
    """Every interval of the job's schedule within the span, in order, and how it stands."""
    from forebay.stack.runs import words

    def silent(run_id: str) -> frozenset[str] | None:
        if not job.writes:
            return frozenset()
        left = words(api, Run(job.dag_id, run_id))
        return None if left.wrote or not left.tries else left.commits

    runs = runs_within(api, job.dag_id, asked.since, asked.until)
    dates = _dates(api, job, asked) | {when for when, run in runs.items() if _scheduled(run)}
    found = []
    for number, when in enumerate(sorted(dates)):
        tell(number, len(dates))
        found.append(judge(when, runs.get(when), main, code.changed_since, silent))
    return found


def _scheduled(run: Json) -> bool:
    """Runs by hand may have a logical date of their own, between the schedule's."""
    return str(run["run_type"]) in ("scheduled", "backfill")


def _dates(api: AirflowApi, job: LoadedJob, asked: Span) -> set[datetime]:
    """The logical dates that Airflow's backfill would do, were all to be done again; those of runs at work lack."""
    ticks = list(_ticks(cron_of(job), asked.since, asked.until, MOST))
    # In parts: Airflow looks for the run of each one before it answers.
    edges = [asked.since, *ticks[AT_ONCE::AT_ONCE], asked.until + timedelta(microseconds=1)]
    found = set()
    for start, end in pairwise(edges):
        body = {
            "dag_id": job.dag_id,
            "from_date": start.isoformat(),
            "to_date": (end - timedelta(microseconds=1)).isoformat(),
            "reprocess_behavior": "completed",
        }
        answer = api.request("POST", "/api/v2/backfills/dry_run", json=body, timeout=_PATIENT)
        found |= {
            datetime.fromisoformat(str(each["logical_date"])).astimezone(UTC) for each in answer["backfills"]
        }
    return found


def active(api: AirflowApi, job: str) -> Json | None:
    """The job's backfill that Airflow has not closed; there is one at most."""
    found = api.get("/backfills", dag_id=job, order_by="-id", limit=PAGE)["backfills"]
    return next((each for each in found if each["completed_at"] is None), None)


def close(api: AirflowApi, number: int) -> None:
    """Ends a backfill: its runs that wait do not start, those at work go on."""
    try:
        api.request("PUT", f"/api/v2/backfills/{number}/cancel")
    except ApiError as error:
        if "HTTP 409" not in str(error):
            raise


def start(
    api: AirflowApi, job: str, batch: Batch, conf: dict[str, object], mark: str, max_active: int
) -> int:
    """Starts one backfill and gives its number. Each of its runs is a transaction of its own, named by the mark."""
    body = {
        "dag_id": job,
        "from_date": batch.intervals[0].logical_date.isoformat(),
        "to_date": batch.intervals[-1].logical_date.isoformat(),
        "reprocess_behavior": batch.reprocess,
        "max_active_runs": max_active,
        "dag_run_conf": {**conf, AGAIN: mark},
        "run_on_latest_version": True,
    }
    return int(api.request("POST", "/api/v2/backfills", json=body, timeout=_PATIENT)["id"])


def follow(
    api: AirflowApi, job: str, batch: Batch, mark: str, every: float = 1.0
) -> Iterator[tuple[Sequence[tuple[Interval, Json | None]], int]]:
    """Intervals as they end with Airflow's document of their run, and how many run now; until all have ended.

    The document is None where Airflow left the interval alone: another run of it had begun.
    """
    waiting = {each.logical_date: each for each in batch.intervals}
    heard = time.monotonic()
    while waiting:
        try:
            runs = runs_within(api, job, min(waiting), max(waiting))
        except NoAnswer:
            # The runs go on without us: a busy or restarted API server is no reason to stop looking.
            if time.monotonic() - heard > _PATIENT:
                raise
            time.sleep(every)
            continue
        heard = time.monotonic()
        ended: list[tuple[Interval, Json | None]] = []
        for when in list(waiting):
            run = runs.get(when)
            ours = run is not None and (run.get("conf") or {}).get(AGAIN) == mark
            if not ours or (run is not None and run["state"] in ("success", "failed")):
                ended.append((waiting.pop(when), run if ours else None))
        yield ended, sum(1 for run in runs.values() if run["state"] == "running")
        if waiting:
            time.sleep(every)
