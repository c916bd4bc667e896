"""What branches cost: the lens on a load and a commit, publishing, eight runs on one table, and a job of five tables."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import MAIN
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from harness import LOADER, Row, folder, median, run_once, running, say, wait_for_dags, write

LOADS, COMMITS, TABLES, RUNS, APPENDS = 100, 60, 5, 8, 10
SOURCE_ROWS = 1_000_000


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        _project(root)
        with running(root) as stack:
            config = _catalog(stack)
            rows = [*_added(config), _publish(config, rounds), *_crowd(config)]
            return [*rows, _job(stack, config, rounds)]


def _catalog(stack: Stack) -> CatalogConfig:
    found = next(each for each in connections(stack) if each["connection_id"] == "lake_catalog")
    extra = json.loads(str(found["extra"]))
    return CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), extra
    )


def _who(run: str, *tables: str) -> TaskTry:
    return TaskTry(job="bench.job", run=run, task="write", writes=tables, began=time.time())


def _added(config: CatalogConfig) -> list[Row]:
    """Milliseconds that a load and a commit take through the lens beyond what they take at the catalog."""
    loads: dict[str, list[float]] = {}
    commits: dict[str, list[float]] = {}
    # Tables of 20 to 200 snapshots: the document that goes back and forth grows with them.
    for table in ("small", "other"):
        _added_to(config, table, loads, commits)
    return [_row(f"table load, /{name}", loads, name) for name in ("main", "run")] + [
        _row(f"commit, /{name}", commits, name) for name in ("main", "run")
    ]


def _added_to(
    config: CatalogConfig, table: str, loads: dict[str, list[float]], commits: dict[str, list[float]]
) -> None:
    with DuckDBEngine(config) as engine:
        for number in range(20):
            engine.write(f"SELECT {number} AS n", TableDefinition(f"bench.{table}"), "append")
    who = _who("added", f"bench.{table}")
    with Rest(config) as rest, httpx.Client(timeout=30, trust_env=False) as client:
        rest.tables([])
        client.headers["Authorization"] = rest._client.headers["Authorization"]
        path = f"v1/warehouse/namespaces/bench/tables/{table}"
        addresses = {
            "catalog": f"{config.uri}/{path}",
            "main": f"{config.lens}/main/{path}",
            "run": f"{config.lens}/run/{who.segment()}/{path}",
        }

        def load(name: str) -> Callable[[], httpx.Response]:
            return lambda: client.get(addresses[name])

        def commit(name: str) -> Callable[[], httpx.Response]:
            document = client.get(addresses[name]).json()["metadata"]
            body = {
                "requirements": [
                    {"type": "assert-table-uuid", "uuid": document["table-uuid"]},
                    {
                        "type": "assert-ref-snapshot-id",
                        "ref": MAIN,
                        "snapshot-id": document["current-snapshot-id"],
                    },
                ],
                "updates": _snapshot(document),
            }
            return lambda: client.post(addresses[name], json=body)

        for rounds, prepared, times in ((LOADS, load, loads), (COMMITS, commit, commits)):
            for _ in range(rounds):
                # What the catalog does after one request is part of the next one's time.
                for name in random.sample(list(addresses), len(addresses)):
                    send = prepared(name)
                    began = time.perf_counter()
                    answer = send()
                    times.setdefault(name, []).append(time.perf_counter() - began)
                    assert answer.status_code == 200, answer.text


def _row(what: str, times: dict[str, list[float]], name: str) -> Row:
    # Each round asked all of them one after the other: the catalog's own time, which varies by more than is looked
    # for, is alike within a round.
    added = 1000 * median([mine - base for mine, base in zip(times[name], times["catalog"], strict=True)])
    base = 1000 * median(times["catalog"])
    return (f"lens adds to a {what}, p50", f"{added:.1f} ms on {base:.1f}", "≤ 5 ms", added <= 5)


def _snapshot(document: dict[str, Any]) -> list[dict[str, Any]]:
    """A snapshot that shares its parent's files: the commit alone is timed."""
    last = next(
        each for each in document["snapshots"] if each["snapshot-id"] == document["current-snapshot-id"]
    )
    new = {
        **last,
        "snapshot-id": time.time_ns(),
        "parent-snapshot-id": last["snapshot-id"],
        "sequence-number": document["last-sequence-number"] + 1,
        "timestamp-ms": int(time.time() * 1000),
    }
    return [
        {"action": "add-snapshot", "snapshot": new},
        {
            "action": "set-snapshot-ref",
            "ref-name": MAIN,
            "type": "branch",
            "snapshot-id": new["snapshot-id"],
        },
    ]


