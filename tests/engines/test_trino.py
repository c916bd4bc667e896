"""SQL on a real Trino: the same rows as on DuckDB, every mode, a run's transaction, and what happens when it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.types import TimestamptzType
from trino_server import ACCESS, SECRET, TrinoServer, lake_connections

from forebay import sqltext
from forebay.engines.background import Cancelled, EngineError
from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.trino import TrinoEngine
from forebay.engines.trino_catalog import OLD, RunCatalog, stale
from forebay.engines.trino_client import TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.engines.written import script
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.retry import put_back
from forebay.lake.tables import Audit, TableDefinition, load
from forebay.spec.table import AUDIT_COLUMNS

ENDLESS = (
    "WITH s AS (SELECT n FROM UNNEST(sequence(1, 9000)) t(n)) "
    "SELECT sum(a.n * b.n + c.n) AS s FROM s a CROSS JOIN s b CROSS JOIN s c"
)
DAYS = (
    "SELECT date_add('day', n % 3, DATE '2020-01-01') AS day, 'c' || CAST(n % 2 AS varchar) AS carrier, n "
    "FROM UNNEST(sequence(0, 8)) AS t(n)"
)
Both = dict[str, Any]


@pytest.fixture
def both(config: CatalogConfig, lens: str, trino: TrinoServer) -> Iterator[Both]:
    """The two engines, on main."""
    seen = config.at(f"{lens}/main")
    with trino.engine(seen) as one, DuckDBEngine(seen, macros=sqltext.MACROS) as other:
        yield {"trino": one, "duckdb": other}


def sql(engine: Any, text: str) -> str:
    script = sqltext.parse(text)
    assert not script.mistakes, script.mistakes
    translate = sqltext.to_trino if isinstance(engine, TrinoEngine) else sqltext.to_duckdb
    return translate(script.statements[0])


def rows(engine: Any, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.query(sql(engine, text)).to_pylist()
    return found


@pytest.mark.parametrize(
    "text",
    [
        "SELECT CAST(10 AS decimal(10, 2)) / 3 AS a, CAST('12345678901234567890.12' AS decimal(22, 2)) AS b",
        "SELECT TIMESTAMP '2020-03-29 01:30:00.123 Europe/Berlin' AS z, TIMESTAMP '2020-01-01 00:00:00.123456' AS t",
        "SELECT CAST(NULL AS integer) AS a, ARRAY[1, NULL, 3] AS l, CAST(ROW(1, NULL) AS ROW(a integer, b varchar)) AS r",
        "SELECT MAP(ARRAY['a', 'b'], ARRAY[1, NULL]) AS m, X'00FF' AS b, DATE '2020-02-29' AS d",
        "SELECT avg(x) AS a, sum(x) AS s, count(*) AS c, max(x) AS m FROM (VALUES 1, 2, NULL, 4) AS t(x)",
        "SELECT 7/2 AS a, -7/2 AS b, 7 % 3 AS c, 7.0/2 AS d, 1e0/3 AS e",
        "SELECT date_trunc('month', DATE '2020-05-17') AS a, date_diff('day', DATE '2020-01-01', DATE '2020-05-17') AS b",
        "SELECT k, row_number() OVER (ORDER BY k DESC NULLS LAST) AS n FROM (VALUES 'b', NULL, 'c') AS t(k) ORDER BY n",
        "SELECT substr('héllo', 2, 3) AS a, split('a,b', ',') AS b, regexp_extract('abc123', '[0-9]+') AS c",
        "SELECT TRY_CAST('x' AS integer) AS a, extract(year FROM DATE '2020-05-17') AS b, coalesce(NULL, 3) AS c",
        "SELECT count(DISTINCT x) FILTER (WHERE x > 1) AS c, array_agg(x ORDER BY x) AS a FROM (VALUES 3, 1, 2, 2) AS t(x)",
        "SELECT k, n FROM (VALUES ('a', ARRAY[1, 2]), ('b', ARRAY[3])) AS t(k, l) CROSS JOIN UNNEST(l) AS u(n) ORDER BY k, n",
        "SELECT x, y, sum(n) AS s FROM (VALUES ('a', 'p', 1), ('a', 'q', 2)) AS t(x, y, n) "
        "GROUP BY GROUPING SETS ((x, y), (x), ()) ORDER BY x, y",
        "SELECT transform(ARRAY[1, 2], x -> x * 2) AS a, element_at(MAP(ARRAY['k'], ARRAY[1]), 'k') AS b",
        "SELECT lag(x) IGNORE NULLS OVER (ORDER BY i) AS l FROM (VALUES (1, 5), (2, NULL), (3, 7)) AS t(i, x) ORDER BY i",
        "WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT x FROM a EXCEPT SELECT 2",
        "SELECT x FROM (VALUES 3, 1, 2) AS t(x) ORDER BY x DESC OFFSET 1 ROWS FETCH FIRST 1 ROWS ONLY",
        "SELECT trim(LEADING 'x' FROM 'xxab') AS a, position('b' IN 'abc') AS b, 'it''s' AS c, INTERVAL '1' DAY + DATE '2020-01-01' AS d",
    ],
)
def test_the_same_rows_as_on_duckdb(both: Both, text: str) -> None:
    assert rows(both["trino"], text) == rows(both["duckdb"], text)


def test_values_are_bound_alike(both: Both) -> None:
    values = {
        "day": datetime(2020, 1, 2).date(), "at": datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "n": -5,
        "x": Decimal("1.50"), "t": "it's; --", "l": ["a", "b"], "f": True,
    }  # fmt: skip
    script = sqltext.parse("SELECT :day AS a, :at AS b, 3 - :n AS c, :x AS d, :t AS e, :l AS g, :f AS h")
    bound = script.statements[0].bind(values)
    one = both["trino"].query(sqltext.to_trino(bound)).to_pylist()
    assert one == both["duckdb"].query(sqltext.to_duckdb(bound)).to_pylist()
    assert (one[0]["c"], one[0]["e"]) == (8, "it's; --")


def test_every_mode_does_what_it_does_on_duckdb(both: Both, config: CatalogConfig, namespace: str) -> None:
    one_day = "SELECT DATE '2020-01-02' AS day, 'z' AS carrier, BIGINT '1' AS n"
    twice = "SELECT DATE '2020-01-02' AS day, carrier, n + 1 AS n FROM {table} WHERE carrier = 'z'"
    steps: list[tuple[str, str, tuple[str, ...]]] = [
        (DAYS, "overwrite", ()),
        (DAYS, "append", ()),
        (one_day, "overwrite_partitions", ()),
        (f"{DAYS} WHERE false", "overwrite_partitions", ()),
        ("SELECT day, 'm' AS carrier, n FROM {table}", "overwrite", ()),
        (one_day, "append", ()),
        (twice, "merge", ("day", "carrier")),
        (twice.replace("n + 1", "n"), "merge", ("day", "carrier")),
        (one_day.replace("'z'", "'y'"), "merge", ("day", "carrier")),
        (f"{DAYS} WHERE false", "append", ()),
        ("SELECT DATE '2021-01-01' AS day, 'new' AS more", "append", ()),
        (f"{DAYS} WHERE false", "overwrite", ()),
    ]
    seen: dict[str, list[Any]] = {"trino": [], "duckdb": []}
    for name, engine in both.items():
        table = TableDefinition(
            f"{namespace}.{name}", ("day", "bucket(4, carrier)"), ("n desc",), "Delays.", {"n": "A number."}
        )
        for text, mode, key in steps:
            result = engine.write(sql(engine, text.format(table=table.name)), table, mode, key)
            there = rows(engine, f"SELECT * FROM {table.name} ORDER BY day, carrier, n")
            seen[name].append(
                (mode, result.rows, result.inserted, result.updated, result.deleted, result.created, there)
            )
        found = load(config, table.name)
        assert found is not None
        seen[name].append(
            (
                found.schema().fields,
                found.spec().fields,
                found.sort_order().fields,
                found.properties["comment"],
            )
        )
    assert len(seen["trino"]) == len(seen["duckdb"])
    for one, other in zip(seen["trino"], seen["duckdb"], strict=True):
        assert one == other


def test_append_and_merge_are_one_commit_and_nothing_is_none(
    both: Both, config: CatalogConfig, namespace: str
) -> None:
    engine, table = both["trino"], TableDefinition(f"{namespace}.t")

    def snapshots() -> int:
        found = load(config, table.name)
        assert found is not None
        return len(found.metadata.snapshots)

    engine.write("SELECT 1 AS k, 'a' AS v", table)
    engine.write("SELECT 2 AS k, 'b' AS v", table, "append")
    engine.write("SELECT 2 AS k, 'c' AS v", table, "merge", ("k",))
    assert snapshots() == 3
    engine.write("SELECT 2 AS k, 'c' AS v", table, "merge", ("k",))
    engine.write("SELECT 2 AS k, 'c' AS v WHERE false", table, "append")
    assert snapshots() == 3


def test_overwrite_after_merge_leaves_no_delete_files(
    both: Both, config: CatalogConfig, namespace: str
) -> None:
    engine, table = both["trino"], TableDefinition(f"{namespace}.t")
    engine.write("SELECT n AS k, 0 AS v FROM UNNEST(sequence(1, 9)) AS t(n)", table)
    engine.write("SELECT 3 AS k, 1 AS v", table, "merge", ("k",))
    result = engine.write("SELECT 1 AS k, 1 AS v", table)
    assert (result.rows, result.inserted, result.deleted) == (1, 1, 9)
    found = load(config, table.name)
    assert found is not None
    assert found.metadata.current_snapshot().summary["total-delete-files"] == "0"  # type: ignore[union-attr,index]
    assert rows(both["duckdb"], f"SELECT * FROM {table.name}") == [{"k": 1, "v": 1}]


def test_merge_refuses_unclear_keys(both: Both, namespace: str) -> None:
    engine, table = both["trino"], TableDefinition(f"{namespace}.t")
    with pytest.raises(TrinoError, match=r"the merge key a = 1, b = x occurs 2 times"):
        engine.write("SELECT 1 AS a, 'x' AS b FROM (VALUES 1, 2) AS t(n)", table, "merge", ("a", "b"))
    with pytest.raises(TrinoError, match=r"no value in the merge key \(a\)"):
        engine.write("SELECT CAST(NULL AS integer) AS a, 'x' AS b", table, "merge", ("a",))
    with pytest.raises(LakeError, match="no column 'c'"):
        engine.write("SELECT 1 AS a, 'x' AS b", table, "merge", ("c",))


def test_types_of_columns(both: Both, config: CatalogConfig, namespace: str) -> None:
    text = (
        "SELECT TIMESTAMP '2020-01-01 05:00:00.123456' AS t, TIMESTAMP '2020-01-01 05:00:00 +02:00' AS z, "
        "CAST('1.10' AS decimal(38, 2)) AS d, ARRAY[1, NULL] AS l, CAST(ROW(1, ARRAY['x']) AS ROW(a integer, b array(varchar))) AS s, "
        "MAP(ARRAY['k'], ARRAY[1.5e0]) AS m, X'AA' AS b, true AS f, CAST('{\"a\": [1]}' AS json) AS j, DATE '2020-01-01' AS y"
    )
    text = text.replace("CAST('{\"a\": [1]}' AS json)", "json_parse('{\"a\":[1]}')")
    table = TableDefinition(f"{namespace}.t")
    for mode in ("overwrite", "append"):
        both["trino"].write(text, table, mode)
    found = load(config, table.name)
    assert found is not None
    assert isinstance(found.schema().find_type("z"), TimestamptzType)
    one, other = (
        engine.query(sql(engine, f"SELECT * FROM {table.name}")).to_pylist() for engine in both.values()
    )
    assert one == other
    assert (one[0]["z"], one[0]["d"], one[0]["s"]) == (
        datetime(2020, 1, 1, 3, tzinfo=UTC), Decimal("1.10"), {"a": 1, "b": ["x"]},
    )  # fmt: skip
    assert one[0]["j"] == '{"a":[1]}'
    with pytest.raises(
        LakeError, match=r"'f' is boolean in the table and varchar in the SELECT: use CAST\(f AS boolean\)"
    ):
        both["trino"].write("SELECT 'x' AS f", table, "append")
    with pytest.raises(LakeError, match="NULL has no type"):
        both["trino"].write("SELECT NULL AS x", table, "append")


def test_audit_columns(both: Both, namespace: str) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    found = {}
    for name, engine in both.items():
        table = TableDefinition(f"{namespace}.{name}", audit=Audit("it's a run", at))
        engine.write("SELECT 1 AS k, 'a' AS v", table)
        later = replace(table, audit=Audit("later", at))
        engine.write("SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t(k, v)", later, "merge", ("k",))
        found[name] = rows(engine, f"SELECT * FROM {table.name} ORDER BY k")
        with pytest.raises(LakeError, match="audit: true adds"):
            engine.write(f"SELECT 1 AS {AUDIT_COLUMNS[0]}", table)
    assert found["trino"] == found["duckdb"]
    assert [list(row.values())[2] for row in found["trino"]] == ["it's a run", "later"]


def test_results_are_bounded(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "SELECT n FROM UNNEST(sequence(1, 9000)) AS t(n) ORDER BY n DESC"
    assert both["trino"].query(text, 2).to_pylist() == [{"n": 9000}, {"n": 8999}]
    monkeypatch.setattr("forebay.engines.trino.MAX_ROWS", 100)
    with pytest.raises(EngineError, match="more than 100 rows"):
        both["trino"].query(text)


def test_statements_and_their_places(both: Both, namespace: str) -> None:
    engine = both["trino"]
    engine.write("SELECT 1 AS a", TableDefinition(f"{namespace}.t"))
    texts = [f"INSERT INTO lake.{namespace}.t VALUES 2, 3", f"DELETE FROM {namespace}.t WHERE a = 1"]
    changed, results = script(engine, [sql(engine, text) for text in texts], [f"{namespace}.t"])
    assert changed == [2, 1]
    assert (results[0].rows, results[0].inserted, results[0].deleted) == (2, 2, 1)
    text = "SELECT 1 AS one,\n  -- a remark\n  nowhere AS two,\n  upper(nowhere_else) AS three\nFROM (VALUES 1) AS t(x)"
    statement = sqltext.parse(text, "f.sql", 10).statements[0]
    sent = sqltext.to_trino(statement)
    with pytest.raises(TrinoError) as caught:
        engine.query(sent)
    assert not caught.value.transient
    assert caught.value.place is not None
    assert sqltext.located(statement, sent, *caught.value.place) == (13, 3)


def test_a_run_writes_its_branch_and_publishes(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    old, new = f"{namespace}.old", f"{namespace}.new"
    seen = replace(config, lens=lens)
    with trino.engine(seen.main()) as engine:
        engine.write("SELECT 1 AS n", TableDefinition(old))
    who = TaskTry(f"{namespace}.job", "r", task="t", engine="trino", writes=(old, new), began=time.time())

    def published(table: str) -> list[int]:
        with trino.engine(seen.published()) as engine:
            return [row["n"] for row in engine.query(f"SELECT n FROM {table} ORDER BY n").to_pylist()]

    with trino.engine(seen.seen_by(who), who) as engine:
        engine.write(f"SELECT n + 1 AS n FROM {old}", TableDefinition(old))
        engine.write("SELECT 5 AS n, 'x' AS more", TableDefinition(old), "append")
        engine.write("SELECT 3 AS n", TableDefinition(new), "merge", ("n",))
        assert [row["n"] for row in engine.query(f"SELECT n FROM {old} ORDER BY n").to_pylist()] == [2, 5]
        with pytest.raises(TrinoError, match="does not declare that it writes"):
            engine.execute([f"CREATE TABLE {namespace}.other AS SELECT 1 AS n"])
    assert (published(old), published(new)) == ([1], [])
    with Rest(config) as rest:
        assert [each.table for each in publish(rest, who, who.writes, {"t": 1}, who.writes)] == [old, new]
        document = rest.table(old)
    assert document is not None
    stamps = [
        snapshot["summary"] for snapshot in document["snapshots"] if snapshot["summary"].get("forebay.run")
    ]
    assert {(one["forebay.engine"], one["forebay.task"], one["forebay.try"]) for one in stamps} == {
        ("trino", "t", "1")
    }
    assert (published(old), published(new)) == ([2, 5], [3])


def test_a_new_try_ends_the_earlier_one_and_takes_its_rows_back(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    table = f"{namespace}.t"
    seen = replace(config, lens=lens)
    first = TaskTry(f"{namespace}.job", "r", task="t", writes=(table,), began=time.time())
    kept: list[str] = []
    # As a worker that was killed: nobody closes this engine.
    left = trino.engine(seen.seen_by(first), first, on_query=lambda query, _: kept.append(query))
    left.write("SELECT BIGINT '1' AS n", TableDefinition(table), "append")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            left.write(ENDLESS.replace("AS s FROM", "AS n FROM"), TableDefinition(table), "append")
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    before = len(kept)
    while len(kept) == before:
        time.sleep(0.1)
    time.sleep(1)
    assert trino_states(trino, kept[-1]) == ["RUNNING"]
    again = replace(first, number=2, began=time.time())
    with trino.engine(seen.seen_by(again), again) as engine:
        engine.end_query(kept[-1])
        assert engine.end_earlier() == [RunCatalog.of(first).name]
        thread.join(10)
        assert not thread.is_alive()
        assert errors
        with Rest(config) as rest:
            assert put_back(rest, again) == [table]
        engine.write("SELECT BIGINT '7' AS n", TableDefinition(table), "append")
        assert engine.query(f"SELECT n FROM {table}").to_pylist() == [{"n": 7}]
    with trino.engine(seen.main()) as engine:
        names = [name for (name,) in engine.client.run("SHOW CATALOGS").rows]
    assert not [name for name in names if RunCatalog.of(first).task in name]


def trino_states(trino: TrinoServer, query: str) -> list[str]:
    found = TrinoClient(trino.server).run(
        f"SELECT state FROM system.runtime.queries WHERE query_id = '{query}'"
    )
    return [state for (state,) in found.rows]


def test_checks_count_on_trino_as_on_duckdb(both: Both, namespace: str) -> None:
    from forebay.checks.evaluate import evaluate
    from forebay.checks.rules import rules_of
    from forebay.tasks.checks import Expectation

    name = f"{namespace}.t"
    values = "(1, 'a', 5.5e0), (2, NULL, 50e0), (2, 'B', nan()), (4, 'x y', -1e0), (NULL, 'd', NULL)"
    text = f"SELECT * FROM (VALUES {values}) AS t(id, kind, amount)"
    both["trino"].write(sql(both["trino"], text), TableDefinition(name))
    given: list[dict[str, Any]] = [
        {"rule": "not_null", "column": "kind"},
        {"rule": "unique", "column": "id"},
        {"rule": "between", "column": "amount", "min": 0, "max": 10, "where": "id < 4"},
        {"rule": "matches", "column": "kind", "pattern": "^[a-z]+$"},
        {"rule": "sql", "name": "small", "sql": "amount < 40 OR kind = 'B'"},
    ]
    rules = rules_of([Expectation.model_validate(one) for one in given])
    one = evaluate(both["duckdb"], name, rules, counter=both["trino"])
    other = evaluate(both["duckdb"], name, rules)
    assert [(v.rule.label, v.word) for v in one.verdicts] == [(v.rule.label, v.word) for v in other.verdicts]

    def counts(checked: Any) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in v.result.items() if name != "partial_unexpected_list"}
            for v in checked.verdicts
        ]

    assert counts(one) == counts(other)
    assert one.rows == other.rows == 5


def test_catalogs_that_are_left_are_swept() -> None:
    now = time.time()
    mine = RunCatalog.of(TaskTry("lab.job", "r", task="t", number=3, began=now))
    earlier = RunCatalog.of(TaskTry("lab.job", "r", task="t", number=2, began=now - 60)).name
    other = RunCatalog.of(TaskTry("lab.job", "r", task="u", number=1, began=now - 60)).name
    forgotten = RunCatalog.of(TaskTry("lab.job", "q", task="u", number=9, began=now - OLD - 60)).name
    names = ["lake", "system", "run_away", earlier, other, forgotten, mine.name]
    assert stale(names, mine, now) == [earlier, forgotten]
    assert stale(names, None, now) == [forgotten]


def test_no_secret_is_in_the_history(both: Both, trino: TrinoServer, config: CatalogConfig) -> None:
    both["trino"].query("SELECT 1")
    told = json.dumps(both["trino"].client.run("SELECT query FROM system.runtime.queries").rows)
    assert "CREATE CATALOG" in told
    assert "cr3t" not in told
    assert config.access_key not in told
    for path in trino.stack.state.rglob("*.properties"):
        assert "cr3t" not in path.read_text()
    with pytest.raises(EngineError, match="must say where Trino finds"):
        TrinoEngine(config, trino.server, access_key="key", secret_key="secret")


def test_cancel_is_immediate_and_commits_nothing(
    both: Both, config: CatalogConfig, trino: TrinoServer, namespace: str
) -> None:
    engine = both["trino"]
    engine.query("SELECT 1")
    timer = threading.Timer(2.0, engine.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        engine.write(ENDLESS, TableDefinition(f"{namespace}.t"))
    assert time.monotonic() - started < 5
    found = load(config, f"{namespace}.t")
    assert found is None or found.current_snapshot() is None
    assert running(trino) == []


def running(trino: TrinoServer) -> list[str]:
    asked = "SELECT query FROM system.runtime.queries WHERE state NOT IN ('FINISHED', 'FAILED') AND query NOT LIKE '%runtime.queries%'"
    return [query for (query,) in TrinoClient(trino.server).run(asked).rows]


def start(
    config: CatalogConfig, lens: str, trino: TrinoServer, arguments: dict[str, Any]
) -> subprocess.Popen[str]:
    connections = lake_connections(config, lens, trino)
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_task.py")), json.dumps(["sql", {"conn_id": "lake_sql", **arguments}, connections])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_operator_writes_and_reports(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    arguments = {
        "sql": "SELECT :day AS day, :run_id AS run, :logical_date AS due", "table": f"{namespace}.t",
        "parameters": {"day": {"type": "date", "default": "yesterday"}},
    }  # fmt: skip
    out, _ = start(config, lens, trino, arguments).communicate(timeout=60)
    result = json.loads(out.split("RESULT ", 1)[1])["tables"][f"{namespace}.t"]
    assert (result["rows"], result["inserted"]) == (1, 1)
    assert "Trino's query 20" in out
    assert f"{namespace}.t: 1 rows (overwrite: 1 inserted), created, snapshot {result['snapshot_id']}" in out


def test_operator_blames_the_sql_at_its_place(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "delays.sql"
    file.write_text("-- Delays.\nSELECT 1 AS a,\n       nowhere AS b\nFROM (VALUES 1) AS t(x)\n")
    out, _ = start(config, lens, trino, {"file": str(file), "table": f"{namespace}.t"}).communicate(
        timeout=60
    )
    assert f"AirflowFailException: {file}:3:8: " in out
    assert "Column 'nowhere' cannot be resolved" in out


def test_a_killed_task_ends_its_query(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    process = start(config, lens, trino, {"sql": ENDLESS, "table": f"{namespace}.t"})
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "Trino's query" in line:
            break
    else:
        raise AssertionError("".join(seen))
    time.sleep(2)
    assert running(trino)
    killed = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert time.monotonic() - killed < 5
    assert "Cancelled" in out
    while running(trino):
        assert time.monotonic() - killed < 5
        time.sleep(0.1)


def test_a_catalog_is_dropped_beside_what_comes_after_good_work(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str
) -> None:
    who = TaskTry(f"{namespace}.job", "r", task="t", writes=(f"{namespace}.t",), began=time.time())
    seen = replace(config, lens=lens).seen_by(who)

    def there(name: str) -> bool:
        return [name] in TrinoClient(trino.server).run("SHOW CATALOGS").rows

    with trino.engine(seen, who, drops_beside=True) as engine:
        name = engine.catalog
        assert there(name)
    deadline = time.monotonic() + 20
    while there(name):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(TrinoError), trino.engine(seen, who, drops_beside=True) as engine:
        engine.query("SELECT 1 / 0")
    assert not there(RunCatalog.of(who).name), "what is broken off may still run in it"
    # A process that ends as Airflow's task processes do: what is registered runs, then nothing does.
    script = (
        "import atexit, json, os, sys\n"
        "from forebay.engines.trino import TrinoEngine\n"
        "from forebay.engines.trino_client import Server\n"
        "from forebay.lake.connection import CatalogConfig\n"
        "given = json.loads(sys.argv[1])\n"
        "config, server = CatalogConfig(**given['config']), Server(**{**given['server'], 'session': ()})\n"
        "with TrinoEngine(config, server, access_key=given['access'], secret_key=given['secret'], drops_beside=True) as engine:\n"
        "    print(engine.catalog, flush=True)\n"
        "atexit._run_exitfuncs()\n"
        "os._exit(0)\n"
    )
    given = {"config": asdict(seen), "server": asdict(trino.server), "access": ACCESS, "secret": SECRET}
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(given)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert not there(run.stdout.strip())
