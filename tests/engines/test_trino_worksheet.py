"""People's queries on Trino: they read the lake, and Trino itself refuses everything else to the user who asks for them."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
from test_trino_faults import ENDLESS
from trino_server import ACCESS, SECRET, TrinoServer

from forebay import sqltext
from forebay.engines.background import EngineError
from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.trino_client import Label, Server, TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import TableDefinition, ensure_namespace, load
from forebay.query.limits import Limits
from forebay.query.on_trino import SOURCE, server_of
from forebay.query.pool import Pool, rows
from forebay.query.process import Job, QueryFailed, Setup, Worker
from forebay.query.request import asked, prepared
from forebay.stack import trino_access, trino_rules
from forebay.stack.trino import WORKSHEET


@pytest.fixture(scope="module")
def table(config: CatalogConfig) -> str:
    with DuckDBEngine(config) as engine:
        name = f"w{uuid.uuid4().hex[:10]}.days"
        engine.write(
            "SELECT i AS n, 'text ' || i AS text, DATE '2024-01-01' + CAST(i AS INTEGER) AS day, "
            "CAST(i AS DECIMAL(9, 2)) AS part FROM range(5) AS t(i)",
            TableDefinition(name),
        )
    ensure_namespace(config, f"{name.partition('.')[0]}e.")
    return name


def reader(trino: TrinoServer) -> Server:
    """The user whom the connection names for people's queries, as one who has got hold of its password."""
    return replace(
        trino.server,
        user=trino_access.WORKSHEET,
        password=trino.stack.secrets["trino_worksheet_password"],
    )


@pytest.fixture
def client(trino: TrinoServer) -> Iterator[TrinoClient]:
    made = TrinoClient(reader(trino))
    yield made
    made.close()


@pytest.fixture
def run(config: CatalogConfig, lens: str, trino: TrinoServer, table: str) -> Iterator[str]:
    """The catalog of a try that is at work, with a row that is not published."""
    namespace = table.partition(".")[0]
    who = TaskTry(f"{namespace}.job", "r", task="t", writes=(f"{namespace}.new",), began=BEGAN)
    with trino.engine(replace(config, lens=lens).seen_by(who), who) as engine:
        engine.write("SELECT 7 AS n", TableDefinition(f"{namespace}.new"))
        yield engine.catalog


def refused(client: TrinoClient, sql: str) -> TrinoError:
    with pytest.raises(TrinoError) as caught:
        client.run(sql, catalog=WORKSHEET)
    return caught.value


BEGAN = time.time()
"""One try is at work for all tests of a table."""

WRITES = """
    INSERT INTO {table} (n) VALUES 9
    DELETE FROM {table}
    UPDATE {table} SET n = 0
    MERGE INTO {table} t USING (VALUES 1) s(k) ON t.n = s.k WHEN MATCHED THEN DELETE
    TRUNCATE TABLE {table}
    DROP TABLE {table}
    CREATE TABLE {space}.other AS SELECT 1 AS n
    CREATE OR REPLACE TABLE {table} AS SELECT 1 AS n
    CREATE TABLE {space}.other (n bigint) WITH (location = 's3://lake/elsewhere')
    ALTER TABLE {table} RENAME TO {space}.other
    ALTER TABLE {table} ADD COLUMN more bigint
    ALTER TABLE {table} SET PROPERTIES format_version = 2
    ALTER TABLE {table} SET AUTHORIZATION worksheet
    ALTER TABLE {table} EXECUTE optimize
    ALTER TABLE {table} EXECUTE remove_orphan_files
    ALTER TABLE {table} EXECUTE expire_snapshots
    COMMENT ON TABLE {table} IS 'mine'
    COMMENT ON COLUMN {table}.n IS 'mine'
    CREATE SCHEMA mine
    DROP SCHEMA {space}e
    ALTER SCHEMA {space} SET AUTHORIZATION worksheet
    CREATE VIEW {space}.v AS SELECT 1 AS n
    CREATE VIEW {space}.v SECURITY DEFINER AS SELECT 1 AS n
    CREATE MATERIALIZED VIEW {space}.v AS SELECT 1 AS n
    CREATE FUNCTION worksheet.{space}.f(x bigint) RETURNS bigint RETURN x
    GRANT INSERT ON {table} TO USER worksheet
    GRANT SELECT ON {table} TO ROLE public
    CREATE ROLE mine
    ANALYZE {table}
    CREATE CATALOG mine USING memory
    CREATE CATALOG run_mine USING iceberg WITH ("iceberg.catalog.type" = 'rest')
    DROP CATALOG lake
    DROP CATALOG worksheet
    DELETE FROM lake.{table}
    ALTER TABLE lake.{table} EXECUTE optimize
    CALL lake.system.unregister_table('{space}', 'days')
    DROP CATALOG {run}
"""
CALLS = """
    CALL worksheet.system.rollback_to_snapshot('{space}', 'days', 1)
    CALL worksheet.system.unregister_table('{space}', 'days')
    CALL worksheet.system.register_table('{space}', 'mine', 's3://lake/elsewhere')
    CALL system.runtime.kill_query('{query}', 'mine')
    SELECT * FROM TABLE(worksheet.system.table_changes('{space}', 'days', 1, 2))
    SET SESSION AUTHORIZATION forebay
    SET ROLE admin
    SET SESSION query_max_execution_time = '30d'
    SET SESSION query_max_memory = '900MB'
    SET SESSION worksheet.merge_manifests_on_write = false
"""
LOOKS = """
    SELECT * FROM lake.{table}
    SHOW SCHEMAS FROM lake
    SELECT * FROM system.runtime.queries
    SELECT * FROM system.runtime.nodes
    SELECT * FROM system.runtime.tasks
    SELECT * FROM system.metadata.catalogs
    SELECT * FROM system.metadata.table_properties
    SELECT * FROM system.jdbc.tables
    SELECT * FROM {run}.{space}.new
    SELECT * FROM {run}.information_schema.tables
    SHOW SCHEMAS FROM {run}
    SHOW TABLES FROM {run}.{space}
    SHOW CREATE TABLE {table}
    SHOW CREATE SCHEMA {space}
    SHOW SCHEMAS FROM system
    SELECT * FROM {space}."days$files"
    SELECT * FROM {space}."days$snapshots"
    SELECT * FROM {space}."days$refs"
    SELECT * FROM {space}."days$properties"
"""


