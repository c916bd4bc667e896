"""What goes wrong on a real Trino: each is said with the next step, and only what may pass is tried again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from trino_server import ACCESS, SECRET, TrinoServer

from forebay import sqltext
from forebay.engines.background import EngineError
from forebay.engines.trino import TrinoEngine
from forebay.engines.trino_catalog import RunCatalog, catalog_properties, create_statement
from forebay.engines.trino_client import Label, Server, TrinoClient
from forebay.engines.trino_end import ran_out_of_memory
from forebay.engines.trino_errors import TrinoError
from forebay.errors import ForebayError
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import TableDefinition, load
from forebay.operators.engine import blamed

ENDLESS = (
    "SELECT sum(a.n * b.n + c.n) AS s FROM UNNEST(sequence(1, 9000)) AS a(n) CROSS JOIN UNNEST(sequence(1, 9000)) AS b(n) "
    "CROSS JOIN UNNEST(sequence(1, 9000)) AS c(n)"
)


HUGE = "SELECT length(rpad('a', 2000000000, 'b')) AS n"


@pytest.fixture
def engine(config: CatalogConfig, lens: str, trino: TrinoServer) -> Iterator[TrinoEngine]:
    with trino.engine(config.at(f"{lens}/main")) as made:
        yield made


def admin(trino: TrinoServer) -> TrinoClient:
    return TrinoClient(replace(trino.server, user="admin", password=trino.stack.secrets["admin_password"]))


@contextmanager
def failing(engine: TrinoEngine, work: Callable[[], Any]) -> Iterator[tuple[list[str], list[BaseException]]]:
    """Runs `work` beside; gives the ids of its queries and, afterwards, its error."""
    queries: list[str] = []
    errors: list[BaseException] = []
    engine.client._on_query = lambda query, _info: queries.append(query)

    def body() -> None:
        try:
            work()
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    deadline = time.monotonic() + 30
    while not queries:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    yield queries, errors
    thread.join(90)
    assert not thread.is_alive()
    assert errors


def told(error: BaseException) -> TrinoError:
    assert isinstance(error, TrinoError), error
    return error


def test_a_query_that_needs_too_much_memory(
    engine: TrinoEngine, config: CatalogConfig, namespace: str
) -> None:
    # The server's own limit takes a minute to reach; a connection may set a lower one.
    engine.client.server = replace(engine.client.server, session=(("query_max_memory", "20MB"),))
    text = (
        "SELECT cardinality(array_agg(a.n * b.n)) AS s FROM UNNEST(sequence(1, 9000)) AS a(n) "
        "CROSS JOIN UNNEST(sequence(1, 9000)) AS b(n)"
    )
    with pytest.raises(TrinoError, match=r"memory limit.*select less, or raise the limit") as caught:
        engine.write(text, TableDefinition(f"{namespace}.t"))
    assert caught.value.name.startswith("EXCEEDED_")
    assert not caught.value.transient
    found = load(config, f"{namespace}.t")
    assert found is None or found.current_snapshot() is None
    # Trino itself lives on.
    assert engine.query("SELECT 1 AS n").to_pylist() == [{"n": 1}]


def test_a_query_that_takes_too_long(engine: TrinoEngine) -> None:
    limited = TrinoClient(replace(engine.client.server, session=(("query_max_run_time", "2s"),)))
    with pytest.raises(TrinoError, match=r"time limit.*raise the timeout in workspace\.yaml") as caught:
        limited.run(ENDLESS)
    assert (caught.value.name, caught.value.transient) == ("EXCEEDED_TIME_LIMIT", False)


def test_an_administrator_kills_the_query(
    engine: TrinoEngine, config: CatalogConfig, trino: TrinoServer, namespace: str
) -> None:
    with failing(engine, lambda: engine.write(ENDLESS, TableDefinition(f"{namespace}.t"))) as (
        queries,
        errors,
    ):
        admin(trino).run(f"CALL system.runtime.kill_query('{queries[-1]}', 'the quarter is being closed')")
    error = told(errors[0])
    assert error.name == "ADMINISTRATIVELY_KILLED"
    assert "the quarter is being closed" in str(error)
    assert "ask there, then clear the task in Airflow" in str(error)
    assert isinstance(blamed(error), AirflowFailException)
    found = load(config, f"{namespace}.t")
    assert found is None or found.current_snapshot() is None


def test_a_catalog_that_goes_away_is_worth_another_try(
    engine: TrinoEngine, trino: TrinoServer, namespace: str
) -> None:
    engine.query("SELECT 1")
    name = engine.catalog
    TrinoClient(trino.server).run(f"DROP CATALOG {name}")
    with pytest.raises(
        TrinoError, match="catalog was dropped while the task worked: run the task again"
    ) as caught:
        engine.query(f"SELECT * FROM {namespace}.t")
    assert isinstance(blamed(caught.value), ForebayError)


def test_a_catalog_of_its_name_is_left_alone(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    who = TaskTry(f"{namespace}.job", "r", task="t", writes=(f"{namespace}.t",), began=time.time())
    seen = replace(config, lens=lens)
    taken = [RunCatalog.of(who, number).name for number in range(5)]
    client = TrinoClient(trino.server)
    properties = catalog_properties(seen.published(), ACCESS, SECRET)
    try:
        client.run(create_statement(taken[0], properties))
        said: list[str] = []
        with trino.engine(seen.seen_by(who), who, log=said.append) as one:
            assert one.query("SELECT 1 AS n").to_pylist() == [{"n": 1}]
            assert one.catalog == taken[1]
        assert f"Trino has a catalog {taken[0]} already, so this try takes another name" in said
        names = [name for (name,) in client.run("SHOW CATALOGS").rows]
        assert taken[0] in names
        assert taken[1] not in names
        for name in taken[1:]:
            client.run(create_statement(name, properties))
        with (
            trino.engine(seen.seen_by(who), who) as one,
            pytest.raises(
                EngineError, match=r"5 names.*drop them \(DROP CATALOG name\) and run the task again"
            ),
        ):
            one.query("SELECT 1")
    finally:
        for name in taken:
            client.run(f"DROP CATALOG IF EXISTS {name}")


def test_a_workspaces_share_reaches_its_jobs_queries(trino: TrinoServer) -> None:
    """What the chart's template and `trino_groups.py` make of a share, Trino reads and holds to."""
    client = TrinoClient(trino.server, Label("forebay/charted.some_job"))
    assert client.run("SHOW SESSION LIKE 'query_max_run_time'").rows[0][1] == "2h"
    asked = "SELECT resource_group_id FROM system.runtime.queries WHERE source = 'forebay/charted.some_job'"
    assert client.run(asked).rows[0] == [["forebay", "batch", "charted", "some_job"]]
    numbers = "SELECT count(DISTINCT 1000 * a + b) FROM UNNEST(sequence(1, 1000)) AS t(a), UNNEST(sequence(1, 1000)) AS u(b)"
    # Trino looks at memory once a second, so it has to take some.
    numbers += " WHERE length(sha512(sha512(sha512(to_utf8(CAST(a * b AS varchar)))))) > 0"
    with pytest.raises(TrinoError) as refused:
        client.run(numbers)
    assert refused.value.name == "EXCEEDED_GLOBAL_MEMORY_LIMIT"
    client.close()
    other = TrinoClient(trino.server, Label("forebay/others.job"))
    assert other.run(numbers).rows == [[1_000_000]]
    other.close()


