"""What a run changed: counts from manifests, columns, and rows by key or whole."""

from __future__ import annotations

from typing import Any

import pytest
from lake import Lake

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake import sample as sampling
from forebay.lake.built_on import Lake as Known
from forebay.lake.built_on import plan
from forebay.lake.connection import LakeError
from forebay.lake.diff import Files, Sides, files, shape_changes, sides
from forebay.lake.history import every
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back
from forebay.lake.sample import Sample, sample
from forebay.lake.tables import TableDefinition


def write(lake: Lake, run: str, select: str, mode: Any = "append", *key: str, table: str = "t") -> None:
    with DuckDBEngine(lake.view(lake.who(run, table))) as engine:
        engine.write(select, TableDefinition(lake.name(table)), mode, list(key))


def compared(
    lake: Lake, rest: Rest, run: str, *key: str, table: str = "t", main: bool = False, **what: Any
) -> tuple[Sides, list[str], Files, Sample]:
    metadata = rest.table(lake.name(table))
    assert metadata is not None
    both = sides(lake.name(table), metadata, lake.run(run), against_main=main)
    assert both is not None
    found = lake.config.pyiceberg().load_table(lake.name(table))
    differ = files(found, both)
    return both, shape_changes(metadata, both), differ, sample(found, both, differ, key, **what)


PEOPLE = "SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) AS t(n, name)"


def test_a_merge_by_its_key_open_published_and_rolled_back(lake: Lake, rest: Rest) -> None:
    with DuckDBEngine(lake.config) as engine:
        engine.write(PEOPLE, TableDefinition(lake.name("t")))
    changed = "SELECT * FROM (VALUES (2, 'z'), (4, 'd')) AS t(n, name)"
    write(lake, "r", changed, "merge", "n")

    def known() -> Known:
        return Known(every(rest, [lake.name("t")]))

    for step in ("open", "published", "rolled back"):
        if step == "published":
            publish(rest, lake.run("r"), [lake.name("t")])
        if step == "rolled back":
            roll_back(rest, known, plan(known(), lake.run("r")))
        both, said, differ, rows = compared(lake, rest, "r", "n")
        assert (both.state, said) == (step, [])
        assert (rows.added_count, rows.removed_count, rows.changed_count) == (1, 0, 1)
        assert rows.added == [{"n": 4, "name": "d"}]
        assert rows.changed == [({"n": 2}, {"name": ("b", "z")})]
        assert differ.rows_added - differ.rows_removed == 1
        whole = compared(lake, rest, "r")[3]
        assert (whole.added_count, whole.removed_count, whole.changed_count) == (2, 1, None)


def test_only_what_differs_is_read(lake: Lake, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        lake.directly("t", f"({number})")
    lake.write(lake.who("r", "t"), "t", "(7), (8)")
    _, _, differ, rows = compared(lake, rest, "r", limit=1)
    assert (differ.added, differ.removed, differ.rows_added, differ.rows_removed) == (1, 0, 2, 0)
    assert [len(differ.old), len(differ.new)] == [0, 1]
    assert (rows.added, rows.added_count) == ([{"n": 7}], 2)
    lake.write(lake.who("r", "t"), "t", "(9)")
    monkeypatch.setattr(sampling, "MOST_ROWS", 2)
    _, _, differ, rows = compared(lake, rest, "r")
    assert rows.added_count is None
    assert "2 files with 3 rows differ" in rows.note
    assert compared(lake, rest, "r", full=True)[3].added_count == 3
    lake.write(lake.who("r", "t"), "t", "(1)", "overwrite")
    _, _, differ, rows = compared(lake, rest, "r")
    assert (differ.added, differ.removed, differ.rows_removed) == (1, 3, 3)
    assert rows.note.startswith("rows are not shown")
    assert compared(lake, rest, "r", full=True)[3].removed == [{"n": 0}, {"n": 2}]


def test_rows_marked_as_deleted(lake: Lake, rest: Rest) -> None:
    with DuckDBEngine(lake.config) as engine:
        engine.write(PEOPLE, TableDefinition(lake.name("t")))
        engine.execute([f"DELETE FROM lake.{lake.name('t')} WHERE n = 1"])
    with DuckDBEngine(lake.view(lake.who("r", "t"))) as engine:
        engine.execute([f"UPDATE lake.{lake.name('t')} SET name = 'y' WHERE n = 3"])
    _, _, differ, rows = compared(lake, rest, "r", "n")
    assert (differ.rows_added, differ.rows_removed) == (1, 1)
    assert rows.changed == [({"n": 3}, {"name": ("c", "y")})]
    assert (rows.added_count, rows.removed_count) == (0, 0)


def test_a_new_table_and_new_columns(lake: Lake, rest: Rest) -> None:
    write(lake, "r", "SELECT 1::BIGINT AS n, 'x' AS b", table="new")
    both, said, differ, rows = compared(lake, rest, "r", table="new")
    assert (both.old, said) == (None, ["made with n long, b string"])
    assert (differ.added, rows.added) == (1, [{"n": 1, "b": "x"}])
    lake.directly("t", "(1)")
    write(lake, "r", "SELECT 2 AS n, 'x' AS b")
    for _ in range(2):
        _, said, _, rows = compared(lake, rest, "r", "N")
        assert said == ["column b string added"]
        assert rows.added == [{"n": 2, "b": "x"}]
        publish(rest, lake.run("r"), [lake.name("t")])
    with pytest.raises(LakeError, match="has no column nope"):
        compared(lake, rest, "r", "nope")


def test_a_renamed_retyped_and_repartitioned_table(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    table = lake.view(lake.who("r", "t")).pyiceberg().load_table(lake.name("t"))
    with table.update_schema() as update:
        from pyiceberg.types import LongType

        update.update_column("n", LongType())
        update.rename_column("n", "number")
    with table.update_spec() as spec:
        spec.add_field("number", "bucket[4]", "parts")
    with table.transaction() as transaction:
        transaction.set_properties(note="x")
    both, said, differ, _ = compared(lake, rest, "r")
    assert said == [
        "column n renamed to number",
        "column number: int became long",
        "partitioned by bucket(4, number), was nothing",
        "property note set to x",
    ]
    assert (differ.added, differ.removed) == (0, 0)
    # The schema is the run's, though main's rows are still read by the old names.
    assert both.new_shape != both.old_shape


def test_a_key_that_is_not_unique_and_main_that_moved(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1), (1), (NULL)")
    lake.write(lake.who("r", "t"), "t", "(1), (1), (1), (NULL)", "overwrite")
    _, _, _, rows = compared(lake, rest, "r", "n")
    assert rows.note == "rows are compared whole, for n is not unique"
    assert (rows.added, rows.removed_count) == ([{"n": 1}], 0)
    lake.directly("t", "(5)")
    assert compared(lake, rest, "r", main=True)[3].removed == [{"n": 5}]


def test_an_emptied_table(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1), (2)")
    write(lake, "r", "SELECT n FROM (VALUES (1)) AS t(n) WHERE false", "overwrite")
    _, _, differ, rows = compared(lake, rest, "r", "n")
    assert (differ.rows_removed, rows.removed_count, rows.added_count) == (2, 2, 0)
