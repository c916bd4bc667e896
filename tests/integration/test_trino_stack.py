"""Trino added to a stack that runs: the same job text gives the same figures, and goes back to DuckDB."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from conftest import eventually
from console_client import browser
from forebay.engines.trino_client import TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.query.on_trino import SOURCE
from forebay.stack import supervisor
from forebay.stack.connections import connections
from forebay.stack.trino_access import WORKSHEET, certificate, server

if TYPE_CHECKING:
    from conftest import Lab

JOB = "flights.daily_delays"
OUTLIVED = 40_504_500**2
FIGURES = (
    "SELECT count(*) AS days, sum(flights) AS flights, sum(departed) AS departed, sum(cancelled) AS cancelled, "
    "sum(total_delay) AS delay FROM flights.daily_delays"
)


@pytest.fixture(scope="module")
def on_trino(lab: Lab) -> Iterator[Lab]:
    added = lab.forebay("up", "--with", "trino", "--free-ports")
    try:
        assert added.returncode == 0, added.stdout + added.stderr
        lab.stack.__dict__.pop("ports", None)
        lab.stack.__dict__.pop("parts", None)
        yield lab
    finally:
        lab.forebay("up", "--without", "trino")
        lab.stack.__dict__.pop("parts", None)


def test_status_shows_it_and_lake_sql_is_it(on_trino: Lab) -> None:
    services = {one["name"]: one for one in on_trino.json("status")["services"]}
    assert services["trino"]["state"] == "up"
    assert services["trino"]["port"] == on_trino.stack.ports["trino"]
    connection: Any = on_trino.api.get("/connections/lake_sql")
    assert (connection["conn_type"], connection["port"]) == ("trino", on_trino.stack.ports["trino"])
    assert on_trino.stack.secrets["secret_key"] not in json.dumps(connection)


def test_the_flights_figures_are_the_same(on_trino: Lab) -> None:
    # Other rows first, so that the run has something to set right.
    run, tasks = on_trino.run(JOB, {"until": "2013-06-30"}, seconds=400)
    assert run["state"] == "success", {key: [t["state"] for t in found] for key, found in tasks.items()}
    run, tasks = on_trino.run(JOB, seconds=400)
    assert run["state"] == "success", {key: [t["state"] for t in found] for key, found in tasks.items()}
    found = on_trino.json("sql", FIGURES)["rows"]
    assert [[int(value) for value in row] for row in found] == [[5_432, 336_776, 328_521, 8_255, 4_152_200]]
    routes = on_trino.lake.pyiceberg().load_table("flights.routes").current_snapshot()
    assert routes is not None
    assert routes.summary is not None
    assert routes.summary.additional_properties["forebay.engine"] == "trino"
    left = {path.name for path in (on_trino.stack.state / "trino/etc/catalog").iterdir()}
    assert left == {"lake.properties", "worksheet.properties"}


def test_commands_and_people_log_in(on_trino: Lab) -> None:
    address, trusted = on_trino.stack.url("trino"), str(certificate(on_trino.stack))
    asked = {"headers": {"X-Trino-User": "admin"}, "verify": trusted, "timeout": 10}
    assert requests.post(f"{address}/v1/statement", data="SELECT 1", **asked).status_code == 401
    password = on_trino.forebay("password").stdout.strip()
    answer = requests.post(f"{address}/v1/statement", data="SELECT 1", auth=("admin", password), **asked)
    assert answer.json()["stats"]["state"] in ("QUEUED", "RUNNING", "FINISHED")
    assert on_trino.json("sql", "SELECT 7 AS n")["rows"] == [[7]]


def test_health_asks_trino(on_trino: Lab) -> None:
    def engine() -> dict[str, Any]:
        with browser(on_trino, "viewer") as client:
            listed = client.get("/api/v1/health/components").json()
            # A machine that has just been at work may be slow to answer.
            return next(each for each in listed if each["name"] == "SQL engine")

    found = eventually(30, lambda: one if (one := engine())["state"] == "ok" else None, "Trino answers")
    assert (found["word"], found["version"], found["remedy"]) == ("healthy", "Trino 476", "")
    supervisor.stop_process(on_trino.stack, "trino")
    try:
        found = engine()
        assert (found["state"], found["word"], found["version"]) == ("bad", "down", "")
        assert "Its process is stopped." in found["detail"]
        with browser(on_trino, "viewer") as client:
            page = client.get("/health").text
        assert "<b>SQL engine is down</b>" in page
        assert "<code>forebay logs trino</code>, start it again: <code>forebay restart trino</code>" in page
    finally:
        again = on_trino.forebay("restart", "trino")
        assert again.returncode == 0, again.stdout + again.stderr
    eventually(60, lambda: engine()["state"] == "ok", "Trino is back")


def test_out_of_memory_trino_is_started_again_and_the_task_tried_again(on_trino: Lab) -> None:
    client = TrinoClient(server(on_trino.stack))
    run_id = on_trino.start("lab.outlives")
    at_work = "SELECT 1 FROM system.runtime.queries WHERE state = 'RUNNING' AND query LIKE '%outlived%' AND source LIKE 'forebay/lab.%'"
    eventually(60, lambda: client.run(at_work).rows, "the task's query works")
    before = trino_of(on_trino)
    with contextlib.suppress(TrinoError):
        # One value larger than the heap.
        client.run("SELECT length(rpad('a', 2000000000, 'b')) AS n")
    run, tasks = on_trino.finish("lab.outlives", run_id, seconds=240)
    assert run["state"] == "success"
    assert tasks["long"][0]["try_number"] > 1
    log = "\n".join(on_trino.api.log("lab.outlives", run_id, "long", 1))
    assert "Trino ran out of memory and ended after" in log
    assert "java.lang.OutOfMemoryError" in log
    after = trino_of(on_trino)
    assert after["state"] == "up"
    assert after["pid"] != before["pid"]
    (found,) = on_trino.json("sql", "SELECT outlived FROM lab.outlived")["rows"]
    assert int(found[0]) == OUTLIVED


def test_a_runs_dossier_leads_to_its_query(on_trino: Lab) -> None:
    run, _ = on_trino.run("tale.source")
    assert run["state"] == "success"

    def links() -> list[str]:
        with browser(on_trino, "admin") as client:
            page = client.get(f"/runs/tale.source/{run['dag_run_id']}").text
            found = client.get(f"/api/v1/runs/tale.source/{run['dag_run_id']}").json()
        told = [each["engine_link"] for each in found["tasks"] if each["engine_link"]]
        assert all(f'<a href="{each}" rel="external">Query in Trino</a>' in page for each in told)
        return told

    (link,) = links()
    assert link.startswith(f"{on_trino.stack.url('trino')}/ui/query.html?2")
    query = link.partition("?")[2]
    ran = TrinoClient(server(on_trino.stack)).run(
        f"SELECT state FROM system.runtime.queries WHERE query_id = '{query}' AND source = 'forebay/tale.source'"
    )
    assert ran.rows == [["FINISHED"]]
    assert requests.get(link, verify=str(certificate(on_trino.stack)), timeout=10).status_code == 200
    stored = next(each for each in connections(on_trino.stack) if each["connection_id"] == "lake_sql")
    extra = json.loads(str(stored["extra"]))
    try:
        for ui, begins in (
            ("https://trino.example.com/ui/", "https://trino.example.com/ui/query.html?2"),
            ("javascript:alert(1)", on_trino.stack.url("trino")),
        ):
            on_trino.api.put_connections([{**stored, "extra": json.dumps({**extra, "ui": ui})}])
            assert [each.startswith(begins) for each in links()] == [True], ui
    finally:
        on_trino.api.put_connections([stored])


def told(lab: Lab, job: str, run: str) -> tuple[dict[str, Any], str]:
    """What the run's only task that runs SQL says of its query: by the API and on the page."""
    with browser(lab, "viewer") as client:
        tasks = client.get(f"/api/v1/runs/{job}/{run}").json()["tasks"]
        page = client.get(f"/runs/{job}/{run}").text
    found: dict[str, Any] = next((each["progress"] for each in tasks if each["progress"]), {})
    return found, re.sub(
        r"\s+", " ", "".join(re.findall(r'data-what="progress">(.*?)</div>', page, re.DOTALL))
    )


