"""A run done again: tables as they were, and the tags that keep them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from lake import Lake
from test_history import derive

from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError
from forebay.lake.branch import ref, snapshots, stamp
from forebay.lake.identity import Run, TaskTry, UnknownRun
from forebay.lake.pins import TAG, keep_inputs
from forebay.lake.publish import publish
from forebay.lake.readings import Readings
from forebay.lake.rest import Change, Rest
from forebay.lake.tables import TableDefinition
from forebay.operators.rerun import CONF, moments, pins
from forebay.operators.sql import SqlOperator
from forebay.stack.rerun import Again, other_commits
from forebay.stack.runs import KnownRun


def test_a_pinned_table_is_what_it_was(lake: Lake, rest: Rest) -> None:
    with DuckDBEngine(lake.config) as engine:
        engine.write("SELECT 1 AS n", TableDefinition(lake.name("source")))
        first = rest.table(lake.name("source"))
        engine.write("SELECT 2 AS n, 'x' AS b", TableDefinition(lake.name("source")), "append")
    assert first is not None
    pin = f"{lake.name('source')}@{ref(first, 'main')}"
    who = replace(lake.who("r", "t"), pins=(pin, f"{lake.name('nothing_yet')}@"))
    assert TaskTry.parse(who.segment()) == who
    select = f"SELECT * FROM lake.{lake.name('source')}"
    with DuckDBEngine(lake.view(who)) as engine:
        assert engine.query(select).to_pylist() == [{"n": 1}]
        engine.write(select, TableDefinition(lake.name("t")))
    table = lake.view(who).pyiceberg().load_table(lake.name("source"))
    assert table.scan().to_arrow().to_pylist() == [{"n": 1}]
    publish(rest, lake.run("r"), who.writes)
    made = rest.table(lake.name("t"))
    assert made is not None
    assert [stamp(each, "inputs") for each in snapshots(made).values()] == [pin]
    # What it writes itself is never pinned.
    assert replace(who, writes=(lake.name("source"),)).pin(lake.name("source")) is None
    lake.directly("nothing_yet", "(1)")
    assert lake.rows("nothing_yet", who) == []


def test_a_pinned_snapshot_that_expired(lake: Lake, rest: Rest) -> None:
    lake.directly("source", "(1)")
    who = replace(lake.who("r", "t"), pins=(f"{lake.name('source')}@17",))
    with pytest.raises(Exception, match="no snapshot 17 any more"):
        lake.view(who).pyiceberg().load_table(lake.name("source"))


@pytest.mark.parametrize("pin", ["t", "a@b@c", "t@x"])
def test_pins_that_are_none(lake: Lake, pin: str) -> None:
    with pytest.raises(UnknownRun):
        TaskTry.parse(replace(lake.who("r"), pins=(pin,)).segment())


def test_inputs_are_tagged_for_their_time(lake: Lake, rest: Rest) -> None:
    lake.directly("source", "(1)")
    derive(lake, "one", "source", "t")
    now, month = datetime.now(UTC), timedelta(days=30)
    run, own = lake.run("one"), [lake.name("t")]
    read = keep_inputs(rest, run, own, own, month, now)
    metadata = rest.table(lake.name("source"))
    assert metadata is not None
    assert [str(each) for each in read] == [f"{lake.name('source')}@{ref(metadata, 'main')}"]
    tag = f"{TAG}{ref(metadata, 'main')}"
    assert metadata["refs"][tag]["type"] == "tag"
    assert abs(metadata["refs"][tag]["max-ref-age-ms"] - month.total_seconds() * 1000) < 60_000
    assert keep_inputs(rest, run, own, own, month, now) == []
    # Read again much later: kept from then on, although the snapshot is old.
    later = now + timedelta(days=20)
    assert keep_inputs(rest, run, own, own, month, later) == read
    metadata = rest.table(lake.name("source"))
    assert metadata is not None
    assert metadata["refs"][tag]["max-ref-age-ms"] > timedelta(days=49).total_seconds() * 1000
    assert lake.rows("source") == [1]
    # Tags that ran out go when the table is tagged again.
    lake.directly("source", "(2)")
    derive(lake, "two", "source", "t")
    keep_inputs(rest, lake.run("two"), own, own, month, now + timedelta(days=60))
    metadata = rest.table(lake.name("source"))
    assert metadata is not None
    assert [name for name in metadata["refs"] if name.startswith(TAG)] == [f"{TAG}{ref(metadata, 'main')}"]
    rest.commit([Change(lake.name("source"), [], [{"action": "remove-snapshot-ref", "ref-name": "main"}])])
    assert lake.rows("source") == []


def test_what_a_run_read(lake: Lake, rest: Rest) -> None:
    for table in ("a", "b"):
        lake.directly(table, "(1)")
    first, second = lake.who("r", "t", "u", task="one"), lake.who("r", "t", "u", task="one", number=2)
    other = lake.who("r", "u", task="two")
    for who, source, table in ((first, "b", "t"), (second, "a", "t"), (other, "t", "u")):
        with DuckDBEngine(lake.view(who)) as engine:
            engine.write(
                f"SELECT n FROM lake.{lake.name(source)}", TableDefinition(lake.name(table)), "append"
            )
    found = Readings(lake.run("r"), [])
    for table in ("t", "u"):
        metadata = rest.table(lake.name(table))
        assert metadata is not None
        found.add(lake.name(table), metadata)
    source = rest.table(lake.name("a"))
    assert source is not None
    assert found.inputs == {"one": [f"{lake.name('a')}@{ref(source, 'main')}"], "two": []}
    assert found.complete
    assert found.found


def test_the_conf_of_a_rerun() -> None:
    began = datetime(2026, 3, 1, 5, tzinfo=UTC)

    def run(conf: Any) -> Any:
        return SimpleNamespace(conf=conf, start_date=began, logical_date=None, run_after=began)

    given = {
        "dates": {"started": "2026-01-02T03:04:05+00:00", "logical_date": None},
        "inputs": {"a": ["s.x@1", "s.y@2"], "b": ["s.x@3"]},
    }
    again = run({CONF: given, "day": "x"})
    assert moments(again).started == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert moments(again).logical_date == moments(run(None)).started == began
    assert pins(again, "a") == ("s.x@1", "s.y@2")
    assert pins(again, "b") == pins(again, "c") == ("s.x@3", "s.y@2")
    assert pins(run({}), "a") == ()
    for wrong in ({CONF: "x"}, {CONF: {"inputs": ["x"]}}, {CONF: {"inputs": {"a": "s.x@1"}}}):
        with pytest.raises(ForebayError, match=r"forebay rerun|that command"):
            pins(run(wrong), "a")
    with pytest.raises(ForebayError, match="are not dates"):
        moments(run({CONF: {"dates": {"started": "soon"}}}))


def test_a_run_of_two_commits_is_not_taken_for_one() -> None:
    """Somebody cleared tasks of it to run on newer code: it was no run of one commit."""
    old = KnownRun(Run("s.job", "manual__1"), "success", {"bundle_version": "b"})
    assert not other_commits(old, ["b"], "b")
    doubts = other_commits(old, ["a", "b"], "b")
    again = Again(old, {}, {"t": ["s.x@1"]}, ["a", "b"], "b", doubts)
    with pytest.raises(ForebayError, match=r"wrote with commit a too.* --anyway"):
        again.sure(anyway=False)
    again.sure(anyway=True)
    assert again.note == "Again what manual__1 did, on 1 inputs as it read them, with commit b."


def test_the_dates_of_a_backfilled_run() -> None:
    """Its today is the day its interval ended, not the day somebody filled it."""
    now, due = datetime(2026, 3, 1, 5, tzinfo=UTC), datetime(2013, 3, 2, 23, 30, tzinfo=UTC)
    dates = {"logical_date": due, "data_interval_start": due - timedelta(days=1), "data_interval_end": due}
    run = SimpleNamespace(
        run_id="backfill__x", conf={}, start_date=now, run_after=due, run_type="backfill", **dates
    )
    operator = SqlOperator(
        task_id="t", conn_id="lake_sql", sql="SELECT 1",
        parameters={
            "today": {"type": "date", "default": "today"}, "day": {"type": "date", "default": "yesterday"},
            "given": {"type": "date", "default": "today"},
        },
    )  # fmt: skip
    context: Any = {"dag_run": run, "params": {"given": "2020-02-02"}}
    assert operator.values(context) == {
        "today": date(2013, 3, 2), "day": date(2013, 3, 1), "given": date(2020, 2, 2), "run_id": "backfill__x", **dates,
    }  # fmt: skip
    run.run_type = "scheduled"
    assert operator.values(context)["today"] == date(2026, 3, 1)
    # A rerun of a backfilled run is a run by hand with that one's dates.
    run.run_type, run.conf = "manual", {CONF: {"dates": {"started": due.isoformat()}}}
    assert operator.values(context)["day"] == date(2013, 3, 1)
