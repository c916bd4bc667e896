"""Which of a job's intervals are there: missing, stale, fine, or being done; and the least backfills that do the rest.

Nothing here asks anybody: what the catalog, Airflow and Git said comes in, so that it can be looked at alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from forebay.lake.branch import MAIN, ancestry, ref, snapshots, stamp
from forebay.lake.identity import Run

State = Literal["missing", "stale", "fine", "running"]
Reprocess = Literal["none", "failed", "completed"]
"""Airflow's words for what a backfill does with runs that are there: leaves them, repeats failed ones, or all."""

_REACH: dict[str, int] = {"": 0, "failed": 1, "success": 2}
_BEHAVIOURS: tuple[Reprocess, ...] = ("none", "failed", "completed")


@dataclass(frozen=True, slots=True)
class Left:
    """What one Airflow run has on main."""

    name: str
    """The run's name in the lake: the newest, where backfills did it again."""
    commits: frozenset[str] = frozenset()
    """Git commits that its rows were made with; an empty text where one is not known."""
    at: int = 0
    """When its newest snapshot was made, in milliseconds since 1970."""


@dataclass
class OnMain:
    """What a job's runs have on its tables' main, by Airflow's run id."""

    job: str
    runs: dict[str, Left] = field(default_factory=dict)
    since: float = 0.0
    """Seconds since 1970: older snapshots have expired, so what was before is not known."""

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Counts one table in."""
        known = snapshots(metadata)
        oldest: Mapping[str, Any] | None = None
        for snapshot in ancestry(known, ref(metadata, MAIN)):
            oldest = snapshot
            if stamp(snapshot, "job") == self.job and (name := stamp(snapshot, "run")):
                self._count(
                    Left(name, frozenset((stamp(snapshot, "commit"),)), int(snapshot["timestamp-ms"]))
                )
        if oldest is not None and oldest.get("parent-snapshot-id") is not None:
            self.since = max(self.since, int(oldest["timestamp-ms"]) / 1000)

    def _count(self, new: Left) -> None:
        key = Run(self.job, new.name).airflow
        old = self.runs.get(key)
        if old is None or (old.name != new.name and new.at > old.at):
            self.runs[key] = new
        elif old.name == new.name:
            self.runs[key] = Left(new.name, old.commits | new.commits, max(old.at, new.at))


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of a job's schedule and how it stands."""

    logical_date: datetime
    start: datetime
    end: datetime
    state: State
    reason: str
    run: str = ""
    """The run's name in the lake; empty where there is none."""
    airflow: str = ""
    """Airflow's state of that run; empty where there is none."""


def judge(
    when: datetime,
    run: Mapping[str, Any] | None,
    main: OnMain,
    changed: Callable[[str], str],
    silent: Callable[[str], frozenset[str] | None] = lambda run_id: None,
) -> Interval:
    """How the interval of a logical date stands.

    `run` is Airflow's document of its run, `changed` says why what ran with a Git commit is not what the job is
    today, and is empty where it is. `silent` gives the commits of a run that ended well and changed no table, and
    None for one that did change some.
    """
    run_id = str(run["dag_run_id"]) if run else _forgotten(when, main)
    airflow = str(run["state"]) if run else ""
    left = main.runs.get(run_id)
    start, end = (_date(run, f"data_interval_{name}", when) for name in ("start", "end"))
    name = left.name if left else Run.named(main.job, run_id, run.get("conf")).run if run else ""

    def found(state: State, reason: str) -> Interval:
        return Interval(when, start, end, state, reason, name, airflow)

    if airflow in ("queued", "running"):
        return found("running", f"its run is {airflow}")
    if left is not None:
        if airflow == "failed":
            return found("stale", "published, and the last try to do it again failed")
        return _by_code(left.commits, changed, found)
    if airflow == "success":
        assert run is not None
        commits = silent(run_id)
        if commits is not None:
            return _by_code(commits, changed, found, "done, and it changed no table")
        if main.since and _date(run, "end_date", when).timestamp() < main.since:
            return found("fine", "by Airflow's word: its snapshots have expired")
        return found("missing", "its run ended well, but its rows are not on main: rolled back, or replaced")
    return found("missing", "its run failed" if airflow == "failed" else "no run")


def _by_code(
    commits: Iterable[str],
    changed: Callable[[str], str],
    found: Callable[[State, str], Interval],
    good: str = "published",
) -> Interval:
    why = next(filter(None, map(changed, sorted(commits))), "")
    return found("stale", why) if why else found("fine", good)


def _forgotten(when: datetime, main: OnMain) -> str:
    """The id of a run that Airflow no longer knows, whose rows are on main."""
    for kind in ("scheduled", "backfill"):
        if (run_id := f"{kind}__{when.astimezone(UTC).isoformat()}") in main.runs:
            return run_id
    return ""


def _date(run: Mapping[str, Any] | None, name: str, otherwise: datetime) -> datetime:
    text = (run or {}).get(name)
    return datetime.fromisoformat(str(text)) if text else otherwise


@dataclass(frozen=True, slots=True)
class Batch:
    """One backfill of Airflow's: everything from the first to the last interval that `reprocess` reaches."""

    intervals: tuple[Interval, ...]
    """Those it does, in order."""
    reprocess: Reprocess


def batches(intervals: Sequence[Interval], chosen: Callable[[Interval], bool], most: int) -> list[Batch]:
    """The fewest backfills that do the chosen intervals and leave the others alone, at most `most` in each.

    Airflow's backfill takes a range of dates and one rule for the runs that are there, and knows nothing of the lake.
    """
    found: list[Batch] = []
    held: list[Interval] = []
    able: set[Reprocess] = set(_BEHAVIOURS)
    for each in intervals:
        fits = {rule for rule in able if _does(rule, each) == chosen(each)}
        if held and (not fits or (chosen(each) and sum(map(chosen, held)) == most)):
            _close(found, held, able, chosen)
            held, able = [], set(_BEHAVIOURS)
            fits = {rule for rule in able if _does(rule, each) == chosen(each)}
        # A backfill begins with something it does; what is left alone before that costs no rule.
        if held or chosen(each):
            held.append(each)
            able = fits
    _close(found, held, able, chosen)
    return found


def _close(
    found: list[Batch], held: Sequence[Interval], able: set[Reprocess], chosen: Callable[[Interval], bool]
) -> None:
    if does := tuple(filter(chosen, held)):
        found.append(Batch(does, next(rule for rule in _BEHAVIOURS if rule in able)))


def _does(rule: Reprocess, interval: Interval) -> bool:
    """Whether Airflow would do an interval by this rule; it leaves those alone whose run has not ended."""
    reach = _REACH.get(interval.airflow)
    return reach is not None and reach <= _BEHAVIOURS.index(rule)
