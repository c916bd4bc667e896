"""Queries of people: what they can do, and everything that they cannot."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forebay import sqltext
from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError, JobSpecError
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import TableDefinition, list_tables, load
from forebay.query.limits import Limits
from forebay.query.pool import Busy, Pool, rows
from forebay.query.process import Job, QueryFailed, Setup
from forebay.query.request import Given, NotAllowed, asked, prepared


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def setup(config: CatalogConfig) -> Setup:
    return Setup("duckdb", config, Limits(seconds=30), macros=tuple(sqltext.MACROS))


@pytest.fixture(scope="module")
def table(config: CatalogConfig) -> str:
    """A table of five days, beside one that queries on it may not see."""
    with DuckDBEngine(config) as engine:
        engine.write(
            "SELECT range AS n, 'row ' || range AS text, DATE '2026-01-01' + range::INT AS day FROM range(5)",
            TableDefinition("queries.days"),
        )
        engine.write("SELECT 'nobody may know' AS text", TableDefinition("queries.other"))
    return "queries.days"


def ask(
    pool: Pool, setup: Setup, sql: str, values: dict[str, Given] | None = None, *, explain: bool = False
) -> dict[str, Any]:
    job = prepared(asked(sql), values or {}, setup.engine, lambda namespace: True, explain=explain)
    return rows(pool, setup, job)


def forced(pool: Pool, setup: Setup, sql: str, *reads: str) -> dict[str, Any]:
    """As if the text had passed every check that is made before the engine sees it."""
    return rows(pool, setup, Job(sql, reads))


def test_a_select_gives_columns_and_texts(pool: Pool, setup: Setup, table: str) -> None:
    found = ask(
        pool, setup, f"SELECT n, text, day, n / 2 AS half, CAST(NULL AS varchar) AS nothing FROM {table} "
        "WHERE day >= :since ORDER BY n", {"since": Given("2026-01-04")},
    )  # fmt: skip
    assert [(each["name"], each["type"]) for each in found["columns"]] == [
        ("n", "bigint"), ("text", "varchar"), ("day", "date"), ("half", "bigint"), ("nothing", "varchar"),
    ]  # fmt: skip
    assert found["rows"] == [
        ["3", "row 3", "2026-01-04", "1", None],
        ["4", "row 4", "2026-01-05", "2", None],
    ]
    assert found["more"] == ""


def test_what_is_nested_is_text_too(pool: Pool, setup: Setup) -> None:
    sql = (
        "SELECT ARRAY[1, 2] AS a, MAP(ARRAY['x'], ARRAY[DATE '2026-01-01']) AS m, TRUE AS b, 1.50 AS d, "
        "TIMESTAMP '2026-01-01 10:00:00' AS t, to_utf8('ä') AS u, INTERVAL '3' DAY AS i, nan() AS f"
    )
    found = ask(pool, setup, sql)
    assert found["rows"][0][:6] == [
        "[1, 2]",
        '[["x", "2026-01-01"]]',
        "true",
        "1.50",
        "2026-01-01 10:00:00",
        "c3a4",
    ]
    assert found["columns"][0]["type"] == "array(integer)"
    assert found["rows"][0][7] == "nan"


def test_explain_shows_the_plan(pool: Pool, setup: Setup, table: str) -> None:
    found = ask(pool, setup, f"SELECT count(*) FROM {table}", explain=True)
    assert found["columns"] == [{"name": "plan", "type": "varchar"}]
    assert any("SCAN" in str(line) for (line,) in found["rows"])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM system.runtime.queries",
        "SELECT * FROM hive.a.b",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM a.b; DROP TABLE a.b",
        "DELETE FROM a.b",
        "CREATE TABLE a.c AS SELECT 1 AS n",
        "SET SESSION a = 1",
        "COPY (SELECT 1) TO 's3://lake/x'",
        "ATTACH 'x' AS y",
        "CALL system.runtime.kill_query('x')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('s3_secret_access_key')",
        "SELECT \"current_setting\"('home_directory')",
        "SELECT query('SELECT 1')",
        "WITH x AS (INSERT INTO a.b VALUES (1) RETURNING *) SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM a.b",
        "SELECT 1 INTO a.b",
        "",
        "SELECT '" + "x" * 300_000 + "'",
    ],
)
def test_only_selects_are_read(sql: str) -> None:
    with pytest.raises(JobSpecError) as error:
        sqltext.to_duckdb(asked(sql).statement)
    assert all(mistake.line >= 1 for mistake in error.value.mistakes)


def test_a_table_of_another_workspace_is_refused(table: str) -> None:
    for text in (
        f"SELECT * FROM {table}",
        f"WITH a AS (SELECT 1 AS x) SELECT (SELECT max(n) FROM {table}) FROM a",
    ):
        with pytest.raises(NotAllowed, match="does not let you read"):
            prepared(asked(text), {}, "duckdb", lambda namespace: namespace == "mine")


# Each is DuckDB's own SQL: the engine has to refuse it although nothing before it did.
ATTACKS = (
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd', columns={{'a': 'VARCHAR'}}, delim='|')",
    "FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_parquet('s3://{other}/**/*.parquet')",
    "SELECT * FROM glob('s3://**')",
    "SELECT * FROM read_text('http://127.0.0.1:1/')",
    "SELECT * FROM read_text('https://169.254.169.254/latest/meta-data')",
    "SELECT * FROM iceberg_scan('s3://{other}')",
    "SELECT * FROM lake.{other_table}",
    "SELECT * FROM (SELECT (SELECT max(text) FROM lake.{other_table}))",
    "SELECT * FROM query('SELECT * FROM lake.{other_table}')",
    "SELECT * FROM query_table('lake.{other_table}')",
    "INSERT INTO lake.{table} VALUES (9, 'x', NULL)",
    "DELETE FROM lake.{table}",
    "DROP TABLE lake.{table}",
    "CREATE TABLE lake.{namespace}.made AS SELECT 1 AS n",
    "CREATE SCHEMA lake.made",
    "CREATE TABLE here AS SELECT 1 AS n",
    "COPY (SELECT 1) TO 's3://lake/stolen.csv'",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "ATTACH ':memory:' AS more",
    "DETACH lake",
    "USE lake",
    "SET memory_limit = '100GB'",
    "RESET enable_external_access",
    "SET allow_unredacted_secrets = true",
    "CREATE SECRET mine (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPLAIN ANALYZE DELETE FROM lake.{table}",
    "SELECT 1; DELETE FROM lake.{table}",
    "PREPARE x AS DELETE FROM lake.{table}",
    "EXPORT DATABASE '/tmp/stolen'",
    "CALL duckdb_secrets()",
    "SELECT 1 AS n --\0\n FROM lake.{other_table}",
    "SELECT text, '''' || $$'$$ || '\\' AS t FROM lake.{other_table} -- '::VARCHAR) --",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_engine_refuses_what_got_past_everything_else(
    pool: Pool, setup: Setup, config: CatalogConfig, table: str, attack: str
) -> None:
    place = config.pyiceberg().load_table("queries.other").metadata.location.removeprefix("s3://")
    sql = attack.format(table=table, namespace="queries", other=place, other_table="queries.other")
    with pytest.raises(QueryFailed) as error:
        forced(pool, setup, sql, table)
    assert config.secret_key not in str(error.value)
    assert "nobody may know" not in str(error.value)


def test_and_nothing_was_changed_by_it(pool: Pool, setup: Setup, config: CatalogConfig, table: str) -> None:
    assert len(ask(pool, setup, f"SELECT * FROM {table}")["rows"]) == 5
    found = load(config, table)
    assert found is not None
    assert len(found.metadata.snapshots) == 1
    assert list_tables(config, "queries") == ["queries.days", "queries.other"]


def test_no_function_tells_a_secret(pool: Pool, setup: Setup, config: CatalogConfig, table: str) -> None:
    for sql in (
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_databases()",
        "SELECT * FROM which_secret('s3://lake/x', 's3')",
        "SELECT * FROM pragma_database_list()",
    ):
        try:
            found = str(forced(pool, setup, sql, table))
        except QueryFailed as error:
            found = str(error)
        assert config.secret_key not in found, sql
        assert config.secret_key.replace("'", "''") not in found, sql


def test_the_process_knows_none_of_its_callers_environment(pool: Pool, setup: Setup) -> None:
    os.environ["FOREBAY_CANARY"] = "canary-in-the-environment"
    try:
        worker = pool.take(replace(setup, limits=Limits(seconds=29)))
        environment = Path(f"/proc/{worker.pid}/environ").read_bytes()
        line = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        pool.give_back(worker)
    finally:
        del os.environ["FOREBAY_CANARY"]
    assert b"canary" not in environment
    assert setup.config.secret_key.encode() not in environment + line


ENDLESS = "SELECT count(*) FROM range(10000000000) AS a(x), range(1000) AS b(y) WHERE sqrt(x * y) < 0"


def test_a_query_ends_with_its_time(pool: Pool, setup: Setup) -> None:
    quick = replace(setup, limits=Limits(seconds=2))
    began = time.monotonic()
    with pytest.raises(QueryFailed, match="longer than the 2 s"):
        forced(pool, quick, ENDLESS)
    assert time.monotonic() - began < 8


def test_time_counts_for_rows_that_nobody_takes(pool: Pool, setup: Setup) -> None:
    quick = replace(setup, limits=Limits(seconds=1, rows=10**9))
    with pool.worker(quick) as worker:
        worker.run(Job("SELECT range AS n FROM range(100000000)", ()), quick.limits)
        time.sleep(8)
        assert not worker.alive


def test_a_cancelled_query_is_gone_at_once_with_all_it_wrote(pool: Pool, setup: Setup) -> None:
    worker = pool.take(setup)
    worker.run(Job(ENDLESS, ()), setup.limits)
    folder = Path(f"/proc/{worker.pid}/cwd").resolve()
    time.sleep(0.3)
    began = time.monotonic()
    threading.Thread(target=pool.give_back, args=(worker,)).start()
    with pytest.raises(QueryFailed):
        list(worker.frames())
    assert time.monotonic() - began < 3
    while Path(f"/proc/{worker.pid}").exists() or folder.exists():
        assert time.monotonic() - began < 20
        time.sleep(0.05)


def test_a_query_dies_with_whoever_started_it(setup: Setup, tmp_path: Path) -> None:
    own = Pool()
    worker = own.take(setup)
    worker.run(Job(ENDLESS, ()), setup.limits)
    worker._in.close()
    for _ in range(50):
        if not worker.alive:
            break
        time.sleep(0.1)
    assert not worker.alive
    own.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(range) FROM range(1000000000)",
        "SELECT max(repeat('x', 2000000000))",
        "SELECT string_agg(repeat('y', 1000000), '') FROM range(100000)",
        "SELECT length(s) FROM (SELECT list_reduce(list_transform(range(40), x -> 'ab'), (a, b) -> a || a) AS s)",
    ],
)
def test_memory_is_capped_outside_the_caller(pool: Pool, setup: Setup, sql: str) -> None:
    small = replace(setup, limits=Limits(seconds=60, memory="300MB", spill="200MB"))
    before = _memory(os.getpid())
    worker = pool.take(small)
    most = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.05):
            most = max(most, _memory(worker.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        worker.run(Job(sql, ()), small.limits)
        with pytest.raises(QueryFailed):
            list(worker.frames())
    finally:
        stop.set()
        watcher.join()
        pool.give_back(worker)
    assert most < 2_000_000_000
    assert _memory(os.getpid()) - before < 100_000_000


def test_more_rows_than_the_cap_are_said_and_never_silently_left_out(pool: Pool, setup: Setup) -> None:
    capped = replace(setup, limits=Limits(seconds=30, rows=10_000))
    found = forced(pool, capped, "SELECT range AS n FROM range(20000)")
    assert (len(found["rows"]), found["more"]) == (10_000, "rows")
    few = replace(setup, limits=Limits(seconds=30, bytes=50_000))
    found = forced(pool, few, "SELECT range AS n FROM range(200000)")
    assert found["more"] == "bytes"
    assert len(found["rows"]) < 20_000
    with pool.worker(capped) as worker:
        worker.run(Job("SELECT range AS n FROM range(20000)", (), format="csv"), capped.limits)
        with pytest.raises(QueryFailed, match="would lack rows"):
            list(worker.frames())


def test_a_million_rows_pass_in_little_memory(pool: Pool, setup: Setup) -> None:
    sql = "SELECT range AS n, 'text of row ' || range AS text, range * 1.5 AS v FROM range(1000000)"
    before = _memory(os.getpid())
    count, most, mine = 0, 0, 0
    with pool.worker(setup) as worker:
        worker.run(Job(sql, ()), setup.limits)
        for frame in worker.frames():
            if frame.kind == "data":
                count += len(frame.document["rows"])
                most, mine = max(most, _memory(worker.pid)), max(mine, _memory(os.getpid()))
    assert count == 1_000_000
    assert mine - before < 50_000_000
    assert most < 300_000_000


def test_the_first_rows_do_not_wait_for_the_last(pool: Pool, setup: Setup) -> None:
    # Each row costs a little, all of them together much.
    sql = "SELECT list_sum(list_transform(range(1000), x -> sqrt(x + i))) AS n FROM range(40000) AS t(i)"
    with pool.worker(setup) as worker:
        worker.run(Job(sql, ()), setup.limits)
        began, first = time.monotonic(), None
        for frame in worker.frames():
            if frame.kind == "data" and first is None:
                first = time.monotonic() - began
        whole = time.monotonic() - began
    assert first is not None
    assert first < 0.6 * whole


def test_only_so_many_at_a_time(setup: Setup) -> None:
    own = Pool()
    one = replace(setup, limits=Limits(at_once=1))
    worker = own.take(one)
    with pytest.raises(Busy, match="1 queries run"):
        own.take(one)
    own.give_back(worker)
    own.give_back(own.take(one))
    own.close()


HOSTILE = (
    "=1+1",
    "+SUM(A1)",
    "-2+3",
    "@cmd",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x")',
    "\uff1d1",
    "fine",
    "-5",
    "+1.5e3",
    "",
)


def test_csv_has_no_formulas(pool: Pool, setup: Setup) -> None:
    listed = ", ".join("'" + each.replace("'", "''") + "'" for each in HOSTILE)
    sql = f'SELECT unnest([{listed}]) AS "=cmd|x", -1 AS number, \'a,"b"\' AS quoted, NULL AS nothing'
    with pool.worker(setup) as worker:
        worker.run(Job(sql, (), format="csv"), setup.limits)
        data = b"".join(frame.payload for frame in worker.frames() if frame.kind == "data")
    head, *lines = csv.reader(io.StringIO(data.decode(), newline=""))
    assert head == ["'=cmd|x", "number", "quoted", "nothing"]
    assert [line[0] for line in lines] == [
        each if each in ("fine", "-5", "+1.5e3", "") else f"'{each}" for each in HOSTILE
    ]
    assert {tuple(line[1:]) for line in lines} == {("-1", 'a,"b"', "")}


def test_parquet_keeps_the_types(pool: Pool, setup: Setup, table: str) -> None:
    job = replace(
        prepared(asked(f"SELECT * FROM {table} ORDER BY n"), {}, "duckdb", lambda _: True), format="parquet"
    )
    with pool.worker(setup) as worker:
        worker.run(job, setup.limits)
        data = b"".join(frame.payload for frame in worker.frames() if frame.kind == "data")
    found = pq.read_table(io.BytesIO(data))
    assert [str(field.type) for field in found.schema] == ["int64", "string", "date32[day]"]
    assert found["n"].to_pylist() == [0, 1, 2, 3, 4]


def test_errors_are_sentences_without_the_engines_own_sql(pool: Pool, setup: Setup, table: str) -> None:
    for sql, said in (
        (f"SELECT nn FROM {table}", "nn"),
        ("SELECT * FROM nowhere.at_all", "There is no table nowhere.at_all"),
        (f"SELECT CAST(text AS integer) FROM {table}", "row 0"),
    ):
        with pytest.raises(ForebayError) as error:
            ask(pool, setup, sql)
        assert said in str(error.value)
        assert "LINE 1" not in str(error.value)
        assert "lake." not in str(error.value)


def test_the_next_query_finds_a_process_ready(setup: Setup) -> None:
    own = Pool()
    own.warm(setup)
    deadline = time.monotonic() + 60
    while not own._spare:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ready = own._spare[0].pid
    with own.worker(setup) as worker:
        assert worker.pid == ready
    assert json.dumps(rows(own, setup, Job("SELECT 1 AS n", ()))["rows"]) == '[["1"]]'
    own.close()


def _memory(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