# Where Trino looks at something else first, which stands in the way of everybody.
_OTHERWISE = {"SET ROLE": "ROLE_NOT_FOUND"}


def texts(block: str) -> list[str]:
    return [line.strip() for line in block.strip().splitlines()]


@pytest.mark.parametrize("text", [*texts(WRITES), *texts(CALLS), *texts(LOOKS)])
def test_trino_itself_refuses_everything_but_reading(
    client: TrinoClient, trino: TrinoServer, config: CatalogConfig, table: str, run: str, text: str
) -> None:
    before = load(config, table)
    assert before is not None
    query = TrinoClient(trino.server).run("SELECT 1").query
    words = {"table": table, "space": table.partition(".")[0], "run": run, "query": query}
    error = refused(client, text.format(**words))
    # It is the right that is missing, not something that Trino's rules leave to chance.
    expected = next((name for part, name in _OTHERWISE.items() if part in text), "PERMISSION_DENIED")
    assert error.name == expected, f"{error.name}: {error}"
    after = load(config, table)
    assert after is not None
    assert after.metadata_location == before.metadata_location


def test_it_sees_the_lake_and_no_catalog_of_a_run(
    client: TrinoClient, trino: TrinoServer, table: str, run: str
) -> None:
    assert client.run("SHOW CATALOGS").rows == [[WORKSHEET]]
    assert run in [name for (name,) in TrinoClient(trino.server).run("SHOW CATALOGS").rows]
    space = table.partition(".")[0]
    found = client.run(
        f"SELECT table_name FROM {WORKSHEET}.information_schema.tables WHERE table_schema = '{space}'"
    )
    # What the run has not published is not among them, or empty.
    assert ["days"] in found.rows
    assert client.run(f"SELECT count(*) AS n FROM {table}", catalog=WORKSHEET).rows == [[5]]
    assert not client.run(f"SELECT * FROM {space}.new", catalog=WORKSHEET).rows


def test_what_a_run_has_not_published_cannot_be_asked_for_by_its_name(
    client: TrinoClient, config: CatalogConfig, table: str, run: str
) -> None:
    found = load(config, f"{table.partition('.')[0]}.new")
    assert found is not None
    heads = {name: ref.snapshot_id for name, ref in found.refs().items() if name != "main"}
    assert heads
    for name, snapshot in heads.items():
        for place in (f"'{name}'", str(snapshot)):
            error = refused(client, f"SELECT * FROM {table.partition('.')[0]}.new FOR VERSION AS OF {place}")
            assert error.name in ("INVALID_ARGUMENTS", "TABLE_NOT_FOUND", "PERMISSION_DENIED"), str(error)


