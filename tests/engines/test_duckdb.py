"""A SELECT into a table in every mode, and what people's SQL cannot do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from forebay.engines.background import Cancelled, EngineError
from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import TableDefinition, figures, list_namespaces, list_tables, load

DAYS = (
    "SELECT DATE '2020-01-01' + (range::INT % 3) AS day, 'c' || (range % 2) AS carrier, range AS n "
    "FROM range(9)"
)


@pytest.fixture
def table(namespace: str) -> TableDefinition:
    return TableDefinition(f"{namespace}.t")


def rows(engine: DuckDBEngine, table: TableDefinition, columns: str = "*") -> list[tuple[Any, ...]]:
    found = engine.query(f"SELECT {columns} FROM lake.{table.name} ORDER BY ALL").to_pylist()
    return [tuple(row.values()) for row in found]


def snapshots(config: CatalogConfig, table: TableDefinition) -> int:
    found = load(config, table.name)
    assert found is not None
    return len(found.metadata.snapshots)


def test_create_with_layout(config: CatalogConfig, engine: DuckDBEngine, namespace: str) -> None:
    made = TableDefinition(
        f"{namespace}.t", ("day", "bucket(4, carrier)"), ("n desc",), "Delays.", {"n": "A number."}
    )
    result = engine.write(DAYS, made)
    assert (result.rows, result.inserted, result.created) == (9, 9, True)
    table = load(config, made.name)
    assert table is not None
    assert [str(field.transform) for field in table.spec().fields] == ["identity", "bucket[4]"]
    assert table.metadata.format_version == 2
    assert table.properties["comment"] == "Delays."
    assert table.schema().find_field("n").doc == "A number."
    assert table.sort_order().fields[0].direction.name == "DESC"
    assert table.scan(row_filter="day = '2020-01-02' and carrier = 'c0'").to_arrow()["n"].to_pylist() == [4]
    assert namespace in list_namespaces(config)
    assert list_tables(config, namespace) == [made.name]
    assert figures(config, made.name).rows == 9


@pytest.mark.parametrize(
    "partition",
    [
        "year(ts)",
        "month(ts)",
        "day(ts)",
        "hour(ts)",
        "truncate(2, s)",
        "truncate(10, n)",
        "bucket(3, n)",
        "b",
        "d",
    ],
)
def test_every_partition_transform(engine: DuckDBEngine, namespace: str, partition: str) -> None:
    made = TableDefinition(f"{namespace}.t", (partition,))
    select = (
        "SELECT TIMESTAMP '2019-12-31 23:00:00' + INTERVAL (range) HOUR AS ts, 'k' || range AS s, "
        "range - 10 AS n, range % 2 = 0 AS b, "
        "CASE WHEN range % 5 > 0 THEN DATE '2020-01-01' + range::INT END AS d FROM range(40)"
    )
    engine.write(select, made)
    engine.write(select, made, "overwrite_partitions")
    assert engine.query(f"FROM ({select}) EXCEPT FROM lake.{made.name}").num_rows == 0
    assert len(rows(engine, made)) == 40


def test_overwrite(config: CatalogConfig, engine: DuckDBEngine, table: TableDefinition) -> None:
    engine.write("SELECT 1 AS a, 'x' AS b", table)
    result = engine.write(f"SELECT a + 1 AS a, b FROM lake.{table.name}", table)
    assert (result.inserted, result.deleted, snapshots(config, table)) == (1, 1, 2)
    assert rows(engine, table) == [(2, "x")]
    assert engine.write("SELECT 1 AS a WHERE false", table).rows == 0
    assert rows(engine, table) == []


def test_overwrite_after_delete_files(
    engine: DuckDBEngine, config: CatalogConfig, table: TableDefinition
) -> None:
    engine.write("SELECT range AS a FROM range(10)", table)
    engine.execute([f"DELETE FROM lake.{table.name} WHERE a < 3"])
    assert figures(config, table.name).rows == 7
    engine.write("SELECT range AS a FROM range(4)", table)
    assert figures(config, table.name).rows == 4
    assert len(rows(engine, table)) == 4


def test_overwrite_partitions(engine: DuckDBEngine, table: TableDefinition, namespace: str) -> None:
    made = TableDefinition(f"{namespace}.p", ("day",))
    engine.write(DAYS, made)
    result = engine.write(
        "SELECT DATE '2020-01-02' AS day, 'z' AS carrier, 1 AS n", made, "overwrite_partitions"
    )
    assert (result.inserted, result.deleted, result.rows) == (1, 3, 7)
    nothing = engine.write(f"SELECT * FROM lake.{made.name} WHERE false", made, "overwrite_partitions")
    assert nothing.rows == 7
    engine.write("SELECT 1 AS a", table)
    with pytest.raises(LakeError, match="no partitions"):
        engine.write("SELECT 1 AS a", table, "overwrite_partitions")


def test_append(engine: DuckDBEngine, config: CatalogConfig, table: TableDefinition) -> None:
    assert engine.write("SELECT 1 AS a WHERE false", table, "append").created
    assert engine.write("SELECT 1 AS a", table, "append").rows == 1
    assert engine.write("SELECT 2 AS a", table, "append").rows == 2
    assert engine.write("SELECT 2 AS a WHERE false", table, "append").rows == 2
    assert snapshots(config, table) == 2


def test_merge(engine: DuckDBEngine, config: CatalogConfig, table: TableDefinition) -> None:
    key = ("k",)
    first = engine.write(
        "SELECT range AS k, 'v' || range AS v, true AS kept FROM range(5)", table, "merge", key
    )
    assert (first.created, first.inserted) == (True, 5)
    some = "SELECT k, CASE k WHEN 1 THEN 'new' ELSE 'v' || k END AS v FROM (SELECT unnest([1, 2, 9]) k)"
    second = engine.write(some, table, "merge", key)
    assert (second.updated, second.inserted, second.rows) == (1, 1, 6)
    assert rows(engine, table)[1:3] == [(1, "new", True), (2, "v2", True)]
    assert rows(engine, table)[-1] == (9, "v9", None)
    before = snapshots(config, table)
    assert engine.write("SELECT 9 AS k, 'v9' AS v", table, "merge", key).inserted == 0
    assert snapshots(config, table) == before == 2
    third = engine.write("SELECT 9 AS k, 5 AS extra", table, "merge", key)
    assert third.updated == 1
    assert rows(engine, table)[-1] == (9, "v9", None, 5)
    empty = engine.write("SELECT 9 AS k, 5 AS extra WHERE false", table, "merge", key)
    assert (empty.updated, empty.rows) == (0, 6)


def test_merge_refuses_unclear_keys(engine: DuckDBEngine, table: TableDefinition) -> None:
    with pytest.raises(LakeError, match=r"key a = 1, b = x occurs 2 times"):
        engine.write("SELECT 1 AS a, 'x' AS b FROM range(2)", table, "merge", ("a", "b"))
    with pytest.raises(LakeError, match=r"1 rows .* no value in the merge key \(a\)"):
        engine.write("SELECT CAST(NULL AS INT) AS a", table, "merge", ("a",))
    with pytest.raises(LakeError, match="no column 'c'"):
        engine.write("SELECT 1 AS a", table, "merge", ("c",))


def test_columns_are_added_and_widened(engine: DuckDBEngine, table: TableDefinition) -> None:
    engine.write("SELECT 1::INT AS a, 1.5::DECIMAL(4, 1) AS d, 1::FLOAT AS f", table)
    engine.write(
        "SELECT 5000000000 AS A, 12345.5::DECIMAL(9, 1) AS d, 2::DOUBLE AS f, 'new' AS more", table, "append"
    )
    assert rows(engine, table) == [
        (1, Decimal("1.5"), 1.0, None),
        (5000000000, Decimal("12345.5"), 2.0, "new"),
    ]
    with pytest.raises(
        LakeError, match=r"'a' is bigint in the table and varchar in the SELECT: use CAST\(a AS bigint\)"
    ):
        engine.write("SELECT 'x' AS a", table, "append")
    with pytest.raises(LakeError, match="two columns 'a'"):
        engine.write('SELECT 1 AS a, 2 AS "A" ', table, "append")


def test_types(engine: DuckDBEngine, table: TableDefinition) -> None:
    select = (
        "SELECT TIMESTAMP '2020-01-01 05:00:00.123456' AS t, TIMESTAMPTZ '2020-01-01 05:00:00+02' AS z, "
        "1.10::DECIMAL(38, 2) AS d, [1, NULL] AS l, {'a': 1, 'b': ['x']} AS s, MAP {'k': 1.5::DOUBLE} AS m, "
        "sum(1) AS h, '\\xAA'::BLOB AS b, TIME '05:00' AS c, true AS f"
    )
    for mode in ("overwrite", "append"):
        engine.write(select, table, mode)  # type: ignore[arg-type]
    row = engine.query(f"SELECT * FROM lake.{table.name} LIMIT 1").to_pylist()[0]
    assert row["t"] == datetime(2020, 1, 1, 5, 0, 0, 123456)
    assert row["z"] == datetime(2020, 1, 1, 3, tzinfo=UTC)
    assert (row["d"], row["l"], row["s"], row["m"]) == (
        Decimal("1.10"),
        [1, None],
        {"a": 1, "b": ["x"]},
        [("k", 1.5)],
    )
    assert (row["h"], row["b"], row["f"]) == (1, b"\xaa", True)
    with pytest.raises(LakeError, match="timestamp with time zone"):
        engine.write("SELECT TIMESTAMP '2020-01-01' AS z", table, "append")
    merged = engine.write(
        f"SELECT * REPLACE ([7] AS l) FROM lake.{table.name} LIMIT 1", table, "merge", ("t",)
    )
    assert merged.updated == 2


def test_concurrent_appends_all_land(config: CatalogConfig, table: TableDefinition) -> None:
    with DuckDBEngine(config) as engine:
        engine.write("SELECT 0 AS a", table)

    def append(number: int) -> int:
        with DuckDBEngine(config, threads=1) as engine:
            return engine.write(f"SELECT {number} AS a", table, "append").inserted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(append, range(1, 9))) == 8
    assert figures(config, table.name).rows == 9


def test_locked_down(engine: DuckDBEngine) -> None:
    for text in (
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        f"SELECT * FROM read_text('{engine.config.uri}/v1/config')",
        "COPY (SELECT 1) TO '/tmp/forebay-test-leak.csv'",
        "ATTACH '/tmp/forebay-test-leak.db'",
        "INSTALL spatial",
        "LOAD spatial",
        "SET memory_limit = '100GB'",
        "RESET enable_external_access",
        "CREATE PERSISTENT SECRET s (TYPE s3)",
    ):
        with pytest.raises(EngineError):
            engine.execute([text])
    assert engine.config.secret_key not in str(engine.query("FROM duckdb_secrets()").to_pylist())
    assert engine.config.secret_key not in repr(engine.config)
    assert engine.query("SELECT current_setting('TimeZone') AS z").to_pylist() == [{"z": "UTC"}]


def test_spills_instead_of_failing(config: CatalogConfig) -> None:
    with DuckDBEngine(config, memory_limit="120MB", threads=1) as engine:
        found = engine.query(
            "SELECT count(*) AS n FROM (SELECT random() AS r, range FROM range(5000000) ORDER BY r)"
        )
    assert found.to_pylist() == [{"n": 5_000_000}]


def test_cancel_is_immediate(engine: DuckDBEngine, config: CatalogConfig, table: TableDefinition) -> None:
    engine.query("SELECT 1")
    timer = threading.Timer(0.5, engine.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        engine.write("SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(1000000) b", table)
    assert time.monotonic() - started < 3
    assert load(config, table.name) is None


def test_errors_are_clear(config: CatalogConfig, engine: DuckDBEngine, namespace: str) -> None:
    with pytest.raises(EngineError, match="nowhere"):
        engine.query("SELECT * FROM lake.flights.nowhere")
    with pytest.raises(LakeError, match="there is no column 'zone'"):
        engine.write("SELECT 1 AS a", TableDefinition(f"{namespace}.x", ("zone",)))
    with pytest.raises(LakeError, match="column_comments"):
        engine.write("SELECT 1 AS a", TableDefinition(f"{namespace}.x", column_comments={"b": "?"}))
    wrong = CatalogConfig(config.uri, "warehouse", "nobody", "wrong-secret", config.s3_endpoint)
    with DuckDBEngine(wrong) as other, pytest.raises(ForebayError) as caught:
        other.query("SELECT 1")
    assert "wrong-secret" not in str(caught.value)


def test_date_and_query_limit(engine: DuckDBEngine) -> None:
    found = engine.query("SELECT DATE '2020-01-01' AS d FROM range(100)", limit=3)
    assert found.to_pylist() == [{"d": date(2020, 1, 1)}] * 3