def test_a_resource_group_that_is_full(trino: TrinoServer) -> None:
    # The tests' server has a workspace of which one query runs and one waits.
    label = Label("forebay/crowded.job")
    clients = [TrinoClient(trino.server, label) for _ in range(3)]
    threads = []
    for client in clients[:2]:

        def run(client: TrinoClient = client) -> None:
            with pytest.raises(TrinoError):
                client.run(ENDLESS)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        while client._now is None:
            time.sleep(0.05)
        time.sleep(0.5)
    try:
        with pytest.raises(
            TrinoError, match=r"Too many queued queries.*raise max_concurrent_tasks"
        ) as caught:
            clients[2].run("SELECT 1")
        assert (caught.value.name, caught.value.transient) == ("QUERY_QUEUE_FULL", True)
    finally:
        # The one that waits first: it would begin when the other ends.
        for client in (clients[1], clients[0]):
            client.cancel()
        for thread in threads:
            thread.join(30)
    assert TrinoClient(trino.server, label).run("SELECT 1").rows == [[1]]


def test_what_the_lens_refuses_is_not_tried_again(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    seen = replace(config, lens=lens)
    other = f"{namespace}.other"
    with trino.engine(seen.main()) as one:
        one.write("SELECT 1 AS n", TableDefinition(other))
    who = TaskTry(f"{namespace}.job", "r", task="t", writes=(f"{namespace}.t",), began=time.time())
    with (
        trino.engine(seen.seen_by(who), who) as one,
        pytest.raises(TrinoError, match="does not declare that it writes") as caught,
    ):
        one.execute([f"INSERT INTO {other} VALUES 2"])
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("SELECT 1 AS a,\n  nowhere AS b", "2:3", "Column 'nowhere' cannot be resolved"),
        ("SELECT n\nFROM lab.not_there", "2:6", "does not exist"),
        ("SELECT 1 AS a,\n  1 / 0 AS b", "", "Division by zero"),
        ("SELECT\n  CAST('x' AS integer) AS n", "", "Cannot cast 'x' to INT"),
        ("SELECT a\nFROM (VALUES 1) AS t(a)\nGROUP BY upper(a)", "3:10", "Unexpected parameters"),
    ],
)
def test_errors_of_the_sql_fail_at_once_and_at_their_place(
    engine: TrinoEngine, text: str, place: str, says: str
) -> None:
    statement = sqltext.parse(text, "delays.sql").statements[0]
    sent = sqltext.to_trino(statement)
    with pytest.raises(TrinoError) as caught:
        engine.query(sent)
    raised = blamed(caught.value, [statement], [sent])
    assert isinstance(raised, AirflowFailException)
    assert str(raised).startswith(f"delays.sql:{place}: " if place else ""), str(raised)
    assert says in str(raised)