def test_other_peoples_queries_are_neither_seen_nor_ended(trino: TrinoServer) -> None:
    theirs = TrinoClient(trino.server).run("SELECT 1").query
    asked = {
        "auth": (reader(trino).user, reader(trino).password),
        "verify": str(trino.server.verify),
        "timeout": 10,
    }
    address = trino.server.address
    mine = TrinoClient(reader(trino)).run("SELECT 1").query
    listed = [each["queryId"] for each in requests.get(f"{address}/v1/query", **asked).json()]
    assert mine in listed
    assert theirs not in listed
    assert requests.get(f"{address}/v1/query/{theirs}", **asked).status_code == 403
    assert requests.delete(f"{address}/v1/query/{theirs}", **asked).status_code == 403
    for path in ("node", "thread", "resourceGroupState/forebay", "jmx/mbean"):
        assert requests.get(f"{address}/v1/{path}", **asked).status_code in (401, 403, 404), path


@pytest.mark.parametrize("name", ["query_max_execution_time", "query_max_memory", "resource_overcommit"])
def test_a_query_may_bring_its_time_and_no_other_setting(client: TrinoClient, name: str) -> None:
    value = {"query_max_memory": "900MB", "resource_overcommit": "true"}.get(name, "30d")
    with pytest.raises(TrinoError, match=f"Cannot set system session property {name}") as caught:
        client.run("SELECT 1", session={name: value})
    assert caught.value.name == "PERMISSION_DENIED"
    with pytest.raises(TrinoError, match="time limit"):
        client.run(ENDLESS, session={"query_max_run_time": "1s"})


def test_it_cannot_pass_for_a_job(trino: TrinoServer) -> None:
    # The group of this workspace takes one query: people's queries are in another one, whatever they claim.
    client = TrinoClient(reader(trino), Label("forebay/crowded.job"))
    query = client.run("SELECT 1").query
    group = TrinoClient(trino.server).run(
        f"SELECT resource_group_id FROM system.runtime.queries WHERE query_id = '{query}'"
    )
    assert group.rows == [[["forebay", "interactive"]]]


def test_nobody_else_may_do_anything() -> None:
    rules = trino_rules.access_rules(("a.b", "c"), "d", "lake")
    for name in ("queries", "schemas", "tables", "functions", "procedures", "system_information"):
        assert all("user" in rule for rule in rules[name]), name
    assert rules["catalogs"][-1] == {"allow": "none"}
    assert rules["impersonation"] == rules["authorization"] == []
    # A user's name is no pattern.
    assert rules["queries"][0]["user"] == "a\\.b|c"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def extra(trino: TrinoServer) -> dict[str, object]:
    return {
        "access_key": ACCESS,
        "secret_key": SECRET,
        "verify": trino.server.verify,
        "worksheet_user": trino_access.WORKSHEET,
        "worksheet_password": trino.stack.secrets["trino_worksheet_password"],
        "worksheet_catalog": WORKSHEET,
    }


@pytest.fixture
def setup(trino: TrinoServer, config: CatalogConfig) -> Setup:
    server = trino.server
    told = server_of(server.host, server.port, server.user, server.password, extra(trino))
    return Setup("trino", replace(config, access_key="", secret_key=""), Limits(seconds=30), told)


def job(text: str, **more: object) -> Job:
    return replace(prepared(asked(text), {}, "trino", lambda _: True), **more)  # type: ignore[arg-type]


def test_a_querys_process_is_told_no_secret_of_jobs(
    setup: Setup, trino: TrinoServer, config: CatalogConfig
) -> None:
    told = setup.line("/tmp").decode()
    for secret in (
        trino.server.password,
        ACCESS,
        SECRET,
        config.access_key,
        json.dumps(config.secret_key)[1:-1],
    ):
        assert secret not in told
    assert trino.stack.secrets["trino_worksheet_password"] in told


def test_a_catalog_needs_a_user_of_its_own(trino: TrinoServer) -> None:
    with pytest.raises(EngineError, match="worksheet_catalog and no worksheet_user"):
        server_of("host", 1, "jobs", "word", {**extra(trino), "worksheet_user": ""})


def test_the_same_rows_as_on_duckdb(pool: Pool, setup: Setup, config: CatalogConfig, table: str) -> None:
    text = (
        f"SELECT n, text, day, part, date_trunc('month', day) AS month, n / 2 AS half, "
        f"TIMESTAMP '2024-01-01 00:00:00 UTC' AS at, CAST(NULL AS varchar) AS nothing FROM {table} ORDER BY n DESC"
    )
    there = rows(pool, setup, job(text))
    here = Setup("duckdb", config, Limits(seconds=30), macros=tuple(sqltext.MACROS))
    on_duckdb = rows(pool, here, prepared(asked(text), {}, "duckdb", lambda _: True))
    assert there["rows"] == on_duckdb["rows"]
    assert len(there["rows"]) == 5
    assert there["columns"] == on_duckdb["columns"]


def test_the_plan_is_shown(pool: Pool, setup: Setup, table: str) -> None:
    found = rows(pool, setup, job(f"SELECT count(*) AS n FROM {table}", explain=True))
    assert "TableScan" in str(found["rows"])


