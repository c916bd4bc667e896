"""Runs at the same time that replace partitions of one table, and runs that a backfill does again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lake import Lake

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.again import refuse_doubling
from forebay.lake.branch import REPLAY, ref, snapshots, stamp
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import PublishConflict, publish
from forebay.lake.rest import Rest
from forebay.lake.retry import AlreadyPublished
from forebay.lake.tables import TableDefinition

Rows = set[tuple[int, str]]


def write(lake: Lake, who: TaskTry | None, *pairs: tuple[int, str], mode: Any = "overwrite_partitions",
          key: tuple[str, ...] = (), by: tuple[str, ...] = ("day",)) -> None:  # fmt: skip
    with DuckDBEngine(lake.config if who is None else lake.view(who)) as engine:
        engine.write(
            f"SELECT * FROM (VALUES {', '.join(map(str, pairs))}) AS v(day, word)",
            TableDefinition(lake.name("t"), by), mode, key,
        )  # fmt: skip


def rows(lake: Lake) -> Rows:
    with DuckDBEngine(lake.config.at(f"{lake.lens}/published")) as engine:
        found = engine.query(f"SELECT day, word FROM lake.{lake.name('t')}").to_pylist()
    assert len(found) == len({(row["day"], row["word"]) for row in found})
    return {(row["day"], row["word"]) for row in found}


@pytest.mark.parametrize("there", [False, True], ids=["new table", "old table"])
def test_runs_on_different_partitions_both_publish(lake: Lake, rest: Rest, there: bool) -> None:
    if there:
        write(lake, None, (1, "old"), (2, "old"), (3, "old"))
    one, two, three = (lake.who(name, "t") for name in ("one", "two", "three"))
    write(lake, one, (1, "a"), (1, "b"))
    write(lake, two, (2, "c"))
    write(lake, three, (4, "d"))
    write(lake, three, (4, "e"))
    assert not publish(rest, lake.run("one"), one.writes)[0].replayed
    assert publish(rest, lake.run("two"), two.writes)[0].replayed
    third = publish(rest, lake.run("three"), three.writes)
    kept = {(3, "old")} if there else set()
    assert rows(lake) == {(1, "a"), (1, "b"), (2, "c"), (4, "e"), *kept}
    again = publish(rest, lake.run("three"), three.writes)
    assert [(each.snapshot_id, each.again) for each in again] == [(third[0].snapshot_id, True)]
    document = rest.table(lake.name("t"))
    assert document is not None
    assert list(document["refs"]) == ["main"]
    newest = snapshots(document)[ref(document, "main") or 0]
    assert stamp(newest, "run") == "three"
    # What a replay made is replaced like anything else.
    last = lake.who("last", "t")
    write(lake, last, (2, "z"))
    publish(rest, lake.run("last"), last.writes)
    assert {word for day, word in rows(lake) if day == 2} == {"z"}


@pytest.mark.parametrize("theirs", ["overwrite_partitions", "append", "merge", "overwrite"])
def test_the_same_partition_is_a_conflict(lake: Lake, rest: Rest, theirs: Any) -> None:
    write(lake, None, (1, "old"), (2, "old"))
    one, two = lake.who("one", "t"), lake.who("two", "t")
    write(lake, one, (2, "x"), mode=theirs, key=("day",) if theirs == "merge" else ())
    write(lake, two, (2, "mine"), (3, "mine"))
    publish(rest, lake.run("one"), one.writes)
    before = rows(lake)
    with pytest.raises(PublishConflict, match="both wrote the same 1 partitions"):
        publish(rest, lake.run("two"), two.writes)
    assert rows(lake) == before


@pytest.mark.parametrize(
    ("key", "by", "published"),
    [(("day",), ("day",), True), (("day", "word"), ("day", "bucket(4, word)"), True), (("word",), ("day",), False)],
)  # fmt: skip
def test_merges_within_their_partitions(
    lake: Lake, rest: Rest, key: tuple[str, ...], by: tuple[str, ...], published: bool
) -> None:
    """A key that holds the partition's columns was looked for in no other partition."""
    write(lake, None, (1, "old1"), (2, "old2"), by=by)
    one, two = lake.who("one", "t"), lake.who("two", "t")
    write(lake, one, (1, "one"), mode="merge", key=key)
    write(lake, two, (2, "two"), (3, "two-3"), mode="merge", key=key)
    publish(rest, lake.run("one"), one.writes)
    if not published:
        with pytest.raises(PublishConflict):
            publish(rest, lake.run("two"), two.writes)
        return
    assert publish(rest, lake.run("two"), two.writes)[0].replayed
    found = {(1, "one"), (2, "two"), (3, "two-3")}
    assert rows(lake) == (found if key == ("day",) else found | {(1, "old1"), (2, "old2")})


