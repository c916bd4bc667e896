"""The console over 10,000 tables of 30 columns: lists, search, a table's and the SQL page, how soon the index follows."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.index import read
from forebay.lake.rest import Change, Rest
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from forebay.stack.services import environment
from harness import LOADER, Row, console_of, folder, median, run_once, running, say, wait_for_dags, write

REPOSITORY = Path(__file__).parents[1]
NAMESPACES, TABLES, COLUMNS = 100, 10_000, 30
REQUESTS = 200
STARTS = 9

WORDS = (
    "amount",
    "customer",
    "delay",
    "origin",
    "carrier",
    "price",
    "region",
    "status",
    "weather",
    "invoice",
)
JOB = """tasks:
  - key: one
    type: sql
    sql: SELECT x, x * 2 AS y FROM unnest(sequence(1, 100)) AS t(x)
    table: bench_last.published
    mode: append
"""
PLUGINS = """
import time
from airflow.sdk.plugins_manager import _get_plugins
began = time.perf_counter()
_get_plugins()
print(time.perf_counter() - began)
"""


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        write(root / "dags/bench/jobs.py", LOADER)
        write(root / "dags/bench/workspace.yaml", "owner: bench\n")
        write(root / "dags/bench/small.yaml", JOB)
        shutil.copytree(
            REPOSITORY / "plugins", root / "plugins", ignore=shutil.ignore_patterns("__pycache__")
        )
        with running(root) as stack, AirflowApi.of_stack(stack) as api:
            wait_for_dags(stack, 1)
            config = lake(stack)
            began = time.monotonic()
            fill(config)
            say(f"{TABLES:,} tables made in {time.monotonic() - began:.0f} s")
            run_once(api, "bench.small")
            peer = [one_by_one(config) for _ in range(rounds)]
            store = store_of(stack)
            # One after the other in each round, as other work on the machine slows all of them.
            fills = [(*index_fills(config, store), thrown_away(config)) for _ in range(rounds)]
            named, filled, theirs, ours, alone = (median(list(each)) for each in zip(*fills, strict=True))
            share = filled / median(peer)
            rows: list[Row] = [
                ("index of 10,000 tables filled over REST", *at_most(filled, 10, "s")),
                ("index: every table's name known after", *at_most(named, 2, "s")),
                (
                    "index: processor time of catalog and console",
                    f"{theirs:.1f} + {ours:.1f} s",
                    "(told)",
                    True,
                ),
                (
                    "index: the same documents for a client that throws them away",
                    f"{alone:.1f} s",
                    "(told)",
                    True,
                ),
                ("index / PyIceberg one by one", f"{share:.2f}", "≤ 0.35 (10 / 29 s)", share <= 0.35),
            ]
            with console_of(stack) as console:
                rows += pages(console)
                rows.append(
                    (
                        "a publish is seen in the catalog after",
                        *at_most(followed(api, console, rounds), 5, "s"),
                    )
                )
            added = 1000 * plugin_cost(stack, root)
            rows.append(("the plugin adds to a task process's start", *at_most(added, 50, "ms")))
    return rows


def lake(stack: Stack) -> CatalogConfig:
    """As the console reaches it."""
    import json

    found = next(c for c in connections(stack) if c["connection_id"] == "lake_catalog")
    return CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), json.loads(str(found["extra"]))
    )


def fill(config: CatalogConfig) -> None:
    """Tables with comments, partitions, and two snapshots each that name a run, as the lens stamps them."""
    each = TABLES // NAMESPACES
    with Rest(config) as rest:
        for number in range(NAMESPACES):
            answer = rest._send("POST", "namespaces", json={"namespace": [f"bench_{number:02}"]})
            assert answer.status_code in (200, 409), answer.text
        names = [(f"bench_{n // each:02}", f"{WORDS[n % 10]}_{n:05}") for n in range(TABLES)]
        with ThreadPoolExecutor(8) as pool:
            for done, _ in enumerate(pool.map(lambda name: table(rest, *name), names), 1):
                if done % 1000 == 0:
                    say(f"{done:,} tables")


def table(rest: Rest, namespace: str, name: str) -> None:
    """One table; its snapshots' files are not there, for nobody opens them here."""
    fields = [
        {
            "id": number, "name": f"{WORDS[number % 10]}_{number}", "required": False, "type": "string",
            "doc": f"The {WORDS[number % 10]} that somebody wrote down, number {number}." if number % 3 else "",
        }
        for number in range(1, COLUMNS + 1)
    ]  # fmt: skip
    body = {
        "name": name,
        "schema": {"type": "struct", "schema-id": 0, "fields": fields},
        "properties": {"comment": f"What is known of each {name.partition('_')[0]}."},
    }
    answer = rest._send("POST", f"namespaces/{namespace}/tables", json=body)
    assert answer.status_code == 200, answer.text
    metadata = answer.json()["metadata"]
    run = TaskTry(job="bench.small", run=f"manual__{name}", task="one", number=1)
    updates: list[dict[str, object]] = []
    for number in (1, 2):
        parent = {"parent-snapshot-id": number - 1} if number > 1 else {}
        snapshot = {
            "snapshot-id": number, "sequence-number": number, "timestamp-ms": int(time.time() * 1000) + number,
            "manifest-list": f"{metadata['location']}/metadata/none-{number}.avro", "schema-id": 0, **parent,
            "summary": {
                "operation": "append", "added-records": "1000", "total-records": str(1000 * number),
                "total-files-size": "50000", "total-data-files": str(number), "forebay.job": run.job, "forebay.run": run.run,
                "forebay.task": run.task, "forebay.try": "1", "forebay.user": "bench", "forebay.engine": "duckdb",
                "forebay.commit": "0" * 40, "forebay.inputs": "bench_00.amount_00000@2",
            },
        }  # fmt: skip
        updates.append({"action": "add-snapshot", "snapshot": snapshot})
    updates.append({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 2})
    rest.commit([Change(f"{namespace}.{name}", [], updates)])


