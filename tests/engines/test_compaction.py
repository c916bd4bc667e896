"""Small files put together by DuckDB and by Trino: rows and history stay, runs that append meanwhile are published all the
same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from trino_server import TrinoServer

from forebay.engines.compaction import Files, compact, look, rewrite
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.engines.trino import TrinoEngine
from forebay.lake.branch import Branch
from forebay.lake.built_on import Lake, plan
from forebay.lake.commit import Draft
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.history import blame
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import PublishConflict, publish
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back
from forebay.lake.tables import TableDefinition, load

SMALL = 32 << 20
RECORD_COUNT = 4
"""Where PyIceberg keeps a data file's number of rows."""


class Table:
    """A partitioned table of six small files, three each in two partitions."""

    def __init__(
        self, config: CatalogConfig, lens: str, trino: TrinoServer | None, namespace: str, rest: Rest
    ) -> None:
        """Without `trino` its files are put together by DuckDB."""
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
        who = replace(self.who(run), engine="trino" if self.trino else "duckdb", task="compact")
        with self.engine(who) as engine:
            return compact(engine, self.rest, who, self.name, SMALL)

    def delete(self, run: str, where: str) -> TaskTry:
        who, name = self.who(run), self.name if self.trino else lake_name(self.name)
        with self.engine(who) as engine:
            engine.execute([f"DELETE FROM {name} WHERE {where}"])
        return who

    def engine(self, who: TaskTry) -> DuckDBEngine | TrinoEngine:
        seen = self.config.seen_by(who)
        return self.trino.engine(seen, who) if self.trino else DuckDBEngine(seen)


@pytest.fixture(params=["duckdb", "trino"])
def table(
    request: pytest.FixtureRequest, config: CatalogConfig, lens: str, namespace: str
) -> Iterator[Table]:
    trino = request.getfixturevalue("trino") if request.param == "trino" else None
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
    assert told == [("replace", "compact", 0, 0), *(("append", f"fill{n}", 2, 0) for n in (2, 1, 0))]
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


def test_a_run_goes_back_from_under_files_that_were_put_together(table: Table) -> None:
    other = f"{table.name}2"
    for number in range(2):
        who = replace(table.who(f"other{number}"), writes=(other,))
        with DuckDBEngine(table.config.seen_by(who)) as engine:
            engine.write(f"SELECT {number} AS n", TableDefinition(other), "append")
        publish(table.rest, who, [other])
    names = [table.name, other]
    who = replace(table.who("files"), job=f"{table.job}2", writes=tuple(names))
    with table.engine(who) as engine:
        for name in names:
            rewrite(engine, name, SMALL)
    publish(table.rest, who, names)

    def lake() -> Lake:
        return Lake(table.rest.tables(names).items())

    found = plan(lake(), Run(table.job, "fill2"))
    assert found.dependents == ()
    roll_back(table.rest, lake, found)
    assert table.rows() == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    # The other table's files stay together.
    assert look(table.rest, other, SMALL).files == 1


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


