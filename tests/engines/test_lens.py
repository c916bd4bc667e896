"""The lens: a run sees and writes its own branch, on every engine, and main stays as it is."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pyarrow as pa
import pytest

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import Branch, ref, snapshots, stamp
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
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
    assert branch is not None and branch.base is None and branch.created_by == "write/1"
    assert ref(found, "main") is None
    made = snapshots(found)[branch.head]
    assert stamp(made, "job") == me.job and stamp(made, "run") == me.run and stamp(made, "try") == "1"


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
    assert branch is not None and branch.base == ref(before, "main") and branch.head != branch.base


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
    assert answer.status_code == 404 and "names no run" in answer.json()["error"]["message"]
    assert httpx.get(f"{lens}/elsewhere").status_code == 404
