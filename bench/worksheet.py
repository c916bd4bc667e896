"""What the SQL page adds to the engine's own time, and the memory that a million rows take on their way."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from forebay import sqltext
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import TableDefinition
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from harness import LOADER, Row, console_of, folder, median, running, say, write

QUERIES, ROWS = 15, 1_000_000
SELECT = "SELECT k, count(*) AS n, max(text) AS text FROM bench.source GROUP BY k ORDER BY k LIMIT 100"
PLUGINS = Path(__file__).parents[1] / "plugins"


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        write(root / "dags/bench/jobs.py", LOADER)
        write(root / "dags/bench/workspace.yaml", "owner: bench\n")
        write(
            root / "dags/bench/nothing.yaml",
            "tasks:\n  - {key: one, type: sql, table: bench.nothing, sql: SELECT 1 AS n}\n",
        )
        (root / "plugins").symlink_to(PLUGINS)
        with running(root) as stack:
            config = _catalog(stack)
            with DuckDBEngine(config) as engine:
                engine.write(
                    f"SELECT range AS n, range % 1000 AS k, 'text of row ' || range AS text FROM range({ROWS})",
                    TableDefinition("bench.source"),
                )
            with console_of(stack) as client:
                return [*_added(client, config), *_million(client, stack)]


def _catalog(stack: Stack) -> CatalogConfig:
    found = next(each for each in connections(stack) if each["connection_id"] == "lake_catalog")
    extra = json.loads(str(found["extra"]))
    return CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), extra
    )


def _ask(client: httpx.Client, sql: str) -> dict[str, Any]:
    answer = client.post("/api/v1/query", json={"workspace": "bench", "sql": sql})
    answer.raise_for_status()
    end: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    assert end["type"] == "end", end
    return end


def _added(client: httpx.Client, config: CatalogConfig) -> list[Row]:
    """A person's query over HTTP against what its engine took, and that against a DuckDB that has run it before."""
    statement = sqltext.to_duckdb(sqltext.parse(SELECT).statements[0])
    own, asked, engines = [], [], []
    with DuckDBEngine(config.published(), macros=sqltext.MACROS) as engine:
        engine.query(statement)
        _ask(client, SELECT)
        for _ in range(QUERIES):
            # People think between queries: by then the next process is ready.
            time.sleep(2.5)
            began = time.perf_counter()
            engine.query(statement)
            own.append(time.perf_counter() - began)
            began = time.perf_counter()
            engines.append(float(_ask(client, SELECT)["seconds"]))
            asked.append(time.perf_counter() - began)
    added = 1000 * median([total - engine for total, engine in zip(asked, engines, strict=True)])
    cold = 1000 * (median(engines) - median(own))
    for what, times in (("warm", own), ("engine", engines), ("asked", asked)):
        say(f"{what}: {[round(1000 * each) for each in times]} ms")
    return [
        ("worksheet adds to its engine's time, p50", f"{added:.0f} ms on {1000 * median(engines):.0f}", "≤ 30 ms", added <= 30),
        ("an engine of its own for each query, instead of a warm one", f"{cold:.0f} ms on {1000 * median(own):.0f}", "(told)", True),
    ]  # fmt: skip


def _million(client: httpx.Client, stack: Stack) -> list[Row]:
    """Memory of the API server, and of the query's own process, while a million rows are streamed."""
    server = next(
        each for each in psutil.process_iter(["cmdline"])
        if "api_server" in " ".join(each.info["cmdline"] or ()) and f":{stack.ports['airflow']}" in " ".join(each.info["cmdline"] or ())
    )  # fmt: skip
    _ask(client, "SELECT n, k, text FROM bench.source LIMIT 10")
    time.sleep(3)
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            try:
                workers = [
                    p.memory_info().rss
                    for p in server.children()
                    if "forebay.query.worker" in " ".join(p.cmdline())
                ]
            except psutil.NoSuchProcess:
                continue
            seen.append((server.memory_info().rss, max(workers, default=0)))

    before = server.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = size = 0
    first = None
    began = time.perf_counter()
    with client.stream(
        "POST", "/api/v1/query", json={"workspace": "bench", "sql": "SELECT n, k, text FROM bench.source"}
    ) as answer:
        for line in answer.iter_lines():
            size += len(line)
            found = json.loads(line)
            if found["type"] == "rows":
                first = first or time.perf_counter() - began
                rows += len(found["rows"])
    took = time.perf_counter() - began
    over.set()
    watcher.join()
    assert rows == ROWS, rows
    grown = (max(server_size for server_size, _ in seen) - before) / 1e6
    worker = max(worker_size for _, worker_size in seen) / 1e6
    say(f"{rows:,} rows, {size / 1e6:.0f} MB in {took:.1f} s")
    return [
        (f"{ROWS:,} rows streamed: API server grows by", f"{grown:.0f} MB", "≤ 150 MB", grown <= 150),
        (f"{ROWS:,} rows streamed: the query's own process", f"{worker:.0f} MB", "(flat)", True),
        (f"{ROWS:,} rows streamed: first rows after", f"{first or 0:.2f} of {took:.1f} s", "(at once)", True),
    ]