def meanwhile(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Does this after files were put together, before that is published."""
    from forebay.engines import compaction

    def between(*given: Any) -> Any:
        what()
        return publish(*given)

    monkeypatch.setattr(compaction, "publish", between)


def test_rows_that_were_added_meanwhile_stay(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table.rows()
    meanwhile(monkeypatch, lambda: table.run("other", "SELECT 8 AS n, 'a' AS part UNION ALL SELECT 9, 'c'"))
    # Two files are those of the other run.
    assert table.compact().files == 4
    assert table.rows() == sorted([*rows, (8, "a"), (9, "c")])
    newest = blame(table.rest.table(table.name) or {})[0]
    assert newest.made is not None
    assert (newest.operation, newest.made.run, newest.made.added, newest.made.removed) == (
        "replace",
        "compact",
        0,
        0,
    )
    assert newest.made.replay_of is not None


def test_rows_that_were_replaced_meanwhile_win(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        publish(table.rest, table.write("other", "SELECT 1 AS n, 'c' AS part", "overwrite"), [table.name])

    meanwhile(monkeypatch, other)
    with pytest.raises(PublishConflict, match="was written meanwhile"):
        table.compact()
    assert Branch.all(table.rest.table(table.name) or {}) == []
    assert table.rows() == [(1, "c")]


def test_who_puts_the_same_files_together_first_wins(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table.rows()

    def other() -> None:
        monkeypatch.undo()
        table.compact("other")

    meanwhile(monkeypatch, other)
    with pytest.raises(PublishConflict, match="was written meanwhile"):
        table.compact()
    assert table.look().files == 2
    assert table.rows() == rows


def test_rows_deleted_meanwhile_stay_deleted(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, lambda: publish(table.rest, table.delete("other", "n = 1"), [table.name]))
    with pytest.raises(PublishConflict, match="was written meanwhile"):
        table.compact()
    assert table.rows() == [(0, "a"), (0, "b"), (2, "a"), (2, "b")]


def test_files_with_deleted_rows_are_not_repeated(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(table.rest, table.delete("delete", "n = 1 AND part = 'a'"), [table.name])
    meanwhile(monkeypatch, lambda: table.run("other", "SELECT 9 AS n, 'a' AS part"))
    rows = sorted([*table.rows(), (9, "a")])
    with pytest.raises(PublishConflict, match="was written meanwhile"):
        table.compact()
    assert table.rows() == rows
    monkeypatch.undo()
    assert table.compact("again").deletes == 0
    assert table.rows() == rows


def test_deleted_rows_are_written_out(table: Table) -> None:
    publish(table.rest, table.delete("delete", "n = 1 AND part = 'a'"), [table.name])
    rows = table.rows()
    assert table.look().deletes > 0
    after = table.compact()
    assert (after.files, after.deletes) == (2, 0)
    assert table.rows() == rows == [(0, "a"), (0, "b"), (1, "b"), (2, "a"), (2, "b")]


def test_a_partition_whose_rows_are_all_deleted_has_no_file(table: Table) -> None:
    publish(table.rest, table.delete("delete", "part = 'a'"), [table.name])
    table.compact()
    assert (table.look().files, table.look().deletes) == (1, 0)
    assert table.rows() == [(0, "b"), (1, "b"), (2, "b")]


def test_what_trino_deleted_duckdb_leaves_out(
    config: CatalogConfig, lens: str, namespace: str, trino: TrinoServer
) -> None:
    with Rest(replace(config, lens=lens)) as rest:
        table = Table(config, lens, None, namespace, rest)
        who = table.who("delete")
        with trino.engine(table.config.seen_by(who), who) as engine:
            engine.execute(
                [f"DELETE FROM {table.name} WHERE n = 1", f"UPDATE {table.name} SET n = 7 WHERE n = 2"]
            )
        publish(rest, who, [table.name])
        rows = table.rows()
        assert table.look().deletes > 0
        assert table.compact().deletes == 0
        assert table.rows() == rows == [(0, "a"), (0, "b"), (7, "a"), (7, "b")]
        with trino.engine(table.config.seen_by(replace(who, run="look")), who) as engine:
            seen = engine.query(f"SELECT * FROM {table.name} ORDER BY 1, 2").to_pylist()
        assert [tuple(row.values()) for row in seen] == rows


def test_earlier_files_of_the_same_job_are_no_reason_to_wait(table: Table) -> None:
    who = replace(table.who("failed"), task="files")
    with table.engine(who) as engine:
        rewrite(engine, table.name, SMALL)
    assert table.look().busy == "1 run has rows in it that are not published"
    assert look(table.rest, table.name, SMALL, table.job).small == 6
    table.write("failed, too", "SELECT 9 AS n, 'a' AS part")
    assert (
        look(table.rest, table.name, SMALL, table.job).busy == "1 run has rows in it that are not published"
    )


def test_a_file_with_fewer_rows_than_its_manifest_says_stops_it(
    config: CatalogConfig, lens: str, namespace: str
) -> None:
    with Rest(replace(config, lens=lens)) as rest:
        table = Table(config, lens, None, namespace, rest)
        found = load(table.config, table.name)
        assert found is not None
        draft = Draft(table.config, TableDefinition(table.name), (), found)
        with DuckDBEngine(table.config) as engine:
            (file,), _ = engine.files("SELECT 9 AS n, 'a' AS part", draft)
        file._data[RECORD_COUNT] = 2
        draft.commit([file])
        rows = table.rows()
        with pytest.raises(LakeError, match="5 rows were to be read and 4 were"):
            table.compact()
        assert Branch.all(rest.table(table.name) or {}) == []
        assert (table.rows(), table.look().files) == (rows, 7)