def _publish(config: CatalogConfig, rounds: int) -> Row:
    tables = [f"bench.five_{number}" for number in range(TABLES)]
    times = []
    for number in range(max(rounds, 3) * 3):
        who = _who(f"publish{number}", *tables)
        with DuckDBEngine(config.seen_by(who)) as engine:
            for table in tables:
                engine.write(f"SELECT {number} AS n", TableDefinition(table))
        with Rest(config) as rest:
            rest.tables([])
            began = time.perf_counter()
            publish(rest, who, tables)
            times.append(time.perf_counter() - began)
    p50 = 1000 * median(times)
    return (f"publish {TABLES} tables, p50", f"{p50:.0f} ms", "≤ 150 ms", p50 <= 150)


def _crowd(config: CatalogConfig) -> list[Row]:
    """Runs that append to one table at the same time, each on its branch, and then publish, all at once."""
    with DuckDBEngine(config) as engine:
        engine.write("SELECT 0::BIGINT AS n", TableDefinition("bench.crowd"))
    rows = pa.table({"n": pa.array([1], pa.int64())})

    def append(number: int) -> TaskTry:
        who = _who(f"crowd{number}", "bench.crowd")
        catalog = config.seen_by(who).pyiceberg()
        for _ in range(APPENDS):
            catalog.load_table("bench.crowd").append(rows)
        return who

    def make_main(who: TaskTry) -> None:
        # As the task `publish` does.
        with Rest(config.main()) as rest:
            publish(rest, Run(who.job, who.run), ["bench.crowd"])

    with ThreadPoolExecutor(RUNS) as pool:
        began = time.perf_counter()
        runs = list(pool.map(append, range(RUNS)))
        appended = time.perf_counter()
        list(pool.map(make_main, runs))
        published = time.perf_counter()
    with DuckDBEngine(config) as engine:
        held = engine.query("SELECT count(*) AS n FROM lake.bench.crowd").column("n")[0].as_py()
    commits = RUNS * APPENDS
    assert held == commits + 1, f"{held} rows of {commits + 1}"
    rate = commits / (appended - began)
    return [
        (f"{RUNS} runs append to one table", f"{rate:.0f} commits/s, 0 errors", "≥ 20/s", rate >= 20),
        (
            f"{RUNS} runs of {APPENDS} commits each publish it at once",
            f"{published - appended:.1f} s, 0 errors",
            "(0 errors)",
            True,
        ),
    ]


def _project(root: Path) -> None:
    write(root / "dags/bench/jobs.py", LOADER)
    write(root / "dags/bench/workspace.yaml", "owner: bench\n")
    job = "schedule: none\ntasks:\n"
    for number in range(TABLES):
        job += f'  - {{key: t{number}, type: sql, table: bench.out_{number}, sql: "{_select(number)}"}}\n'
    write(root / "dags/bench/branches.yaml", job)
    # The peer: the same five tables, written to main by the same engine, no branch and no publish.
    write(
        root / "dags/bench/direct.py",
        f'''"""Airflow dags by hand."""
from datetime import UTC, datetime
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

def write(number, select):
    from airflow.sdk import BaseHook
    from forebay import sqltext
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.connection import CatalogConfig
    from forebay.lake.tables import TableDefinition
    found = BaseHook.get_connection("lake_catalog")
    config = CatalogConfig.from_connection(found.host, found.login, found.password, found.extra_dejson)
    statement = sqltext.parse(select, "sql").statements[0]
    with DuckDBEngine(config, macros=sqltext.MACROS) as engine:
        engine.write(sqltext.to_duckdb(statement.bind({{}})), TableDefinition(f"bench.direct_{{number}}"))

SELECTS = {[_select(number) for number in range(TABLES)]!r}
with DAG("bench.direct", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC), catchup=False) as dag:
    for number, select in enumerate(SELECTS):
        PythonOperator(task_id=f"t{{number}}", python_callable=write, op_args=[number, select])
''',
    )


def _select(number: int) -> str:
    return (
        f"SELECT n, n % 1000 AS k, concat('row ', CAST(n AS varchar)) AS text, n * {number + 1} AS v "
        "FROM bench.source"
    )


def _job(stack: Stack, config: CatalogConfig, rounds: int) -> Row:
    with DuckDBEngine(config) as engine:
        engine.write(f"SELECT range AS n FROM range({SOURCE_ROWS})", TableDefinition("bench.source"))
    wait_for_dags(stack, 2)
    times: dict[str, list[float]] = {"bench.branches": [], "bench.direct": []}
    with AirflowApi.of_stack(stack) as api:
        for number in range(rounds * 2 + 1):
            for name in times:
                seconds = run_once(api, name)[1]
                if number:
                    times[name].append(seconds)
    branches, direct = (median(values) for values in times.values())
    say(f"branches {branches:.2f} s, direct {direct:.2f} s")
    return (
        f"job of {TABLES} tables, {SOURCE_ROWS:,} rows each: branches and publish / direct",
        f"{branches:.2f} / {direct:.2f} s = {branches / direct:.2f}",
        "≤ 1.15",
        branches <= 1.15 * direct,
    )
