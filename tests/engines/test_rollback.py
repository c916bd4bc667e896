"""Rolling back: a run's tables together, what others built on them, and what a crash leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lake import Lake, broken_off
from test_history import derive

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake import rollback
from forebay.lake.branch import Branch, Shape, ref
from forebay.lake.built_on import Lake as Known
from forebay.lake.built_on import Plan, plan
from forebay.lake.connection import LakeError
from forebay.lake.diff import shape_changes, sides
from forebay.lake.history import blame, every
from forebay.lake.identity import TaskTry
from forebay.lake.publish import commit_all, publish, take_back
from forebay.lake.rest import Rest
from forebay.lake.rollback import BuiltOn, roll_back
from forebay.lake.state import RunsOf
from forebay.lake.tables import TableDefinition


def known(lake: Lake, rest: Rest, *running: str) -> Known:
    return Known(every(rest, rest.names(lake.namespace)), map(lake.run, running))


def back(lake: Lake, rest: Rest, run: str, cascade: bool = False) -> Plan:
    def read() -> Known:
        return known(lake, rest)

    return roll_back(rest, read, plan(read(), lake.run(run)), cascade=cascade)


def write(lake: Lake, rest: Rest, run: str, tables: str, values: str, mode: str = "append") -> None:
    who = lake.who(run, *tables)
    for table in tables:
        lake.write(who, table, values, mode)
    publish(rest, lake.run(run), who.writes)


def words(lake: Lake, rest: Rest, run: str, table: str) -> set[str]:
    metadata = rest.table(lake.name(table))
    assert metadata is not None
    return {str(word) for word in RunsOf.read(table, metadata).words(lake.run(run))}


def test_all_tables_of_a_run(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    write(lake, rest, "r", "ab", "(2)", "overwrite")
    done = back(lake, rest, "r")
    assert [table.table for table in done.tables] == [lake.name("a"), lake.name("b")]
    assert lake.rows("a") == [1]
    assert lake.rows("b") == []
    assert words(lake, rest, "r", "a") == words(lake, rest, "r", "b") == {"rolled back"}
    for table, first in (("a", "roll back"), ("b", "roll back")):
        metadata = rest.table(lake.name(table))
        assert metadata is not None
        events = blame(metadata)
        assert events[0].operation == first
        assert "took out" in events[0].note
        assert sum(event.operation == "roll back" for event in events) == 1
    # Again there is nothing to do, and the run counts as not published.
    assert not back(lake, rest, "r").tables
    assert publish(rest, lake.run("r"), lake.who("r", "a", "b").writes) == []
    write(lake, rest, "r", "ab", "(5)")
    assert lake.rows("a") == [1, 5]
    assert lake.rows("b") == [5]
    assert words(lake, rest, "r", "b") == {"published"}


def test_what_was_built_on_it(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    lake.directly("other", "(1)")
    write(lake, rest, "r", "a", "(2)")
    derive(lake, "reads", "a", "b")
    derive(lake, "reads_again", "b", "c")
    write(lake, rest, "on_top", "a", "(3)")
    lake.directly("a", "(4)")
    write(lake, rest, "unrelated", ["other"], "(2)")  # type: ignore[arg-type]
    opened = lake.who("opened", "d")
    with DuckDBEngine(lake.view(opened)) as engine:
        engine.write(f"SELECT n FROM lake.{lake.name('c')}", TableDefinition(lake.name("d")))
    with pytest.raises(BuiltOn, match=r"forebay rollback .*job/r --cascade") as refused:
        back(lake, rest, "r")
    named = {each.name.removeprefix(f"{lake.namespace}.job/") for each in refused.value.plan.dependents}
    assert named == {"reads", "reads_again", "on_top", "opened", f"another writer of {lake.name('a')}"}
    assert lake.rows("a") == [1, 2, 3, 4]
    found = plan(known(lake, rest, "opened"), lake.run("r"))
    with pytest.raises(LakeError, match="job/opened still runs"):
        roll_back(rest, lambda: known(lake, rest), found, cascade=True)
    back(lake, rest, "r", cascade=True)
    assert [lake.rows(table) for table in ("a", "b", "c", "other")] == [[1], [], [], [1, 2]]
    assert rest.table(lake.name("d")) is None
    for run, table in (("reads", "b"), ("reads_again", "c"), ("on_top", "a")):
        assert words(lake, rest, run, table) == {"rolled back"}


def test_a_branch_that_began_on_it(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    write(lake, rest, "r", "a", "(2)")
    lake.write(lake.who("next", "a"), "a", "(3)")
    with pytest.raises(BuiltOn, match=f"job/next: began to write {lake.name('a')} after it .*not published"):
        back(lake, rest, "r")
    back(lake, rest, "r", cascade=True)
    assert lake.rows("a", lake.who("next")) == [1]


def test_columns_go_back(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")

    def shape() -> Shape:
        metadata = rest.table(lake.name("a"))
        assert metadata is not None
        return Shape.of(metadata)

    def add(run: str, column: str) -> None:
        who = lake.who(run, "a")
        with DuckDBEngine(lake.view(who)) as engine:
            engine.write(f"SELECT 2 AS n, 'x' AS {column}", TableDefinition(lake.name("a")), "append")
        publish(rest, lake.run(run), who.writes)

    first = shape()
    add("one", "b")
    second = shape()
    add("two", "c")
    assert len({first, second, shape()}) == 3
    back(lake, rest, "two")
    assert shape() == second
    add("three", "d")
    back(lake, rest, "one", cascade=True)
    assert shape() == first
    assert lake.rows("a") == [1]
    lake.directly("a", "(2)")
    assert lake.rows("a") == [1, 2]


def test_columns_that_somebody_else_changed_since_stay(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    who = lake.who("one", "a")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.write("SELECT 2 AS n, 'x' AS b", TableDefinition(lake.name("a")), "append")
    publish(rest, lake.run("one"), who.writes)
    table = lake.config.pyiceberg().load_table(lake.name("a"))
    with table.update_schema() as update:
        from pyiceberg.types import StringType

        update.add_column("by_hand", StringType())
    done = back(lake, rest, "one")
    assert "somebody changed them since" in done.tables[0].note
    assert "by_hand" in lake.config.pyiceberg().load_table(lake.name("a")).schema().column_names
    assert lake.rows("a") == [1]


def properties(lake: Lake, rest: Rest) -> dict[str, str]:
    """Those of the table `a` that are no record of ours."""
    metadata = rest.table(lake.name("a"))
    assert metadata is not None
    return {name: text for name, text in metadata["properties"].items() if name in ("kept", "made", "gone")}


def set_on(lake: Lake, run: str, removed: tuple[str, ...] = (), **values: str) -> TaskTry:
    """Sets properties of the table `a` as a task does; with no run as somebody at the catalog's own address."""
    who = lake.who(run, "a")
    config = lake.view(who) if run else lake.config
    with config.pyiceberg().load_table(lake.name("a")).transaction() as transaction:
        transaction.set_properties(**values)
        transaction.remove_properties(*removed)
    return who


