"""A worker that is gone while Trino works for it: the next try goes on with the query, or ends it and begins anew."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trino_server import TrinoServer, lake_connections

from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.trino_client import TrinoClient
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import TableDefinition, load

SLOW = (
    "SELECT sum(a.n * b.n + c.n) AS s FROM UNNEST(sequence(1, 6000)) AS a(n) CROSS JOIN UNNEST(sequence(1, 6000)) AS b(n) "
    "CROSS JOIN UNNEST(sequence(1, {times})) AS c(n)"
)
RIGHT = 18003000 * 18003000 + 6000 * 6000


class Tries:
    """The tries of one task over a table with one row."""

    def __init__(
        self, config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, folder: Path
    ) -> None:
        self.config, self.lens, self.trino, self.folder = config, lens, trino, folder
        self.job, self.table = f"{namespace}.job", f"{namespace}.t"
        self.processes: list[subprocess.Popen[str]] = []
        with DuckDBEngine(config) as engine:
            engine.write("SELECT CAST(1 AS BIGINT) AS s", TableDefinition(self.table))

    def begin(self, number: int, mode: str, times: int = 1, sql: str = SLOW) -> subprocess.Popen[str]:
        order = {
            "job": self.job, "number": number, "state": str(self.folder / "state.json"),
            "connections": lake_connections(self.config, self.lens, self.trino),
            "arguments": {
                "conn_id": "lake_sql", "sql": sql.format(times=times), "table": self.table, "mode": mode,
                "merge_key": ["s"] if mode == "merge" else [],
            },
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sql_try.py")), json.dumps(order)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def state(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found.get("trino_query") or {}

    def kill(self, process: subprocess.Popen[str], after: float) -> str:
        """Ends the worker without a word once its query has run for a while; the query's id."""
        deadline = time.monotonic() + 240
        while "executing" not in self.state().get("uri", ""):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(after)
        assert process.poll() is None, process.communicate()[0]
        process.kill()
        process.communicate()
        return str(self.state()["query"])

    def inserts(self) -> list[tuple[str, str]]:
        asked = (
            "SELECT query_id, state FROM system.runtime.queries WHERE (query LIKE 'INSERT INTO %' OR query LIKE 'MERGE INTO %') "
            f"AND query LIKE '%{self.table.partition('.')[0]}%' ORDER BY created"
        )
        return [(query, state) for query, state in TrinoClient(self.trino.server).run(asked).rows]

    def rows(self) -> list[int]:
        seen = replace(self.config, lens=self.lens).seen_by(TaskTry(self.job, "r"))
        found = load(seen, self.table)
        assert found is not None
        return sorted(int(value) for value in found.scan().to_arrow()["s"].to_pylist())


@pytest.fixture
def tries(
    config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, tmp_path: Path
) -> Iterator[Tries]:
    made = Tries(config, lens, trino, namespace, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
def test_the_next_try_goes_on_with_the_query(tries: Tries, mode: str) -> None:
    query = tries.kill(tries.begin(1, mode), 0.3)
    out, _ = tries.begin(2, mode).communicate(timeout=300)
    assert f"Trino's query {query} of try 1 goes on: this try takes it over" in out
    said = json.loads(out.split("RESULT ", 1)[1])
    assert tries.inserts() == [(query, "FINISHED")]
    assert tries.rows() == ([RIGHT] if mode == "overwrite" else [1, RIGHT])
    table = said["result"]["tables"][tries.table]
    assert (table["rows"], table["inserted"]) == (1 if mode == "overwrite" else 2, 1)
    # What publishes looks for the rows under the name they were written by.
    assert said["said"]["forebay"]["try"] == 1
    kept = tries.state()
    assert set(kept) == {"query", "progress"}
    assert kept["query"] == query
    assert kept["progress"]["state"] == "finished"
    assert kept["progress"]["done"] == kept["progress"]["splits"] > 0


def test_another_text_ends_the_query_and_begins_anew(tries: Tries) -> None:
    query = tries.kill(tries.begin(1, "append", times=2), 0.3)
    out, _ = tries.begin(2, "append").communicate(timeout=300)
    assert f"Trino's query {query} of an earlier try was ended" in out
    assert json.loads(out.split("RESULT ", 1)[1])["said"]["forebay"]["try"] == 2
    assert [state for _, state in tries.inserts()] == ["FAILED", "FINISHED"]
    assert tries.rows() == [1, RIGHT]


def test_a_query_that_was_ended_meanwhile_is_begun_anew(tries: Tries) -> None:
    query = tries.kill(tries.begin(1, "append"), 0.3)
    TrinoClient(tries.trino.server).run(f"CALL system.runtime.kill_query('{query}', 'no longer')")
    out, _ = tries.begin(2, "append").communicate(timeout=300)
    assert "takes it over" not in out
    assert [state for _, state in tries.inserts()] == ["FAILED", "FINISHED"]
    assert tries.rows() == [1, RIGHT]


def test_a_task_that_is_run_again_after_its_success_does_its_work_again(tries: Tries) -> None:
    first, _ = tries.begin(1, "append").communicate(timeout=300)
    second, _ = tries.begin(2, "append").communicate(timeout=300)
    assert "RESULT" in first
    assert "takes it over" not in second
    assert json.loads(second.split("RESULT ", 1)[1])["said"]["forebay"]["try"] == 2
    assert len(tries.inserts()) == 2
    assert len(tries.rows()) == 2