def test_rows_are_capped_and_the_rest_is_not_worked_on(pool: Pool, setup: Setup, trino: TrinoServer) -> None:
    mark = f"m{uuid.uuid4().hex[:8]}"
    text = f"SELECT a.n AS {mark} FROM UNNEST(sequence(1, 9000)) AS a(n) CROSS JOIN UNNEST(sequence(1, 9000)) AS b(n)"
    found = rows(pool, setup, job(text), Limits(rows=10_000))
    assert (len(found["rows"]), found["more"]) == (10_000, "rows")
    assert states(trino, mark) == {"FAILED"}
    with pool.worker(setup) as worker:
        worker.run(job(text, format="csv"), Limits(rows=10_000))
        with pytest.raises(QueryFailed, match="would lack rows"):
            list(worker.frames())


def states(trino: TrinoServer, words: str, patience: float = 5.0) -> set[str]:
    """How the SQL page's queries with these words stand, once none is at work."""
    client = TrinoClient(trino.server)
    sql = (
        f"SELECT DISTINCT state FROM system.runtime.queries WHERE source = '{SOURCE}' "
        f"AND query LIKE '%{words.replace(chr(39), chr(39) * 2)}%'"
    )
    deadline = time.monotonic() + patience
    while True:
        found = {str(row[0]) for row in client.run(sql).rows}
        if found <= {"FINISHED", "FAILED"} or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def at_work(trino: TrinoServer, mark: str) -> None:
    client = TrinoClient(trino.server)
    sql = f"SELECT 1 FROM system.runtime.queries WHERE state = 'RUNNING' AND source = '{SOURCE}' AND query LIKE '%{mark}%'"
    deadline = time.monotonic() + 30
    while not client.run(sql).rows:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_cancelled_query_ends_in_trino(pool: Pool, setup: Setup, trino: TrinoServer, how: str) -> None:
    mark = f"m{uuid.uuid4().hex[:8]}"
    worker = pool.take(setup)
    worker.run(job(ENDLESS.replace(" AS s ", f" AS {mark} ")), setup.limits)
    drain = threading.Thread(target=lambda: _ends(worker))
    drain.start()
    at_work(trino, mark)
    began = time.monotonic()
    if how == "killed":
        # Without a word: Trino ends what nobody asks about.
        worker._process.kill()
    pool.give_back(worker)
    drain.join(30)
    assert states(trino, mark, 45.0) == {"FAILED"}
    assert time.monotonic() - began < (5 if how == "stopped" else 45)


def _ends(worker: Worker) -> None:
    with pytest.raises((QueryFailed, ValueError, OSError)):
        list(worker.frames())


def test_a_query_that_takes_too_long_is_ended(pool: Pool, setup: Setup, trino: TrinoServer) -> None:
    mark = f"m{uuid.uuid4().hex[:8]}"
    short = replace(setup, limits=Limits(seconds=2))
    with pytest.raises(QueryFailed, match=r"longer than the 2 s|time limit") as caught:
        rows(pool, short, job(ENDLESS.replace(" AS s ", f" AS {mark} ")))
    print(caught.value)
    assert states(trino, mark) == {"FAILED"}


def test_what_trino_says_is_told_without_its_address_of_the_lake(
    pool: Pool, setup: Setup, table: str
) -> None:
    for text, said in (
        (f"SELECT nn FROM {table}", "Column 'nn' cannot be resolved"),
        ("SELECT * FROM nowhere.at_all", "nowhere"),
        ("SELECT 1 / 0 AS n", "Division by zero"),
    ):
        with pytest.raises(QueryFailed) as caught:
            rows(pool, setup, job(text))
        assert said in str(caught.value)
        assert "http" not in str(caught.value)


def test_without_a_user_of_its_own_the_catalog_is_read_only(
    pool: Pool, config: CatalogConfig, lens: str, trino: TrinoServer, table: str
) -> None:
    server = trino.server
    told = server_of(
        server.host, server.port, server.user, server.password,
        {"access_key": ACCESS, "secret_key": SECRET, "verify": server.verify},
    )  # fmt: skip
    setup = Setup("trino", replace(config, lens=lens).published(), Limits(seconds=30), told)
    assert rows(pool, setup, job(f"SELECT count(*) AS n FROM {table}"))["rows"] == [["5"]]
    for text in (f"DELETE FROM {table}", f"CREATE TABLE {table}2 AS SELECT 1 AS n"):
        with pytest.raises(QueryFailed, match="Access Denied"):
            rows(pool, setup, Job(text, ()))
    client = TrinoClient(server)
    for (name,) in client.run("SHOW CATALOGS LIKE 'worksheet\\_%' ESCAPE '\\'").rows:
        client.run(f"DROP CATALOG {name}")