def test_the_page_of_a_run_tells_how_far_its_query_is(on_trino: Lab) -> None:
    # Figures of a query that has ended: the rows of the flights, read and written by Trino.
    with browser(on_trino, "viewer") as client:
        run = client.get(f"/api/v1/runs/{JOB}/latest").json()
    ended = {each["task"]: each["progress"] for each in run["tasks"] if each["progress"]}
    assert set(ended) == {"daily_delays", "routes", "trust"}
    figures = ended["daily_delays"]
    assert figures["state"] == "finished"
    assert figures["done"] == figures["splits"] > 0
    assert figures["rows"] > 336_776
    # Of a MERGE Trino does not say what it wrote.
    assert ended["routes"]["bytes"] > ended["routes"]["written"] > 0

    # One that works shows where it is, and what was seen last of it stays once it was killed.
    run_id = on_trino.start("lab.slow_sql")
    try:
        now, page = eventually(
            60,
            lambda: at if (at := told(on_trino, "lab.slow_sql", run_id))[0].get("splits") else None,
            "its splits are told",
        )
        assert now["state"] == "running"
        assert 0 <= now["done"] <= now["splits"]
        assert re.fullmatch(
            r"Trino: running, [0-9,]+ of [0-9,]+ splits, [0-9,]+ rows, [0-9.,]+ [KMG]?B read", page
        )
    finally:
        path = f"/api/v2/dags/lab.slow_sql/dagRuns/{run_id}/taskInstances/slow"
        on_trino.api.request("PATCH", path, json={"new_state": "failed"})
    on_trino.finish("lab.slow_sql", run_id)
    last, page = told(on_trino, "lab.slow_sql", run_id)
    assert last["splits"] > 0
    assert re.fullmatch(r"Trino: [0-9,]+ of [0-9,]+ splits, .* read", page)


