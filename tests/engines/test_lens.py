"""The lens: a run sees and writes its own branch, on every engine, and main stays as it is."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.spark import SparkEngine
from forebay.lake.branch import REPLAY, UNSURE, Branch, ref, snapshots, stamp
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load


def who(job: str, run: str = "r1", task: str = "write", number: int = 1, *writes: str) -> TaskTry:
    return TaskTry(
        job=job, run=run, task=task, number=number, engine="duckdb", commit="abc", user="me", writes=writes,
        began=time.time(),
    )  # fmt: skip


def rows(config: CatalogConfig, table: str) -> list[Any]:
    with DuckDBEngine(config) as engine:
        return [
            tuple(row.values())
            for row in engine.query(f"SELECT * FROM lake.{table} ORDER BY ALL").to_pylist()
        ]


def document(config: CatalogConfig, table: str) -> dict[str, Any]:
    found = load(config, table)
    assert found is not None
    return found.metadata.model_dump(by_alias=True, mode="json")


def test_a_new_table_and_changes_stay_on_the_branch(config: CatalogConfig, lens: str, namespace: str) -> None:
    table = f"{namespace}.t"
    me = who(f"{namespace}.job", "manual__2026-01-01T00:00:00+00:00", "write", 1, table)
    mine = config.at(f"{lens}/run/{me.segment()}")
    with DuckDBEngine(mine) as engine:
        engine.write("SELECT 1 AS n", TableDefinition(table))
        engine.write("SELECT 2 AS n", TableDefinition(table), "append")
    assert rows(mine, table) == [(1,), (2,)]
    assert rows(config.at(f"{lens}/published"), table) == []
    found = document(config, table)
    branch = Branch.find(found, me.branch)
    assert branch is not None
    assert branch.base is None
    assert branch.created_by == "write/1"
    assert ref(found, "main") is None
    made = snapshots(found)[branch.head]
    assert stamp(made, "job") == me.job
    assert stamp(made, "run") == me.run
    assert stamp(made, "try") == "1"


@pytest.mark.parametrize("statements", [
    ["INSERT INTO lake.{t} VALUES (3, 'c')"],
    ["UPDATE lake.{t} SET b = 'z' WHERE n = 1"],
    ["DELETE FROM lake.{t} WHERE n = 1"],
    ["MERGE INTO lake.{t} t USING (SELECT 1 AS n, 'q' AS b) s ON t.n = s.n WHEN MATCHED THEN UPDATE SET b = s.b"],
    ["INSERT INTO lake.{t} VALUES (3, 'c')", "DELETE FROM lake.{t} WHERE n = 3"],
])  # fmt: skip
def test_duckdbs_own_statements(
    config: CatalogConfig, lens: str, namespace: str, statements: list[str]
) -> None:
    table = f"{namespace}.t"
    with DuckDBEngine(config) as engine:
        engine.write("SELECT 1 AS n, 'a' AS b UNION ALL SELECT 2, 'b'", TableDefinition(table))
    before = document(config, table)
    mine = config.at(f"{lens}/run/{who(f'{namespace}.job', 'r', 'w', 1, table).segment()}")
    with DuckDBEngine(mine) as engine:
        engine.execute([text.format(t=table) for text in statements])
    after = document(config, table)
    assert ref(after, "main") == ref(before, "main")
    assert rows(config, table) == [(1, "a"), (2, "b")]
    branch = Branch.find(after, who(f"{namespace}.job", "r").branch)
    assert branch is not None
    assert branch.base == ref(before, "main")
    assert branch.head != branch.base


def test_pyiceberg_appends_overwrites_and_adds_a_column(
    config: CatalogConfig, lens: str, namespace: str
) -> None:
    table = f"{namespace}.t"
    with DuckDBEngine(config) as engine:
        engine.write("SELECT 1::BIGINT AS n", TableDefinition(table))
    mine = config.at(f"{lens}/run/{who(f'{namespace}.job', 'r', 'w', 1, table).segment()}")
    found = load(mine, table)
    assert found is not None
    with found.update_schema() as update:
        from pyiceberg.types import StringType

        update.add_column("b", StringType())
    found = load(mine, table)
    assert found is not None
    assert found.schema().column_names == ["n", "b"]
    found.append(pa.table({"n": [2], "b": ["x"]}))
    assert sorted(load(mine, table).scan().to_arrow()["n"].to_pylist()) == [1, 2]  # type: ignore[union-attr]
    main = load(config, table)
    assert main is not None
    assert main.schema().column_names == ["n"]
    assert main.scan().to_arrow().to_pydict() == {"n": [1]}


def test_health_metrics_and_wrong_addresses(lens: str) -> None:
    assert httpx.get(f"{lens}/health").json()["status"] == "ok"
    assert "forebay_lens_requests" in httpx.get(f"{lens}/metrics").text
    answer = httpx.get(f"{lens}/run/no-such-run/v1/config")
    assert answer.status_code == 404
    assert "names no run" in answer.json()["error"]["message"]
    assert httpx.get(f"{lens}/elsewhere").status_code == 404


SPARK = """\
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
ns = sys.argv[1]
for text in STATEMENTS:
    try:
        found = spark.sql(text.format(ns=ns)).collect()
        print("OK", text, [tuple(row) for row in found])
    except Exception as error:
        print("REFUSED", text, " ".join(str(error).split())[:2000])
