"""Jobs run on Celery's workers, by a Redis: what a run promises holds there too."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import yaml
from airflow_chart import VALUES
from stack_of_tests import eventually

from forebay.engines.duckdb import DuckDBEngine
from forebay.stack.services import database_url

if TYPE_CHECKING:
    from platform_of_tests import Platform
LOAD = """
from airflow.executors.executor_loader import ExecutorLoader
for each in ExecutorLoader.get_executor_names():
    print(ExecutorLoader.import_executor_cls(each)[0].__name__)
"""


def rows(lab: Platform, table: str) -> list[int]:
    with DuckDBEngine(lab.lake.published()) as engine:
        found: list[int] = engine.query(f"SELECT n FROM lake.{table} ORDER BY n").column("n").to_pylist()
    return found


def test_a_run_is_branched_checked_published_and_blamed(lab: Platform) -> None:
    run, tasks = lab.run("lab.console", seconds=600)
    assert run["state"] == "success", tasks
    assert {each["state"] for each in lab.json("runs", "lab.console", "--limit", "1")} == {"published"}
    (newest, *_) = lab.json("blame", "lab.console_rows")
    assert newest["run_id"] == run["dag_run_id"]
    assert newest["task"] == "rows"
    assert newest["commit"] == run["bundle_version"]
    executors = {each["executor"] for each in lab.api.task_instances("lab.console", run["dag_run_id"])}
    assert executors <= {None, "CeleryExecutor"}
    with psycopg2.connect(database_url(lab.stack, "postgresql")) as database, database.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")
        assert cursor.fetchone()[0] >= 4


def test_every_executor_of_the_chart_loads(lab: Platform) -> None:
    """What one task runs on is named by the task, so that a scheduler needs all of them."""
    chart = str(yaml.safe_load(VALUES.read_text())["executor"])
    environment = {**lab.settings, "AIRFLOW__CORE__EXECUTOR": chart}
    done = subprocess.run(
        [*lab.command()[:1], "-c", LOAD], env=environment, capture_output=True, text=True, timeout=900
    )
    wanted = chart.split(",")
    assert done.stdout.split()[-len(wanted) :] == wanted, done.stderr[-3000:]


def test_an_approval_answered_at_once_publishes(lab: Platform) -> None:
    """A task that waits goes on in a new process of a worker's, without the embedded stack's own executor."""
    run_id = lab.start("lab.approved")
    details = f"/dags/lab.approved/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"

    def asked() -> bool:
        waits = {each["task_id"]: each["state"] for each in lab.api.task_instances("lab.approved", run_id)}
        return waits.get("approve") in ("deferred", "awaiting_input") and bool(lab.api.get(details))

    eventually(600, asked, "the run asks for approval")
    lab.api.request("PATCH", f"/api/v2{details}", json={"chosen_options": ["Approve"]})
    run, tasks = lab.finish("lab.approved", run_id, 600)
    assert run["state"] == "success", tasks
    assert rows(lab, "lab.approved") == [1]


def test_a_killed_workers_task_is_tried_again_and_no_row_is_there_twice(
    lab: Platform, tmp_path: Path
) -> None:
    run_id = lab.start("lab.killed", {"folder": str(tmp_path)})
    eventually(600, (tmp_path / "appended-1").exists, "the task has committed once")
    # The whole of it at once, as when a node is lost.
    os.killpg(lab.worker(), signal.SIGKILL)
    (tmp_path / "go").touch()
    lab.start_worker()
    run, tasks = lab.finish("lab.killed", run_id, 900)
    assert run["state"] == "success", tasks
    assert tasks["again"][0]["try_number"] == 2
    assert rows(lab, "lab.killed") == [0, 1, 2]