def test_small_files_are_put_together(on_trino: Lab) -> None:
    rows = "SELECT amount, entry FROM lab.ledger ORDER BY entry"
    for _ in range(2):
        assert on_trino.run("lab.ledger")[0]["state"] == "success"
    before = on_trino.json("sql", rows)["rows"]
    (planned,) = on_trino.json("compact", "lab.ledger", "--dry-run")
    assert planned["small"] == planned["files"] >= 2
    (done,) = on_trino.json("compact", "lab.ledger")
    assert (done["small"], done["after"]) == (planned["small"], 1)
    assert on_trino.json("sql", rows)["rows"] == before
    newest = on_trino.json("blame", "lab.ledger")[0]
    assert (newest["operation"], newest["engine"], newest["task"]) == ("replace", "trino", "compact")
    assert newest["run_id"].startswith("compact__")
    noted = on_trino.api.get("/eventLogs", event="forebay.compact_run", run_id=newest["run_id"])["event_logs"]
    assert [json.loads(each["extra"])["tables"] for each in noted] == [["lab.ledger"]]
    # Once more there is nothing to do, and what it did goes back as a run does.
    again = on_trino.forebay("compact", "lab.ledger")
    assert again.stdout == "1 of 1 tables have no small files to put together.\n"
    back = on_trino.forebay("rollback", f"lab.ledger/{newest['run_id']}", "--yes")
    assert back.returncode == 0, back.stdout + back.stderr
    assert on_trino.json("compact", "lab.ledger", "--dry-run") == [planned]
    assert on_trino.json("sql", rows)["rows"] == before
    unknown = on_trino.forebay("compact", "lab.legder")
    assert "no table that a job of this repository writes. Did you mean 'lab.ledger'?" in unknown.stderr