"""
SPARK_STATEMENTS = [
    "INSERT INTO {ns}.t VALUES (3, 'c')",
    "UPDATE {ns}.t SET b = 'z' WHERE n = 1",
    "MERGE INTO {ns}.t t USING (SELECT 2 AS n, 'm' AS b UNION ALL SELECT 4, 'd') s ON t.n = s.n "
    "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
    "DELETE FROM {ns}.t WHERE n = 3",
    "CREATE OR REPLACE TABLE {ns}.u AS SELECT 'new' AS other, 7 AS k",
    "INSERT INTO {ns}.u VALUES ('newer', 8)",
    "CREATE TABLE {ns}.v (k INT, day DATE) PARTITIONED BY (day)",
    "INSERT INTO {ns}.v VALUES (1, DATE '2020-01-01'), (2, DATE '2020-01-02')",
    "INSERT OVERWRITE {ns}.v SELECT 5, DATE '2020-01-02'",
    "ALTER TABLE {ns}.w ADD COLUMN extra STRING",
    "ALTER TABLE {ns}.w ADD PARTITION FIELD bucket(2, extra)",
    "ALTER TABLE {ns}.w SET TBLPROPERTIES ('note' = 'branch')",
    "INSERT INTO {ns}.w VALUES (9, 'x', 'y')",
    "INSERT OVERWRITE {ns}.x SELECT 1, 'only'",
    "MERGE INTO {ns}.y t USING (SELECT 5 AS n, 'e' AS b) s ON t.n = s.n WHEN NOT MATCHED THEN INSERT *",
    "SELECT count(*) FROM {ns}.t",
    "DROP TABLE {ns}.t",
    "ALTER TABLE {ns}.t RENAME TO {ns}.renamed",
    "INSERT INTO {ns}.undeclared VALUES (1, 'a')",
    "CALL lake.system.expire_snapshots(table => '{ns}.t', older_than => TIMESTAMP '2100-01-01 00:00:00')",
    "ALTER TABLE {ns}.t CREATE BRANCH mine",
]


def test_spark(config: CatalogConfig, lens: str, namespace: str, tmp_path: Path) -> None:
    kept = [f"{namespace}.{name}" for name in ("t", "u", "w", "x", "y", "undeclared")]
    with DuckDBEngine(config) as engine:
        for table in kept:
            engine.write("SELECT 1 AS n, 'a' AS b UNION ALL SELECT 2, 'b'", TableDefinition(table))
    before = {table: document(config, table) for table in kept}
    writes = [f"{namespace}.{name}" for name in ("t", "u", "v", "w", "x", "y")]
    me = who(f"{namespace}.job", "r", "s", 1, *writes)
    program = tmp_path / "program.py"
    program.write_text(SPARK.replace("STATEMENTS", repr(SPARK_STATEMENTS)))
    lines: list[str] = []
    engine = SparkEngine(
        config.at(f"{lens}/run/{me.segment()}"), jars=os.environ["FOREBAY_JARS"], master="local[1]",
        driver_memory="700m",
    )  # fmt: skip
    engine.run(str(program), [namespace], log=lines.append)
    said = [line for line in lines if line.startswith(("OK", "REFUSED"))]
    assert [line.split(" ", 1)[0] for line in said] == ["OK"] * 16 + ["REFUSED"] * 5, "\n".join(said)
    assert "[(3,)]" in said[15]
    for line, words in zip(
        said[16:],
        ("not made by this run", "not done inside a run", "does not declare", "not done inside a run", "its own branch only"),
        strict=True,
    ):  # fmt: skip
        assert words in line, line

    for table in kept:
        after = document(config, table)
        for part in ("current-snapshot-id", "current-schema-id", "default-spec-id", "default-sort-order-id"):
            assert after.get(part) == before[table].get(part), (table, part)
        assert rows(config, table) == [(1, "a"), (2, "b")]
    with Rest(config) as rest:
        publish(rest, me, writes)
        assert rows(config, f"{namespace}.t") == [(1, "z"), (2, "m"), (4, "d")]
        assert rows(config, f"{namespace}.u") == [("new", 7), ("newer", 8)]
        assert [(5, date(2020, 1, 2))] == rows(config, f"{namespace}.v")
        assert rows(config, f"{namespace}.w") == [(1, "a", None), (2, "b", None), (9, "x", "y")]
        assert rows(config, f"{namespace}.x") == [(1, "only")]
        assert rows(config, f"{namespace}.y") == [(1, "a"), (2, "b"), (5, "e")]
        found = rest.table(f"{namespace}.w")
        assert found is not None
        assert found["properties"]["note"] == "branch"
        assert len(found["partition-specs"]) == 2
        assert found["default-spec-id"] != 0
        # A MERGE that only inserts is an append to look at, but read the table.
        merged = rest.table(f"{namespace}.y")
        assert merged is not None
        newest = snapshots(merged)[ref(merged, "main") or 0]
        assert newest["summary"]["operation"] != "append" or newest["summary"][REPLAY] == UNSURE
