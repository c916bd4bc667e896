"""SQL on Trino: what a task adds to the bare client, and how soon Trino and DuckDB are idle once a task is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from forebay.engines.trino_catalog import catalog_properties, create_statement
from forebay.engines.trino_client import TrinoClient
from forebay.lake.connection import CatalogConfig
from forebay.stack import trino, trino_access
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from harness import LOADER, Row, folder, median, run_once, running, say, wait_for_dags, write

TASKS, KILLS = 20, 50
ROWS = "SELECT x, x * 2 AS y FROM unnest(sequence(1, 100)) AS t(x)"
ENDLESS = (
    "WITH s AS (SELECT n FROM UNNEST(sequence(1, 9000)) t(n)) "
    "SELECT sum(a.n * b.n + c.n) AS s FROM s a CROSS JOIN s b CROSS JOIN s c CROSS JOIN s d"
)
_BUSY = (
    "SELECT count(*) FROM system.runtime.queries WHERE source = 'forebay/bench.endless' AND state {states}"
)


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        _project(root)
        with running(root, ("trino",)) as stack, AirflowApi.of_stack(stack) as api:
            wait_for_dags(stack, 2)
            rows = [_overhead(stack, api), _kills("Trino", api, _trino_is(stack))]
        # The same folder again, without it.
        with running(root, without=("trino",)) as stack, AirflowApi.of_stack(stack) as api:
            wait_for_dags(stack, 2)
            return [*rows, _kills("DuckDB", api, _duckdb_is)]


def _project(root: Path) -> None:
    write(root / "dags/bench/jobs.py", LOADER)
    write(root / "dags/bench/workspace.yaml", "owner: bench\n")
    task = "tasks:\n  - key: one\n    type: sql\n    sql: {}\n    table: bench.{}\n    mode: append\n"
    write(root / "dags/bench/small.yaml", task.format(ROWS, "small"))
    write(root / "dags/bench/endless.yaml", task.format(ENDLESS, "endless"))


def _overhead(stack: Stack, api: AirflowApi) -> Row:
    """Seconds of a whole task beyond those of the same INSERT by Trino's own client, connecting each time."""
    import requests
    from trino.auth import BasicAuthentication
    from trino.dbapi import connect

    server, client = trino_access.server(stack), TrinoClient(trino_access.server(stack))
    found = next(each for each in connections(stack) if each["connection_id"] == "lake_catalog")
    config = CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), json.loads(str(found["extra"]))
    )
    access, secret = (f"${{ENV:{name}}}" for name in trino.secrets(stack))
    client.run(create_statement("bare", catalog_properties(config.main(), access, secret)))
    for _ in range(3):
        run_once(api, "bench.small")
    client.run("CREATE TABLE bare.bench.bare (x bigint, y bigint)")

    def bare() -> float:
        began = time.monotonic()
        http = requests.Session()
        # REQUESTS_CA_BUNDLE of this machine would count before what it is given.
        http.trust_env, http.verify = False, server.verify
        with connect(
            server.host, server.port, server.user, catalog="bare", http_scheme=server.scheme, http_session=http,
            auth=BasicAuthentication(server.user, server.password),
        ) as connection:  # fmt: skip
            connection.cursor().execute(f"INSERT INTO bench.bare {ROWS}").fetchall()
        return time.monotonic() - began

    for _ in range(3):
        bare()
    peers, tasks = [], []
    for _ in range(TASKS):
        peers.append(bare())
        tasks.append(_task(api))
    more = median(tasks) - median(peers)
    say(f"bare {sorted(round(each, 2) for each in peers)}")
    say(f"task {sorted(round(each, 2) for each in tasks)}")
    what = f"SQL task on Trino beyond the bare client, p50 of {TASKS}"
    return (what, f"{more:.2f} s on {median(peers):.2f} s", "≤ 0.5 s", more <= 0.5)


def _task(api: AirflowApi) -> float:
    run = api.trigger("bench.small", {})
    for _ in api.follow("bench.small", run, every=0.1):
        pass
    (one,) = (each for each in api.task_instances("bench.small", run) if each["task_id"] == "one")
    if one["state"] != "success":
        raise SystemExit("\n".join(api.log("bench.small", run, "one", 1)[-15:]))
    return (
        datetime.fromisoformat(one["end_date"]) - datetime.fromisoformat(one["start_date"])
    ).total_seconds()


def _kills(name: str, api: AirflowApi, state: Callable[[dict[str, Any]], str]) -> Row:
    """Seconds from failing a task in Airflow to its engine's idling."""
    times = []
    for number in range(KILLS):
        run = api.trigger("bench.endless", {})
        one = _wait(api, run, state, "busy", 60)
        # So that not each is killed at the same point.
        time.sleep(number % 10 / 10)
        path = f"/api/v2/dags/bench.endless/dagRuns/{run}/taskInstances/one"
        began = time.monotonic()
        api.request("PATCH", path, json={"new_state": "failed"})
        while state(one) != "idle":
            if time.monotonic() - began > 60:
                raise SystemExit(f"{name} is still busy 60 s after the kill")
            time.sleep(0.02)
        times.append(time.monotonic() - began)
        for _ in api.follow("bench.endless", run, every=0.1):
            pass
    times.sort()
    say(f"{name}: {[round(each, 2) for each in times]}")
    worst = times[-(-99 * len(times) // 100) - 1]
    what = f"task failed in Airflow → {name} idle, p99 of {KILLS}"
    return (what, f"{worst:.2f} s, p50 {median(times):.2f} s", "≤ 5 s", worst <= 5)


def _wait(
    api: AirflowApi, run: str, state: Callable[[dict[str, Any]], str], wanted: str, seconds: float
) -> Any:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        (one,) = (each for each in api.task_instances("bench.endless", run) if each["task_id"] == "one")
        if one["state"] == "running" and state(one) == wanted:
            return one
        time.sleep(0.1)
    raise SystemExit(f"bench.endless {run}: {one['state']}, not {wanted} within {seconds:.0f} s")


def _trino_is(stack: Stack) -> Callable[[dict[str, Any]], str]:
    client = TrinoClient(trino_access.server(stack))

    def state(_task: dict[str, Any]) -> str:
        def count(states: str) -> int:
            return int(client.run(_BUSY.format(states=states), quiet=True).rows[0][0])

        return (
            "busy"
            if count("= 'RUNNING'")
            else "idle"
            if not count("NOT IN ('FINISHED', 'FAILED')")
            else "ending"
        )

    return state


def _duckdb_is(task: dict[str, Any]) -> str:
    try:
        process = psutil.Process(int(task["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            # It has ended, and Airflow's supervisor has not looked yet: in one case of four that takes it 5 s more.
            return "idle"
        family = [process, *process.children(recursive=True)]
        return "busy" if sum(one.cpu_percent(0.1) for one in family) > 50 else "starting"
    except (psutil.Error, TypeError):
        return "idle"