def index_fills(config: CatalogConfig, store: psutil.Process) -> tuple[float, float, float, float]:
    """Seconds until every name is known and until every table is, as the index reads them; and processor time of both sides."""
    named: list[float] = []
    before, own = cpu(store), time.process_time()
    began = time.monotonic()
    with Rest(config) as rest:
        view = read(rest, time.time(), lambda view: named.append(time.monotonic() - began))
    took = time.monotonic() - began
    theirs, own = cpu(store) - before, time.process_time() - own
    assert len(view.entries) >= TABLES, len(view.entries)
    say(
        f"index filled in {took:.1f} s, names after {named[0]:.1f} s; processor time: store {theirs:.1f} s, index {own:.1f} s"
    )
    return named[0], took, theirs, own


def store_of(stack: Stack) -> psutil.Process:
    folder = f"-dir={stack.state / 'store'}"
    return next(each for each in psutil.process_iter(["cmdline"]) if folder in (each.info["cmdline"] or ()))


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def thrown_away(config: CatalogConfig) -> float:
    """Seconds that the catalog takes for all documents, for a client that does next to nothing with them."""
    with Rest(config) as rest:
        names, prefix = rest.all_names(), rest._connect()
        head = f"Host: catalog\r\nAuthorization: {rest._client.headers['Authorization']}\r\n\r\n"
        asked = iter([f"GET /v1/{prefix}{rest._path(name)} HTTP/1.1\r\n{head}".encode() for name in names])
    host, _, port = config.uri.partition("://")[2].partition(":")

    async def some() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        for each in asked:
            writer.write(each)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().splitlines()
            assert b" 200" in status, status
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
            if length is not None:
                await reader.readexactly(length)
                continue
            # In pieces, each with its length before it.
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(some() for _ in range(16)))

    began = time.monotonic()
    asyncio.run(all_of_them())
    took = time.monotonic() - began
    say(f"the same documents thrown away in {took:.1f} s")
    return took


def one_by_one(config: CatalogConfig) -> float:
    """Seconds that PyIceberg takes for all tables one after the other, from some of them."""
    catalog = config.pyiceberg()
    names = [f"bench_{n * 7 % NAMESPACES:02}.{WORDS[n * 7 % NAMESPACES * (TABLES // NAMESPACES) % 10]}_{n * 7 % NAMESPACES * (TABLES // NAMESPACES):05}" for n in range(NAMESPACES)]  # fmt: skip
    catalog.load_table(names[0])
    began = time.monotonic()
    for name in names:
        catalog.load_table(name)
    took = (time.monotonic() - began) / len(names) * TABLES
    say(f"PyIceberg one by one: {took:.0f} s for all, from {len(names)}")
    return took


