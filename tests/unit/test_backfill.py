"""Which intervals a backfill does, and with which of Airflow's backfills: what is looked at, without a stack."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from forebay.code import Code
from forebay.errors import ForebayError
from forebay.lake.coverage import Interval, OnMain, batches, judge
from forebay.project import Project
from forebay.stack.backfill import MOST, cron_of, span

DAY = datetime(2026, 1, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
JOB = "sales.daily"


def snapshot(number: int, run: str, commit: str, parent: int | None, job: str = JOB) -> dict[str, Any]:
    summary = {"forebay.job": job, "forebay.run": run, "forebay.commit": commit, "operation": "append"}
    made: dict[str, Any] = {"snapshot-id": number, "timestamp-ms": number * 1000, "summary": summary}
    return made if parent is None else {**made, "parent-snapshot-id": parent}


def on_main(*snapshots: dict[str, Any]) -> OnMain:
    main = OnMain(JOB)
    main.add({
        "snapshots": snapshots,
        "refs": {"main": {"snapshot-id": snapshots[-1]["snapshot-id"], "type": "branch"}} if snapshots else {},
    })  # fmt: skip
    return main


def document(state: str, run: str = "scheduled__2026-01-01T05:00:00+00:00", **more: Any) -> dict[str, Any]:
    moment = DAY.isoformat()
    return {
        "dag_run_id": run, "state": state, "conf": {}, "end_date": moment,
        "data_interval_start": moment, "data_interval_end": moment, **more,
    }  # fmt: skip


def changed(commit: str) -> str:
    return "" if commit == "new" else f"changed since {commit}"


SCHEDULED = "scheduled__2026-01-01T05:00:00+00:00"


@pytest.mark.parametrize(
    ("run", "main", "state", "reason"),
    [
        (None, on_main(), "missing", "no run"),
        (document("failed"), on_main(), "missing", "its run failed"),
        (document("queued"), on_main(snapshot(1, SCHEDULED, "new", None)), "running", "its run is queued"),
        (document("success"), on_main(snapshot(1, SCHEDULED, "new", None)), "fine", "published"),
        (document("success"), on_main(snapshot(1, SCHEDULED, "old", None)), "stale", "changed since old"),
        (document("success"), on_main(snapshot(1, SCHEDULED, "new", None, "sales.other")), "missing", "rolled back"),
        # Two tables or tasks with different commits: the worst counts.
        (
            document("success"),
            on_main(snapshot(1, SCHEDULED, "old", None), snapshot(2, SCHEDULED, "new", 1)),
            "stale", "changed since old",
        ),
        # Done again by a backfill: the newest counts.
        (
            document("success", conf={"forebay_backfill": "m1"}),
            on_main(snapshot(1, SCHEDULED, "old", None), snapshot(2, f"{SCHEDULED}#m1", "new", 1)),
            "fine", "published",
        ),
        (
            document("failed", conf={"forebay_backfill": "m1"}),
            on_main(snapshot(1, SCHEDULED, "new", None)),
            "stale", "the last try to do it again failed",
        ),
        # Airflow forgot the run, the lake did not.
        (None, on_main(snapshot(1, SCHEDULED, "new", None)), "fine", "published"),
        (None, on_main(snapshot(1, "backfill__2026-01-01T05:00:00+00:00#m", "old", None)), "stale", "changed"),
        # Its snapshots have expired: the oldest one there has a parent that is gone.
        (document("success"), on_main(snapshot(1_800_000_000, "x", "new", 7)), "fine", "have expired"),
        (document("success"), on_main(snapshot(5, "x", "new", 4)), "missing", "rolled back"),
    ],
)  # fmt: skip
def test_how_an_interval_stands(run: dict[str, Any] | None, main: OnMain, state: str, reason: str) -> None:
    found = judge(DAY, run, main, changed)
    assert found.state == state
    assert reason in found.reason
    assert found.airflow == (run["state"] if run else "")
    assert (found.start, found.end) == (DAY, DAY)


def test_a_run_that_changed_no_table() -> None:
    main = on_main()
    assert judge(DAY, document("success"), main, changed, lambda run: frozenset(("new",))).state == "fine"
    assert judge(DAY, document("success"), main, changed, lambda run: frozenset(("old",))).state == "stale"
    assert judge(DAY, document("success"), main, changed, lambda run: None).state == "missing"


def interval(number: int, state: Any, airflow: str) -> Interval:
    when = DAY + timedelta(days=number)
    return Interval(when, when, when, state, "", "", airflow)


def airflow_does(found: list[Interval], parts: Any) -> list[Interval]:
    """What Airflow's backfills do of these, by its rules."""
    reach = {"none": ("",), "failed": ("", "failed"), "completed": ("", "failed", "success")}
    return [
        each
        for part in parts
        for each in found
        if part.intervals[0].logical_date <= each.logical_date <= part.intervals[-1].logical_date
        and each.airflow in reach[part.reprocess]
    ]


