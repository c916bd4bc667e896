"""A table taken back to a snapshot: runs go whole, with what was built on them; the rest stays."""

from __future__ import annotations

import pytest
from lake import Lake
from test_history import derive
from test_rollback import known, words, write

from forebay.lake.branch import MAIN, ancestry, ref, snapshots
from forebay.lake.built_on import NOBODY, NotBetweenRuns, Plan, plan_to
from forebay.lake.connection import LakeError
from forebay.lake.history import blame
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back


def heads(lake: Lake, rest: Rest, table: str) -> list[int]:
    """Main's snapshots, newest first."""
    metadata = rest.table(lake.name(table))
    assert metadata is not None
    return [int(each["snapshot-id"]) for each in ancestry(snapshots(metadata), ref(metadata, MAIN))]


def to(lake: Lake, rest: Rest, table: str, snapshot: int | None) -> Plan:
    return plan_to(known(lake, rest), lake.name(table), snapshot)


def back(lake: Lake, rest: Rest, table: str, snapshot: int | None) -> Plan:
    wanted = to(lake, rest, table, snapshot)
    return roll_back(rest, lambda: known(lake, rest), wanted, cascade=True)


def test_runs_go_whole_and_take_along_what_was_built_on_them(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    lake.directly("other", "(1)")
    [start] = heads(lake, rest, "a")
    write(lake, rest, "r", "ab", "(2)")
    derive(lake, "reads", "b", "c")
    write(lake, rest, "on_top", "a", "(3)")
    write(lake, rest, "unrelated", ["other"], "(2)")  # type: ignore[arg-type]
    found = to(lake, rest, "a", start)
    assert (found.run, found.to) == (lake.run("r"), (lake.name("a"), start))
    assert {each.name.rpartition("/")[2] for each in found.dependents} == {"reads", "on_top"}
    assert [table.table for table in found.tables] == [lake.name(table) for table in "abc"]
    back(lake, rest, "a", start)
    assert [lake.rows(table) for table in ("a", "b", "c", "other")] == [[1], [], [], [1, 2]]
    for run, table in (("r", "a"), ("r", "b"), ("reads", "c"), ("on_top", "a")):
        assert words(lake, rest, run, table) == {"rolled back"}
    # Again there is nothing to do.
    assert not to(lake, rest, "a", start).tables


def test_only_what_came_after_goes(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "first", "a", "(1)")
    derive(lake, "early", "a", "b")
    [first] = heads(lake, rest, "a")
    write(lake, rest, "second", "a", "(2)")
    write(lake, rest, "third", "a", "(3)")
    back(lake, rest, "a", first)
    assert lake.rows("a") == [1]
    assert lake.rows("b") == [1]


def test_rows_of_another_writer(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "first", "a", "(1)")
    [first] = heads(lake, rest, "a")
    lake.directly("a", "(2)")
    derive(lake, "reads", "a", "b")
    found = to(lake, rest, "a", first)
    assert found.run == NOBODY
    named = {each.name.removeprefix(f"{lake.namespace}.job/") for each in found.dependents}
    assert named == {f"another writer of {lake.name('a')}", "reads"}
    assert {(table.table, table.others) for table in found.tables} == {
        (lake.name("a"), 1),
        (lake.name("b"), 0),
    }
    back(lake, rest, "a", first)
    assert lake.rows("a") == [1]
    assert lake.rows("b") == []
    metadata = rest.table(lake.name("a"))
    assert metadata is not None
    event = blame(metadata)[0]
    assert (event.operation, event.snapshot) == ("roll back", first)
    assert event.note == "took out another writer's rows"


def test_back_to_no_rows(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    write(lake, rest, "r", "a", "(2)")
    back(lake, rest, "a", None)
    assert lake.rows("a") == []


def test_not_into_the_middle_of_a_run(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    who = lake.who("r", "a")
    lake.write(who, "a", "(2)")
    lake.write(who, "a", "(3)")
    from forebay.lake.publish import publish

    publish(rest, lake.run("r"), who.writes)
    newest, middle, start = heads(lake, rest, "a")
    with pytest.raises(NotBetweenRuns, match=f"in the middle of a run.*{start} instead"):
        to(lake, rest, "a", middle)
    assert not to(lake, rest, "a", newest).tables
    with pytest.raises(NotBetweenRuns, match="no snapshot 12345 on main"):
        to(lake, rest, "a", 12345)
    assert not to(lake, rest, "not_there", None).tables


def test_a_plan_that_grew_is_refused(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    [start] = heads(lake, rest, "a")
    lake.directly("a", "(2)")
    wanted = to(lake, rest, "a", start)
    write(lake, rest, "late", "a", "(3)")
    with pytest.raises(LakeError, match=r"meanwhile .*late built on it. Look at the plan again"):
        roll_back(rest, lambda: known(lake, rest), wanted, cascade=True)
    assert lake.rows("a") == [1, 2, 3]
    wanted = to(lake, rest, "a", start)
    lake.directly("a", "(4)")
    with pytest.raises(LakeError, match=r"meanwhile 2 of another writer's snapshots of .* built on it"):
        roll_back(rest, lambda: known(lake, rest), wanted, cascade=True)
    assert lake.rows("a") == [1, 2, 3, 4]