@contextlib.contextmanager
def at_work(lab: Lab, source: str, number: int) -> Iterator[None]:
    """So many queries of a source that are not over: their rows are not asked for."""
    asks = server(lab.stack)
    with requests.Session() as session:
        # Not what the environment says.
        session.trust_env = False
        session.verify, session.auth = str(asks.verify), (asks.user, asks.password)
        session.headers.update({"X-Trino-User": asks.user, "X-Trino-Source": source})
        held = []
        for _ in range(number):
            answer = session.post(
                f"{asks.address}/v1/statement",
                data="SELECT * FROM unnest(sequence(1, 10000)) AS a(x) CROSS JOIN unnest(sequence(1, 10000)) AS b(y)",
                timeout=10,
            ).json()
            while "/executing/" not in answer["nextUri"]:
                answer = session.get(answer["nextUri"], timeout=10).json()
            held.append(answer["nextUri"])
        try:
            yield
        finally:
            for each in held:
                session.delete(each, timeout=10)


def test_a_task_that_waits_in_trinos_queue_is_told_so(on_trino: Lab) -> None:
    job = "tale.source"
    # As many as a job of this workspace may have at work, see its workspace.yaml.
    with at_work(on_trino, f"forebay/{job}", 6), browser(on_trino, "user") as client:
        run = on_trino.start(job)

        def waits() -> Any:
            found = client.get(f"/api/v1/runs/{job}/{run}/why").json()
            return next((each for each in found if each["kind"] == "engine queue"), None)

        reason = eventually(25, waits, "the page says that its engine queues it")
        assert "waits in its engine's queue" in reason["what"]
        assert reason["evidence"].startswith("Trino: queued")
        assert f"in the group forebay.batch.{job}" in reason["evidence"]
        assert "waits in its engine" in client.get(f"/runs/{job}/{run}/why").text
    ended, _ = on_trino.finish(job, run)
    assert ended["state"] == "success"


def asked(lab: Lab, sql: str) -> list[dict[str, Any]]:
    """What the SQL page's API answers, line by line."""
    with browser(lab, "admin") as client:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/sql").text)
        assert found is not None
        body = {"workspace": "flights", "sql": sql}
        answer = client.post("/api/v1/query", json=body, headers={"x-forebay-csrf": found[1]}, timeout=60)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


def test_the_sql_page_reads_by_a_user_who_may_do_nothing_else(on_trino: Lab) -> None:
    sql = "SELECT outlived, current_date > DATE '2020-01-01' AS now FROM lab.outlived"
    found = asked(on_trino, sql)
    assert found[0]["engine"] == "trino"
    assert found[-1]["type"] == "end", found[-1]
    rows = [row for line in found if line["type"] == "rows" for row in line["rows"]]
    assert rows == [[str(OUTLIVED), "true"]]
    ran = TrinoClient(server(on_trino.stack)).run(
        f"SELECT \"user\", resource_group_id FROM system.runtime.queries WHERE source = '{SOURCE}' AND query LIKE '%AS now%'"
    )
    assert ran.rows == [[WORKSHEET, ["forebay", "interactive"]]]
    connection = json.dumps(on_trino.api.get("/connections/lake_sql"))
    assert on_trino.stack.secrets["trino_worksheet_password"] not in connection


def trino_of(lab: Lab) -> dict[str, Any]:
    return next(one for one in lab.json("status")["services"] if one["name"] == "trino")


def test_without_it_sql_runs_on_duckdb_again(on_trino: Lab) -> None:
    assert on_trino.forebay("up", "--without", "trino").returncode == 0
    assert "trino" not in {one["name"] for one in on_trino.json("status")["services"]}
    connection: Any = on_trino.api.get("/connections/lake_sql")
    assert connection["conn_type"] == "duckdb"
    # DuckDB puts files together now, and makes of them what Trino made.
    rows = "SELECT amount, entry FROM lab.ledger ORDER BY entry"
    before = on_trino.json("sql", rows)["rows"]
    (done,) = on_trino.json("compact", "lab.ledger")
    assert (done["small"], done["after"]) == (done["files"], 1)
    newest = on_trino.json("blame", "lab.ledger")[0]
    assert (newest["operation"], newest["engine"]) == ("replace", "duckdb")
    assert on_trino.json("sql", rows)["rows"] == before
    found = on_trino.json("sql", FIGURES)["rows"]
    assert [[int(value) for value in row] for row in found] == [[5_432, 336_776, 328_521, 8_255, 4_152_200]]
