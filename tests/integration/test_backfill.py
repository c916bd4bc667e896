"""forebay backfill on a running stack: a small job of two rows a day, partitioned by day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import eventually

if TYPE_CHECKING:
    from conftest import Lab

DAYS = ("--from", "2013-03-01", "--to", "2013-03-04")
JOB = "story.daily"


def commit(root: Path) -> str:
    """Commits the lab's jobs; the commit."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    (root / ".gitignore").write_text("__pycache__/\n")
    for arguments in (
        ["init", "-q"],
        ["add", "-A", ".gitignore", "dags", "sql", "include"],
        ["commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def days(lab: Lab) -> Lab:
    commit(lab.root)
    eventually(30, lambda: lab.known(JOB), f"{JOB} is known")
    return lab


def rows(lab: Lab) -> list[dict[str, Any]]:
    """What backfills made; the schedule's own run of today is another day's."""
    found = lab.json("sql", "SELECT * FROM story.daily WHERE day < DATE '2014-01-01' ORDER BY day, n")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}


def plan(lab: Lab, *arguments: str) -> list[str]:
    found = lab.json("backfill", JOB, *DAYS, "--dry-run", *arguments)
    return [str(each["state"]) for each in found["intervals"]]


def refused(lab: Lab, *arguments: str) -> str:
    answer = lab.forebay("backfill", *arguments)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    return answer.stderr


def test_missing_then_fine_then_stale_and_never_twice(days: Lab) -> None:
    first = days.json("backfill", JOB, "--from", "2013-03-02", "--to", "2013-03-02", "--yes")
    assert [each["state"] for each in first["runs"]] == ["success"]
    assert first["runs"][0]["run_id"].startswith("backfill__2013-03-02T05:00:00+00:00#")
    assert plan(days) == ["missing", "fine", "missing", "missing"]

    shown = days.forebay("backfill", JOB, *DAYS, "--dry-run")
    assert "2013-03-02 05:00  fine     published" in shown.stdout
    assert "3 missing, 1 fine" in shown.stdout
    assert "To do: 3 (missing and stale), 4 at a time." in shown.stdout
    assert "say --yes" in refused(days, JOB, *DAYS)

    # All at once on one table: each swaps in its own partition.
    text = days.forebay("backfill", JOB, *DAYS, "--yes", "--max-active", "3")
    assert text.returncode == 0, text.stdout + text.stderr
    assert "3 of 3 intervals done" in text.stdout
    assert plan(days) == ["fine"] * 4
    found = rows(days)
    assert [(row["day"], row["n"]) for row in found] == [
        (f"2013-{day}", n) for day in ("02-28", "03-01", "03-02", "03-03") for n in (1, 2)
    ]
    for row in found:
        due = datetime.combine(date.fromisoformat(row["day"]) + timedelta(days=1), datetime.min.time(), UTC)
        moments = [datetime.fromisoformat(row[name]) for name in ("due", "since", "until")]
        assert moments == [due.replace(hour=5)] * 3
        assert row["_run_id"].startswith(f"backfill__{due:%Y-%m-%d}T05:00:00+00:00#")
        assert datetime.fromisoformat(row["_loaded_at"]) > datetime.now(UTC) - timedelta(minutes=10)
    assert (
        "Nothing to do: no interval is missing or stale"
        in days.forebay("backfill", JOB, *DAYS, "--yes").stdout
    )

    # A commit that leaves the job alone makes nothing stale; one that changes it makes all of it.
    (days.root / "dags" / "README").write_text("x")
    commit(days.root)
    assert plan(days) == ["fine"] * 4
    sql = days.root / "sql" / "story" / "daily.sql"
    sql.write_text(sql.read_text().replace("'a' AS word", "'b' AS word"))
    assert plan(days) == ["stale"] * 4
    assert "not committed" in days.forebay("backfill", JOB, *DAYS, "--dry-run").stderr
    new = commit(days.root)
    found = days.json("backfill", JOB, "--from", "2013-03-01", "--to", "2013-03-03", "--yes")
    assert (found["commit"], found["dirty"]) == (new, False)
    assert [each["reason"].partition(" since ")[0] for each in found["intervals"]] == [
        "sql/story/daily.sql changed"
    ] * 3
    assert plan(days) == ["fine", "fine", "fine", "stale"]
    assert [row["word"] for row in rows(days)] == ["b"] * 6 + ["a"] * 2
    assert len({row["_run_id"].partition("#")[2] for row in rows(days)}) == 2

    # The run that was done again is two runs in the lake; rolling the last one back shows the first one's rows.
    again = days.json("backfill", JOB, "--from", "2013-03-04", "--to", "2013-03-04", "--all", "--yes")
    assert [row["word"] for row in rows(days)] == ["b"] * 8
    days.json("rollback", f"{JOB}/{again['runs'][0]['run_id']}")
    assert plan(days) == ["fine", "fine", "fine", "stale"]
    assert days.json("backfill", JOB, *DAYS, "--missing", "--yes")["state"] == "nothing to do"


def test_an_interval_that_fails_publishes_nothing(days: Lab) -> None:
    before = rows(days)
    asked = ("--from", "2013-03-05", "--to", "2013-03-06")
    answer = days.forebay("backfill", JOB, *asked, "--yes", "--param", "word=bad")
    assert answer.returncode == 1
    assert "2 failed, and nothing of them was published" in answer.stdout
    assert f"forebay diff {JOB}/backfill__2013-03-05T05:00:00+00:00#" in answer.stdout
    assert rows(days) == before
    planned = days.json("backfill", JOB, *asked, "--dry-run")
    assert [(each["state"], each["reason"]) for each in planned["intervals"]] == [
        ("missing", "its run failed")
    ] * 2
    done = days.json("backfill", JOB, *asked, "--yes")
    assert [each["state"] for each in done["runs"]] == ["success"] * 2
    assert len(rows(days)) == len(before) + 4


def test_stopping_to_look_and_ending_it(days: Lab) -> None:
    asked = ("--from", "2013-05-01", "--to", "2013-05-20")
    begun = subprocess.Popen(
        [sys.executable, "-m", "forebay.cli.main", "backfill", JOB, *asked, "--yes", "--max-active", "1"],
        cwd=days.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert begun.stdout is not None
    assert any("✓ 2013-05-01" in line for line in begun.stdout)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=30)
    assert begun.returncode == 130
    assert "The backfill goes on in Airflow" in said
    assert f"forebay backfill {JOB} --cancel" in said
    assert f"a backfill of {JOB} is at work" in refused(days, JOB, *asked, "--yes")
    assert days.json("backfill", JOB, "--cancel")["state"] == "cancelled"

    def still() -> bool:
        found = days.json("backfill", JOB, *asked, "--dry-run")["intervals"]
        return not any(each["state"] == "running" for each in found)

    eventually(60, still, "what was at work has ended")
    states = [each["state"] for each in days.json("backfill", JOB, *asked, "--dry-run")["intervals"]]
    assert states[0] == "fine"
    assert states[-1] == "missing"
    # What was left over is done by the same command, and no row is there twice.
    done = days.json("backfill", JOB, *asked, "--yes", "--max-active", "4")
    assert len(done["runs"]) == states.count("missing")
    days_there = [row["day"] for row in rows(days) if "2013-04-30" <= row["day"] < "2013-05-20"]
    assert len(days_there) == 2 * len(set(days_there)) == 40


def test_what_cannot_be_filled(days: Lab) -> None:
    assert "there is no job 'story.dayly'. Did you mean 'story.daily'" in refused(days, "story.dayly", *DAYS)
    assert "starts only by hand, so it has no intervals" in refused(days, "story.people", *DAYS)
    after = refused(days, "lab.after_squares", *DAYS)
    assert "Backfill the job that writes them" in after
    assert "Swap them" in refused(days, JOB, "--from", "2013-03-04", "--to", "2013-03-01")
    assert "is no date" in refused(days, JOB, "--from", "2013-02-30", "--to", "2013-03-01")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert "is not over yet" in refused(days, JOB, "--from", tomorrow, "--to", tomorrow)
    assert "has no parameter 'wrd'" in refused(days, JOB, *DAYS, "--param", "wrd=x")
    assert "no backfill of story.daily is at work" in refused(days, JOB, "--cancel")
    assert days.forebay("backfill", JOB).returncode == 2
    days.api.request("PATCH", f"/api/v2/dags/{JOB}", json={"is_paused": True})
    try:
        assert "is paused in Airflow" in refused(days, JOB, *DAYS, "--all", "--yes")
    finally:
        days.api.request("PATCH", f"/api/v2/dags/{JOB}", json={"is_paused": False})
    assert (
        json.loads(days.forebay("backfill", JOB, *DAYS, "--dry-run", "-o", "json").stdout)["state"]
        == "planned"
    )
