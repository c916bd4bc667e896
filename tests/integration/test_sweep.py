"""Forebay's own dag drops the old branches of runs that never published, whether or not their jobs are there still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from conftest import Lab, eventually
from console_client import browser
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import Branch
from forebay.lake.identity import TaskTry
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition
from forebay.operators.sweep import DAG_ID, TASK

TABLE = "lab_swept.rows"
DAY = 86_400.0
PAUSED = "lab.noop"


@pytest.fixture
def admin(lab: Lab) -> Iterator[httpx.Client]:
    with browser(lab, "admin") as client:
        yield client


@pytest.fixture
def table(lab: Lab) -> Iterator[Rest]:
    """A table with a row that everybody sees."""
    with DuckDBEngine(lab.lake.main()) as engine:
        engine.write("SELECT 0 AS n", TableDefinition(TABLE))
    with Rest(lab.lake) as rest:
        yield rest
        rest.drop(TABLE)


def left(lab: Lab, job: str, run: str, keep: float = 0.0) -> TaskTry:
    """Somebody's run with a row that it does not publish."""
    who = TaskTry(job, run, task="write", writes=(TABLE,), began=time.time(), keep=keep)
    with DuckDBEngine(lab.lake.seen_by(who)) as engine:
        engine.write("SELECT 1 AS n", TableDefinition(TABLE), "append")
    return who


def branches(rest: Rest) -> set[str]:
    metadata = rest.table(TABLE)
    assert metadata is not None
    return {each.name for each in Branch.all(metadata)}


def test_old_branches_go_whoever_left_them(lab: Lab, table: Rest, admin: httpx.Client) -> None:
    eventually(30, lambda: lab.known(PAUSED), f"{PAUSED} is known")
    lab.api.request("PATCH", f"/api/v2/dags/{PAUSED}", json={"is_paused": True})
    waiting = lab.api.trigger(PAUSED, {})
    try:
        goes = [left(lab, "gone.job", "told_a_second", 1), left(lab, "lab.each", "told_a_second_too", 1)]
        stays = [
            left(lab, "gone.job", "told_nothing"),
            left(lab, "gone.job", "told_a_month", 30 * DAY),
            left(lab, PAUSED, waiting, 1),
        ]
        time.sleep(1.5)
        run, tasks = lab.run(DAG_ID)
        assert run["state"] == "success"
        assert branches(table) == {who.branch for who in stays}
        said = "\n".join(lab.api.log(DAG_ID, run["dag_run_id"], TASK, tasks[TASK][0]["try_number"]))
        for who in goes:
            assert f"{TABLE}: the branch of {who.run} is older than keep_failed_runs: dropped" in said
    finally:
        lab.api.request("DELETE", f"/api/v2/dags/{PAUSED}/dagRuns/{quote(waiting, safe='')}")
        lab.api.request("PATCH", f"/api/v2/dags/{PAUSED}", json={"is_paused": False})
    # It is no job of a workspace.
    assert DAG_ID not in admin.get("/api/v1/jobs").text
    for page in ("/jobs", "/health", "/runs", "/workspaces"):
        assert f"/{DAG_ID}" not in admin.get(page).text, page
    assert DAG_ID not in lab.forebay("runs").stdout


def test_a_run_is_told_how_long_its_workspace_keeps_branches(lab: Lab) -> None:
    lab.run("lab.each")
    with Rest(lab.lake) as rest:
        metadata = rest.table("lab.each_good")
    assert metadata is not None
    assert metadata["snapshots"][-1]["summary"]["forebay.keep"] == str(int(7 * DAY))


def test_it_runs_each_night_and_at_once_on_a_new_stack(lab: Lab) -> None:
    first = lab.api.get(f"/dags/{DAG_ID}/dagRuns", order_by="run_after", limit=1)["dag_runs"]
    assert [each["run_type"] for each in first] == ["scheduled"]
    dag = lab.api.get(f"/dags/{DAG_ID}")
    assert not dag["is_paused"]
    assert dag["next_dagrun_run_after"][11:16] == "03:17"
