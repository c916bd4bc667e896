"""What the benchmarks share: projects of many jobs, and stacks of their own in a temporary folder."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from forebay.stack import health, lifecycle
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.layout import Stack

LOADER = '"""Every YAML file in this folder is a job: an Airflow dag."""\nfrom forebay.dag import load_dags\nglobals().update(load_dags(__file__))\n'
Row = tuple[str, str, str, bool]
LONGEST_RUN = 240


def say(text: str) -> None:
    print(f"   {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="forebay-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running(root: Path, parts: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Iterator[Stack]:
    """A stack over a project, on free ports; gone afterwards."""
    stack = Stack(root, root / ".forebay")
    (root / "dags").mkdir(parents=True, exist_ok=True)
    # Python remembers of a folder on its path that it was not there.
    (root / "include").mkdir(exist_ok=True)
    try:
        lifecycle.up(stack, lambda _: None, free_ports=True, parts=parts, without=without)
        yield stack
    finally:
        lifecycle.down(stack)


def console_of(stack: Stack) -> httpx.Client:
    """The console, for somebody who is logged in."""
    url = stack.url("airflow")
    login = {"username": "admin", "password": stack.secrets["admin_password"]}
    token = httpx.post(f"{url}/auth/token", json=login, trust_env=False, timeout=60).json()["access_token"]
    return httpx.Client(
        base_url=f"{url}/forebay",
        headers={"authorization": f"Bearer {token}"},
        timeout=120,
        trust_env=False,
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def median(values: list[float]) -> float:
    return statistics.median(values)


def run_once(api: AirflowApi, dag_id: str) -> tuple[float, float]:
    """Triggers a run; seconds from the request to the first task's start, and to the last task's end."""
    began = time.time()
    run_id = api.trigger(dag_id, {})
    for run, tasks in api.follow(dag_id, run_id, every=0.05):
        if time.time() - began > LONGEST_RUN:
            states = {task["task_id"]: task["state"] for task in tasks}
            raise SystemExit(f"{dag_id} {run_id} is {run['state']} after {LONGEST_RUN} s: {states}")
    tasks = api.task_instances(dag_id, run_id)
    if any(task["state"] != "success" for task in tasks):
        failed = next(task for task in tasks if task["state"] != "success")
        log = api.log(dag_id, run_id, failed["task_id"], max(failed["try_number"], 1))
        raise SystemExit(f"{dag_id} {run_id}: {failed['task_id']} {failed['state']}\n" + "\n".join(log[-15:]))
    return _time(min(t["start_date"] for t in tasks)) - began, _time(
        max(t["end_date"] for t in tasks)
    ) - began


def _time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def wait_for_dags(stack: Stack, count: int, seconds: float = 90) -> float:
    """Waits until Airflow has stored `count` dags; returns the seconds that took."""
    import psycopg2

    from forebay.stack.services import database_url

    began = time.monotonic()
    connection = psycopg2.connect(database_url(stack, "postgresql"))
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        while time.monotonic() - began < seconds:
            cursor.execute("SELECT count(*) FROM serialized_dag")
            row = cursor.fetchone()
            if row and row[0] >= count:
                return time.monotonic() - began
            time.sleep(0.1)
    raise SystemExit(
        f"only {row} of {count} dags after {seconds:.0f} s:\n{health.log_tail(stack, 'dag-processor', 30)}"
    )
