"""A task marked failed stops its work within five seconds and leaves no process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

from conftest import eventually
from forebay.stack import supervisor

if TYPE_CHECKING:
    from conftest import Lab


def task_processes(lab: Lab, marks: tuple[str, ...]) -> list[psutil.Process]:
    found = []
    for process in supervisor.members(lab.stack):
        try:
            text = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(mark in text for mark in marks):
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("job", "ready", "marks"),
    [
        ("slow_sql", 3.0, ("task supervisor: ",)),
        ("slow_ingest", 3.0, ("task supervisor: ",)),
        ("slow_python", 3.0, ("task supervisor: ",)),
        ("slow_spark", 0.0, ("task supervisor: ", "SparkSubmit", "sleep.py")),
    ],
)
def test_a_task_marked_failed_is_gone_within_five_seconds(
    lab: Lab, job: str, ready: float, marks: tuple[str, ...]
) -> None:
    dag_id = f"lab.{job}"
    if job == "slow_ingest":
        write_landing(lab)
    before = {process.pid for process in supervisor.members(lab.stack)}
    run_id = lab.start(dag_id)
    eventually(30, lambda: lab.api.task_instances(dag_id, run_id)[0]["state"] == "running", "the task runs")
    if job == "slow_spark":
        eventually(
            90,
            lambda: any("spark is up" in line for line in lab.api.log(dag_id, run_id, "slow", 1)),
            "Spark is up",
        )
    time.sleep(ready)
    started = [p for p in supervisor.members(lab.stack) if p.pid not in before]
    assert started, "the task has a process"
    assert lab.api.task_instances(dag_id, run_id)[0]["state"] == "running"

    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/slow"
    lab.api.request("PATCH", path, json={"new_state": "failed"})
    began = time.monotonic()
    eventually(
        15,
        lambda: (
            not any(
                p.is_running() and p.status() != psutil.STATUS_ZOMBIE
                for p in started
                if p.pid not in workers(lab)
            )
        ),
        "its processes are gone",
    )
    seconds = time.monotonic() - began
    print(f"{job}: gone after {seconds:.1f} s")
    assert seconds <= 5
    run, _ = lab.finish(dag_id, run_id)
    assert run["state"] == "failed"
    assert not [t for t in lab.lake.pyiceberg().list_tables("lab") if t[1].startswith("never")]


def workers(lab: Lab) -> set[int]:
    """The executor's own workers, which stay."""
    return {p.pid for p in task_processes(lab, ("airflow worker -- LocalExecutor",))}


def write_landing(lab: Lab) -> None:
    folder = lab.root / "landing"
    folder.mkdir(exist_ok=True)
    with (folder / "big.csv").open("w") as file:
        file.write("a,b,c,d\n")
        block = "".join(f"{n},{n * 7 % 1000003},text number {n},{n / 3}\n" for n in range(200_000))
        for _ in range(120):
            file.write(block)