def pages(console: httpx.Client) -> list[Row]:
    """Round trips on the loopback, which are a little more than the server's time."""
    deadline = time.monotonic() + 120
    while True:
        answer = console.get("/api/v1/catalog")
        # It says 503 as long as nothing is known.
        if answer.status_code == 200 and sum(each["tables"] for each in answer.json()) >= TABLES:
            break
        assert time.monotonic() < deadline, f"the console's index was not filled: {answer.text[:300]}"
        time.sleep(0.5)

    def names(number: int) -> str:
        word, column = WORDS[number % 10], WORDS[number % 7]
        return (
            f"{word}_{number * 37 % TABLES:05}",
            f"{word}_{number % 30 + 1}",
            f"that somebody {column}",
            word,
        )[number % 4]

    each = TABLES // NAMESPACES
    measured = [
        ("catalog: namespaces, p95", lambda n: "/catalog", 50),
        ("catalog: tables of a namespace, p95", lambda n: f"/catalog/bench_{n % NAMESPACES:02}", 50),
        ("catalog: search, p95", lambda n: f"/api/v1/search?q={names(n)}", 50),
        ("catalog: search as a page, p95", lambda n: f"/catalog?q={names(n)}", 50),
        ("catalog: page of a table, p95", lambda n: f"/catalog/bench_{n * 7 % NAMESPACES:02}/{WORDS[n * 7 % NAMESPACES * each % 10]}_{n * 7 % NAMESPACES * each:05}", 300),
        ("SQL page, p95", lambda n: f"/sql?workspace=bench&sql=SELECT+{n}", 300),
        ("SQL page: a namespace unfolds, p95", lambda n: f"/sql/tables/bench_{n % NAMESPACES:02}", 300),
        ("SQL page: names to complete, p95", lambda n: "/api/v1/query/tables", 300),
        ("SQL page: names that begin so, p95", lambda n: f"/api/v1/query/tables?begin=bench_{n % NAMESPACES:02}.{WORDS[n % 10][0]}", 300),
    ]  # fmt: skip
    return [(what, *at_most(1000 * p95(console, path), target, "ms")) for what, path, target in measured]


def p95(console: httpx.Client, path: Callable[[int], str]) -> float:
    times = []
    for number in range(REQUESTS + 5):
        began = time.perf_counter()
        answer = console.get(path(number))
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text[:300]}"
    # The first ones import what pages need.
    found = statistics.quantiles(times[5:], n=20)[18]
    say(f"{path(1)}: p50 {1000 * median(times[5:]):.0f} ms, p95 {1000 * found:.0f} ms")
    return found


def followed(api: AirflowApi, console: httpx.Client, rounds: int) -> float:
    """Seconds from the end of a run to when the list shows what it published; the longest."""
    waits = []
    for _ in range(rounds):
        before = rows_listed(console)
        run_once(api, "bench.small")
        began = time.monotonic()
        while rows_listed(console) == before:
            assert time.monotonic() - began < 60, "the publish is not seen"
            time.sleep(0.1)
        waits.append(time.monotonic() - began)
        say(f"seen after {waits[-1]:.1f} s")
    return max(waits)


def rows_listed(console: httpx.Client) -> int:
    tables = console.get("/api/v1/catalog/bench_last").json()
    return int(next((each["rows"] or 0 for each in tables if each["table"] == "bench_last.published"), 0))


def plugin_cost(stack: Stack, root: Path) -> float:
    """Seconds more that loading the plugins takes a task's process with ours than without."""
    empty = root / "no-plugins"
    empty.mkdir()
    own = environment(stack, os.environ)
    took: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(STARTS):
        for which, place in (("with", root / "plugins"), ("without", empty)):
            done = subprocess.run(
                [sys.executable, "-c", PLUGINS], env={**own, "AIRFLOW__CORE__PLUGINS_FOLDER": str(place)},
                capture_output=True, text=True, check=True, timeout=120,
            )  # fmt: skip
            took[which].append(float(done.stdout.split()[-1]))
    say(f"plugins with ours {median(took['with']):.3f} s, without {median(took['without']):.3f} s")
    return median(took["with"]) - median(took["without"])


def at_most(found: float, target: float, unit: str) -> tuple[str, str, bool]:
    shown = f"{found:.1f} {unit}" if found < 10 else f"{found:.0f} {unit}"
    return shown, f"≤ {target:g} {unit}", found <= target