def test_a_merge_that_left_rows_alone_depends_on_them(lake: Lake, rest: Rest) -> None:
    """It found day 1 equal, and somebody changed it meanwhile: the row it meant to write is not there."""
    write(lake, None, (1, "same"), (2, "old"))
    one, two = lake.who("one", "t"), lake.who("two", "t")
    write(lake, two, (1, "same"), (2, "new"), mode="merge", key=("day",))
    write(lake, one, (1, "other"))
    publish(rest, lake.run("one"), one.writes)
    with pytest.raises(PublishConflict):
        publish(rest, lake.run("two"), two.writes)
    assert rows(lake) == {(1, "other"), (2, "old")}


def test_rows_that_depend_on_the_table_itself(lake: Lake, rest: Rest) -> None:
    write(lake, None, (1, "a"), (2, "b"))
    one, two = lake.who("one", "t"), lake.who("two", "t")
    exclusive = replace(two, exclusive=two.writes)
    write(lake, one, (1, "x"))
    with DuckDBEngine(lake.view(exclusive)) as engine:
        engine.write(
            f"SELECT day + 1 AS day, word FROM lake.{lake.name('t')} WHERE day = 1",
            TableDefinition(lake.name("t")), "overwrite_partitions",
        )  # fmt: skip
    publish(rest, lake.run("one"), one.writes)
    with pytest.raises(PublishConflict):
        publish(rest, lake.run("two"), two.writes)
    assert rows(lake) == {(1, "x"), (2, "b")}


def test_new_columns_meanwhile(lake: Lake, rest: Rest) -> None:
    write(lake, None, (1, "a"))
    two = lake.who("two", "t")
    write(lake, two, (2, "b"))
    with DuckDBEngine(lake.config) as engine:
        engine.write("SELECT 3 AS day, 'c' AS word, 1 AS more", TableDefinition(lake.name("t")), "append")
    with pytest.raises(PublishConflict, match="columns"):
        publish(rest, lake.run("two"), two.writes)


def test_a_run_done_again_is_another_transaction(lake: Lake, rest: Rest) -> None:
    job, run_id = f"{lake.namespace}.job", "scheduled__2026-01-01T05:00:00+00:00"
    first = replace(lake.who("r", "t"), run=run_id)
    write(lake, first, (1, "a"), (1, "b"))
    publish(rest, first, first.writes)
    named = Run.named(job, run_id, {"forebay_backfill": "m1", "day": "x"})
    assert (named.run, named.airflow) == (f"{run_id}#m1", run_id)
    assert named.branch != Run(job, run_id).branch
    # What stands in a conf is somebody's text.
    for conf in (
        None,
        {},
        {"forebay_backfill": 7},
        {"forebay_backfill": "a#b"},
        {"forebay_backfill": "x" * 33},
        "x",
    ):
        assert Run.named(job, run_id, conf).run == run_id
    again = replace(first, run=named.run, number=2)
    refuse_doubling(rest, again, appends=False)
    write(lake, again, (1, "c"))
    publish(rest, named, again.writes, {"write": 2})
    assert rows(lake) == {(1, "c")}
    with pytest.raises(AlreadyPublished, match=r"would write them twice.*forebay rollback"):
        refuse_doubling(rest, replace(again, run=f"{run_id}#m2"), appends=True)


def test_a_run_that_appended_is_not_done_again(lake: Lake, rest: Rest) -> None:
    first = replace(lake.who("r", "t"), run="scheduled__x")
    write(lake, first, (1, "a"), mode="append")
    publish(rest, first, first.writes)
    again = replace(first, run="scheduled__x#m1")
    # Also where the task replaces rows now: what it added then is not what it would replace.
    for appends in (True, False):
        with pytest.raises(AlreadyPublished, match="scheduled__x published before"):
            refuse_doubling(rest, again, appends)
    refuse_doubling(rest, replace(first, run="scheduled__y#m1"), appends=True)
    document = rest.table(lake.name("t"))
    assert document is not None
    assert all(REPLAY not in each["summary"] for each in snapshots(document).values())
