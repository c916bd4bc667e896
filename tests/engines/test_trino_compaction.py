"""Small files put together by Trino: rows and history stay, runs that append meanwhile are published all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from trino_server import TrinoServer

from forebay.engines.compaction import Files, compact, look
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.lake.branch import Branch
from forebay.lake.built_on import Lake, plan
from forebay.lake.connection import CatalogConfig
from forebay.lake.history import blame
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import PublishConflict, publish
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back
from forebay.lake.tables import TableDefinition

SMALL = 32 << 20


class Table:
    """A partitioned table of six small files, three each in two partitions."""

    def __init__(
        self, config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str, rest: Rest
    ) -> None:
        self.config, self.trino, self.rest = replace(config, lens=lens), trino, rest
        self.job, self.name = f"{namespace}.job", f"{namespace}.t"
        for number in range(3):
            self.run(f"fill{number}", f"SELECT {number} AS n, 'a' AS part UNION ALL SELECT {number}, 'b'")

    def who(self, run: str) -> TaskTry:
        return TaskTry(self.job, run, "task", engine="duckdb", writes=(self.name,), began=time.time())

    def write(self, run: str, select: str, mode: Any = "append") -> TaskTry:
        who = self.who(run)
        with DuckDBEngine(self.config.seen_by(who)) as engine:
            engine.write(select, TableDefinition(self.name, ("part",)), mode)
        return who

    def run(self, run: str, select: str) -> None:
        publish(self.rest, self.write(run, select), [self.name])

    def rows(self) -> list[tuple[Any, ...]]:
        with DuckDBEngine(self.config) as engine:
            found = engine.query(f"SELECT * FROM {lake_name(self.name)} ORDER BY ALL")
        return [tuple(row.values()) for row in found.to_pylist()]

    def look(self) -> Files:
        return look(self.rest, self.name, SMALL)

    def compact(self, run: str = "compact") -> Files:
        who = replace(self.who(run), engine="trino", task="compact")
        with self.trino.engine(self.config.seen_by(who), who) as engine:
            return compact(engine, self.rest, who, self.name, SMALL)


@pytest.fixture
def table(config: CatalogConfig, lens: str, trino: TrinoServer, namespace: str) -> Iterator[Table]:
    with Rest(replace(config, lens=lens)) as rest:
        yield Table(config, lens, trino, namespace, rest)


def test_small_files_become_one_in_each_partition(table: Table) -> None:
    rows, found = table.rows(), table.look()
    assert (found.files, found.small, found.deletes, found.to_do) == (6, 6, 0, True)
    after = table.compact()
    assert (after.files, after.small, after.to_do) == (2, 0, False)
    assert table.look() == after
    assert table.rows() == rows
    metadata = table.rest.table(table.name) or {}
    assert Branch.all(metadata) == []
    # Who made the rows is still told, and the compaction is one of them that changed none.
    told = [
        (each.operation, each.made.run, each.made.added, each.made.removed)
        for each in blame(metadata)
        if each.made
    ]
    assert told == [("replace", "compact", 6, 6), *(("append", f"fill{n}", 2, 0) for n in (2, 1, 0))]
    # Once more there is nothing to do, and no snapshot more.
    before = metadata["current-snapshot-id"]
    table.compact("again")
    assert (table.rest.table(table.name) or {})["current-snapshot-id"] == before


def test_a_compaction_goes_back_like_any_run(table: Table) -> None:
    rows = table.rows()
    table.compact()

    def lake() -> Lake:
        return Lake(table.rest.tables([table.name]).items())

    roll_back(table.rest, lake, plan(lake(), Run(table.job, "compact")))
    assert table.look().small == 6
    assert table.rows() == rows


def test_a_table_with_something_unpublished_is_left_alone(table: Table) -> None:
    who = table.write("open", "SELECT 9 AS n, 'a' AS part")
    found = table.look()
    assert not found.to_do
    assert found.busy == "1 run has rows in it that are not published"
    publish(table.rest, who, [table.name])
    assert table.look().small == 7


def test_a_run_that_appends_meanwhile_is_published_after_it(table: Table) -> None:
    who = table.write("meanwhile", "SELECT 9 AS n, 'a' AS part")
    rows = table.rows()
    assert table.compact().files == 2
    publish(table.rest, who, [table.name])
    assert table.rows() == sorted([*rows, (9, "a")])


def test_rows_that_came_meanwhile_win(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    from forebay.engines import compaction

    def between(*given: Any) -> Any:
        # After Trino has rewritten the files, before that is published.
        table.run("other", "SELECT 1 AS n, 'c' AS part")
        return publish(*given)

    monkeypatch.setattr(compaction, "publish", between)
    with pytest.raises(PublishConflict, match="was written meanwhile"):
        table.compact()
    metadata = table.rest.table(table.name) or {}
    assert Branch.all(metadata) == []
    assert table.look().files == 7
    assert len(table.rows()) == 7


def test_deleted_rows_are_written_out(table: Table) -> None:
    who = replace(table.who("delete"), engine="trino")
    with table.trino.engine(table.config.seen_by(who), who) as engine:
        engine.execute(
            [
                f"DELETE FROM {table.name} WHERE n = 1 AND part = 'a'",
                f"UPDATE {table.name} SET n = 7 WHERE n = 2",
            ]
        )
    publish(table.rest, who, [table.name])
    rows = table.rows()
    assert table.look().deletes > 0 or table.look().small > 0
    after = table.compact()
    assert after.deletes == 0
    assert table.rows() == rows == [(0, "a"), (0, "b"), (1, "b"), (7, "a"), (7, "b")]
