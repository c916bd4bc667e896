"""Publishing, discarding and retrying a run's branches on a real catalog."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest
from lake import Lake, broken_off
from pyiceberg.exceptions import ValidationException

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import BRANCH_PROPERTY, Branch, ancestry, ref, snapshots, stamp
from forebay.lake.connection import LakeError
from forebay.lake.identity import Run
from forebay.lake.publish import PublishConflict, discard, drop_branch, publish
from forebay.lake.rest import Change, CommitConflict, Rest
from forebay.lake.retry import AlreadyPublished, put_back
from forebay.lake.tables import TableDefinition


def test_all_tables_at_once_and_again(lake: Lake, rest: Rest) -> None:
    lake.directly("old", "(1)")
    who = lake.who("r", "old", "new", "untouched")
    lake.write(who, "old", "(2)")
    lake.write(who, "new", "(3), (4)")
    assert lake.rows("old") == [1]
    assert lake.rows("new") == []
    first = publish(rest, lake.run("r"), who.writes)
    assert [(each.table, each.added, each.again) for each in first] == [
        (lake.name("old"), 1, False),
        (lake.name("new"), 2, False),
    ]
    assert lake.rows("old") == [1, 2]
    assert lake.rows("new") == [3, 4]
    for table in ("old", "new"):
        document = rest.table(lake.name(table))
        assert document is not None
        assert list(document["refs"]) == ["main"]
        assert not any(name.startswith(BRANCH_PROPERTY) for name in document["properties"])
    again = publish(rest, lake.run("r"), who.writes)
    assert [(each.snapshot_id, each.added, each.again) for each in again] == [
        (each.snapshot_id, each.added, True) for each in first
    ]


def test_a_moved_main_is_replayed_where_both_appended(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    who = lake.who("r", "t")
    lake.write(who, "t", "(2)")
    lake.write(who, "t", "(3)")
    lake.directly("t", "(10)")
    assert publish(rest, lake.run("r"), who.writes)[0].replayed
    assert lake.rows("t") == [1, 2, 3, 10]
    assert publish(rest, lake.run("r"), who.writes)[0].again


@pytest.mark.parametrize("version", [1, 2])
def test_each_snapshot_of_a_run_is_repeated(lake: Lake, rest: Rest, version: int) -> None:
    """With its own files, numbers and stamps, so that blame and time travel tell what they told on the branch."""
    catalog = lake.config.pyiceberg()
    catalog.create_namespace(lake.namespace)
    schema = pa.schema([("n", pa.int64())])
    table = catalog.create_table(lake.name("t"), schema, properties={"format-version": str(version)})
    table.append(pa.table({"n": [0]}, schema=schema))
    tries = [lake.who("r", "t"), lake.who("r", "t", task="other")]
    for number, who in enumerate((tries[0], tries[1], tries[0]), 1):
        loaded = lake.view(who).pyiceberg().load_table(lake.name("t"))
        loaded.append(pa.table({"n": [number] * number}, schema=schema))
    loaded.append(pa.table({"n": []}, schema=schema))
    table.refresh().append(pa.table({"n": [9]}, schema=schema))
    before = rest.table(lake.name("t"))
    assert before is not None
    branch = Branch.find(before, tries[0].branch)
    assert branch is not None
    ours = list(ancestry(snapshots(before), branch.head, branch.base))[::-1]
    assert publish(rest, lake.run("r"), tries[0].writes)[0].replayed
    document = rest.table(lake.name("t"))
    assert document is not None
    made = list(ancestry(snapshots(document), ref(document, "main"), ref(before, "main")))[::-1]
    assert [stamp(each, "replay-of") for each in made] == [str(each["snapshot-id"]) for each in ours]
    for name in ("run", "task", "try"):
        assert [stamp(each, name) for each in made] == [stamp(each, name) for each in ours]
    assert [stamp(each, "base") for each in made] == [str(each["parent-snapshot-id"]) for each in made]
    added = ("added-records", "added-data-files", "added-files-size", "operation")
    for name in added:
        assert [each["summary"].get(name) for each in made] == [each["summary"].get(name) for each in ours]
    assert [each["summary"]["total-records"] for each in made] == ["3", "5", "8", "8"]
    assert [each["summary"]["total-data-files"] for each in made] == ["3", "4", "5", "5"]
    if version == 2:
        numbers = [each["sequence-number"] for each in made]
        assert numbers == list(
            range(before["last-sequence-number"] + 1, document["last-sequence-number"] + 1)
        )
    table.refresh()
    rows = [0, 9]
    for number, each in enumerate(made, 1):
        rows += [number] * number if number < 4 else []
        scanned = table.scan(snapshot_id=each["snapshot-id"]).to_arrow()
        assert sorted(scanned.column("n").to_pylist()) == sorted(rows)
        snapshot = table.snapshot_by_id(each["snapshot-id"])
        assert snapshot is not None
        newest = [m for m in snapshot.manifests(table.io) if m.added_snapshot_id == each["snapshot-id"]]
        assert [m.sequence_number for m in newest] == ([each.get("sequence-number", 0)] if number < 4 else [])
    assert lake.rows("t") == sorted(rows)


def test_who_publishes_one_table_waits_for_the_other(lake: Lake) -> None:
    """So that nobody repeats rows on a main that has moved before they are written."""
    lake.directly("t", "(0)")
    config = replace(lake.config, lens=lake.lens)

    def one(number: int) -> None:
        with Rest(config) as own:
            publish(own, lake.run(f"r{number}"), [lake.name("t")])

    for number in (1, 2):
        lake.write(lake.who(f"r{number}", "t"), "t", f"({number})")
    with Rest(config) as mine, ThreadPoolExecutor(2) as pool:
        with mine.turn([lake.name("other")]):
            pool.submit(one, 1).result(timeout=60)
        with mine.turn([lake.name("t"), lake.name("other")]):
            waiting = pool.submit(one, 2)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            assert lake.rows("t") == [0, 1]
        waiting.result(timeout=60)
    assert lake.rows("t") == [0, 1, 2]


@pytest.mark.parametrize("silent", [False, True])
def test_a_turn_that_does_not_come_stops_nobody(lake: Lake, silent: bool) -> None:
    lake.directly("t", "(0)")
    lake.write(lake.who("r", "t"), "t", "(1)")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not silent:
            server.close()
        with Rest(replace(lake.config, lens=address), timeout=10) as own:
            assert publish(own, lake.run("r"), [lake.name("t")])[0].added == 1
    assert lake.rows("t") == [0, 1]


@pytest.mark.parametrize(("theirs", "ours"), [("overwrite", "append"), ("append", "overwrite")])
def test_a_conflict_publishes_nothing_and_names_the_writer(
    lake: Lake, rest: Rest, theirs: str, ours: str
) -> None:
    for table in ("t", "u"):
        lake.directly(table, "(1)")
    other, who = lake.who("other", "t"), lake.who("r", "t", "u")
    lake.write(who, "t", "(2)", ours)
    lake.write(who, "u", "(2)")
    lake.write(other, "t", "(10)", theirs)
    publish(rest, lake.run("other"), other.writes)
    with pytest.raises(PublishConflict, match=rf"{lake.name('t')} was changed on main by the run other"):
        publish(rest, lake.run("r"), who.writes)
    assert lake.rows("u") == [1]
    assert lake.rows("t") == ([10] if theirs == "overwrite" else [1, 10])
    assert lake.rows("u", who) == [1, 2]


def test_a_merge_that_only_inserted_is_not_replayed(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    who = lake.who("r", "t")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.write("SELECT 2 AS n", TableDefinition(lake.name("t")), "merge", ["n"])
    lake.directly("t", "(2)")
    with pytest.raises(PublishConflict):
        publish(rest, lake.run("r"), who.writes)
    assert lake.rows("t") == [1, 2]


def test_two_runs_that_both_fill_a_new_table(lake: Lake, rest: Rest) -> None:
    one, two = lake.who("one", "t"), lake.who("two", "t")
    lake.write(one, "t", "(1)", "overwrite")
    lake.write(two, "t", "(2)", "overwrite")
    publish(rest, lake.run("one"), one.writes)
    with pytest.raises(PublishConflict):
        publish(rest, lake.run("two"), two.writes)
    assert lake.rows("t") == [1]
    assert discard(rest, lake.run("two"), two.writes) == [lake.name("t")]
    assert lake.rows("t") == [1]


def test_discard_drops_a_table_that_the_run_made(lake: Lake, rest: Rest) -> None:
    lake.directly("old", "(1)")
    who = lake.who("r", "old", "new")
    lake.write(who, "old", "(2)")
    lake.write(who, "new", "(3)")
    assert set(discard(rest, lake.run("r"), who.writes)) == set(who.writes)
    assert rest.table(lake.name("new")) is None
    assert lake.rows("old", who) == [1]
    assert discard(rest, lake.run("r"), who.writes) == []


def test_a_new_try_begins_where_the_first_one_did(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    first, second = lake.who("r", "t", "new"), lake.who("r", "t", "new", number=2)
    lake.write(first, "t", "(2)")
    lake.write(first, "new", "(2)")
    assert set(put_back(rest, second)) == set(second.writes)
    assert lake.rows("t", second) == [1]
    assert rest.table(lake.name("new")) is None
    for table in ("t", "new"):
        lake.write(second, table, "(2)")
    publish(rest, lake.run("r"), second.writes, {"write": 2})
    assert lake.rows("t") == [1, 2]
    assert lake.rows("new") == [2]
    with pytest.raises(AlreadyPublished, match="forebay rollback r"):
        put_back(rest, lake.who("r", "t", number=3))


def test_a_task_that_looked_at_rows_put_back_meanwhile_looks_again(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    lake.write(lake.who("r", "t"), "t", "(2)")
    other = lake.view(lake.who("r", "t", task="other"))
    table = other.pyiceberg().load_table(lake.name("t"))
    more = table.scan("n = 1").to_arrow()
    assert put_back(rest, lake.who("r", "t", number=2)) == [lake.name("t")]
    # It stands on the row 2, which is nobody's any more.
    with pytest.raises(ValidationException, match="starting snapshot"):
        table.append(more)
    other.pyiceberg().load_table(lake.name("t")).append(more)
    assert lake.rows("t", lake.who("r", "t")) == [1, 1]
    publish(rest, lake.run("r"), [lake.name("t")])
    assert lake.rows("t") == [1, 1]


def test_a_table_is_not_dropped_under_another_run(lake: Lake, rest: Rest) -> None:
    mine, other = lake.who("mine", "new"), lake.who("other", "new")
    lake.write(mine, "new", "(1)")
    before = rest.table(lake.name("new"))
    assert before is not None
    branch = Branch.find(before, mine.branch)
    assert branch is not None
    lake.write(other, "new", "(2)")
    # What was true when it was read is not any more.
    with (
        Rest(replace(lake.config, lens=lake.lens)) as through,
        pytest.raises(CommitConflict, match="used by others"),
    ):
        drop_branch(through, lake.name("new"), before, branch)
    assert discard(rest, lake.run("mine"), mine.writes) == [lake.name("new")]
    publish(rest, lake.run("other"), other.writes)
    assert lake.rows("new") == [2]


def test_a_try_leaves_other_tasks_rows_alone(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    before, bad, after = (lake.who("r", "t", task=task) for task in ("before", "write", "after"))
    lake.write(before, "t", "(2)")
    lake.write(bad, "t", "(3)")
    lake.write(after, "t", "(4)")
    again = lake.who("r", "t", number=2)
    assert put_back(rest, again) == [lake.name("t")]
    assert lake.rows("t", again) == [1, 2, 4]
    lake.write(again, "t", "(3)")
    publish(rest, lake.run("r"), again.writes, {"write": 2, "before": 1, "after": 1})
    assert lake.rows("t") == [1, 2, 3, 4]


def test_a_table_that_another_task_made_stays_without_the_rows(lake: Lake, rest: Rest) -> None:
    maker, first = lake.who("r", "t", task="maker"), lake.who("r", "t")
    with DuckDBEngine(lake.view(maker)) as engine:
        engine.execute(
            [f"CREATE SCHEMA lake.{lake.namespace}", f"CREATE TABLE lake.{lake.name('t')} (n INTEGER)"]
        )
    second = lake.who("r", "t", number=2)
    assert put_back(rest, second) == []
    lake.write(first, "t", "(1)")
    assert put_back(rest, second) == [lake.name("t")]
    assert put_back(rest, second) == []
    assert lake.rows("t", second) == []
    lake.write(second, "t", "(1)")
    publish(rest, lake.run("r"), second.writes, {"write": 2, "maker": 1})
    assert lake.rows("t") == [1]


def test_rows_that_others_built_on_are_not_taken_out(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    lake.write(lake.who("r", "t"), "t", "(2)")
    lake.write(lake.who("r", "t", task="after"), "t", "(3)", "overwrite")
    with pytest.raises(LakeError, match="Clear write together with after"):
        put_back(rest, lake.who("r", "t", number=2))


def test_a_leftover_of_an_earlier_try(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    old, new = lake.who("r", "t"), lake.who("r", "t", number=2)
    lake.write(old, "t", "(2)")
    put_back(rest, new)
    lake.write(new, "t", "(3)")
    with pytest.raises(LakeError, match="try 2 of write has begun"):
        lake.write(old, "t", "(2)")
    # A lens that was started since does not know; then publishing sees it.
    with pytest.raises(PublishConflict, match="rows of try 2 of write"):
        publish(rest, lake.run("r"), new.writes, {"write": 3})
    assert lake.rows("t") == [1]


def test_a_broken_off_publish_is_finished(lake: Lake, rest: Rest) -> None:
    who = lake.who("r", "a", "b", "c")
    for table in ("a", "b", "c"):
        lake.directly(table, "(1)")
        lake.write(who, table, "(2)")
    # What a crash between the pointers of two tables leaves.
    with broken_off(rest, who.writes[1:]):
        publish(rest, lake.run("r"), who.writes)
    done = publish(rest, lake.run("r"), who.writes)
    assert [each.again for each in done] == [True, False, False]
    assert [lake.rows(table) for table in ("a", "b", "c")] == [[1, 2]] * 3


def test_a_broken_off_publish_is_taken_back_where_it_cannot_be_finished(lake: Lake, rest: Rest) -> None:
    who = lake.who("r", "a", "b")
    for table in ("a", "b"):
        lake.directly(table, "(1)")
        lake.write(who, table, "(2)", "overwrite")
    with broken_off(rest, who.writes[1:]):
        publish(rest, lake.run("r"), who.writes)
    lake.directly("b", "(9)", "overwrite")
    with pytest.raises(PublishConflict):
        publish(rest, lake.run("r"), who.writes)
    assert lake.rows("a") == [1]
    assert lake.rows("b") == [9]
    assert lake.rows("a", who) == [2]


def test_a_broken_off_publish_that_others_built_on_is_partial(lake: Lake, rest: Rest) -> None:
    who = lake.who("r", "a", "b")
    for table in ("a", "b"):
        lake.directly(table, "(1)")
        lake.write(who, table, "(2)", "overwrite")
    with broken_off(rest, who.writes[1:]):
        publish(rest, lake.run("r"), who.writes)
    lake.directly("a", "(5)")
    lake.directly("b", "(9)", "overwrite")
    with pytest.raises(LakeError, match=f"PARTIAL: {lake.name('a')}"):
        publish(rest, lake.run("r"), who.writes)


def test_without_a_commit_over_several_tables(lake: Lake, rest: Rest) -> None:
    who = lake.who("r", "a", "b")
    for table in ("a", "b"):
        lake.directly(table, "(1)")
        lake.write(who, table, "(2)")
    rest.transactions = False
    publish(rest, lake.run("r"), who.writes)
    assert lake.rows("a") == lake.rows("b") == [1, 2]


def test_a_table_dropped_meanwhile(lake: Lake, rest: Rest) -> None:
    for table in ("a", "b"):
        lake.directly(table, "(1)")
    who = lake.who("r", "a", "b")
    for table in ("a", "b"):
        lake.write(who, table, "(2)")
    rest.drop(lake.name("a"))
    with pytest.raises(PublishConflict, match="was dropped"):
        publish(rest, lake.run("r"), who.writes, wrote=[lake.name("a"), lake.name("b")])
    assert lake.rows("b") == [1]


def test_a_run_of_a_name_that_was_there_does_not_go_on_with_its_rows(lake: Lake, rest: Rest) -> None:
    """Airflow forgot a failed run, and somebody started one of the same name."""
    lake.directly("t", "(1)")
    old = lake.who("r", "t")
    lake.write(old, "t", "(2)")
    new = replace(old, began=old.began + 60)
    with pytest.raises(
        LakeError, match="rows of another try 1 of write, from an earlier run of the same name"
    ):
        lake.write(new, "t", "(2)")
    # A run that writes nothing this time does not publish what the other one left.
    with pytest.raises(PublishConflict, match="an earlier run that was called r too"):
        publish(rest, lake.run("r"), new.writes, {"write": 1}, [], {"write": new.began})
    again = replace(new, number=2, began=new.began + 1)
    put_back(rest, again)
    lake.write(again, "t", "(2)")
    publish(rest, lake.run("r"), again.writes, {"write": 2}, again.writes, {"write": again.began})
    assert lake.rows("t") == [1, 2]


def test_what_was_published_before_stays_where_more_cannot_follow(lake: Lake, rest: Rest) -> None:
    for table in ("a", "b"):
        lake.directly(table, "(1)")
    first, second = lake.who("r", "a", task="first"), lake.who("r", "b", task="second")
    lake.write(first, "a", "(2)")
    publish(rest, lake.run("r"), [*first.writes, *second.writes])
    lake.write(second, "b", "(2)", "overwrite")
    lake.directly("b", "(9)", "overwrite")
    with pytest.raises(PublishConflict, match=f"Published before, and still: {lake.name('a')}"):
        publish(rest, lake.run("r"), [*first.writes, *second.writes])
    assert lake.rows("a") == [1, 2]


def test_a_new_column_is_mains_after_publish(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    who = lake.who("r", "t")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.write("SELECT 2 AS n, 'x' AS extra", TableDefinition(lake.name("t")), "append")

    def columns() -> list[str]:
        document = rest.table(lake.name("t"))
        assert document is not None
        current = next(s for s in document["schemas"] if s["schema-id"] == document["current-schema-id"])
        return [field["name"] for field in current["fields"]]

    assert columns() == ["n"]
    publish(rest, lake.run("r"), who.writes)
    assert columns() == ["n", "extra"]
    assert lake.rows("t") == [1, 2]


def test_eight_runs_append_at_once(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(0)")

    def one(number: int) -> None:
        who = lake.who(f"r{number}", "t")
        with Rest(lake.config) as own:
            lake.write(who, "t", f"({number})")
            publish(own, lake.run(f"r{number}"), who.writes)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1, 9)))
    assert lake.rows("t") == list(range(9))


def test_odd_run_ids(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    run = "scheduled__2026-01-01T00:00:00+00:00/ä '\"; DROP %2F..\n"
    who = lake.who(run, "t")
    lake.write(who, "t", "(2)")
    publish(rest, lake.run(run), who.writes)
    assert lake.rows("t") == [1, 2]


def test_a_run_without_tables(lake: Lake, rest: Rest) -> None:
    assert publish(rest, lake.run("r"), []) == []
    assert publish(rest, lake.run("r"), [lake.name("nowhere")]) == []


def test_branch_names_differ(lake: Lake) -> None:
    names = {Run(job, run).branch for job in ("a.b", "a.b_c", "a_b.c") for run in ("1", "2", "1\n2")}
    assert len(names) == 9


def test_a_commit_of_rows_that_main_never_had(lake: Lake, rest: Rest) -> None:
    """A commit straight to the catalog's main is not the lens's to refuse, and publish sees it."""
    lake.directly("t", "(1)")
    who = lake.who("r", "t")
    lake.write(who, "t", "(2)", "overwrite")
    document = rest.table(who.writes[0])
    assert document is not None
    branch = Branch.find(document, who.branch)
    assert branch is not None
    assert branch.head != ref(document, "main")
    update = {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": branch.head}
    rest.commit([Change(who.writes[0], [], [update])])
    assert publish(rest, lake.run("r"), who.writes)[0].snapshot_id == branch.head
    assert lake.rows("t") == [2]