def test_a_server_that_is_not_there(config: CatalogConfig) -> None:
    nobody = Server("127.0.0.1", 9, scheme="https", password="x")
    with pytest.raises(TrinoError, match=r"127\.0\.0\.1:9 does not answer .* forebay status") as caught:
        TrinoEngine(config, nobody, access_key=ACCESS, secret_key=SECRET).query("SELECT 1")
    assert caught.value.transient


@pytest.mark.parametrize("away", [0.0, 20.0], ids=["back at once", "away for a while"])
def test_a_server_restarted_in_mid_query(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, away: float
) -> None:
    table = TableDefinition(f"{namespace}.t")
    engine = trino.engine(config.at(f"{lens}/main"))
    engine.write("SELECT BIGINT '1' AS s", table)
    with failing(engine, lambda: engine.write(ENDLESS, table)) as (_, errors):
        trino.kill()
        time.sleep(away)
        trino.start()
    error = told(errors[0])
    assert error.transient
    assert (
        "does not answer" in str(error)
        or "it was restarted in between" in str(error)
        or "starting" in str(error)
    )
    with trino.engine(config.at(f"{lens}/main")) as other:
        assert other.query(f"SELECT s FROM {table.name}").to_pylist() == [{"s": 1}]


def test_a_server_that_runs_out_of_memory(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_LOGS", str(trino.log.parent))
    table = TableDefinition(f"{namespace}.t")
    engine = trino.engine(config.at(f"{lens}/main"))
    engine.write("SELECT BIGINT '1' AS s", table)
    with failing(engine, lambda: engine.write(ENDLESS, table)) as (_, errors):
        with contextlib.suppress(TrinoError):
            # One value that is larger than the heap: no limit of a query is asked before it is made.
            admin(trino).run(HUGE)
        # It ends itself, rather than living on in an unknown state; the stack's supervisor starts it again.
        assert trino.process is not None
        assert trino.process.wait(60) == 3
        trino.start()
    error = told(errors[0])
    assert error.transient
    assert isinstance(blamed(error), ForebayError)
    assert "Trino ran out of memory and ended after" in str(error)
    assert "java.lang.OutOfMemoryError: Java heap space" in str(error)
    assert "select less at a time, or use a larger Trino" in str(error)
    with trino.engine(config.at(f"{lens}/main")) as other:
        other.await_server()
        assert other.query(f"SELECT s FROM {table.name}").to_pylist() == [{"s": 1}]
    # Of another server, or long ago, it is no reason.
    assert ran_out_of_memory("https://trino.example:443") == ""
    assert ran_out_of_memory(trino.server.address, gone=True) != ""
    assert ran_out_of_memory(trino.server.address, gone=True, now=time.time() + 3600) == ""
    # Nor is it one for a server that was there again meanwhile.
    assert ran_out_of_memory(trino.server.address) == ""