def test_backfills_do_what_was_chosen_and_nothing_else() -> None:
    ways = [
        ("missing", ""), ("missing", "failed"), ("missing", "success"), ("stale", "success"), ("stale", "failed"),
        ("stale", ""), ("fine", "success"), ("fine", ""), ("running", "running"),
    ]  # fmt: skip
    for seed in range(500):
        dice = random.Random(seed)
        found = [interval(number, *dice.choice(ways)) for number in range(dice.randrange(12))]
        states = set(dice.sample(["missing", "stale", "fine"], dice.randrange(1, 4)))
        most = dice.choice([2, 100])
        parts = batches(found, lambda each, states=states: each.state in states, most)  # type: ignore[misc]
        assert airflow_does(found, parts) == [each for each in found if each.state in states], seed
        assert [each for part in parts for each in part.intervals] == airflow_does(found, parts)
        assert all(0 < len(part.intervals) <= most for part in parts)


def test_holes_need_one_backfill() -> None:
    found = [interval(n, "missing" if n % 2 else "fine", "" if n % 2 else "success") for n in range(10)]
    (part,) = batches(found, lambda each: each.state == "missing", 100)
    assert (part.reprocess, len(part.intervals)) == ("none", 5)
    alternating = [interval(n, "stale" if n % 2 else "fine", "success") for n in range(6)]
    assert len(batches(alternating, lambda each: each.state == "stale", 100)) == 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dags" / "sales").mkdir(parents=True)
    (tmp_path / "sql" / "sales").mkdir(parents=True)
    (tmp_path / "sql" / "sales" / "daily.sql").write_text("SELECT 1 AS n")
    (tmp_path / "dags" / "sales" / "workspace.yaml").write_text("owner: me\n")
    task = "tasks:\n  - {key: a, type: sql, file: daily.sql, table: sales.daily}\n"
    for name, schedule in {
        "daily": 'schedule: {cron: "0 5 * * *", timezone: Europe/Berlin}',
        "minutes": 'schedule: "* * * * *"',
        "by_hand": "description: x",
        "follows": "schedule: {after: [other.t]}",
        "always": "schedule: continuous",
    }.items():
        (tmp_path / "dags" / "sales" / f"{name}.yaml").write_text(
            f"{schedule}\n{task.replace('sales.daily', f'sales.{name}')}"
        )
    return tmp_path


def test_the_span(project: Path) -> None:
    daily = Project(project).load_job("sales", "daily")
    whole = span(daily, "2026-01-01", "2026-01-02", NOW)
    assert whole.since == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert whole.until == datetime(2026, 1, 2, 22, 59, 59, 999999, UTC)
    exact = span(daily, "2026-01-01T05:00", "2026-01-01T05:00:00+01:00", NOW)
    assert exact.since == exact.until == datetime(2026, 1, 1, 4, tzinfo=UTC)
    assert span(daily, "2026-01-01", "2099-01-01", NOW).until == NOW
    for since, until, message in (
        ("2026-01-02", "2026-01-01", "is after --to 2026-01-01. Swap them"),
        ("2026-06-02", "2026-06-03", "is not over yet"),
        ("2026-02-30", "2026-03-01", "--from '2026-02-30' is no date"),
        ("2026-01-01", "soon", "--to 'soon' is no date"),
        ("1990-01-01", "2026-01-01", f"more than {MOST:,} intervals"),
    ):
        with pytest.raises(ForebayError, match=message):
            span(daily, since, until, NOW)
    with pytest.raises(ForebayError, match="more than 10,000 intervals"):
        span(Project(project).load_job("sales", "minutes"), "2026-01-01", "2026-01-08", NOW)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("by_hand", "starts only by hand, so it has no intervals to fill. Start a run"),
        ("always", "starts again and again"),
        ("follows", "starts after other.t changed, .* Backfill the job that writes them"),
    ],
)
def test_jobs_without_times(project: Path, name: str, message: str) -> None:
    with pytest.raises(ForebayError, match=message):
        cron_of(Project(project).load_job("sales", name))


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_code_that_changed(project: Path) -> None:
    def code() -> Code:
        return Code(Project(project).load_job("sales", "daily"))

    assert code().today == code().changed_since("whatever") == ""
    git(project, "init", "-q")
    git(project, "add", "dags")
    git(project, "commit", "-qm", "x")
    assert code().changed_since(code().today) == "sql/sales/daily.sql is not in Git"
    git(project, "add", "-A")
    git(project, "commit", "-qm", "x")
    first = code().today
    assert (code().changed_since(first), code().dirty) == ("", False)
    assert code().changed_since("") == "its commit is not known"
    assert "ran with changed files" in code().changed_since(f"{first}-dirty")
    assert "which this repository does not have" in code().changed_since("0" * 40)

    (project / "README").write_text("x")
    (project / "dags" / "sales" / "minutes.yaml").write_text("description: changed\n")
    # It is today's job still, but a run of it would be stamped as one of changed files.
    assert (code().changed_since(first), code().dirty, code().today) == ("", True, f"{first}-dirty")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "x")
    assert code().today != first
    assert code().changed_since(first) == ""

    (project / "sql" / "sales" / "daily.sql").write_text("SELECT 2 AS n")
    assert code().dirty
    assert code().changed_since(first) == f"sql/sales/daily.sql changed since {first[:10]}"
    git(project, "commit", "-qam", "x")
    assert code().changed_since(first) == f"sql/sales/daily.sql changed since {first[:10]}"
    assert code().changed_since(code().today) == ""
