"""One suite of what a run promises, over every engine that can write the lake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from lake import Lake
from spark_session import WarmSpark, running_spark
from writers import PyIceberg, Spark, Sql, Writer

from forebay.lake.branch import Branch, Json, ancestry, ref, snapshots
from forebay.lake.connection import CatalogConfig
from forebay.lake.diff import sides
from forebay.lake.identity import TaskTry
from forebay.lake.publish import PublishConflict, discard, publish
from forebay.lake.rest import Rest
from forebay.lake.retry import AlreadyPublished, put_back
from forebay.lake.state import RunsOf


@pytest.fixture(scope="module")
def spark(config: CatalogConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmSpark]:
    """One Spark for all tests."""
    with running_spark(config, tmp_path_factory.mktemp("spark")) as warm:
        yield warm


@pytest.fixture(params=["duckdb", "pyiceberg", "spark", "trino"])
def writer(request: pytest.FixtureRequest) -> Writer:
    match request.param:
        case "spark":
            return Spark(request.getfixturevalue("spark"))
        case "trino":
            return Sql(request.getfixturevalue("trino"))
        case "pyiceberg":
            return PyIceberg()
    return Sql()


class Runs:
    """Tries of runs whose tasks all work on one engine."""

    def __init__(self, lake: Lake, rest: Rest, writer: Writer) -> None:
        self.lake, self.rest, self.writer = lake, rest, writer

    def who(self, run: str, *tables: str, **more: Any) -> TaskTry:
        return replace(self.lake.who(run, *tables, **more), engine=self.writer.name, commit="abc", user="me")

    def do(self, who: TaskTry, what: str, table: str, *values: Any) -> None:
        getattr(self.writer, what)(self.lake.view(who), self.lake.name(table), *values)

    def seen(self, table: str, who: TaskTry | None = None) -> list[int]:
        """What a run sees of a table by its own engine, or everybody by DuckDB."""
        if who is None:
            return self.lake.rows(table)
        return self.writer.read(self.lake.view(who), self.lake.name(table))

    def publish(self, who: TaskTry) -> None:
        publish(self.rest, self.lake.run(who.run), who.writes, {who.task: who.number})

    def document(self, table: str) -> Json:
        found = self.rest.table(self.lake.name(table))
        assert found is not None
        return found

    def made(self, table: str, base: int | None = None) -> list[Json]:
        """The snapshots of main after `base`, oldest first."""
        found = self.document(table)
        return list(ancestry(snapshots(found), ref(found, "main"), base))[::-1]


@pytest.fixture
def runs(lake: Lake, rest: Rest, writer: Writer) -> Runs:
    return Runs(lake, rest, writer)


def test_nothing_is_seen_before_all_of_it(runs: Runs, lake: Lake) -> None:
    lake.directly("old", "(1)")
    who = runs.who("r", "old", "new", "whole")
    lake.directly("whole", "(1)")
    runs.do(who, "append", "old", [2])
    runs.do(who, "create", "new", [3, 4])
    runs.do(who, "overwrite", "whole", [5])
    assert [runs.seen(table, who) for table in ("old", "new", "whole")] == [[1, 2], [3, 4], [5]]
    assert [runs.seen(table) for table in ("old", "new", "whole")] == [[1], [], [1]]
    for _ in range(2):
        # Once more is what a retry after a crash does.
        runs.publish(who)
        assert [runs.seen(table) for table in ("old", "new", "whole")] == [[1, 2], [3, 4], [5]]


def test_appended_rows_follow_a_moved_main(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    who = runs.who("r", "t")
    runs.do(who, "append", "t", [2])
    runs.do(who, "append", "t", [3])
    lake.directly("t", "(10)")
    assert runs.seen("t", who) == [1, 2, 3]
    runs.publish(who)
    assert runs.seen("t") == [1, 2, 3, 10]


@pytest.mark.parametrize(("theirs", "ours"), [("append", "overwrite"), ("overwrite", "append")])
def test_a_conflict_publishes_nothing(runs: Runs, lake: Lake, theirs: str, ours: str) -> None:
    for table in ("t", "u"):
        lake.directly(table, "(1)")
    other, who = runs.who("other", "t"), runs.who("r", "t", "u")
    runs.do(who, ours, "t", [2])
    runs.do(who, "append", "u", [2])
    runs.do(other, theirs, "t", [10])
    runs.publish(other)
    with pytest.raises(PublishConflict, match=rf"{lake.name('t')} was changed on main by the run other"):
        runs.publish(who)
    assert runs.seen("t") == ([10] if theirs == "overwrite" else [1, 10])
    assert runs.seen("u") == [1]
    assert runs.seen("u", who) == [1, 2]


def test_a_retry_begins_where_the_first_try_did(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    before, first = runs.who("r", "t", task="before"), runs.who("r", "t", "new")
    runs.do(before, "append", "t", [2])
    runs.do(first, "append", "t", [3])
    runs.do(first, "create", "new", [3])
    second = replace(first, number=2)
    assert set(put_back(runs.rest, second)) == set(second.writes)
    assert runs.seen("t", second) == [1, 2]
    runs.do(second, "append", "t", [3])
    runs.do(second, "create", "new", [3])
    runs.publish(second)
    assert runs.seen("t") == [1, 2, 3]
    assert runs.seen("new") == [3]


def test_a_leftover_of_an_earlier_try_writes_nothing(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    first = runs.who("r", "t")
    runs.do(first, "append", "t", [2])
    second = replace(first, number=2)
    put_back(runs.rest, second)
    runs.do(second, "append", "t", [3])
    for what in ("append", "overwrite"):
        with pytest.raises(Exception, match="try 2 of write has begun"):
            runs.do(first, what, "t", [2])
    runs.publish(second)
    assert runs.seen("t") == [1, 3]


def test_a_table_that_is_not_declared_is_refused(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    who = runs.who("r", "u")
    with pytest.raises(Exception, match=rf"does not declare that it writes {lake.name('t')}"):
        runs.do(who, "append", "t", [2])
    assert runs.seen("t", who) == [1]


def test_a_new_column_is_mains_after_publish(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    who = runs.who("r", "t")
    before = runs.document("t")
    runs.do(who, "widen", "t", 2, "x")

    def columns(document: Json) -> list[str]:
        current = next(s for s in document["schemas"] if s["schema-id"] == document["current-schema-id"])
        return [field["name"] for field in current["fields"]]

    after = runs.document("t")
    assert after["current-schema-id"] == before["current-schema-id"]
    assert columns(after) == ["n"]
    assert runs.seen("t") == [1]
    assert runs.seen("t", who) == [1, 2]
    runs.publish(who)
    assert columns(runs.document("t")) == ["n", "extra"]
    assert runs.seen("t") == [1, 2]


def test_every_snapshot_says_who_made_it_from_what(runs: Runs, lake: Lake) -> None:
    for table in ("source", "t"):
        lake.directly(table, "(1)")
    base, source = ref(runs.document("t"), "main"), ref(runs.document("source"), "main")
    who = runs.who("r", "t", "new")
    runs.do(who, "copy", "source", lake.name("t"))
    runs.do(who, "overwrite", "t", [5])
    runs.do(who, "create", "new", [6])
    runs.publish(who)
    expected = {
        "forebay.workspace": lake.namespace, "forebay.job": f"{lake.namespace}.job", "forebay.run": "r",
        "forebay.task": "write", "forebay.try": "1", "forebay.commit": "abc", "forebay.user": "me",
        "forebay.engine": runs.writer.name, "forebay.inputs": f"{lake.name('source')}@{source}",
    }  # fmt: skip
    for table, begun in (("t", base), ("new", None)):
        made = runs.made(table, begun)
        assert made
        stamps = {**expected, "forebay.base": "" if begun is None else str(begun)}
        for snapshot in made:
            assert stamps.items() <= snapshot["summary"].items(), (table, snapshot["summary"])
            assert "forebay.inputs-complete" not in snapshot["summary"]


def test_discard_leaves_nothing(runs: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    who = runs.who("r", "t", "new")
    runs.do(who, "overwrite", "t", [2])
    runs.do(who, "create", "new", [3])
    assert set(discard(runs.rest, lake.run("r"), who.writes)) == set(who.writes)
    assert runs.rest.table(lake.name("new")) is None
    assert Branch.all(runs.document("t")) == []
    assert runs.seen("t", who) == runs.seen("t") == [1]


@pytest.fixture
def on_spark(lake: Lake, rest: Rest, spark: WarmSpark) -> Runs:
    return Runs(lake, rest, Spark(spark))


def test_a_table_made_anew_is_not_repeated_on_a_moved_main(on_spark: Runs, lake: Lake) -> None:
    lake.directly("t", "(1)")
    who = on_spark.who("r", "t")
    on_spark.do(who, "renew", "t", [2])
    lake.directly("t", "(10)")
    with pytest.raises(PublishConflict, match="wrote it anew"):
        on_spark.publish(who)
    assert on_spark.seen("t") == [1, 10]
    assert on_spark.seen("t", who) == [2]


def test_of_two_runs_that_make_a_table_anew_one_is_published(on_spark: Runs, lake: Lake) -> None:
    lake.directly("other", "(1)")
    one, two = on_spark.who("one", "new"), on_spark.who("two", "new")
    on_spark.do(one, "renew", "new", [1])
    on_spark.do(two, "renew", "new", [2])
    on_spark.publish(two)
    with pytest.raises(PublishConflict, match="the run two"):
        on_spark.publish(one)
    assert on_spark.seen("new") == [2]


def test_a_published_run_stays_so_when_a_table_is_made_anew(on_spark: Runs, lake: Lake) -> None:
    for table in ("kept", "renewed", "dropped"):
        lake.directly(table, "(1)")
    first, second = on_spark.who("first", "kept", "renewed", "dropped"), on_spark.who("second", "renewed")
    for table in ("kept", "renewed", "dropped"):
        on_spark.do(first, "append", table, [2])
    on_spark.publish(first)
    on_spark.do(second, "renew", "renewed", [3])
    on_spark.publish(second)
    on_spark.rest.drop(lake.name("dropped"))
    done = publish(on_spark.rest, lake.run("first"), first.writes, {"write": 1}, first.writes)
    assert {each.table for each in done if each.again} == {lake.name("kept"), lake.name("renewed")}
    assert on_spark.seen("kept") == [1, 2]
    assert on_spark.seen("renewed") == [3]
    document = on_spark.document("renewed")
    assert RunsOf.read("t", document).words(lake.run("first")) == {"published"}
    shown = sides("t", document, lake.run("first"))
    assert shown is not None
    assert shown.state == "published"
    # Nor may its task write once more.
    with pytest.raises(AlreadyPublished):
        put_back(on_spark.rest, replace(first, number=2))
    with pytest.raises(Exception, match="has already published"):
        on_spark.do(replace(first, number=2), "append", "renewed", [4])