def test_properties_go_back(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    set_on(lake, "", kept="old", gone="old")
    before = properties(lake, rest)
    lake.write(set_on(lake, "one", ("gone",), kept="1", made="x"), "a", "(2)")
    publish(rest, lake.run("one"), [lake.name("a")])
    one = properties(lake, rest)
    assert one == {"kept": "1", "made": "x"}
    # What broke off is taken back whole, and can be published again.
    assert take_back(rest, lake.run("one"), [lake.name("a")])
    assert properties(lake, rest) == before
    publish(rest, lake.run("one"), [lake.name("a")])
    assert properties(lake, rest) == one
    # A run may change nothing else.
    set_on(lake, "two", made="y")
    assert [each.table for each in publish(rest, lake.run("two"), [lake.name("a")])] == [lake.name("a")]
    assert properties(lake, rest) == one | {"made": "y"}
    assert words(lake, rest, "two", "a") == {"published"}
    metadata = rest.table(lake.name("a"))
    assert metadata is not None
    both = sides(lake.name("a"), metadata, lake.run("one"))
    assert both is not None
    assert shape_changes(metadata, both) == [
        "property kept set to 1", "property made set to x", "property gone removed",
    ]  # fmt: skip
    done = back(lake, rest, "two")
    assert done.tables[0].note == "properties go back: made"
    assert (properties(lake, rest), lake.rows("a")) == (one, [1, 2])
    assert words(lake, rest, "two", "a") == {"rolled back"}
    set_on(lake, "", made="by hand")
    done = back(lake, rest, "one")
    assert done.tables[0].note == (
        "properties go back: gone, kept; properties stay, as somebody changed them since: made"
    )
    assert (properties(lake, rest), lake.rows("a")) == (before | {"made": "by hand"}, [1])


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_broken_off_roll_back_is_finished(
    lake: Lake, rest: Rest, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in "abc":
        lake.directly(table, "(1)")
    write(lake, rest, "r", "ab", "(2)")
    who = lake.who("later", "b", "c")
    for table in "bc":
        lake.write(who, table, "(3)")
    publish(rest, lake.run("later"), who.writes)

    def one_by_one(rest: Rest, wanted: list[rollback.Change]) -> None:
        for change in wanted[:after]:
            rest.commit([change])
        raise KeyboardInterrupt

    monkeypatch.setattr(rollback, "commit_all", one_by_one)
    with pytest.raises(KeyboardInterrupt):
        back(lake, rest, "r", cascade=True)
    monkeypatch.setattr(rollback, "commit_all", commit_all)
    back(lake, rest, "r", cascade=True)
    assert [lake.rows(table) for table in "abc"] == [[1]] * 3
    for run, table in (("r", "a"), ("r", "b"), ("later", "b"), ("later", "c")):
        assert words(lake, rest, run, table) == {"rolled back"}


def test_the_lake_moved_since_the_plan(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    write(lake, rest, "r", "a", "(2)")
    found = plan(known(lake, rest), lake.run("r"))
    write(lake, rest, "later", "a", "(3)")
    with pytest.raises(LakeError, match=r"meanwhile .*job/later built on r"):
        roll_back(rest, lambda: known(lake, rest), found)
    assert lake.rows("a") == [1, 2, 3]


def test_a_run_that_is_not_published(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    who = lake.who("r", "a")
    lake.write(who, "a", "(2)")
    assert not back(lake, rest, "r").tables
    metadata = rest.table(lake.name("a"))
    assert metadata is not None
    assert Branch.find(metadata, who.branch) is not None
    assert ref(metadata, "main") is not None


def test_a_partly_published_run_goes_with_its_branches(lake: Lake, rest: Rest) -> None:
    for table in "ab":
        lake.directly(table, "(1)")
    who = lake.who("r", "a", "b")
    for table in "ab":
        lake.write(who, table, "(2)")
    with broken_off(rest, who.writes[1:]):
        publish(rest, lake.run("r"), who.writes)
    back(lake, rest, "r")
    assert lake.rows("a") == lake.rows("b") == lake.rows("b", who) == [1]
    assert words(lake, rest, "r", "a") == {"rolled back"}


def test_without_a_commit_over_several_tables(lake: Lake, rest: Rest) -> None:
    for table in "ab":
        lake.directly(table, "(1)")
    write(lake, rest, "r", "ab", "(2)")
    rest.transactions = False
    back(lake, rest, "r")
    assert lake.rows("a") == lake.rows("b") == [1]


def test_an_emptied_table_comes_back(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    write(lake, rest, "r", "a", "(2)", "overwrite")
    write(lake, rest, "s", "a", "(3)", "overwrite")
    back(lake, rest, "s")
    assert lake.rows("a") == [2]
    back(lake, rest, "r")
    assert lake.rows("a") == [1]
    assert replace(plan(known(lake, rest), lake.run("r")), doubts=()).tables == ()
