"""Who made what: blame, lineage, the states of runs, and sweeping branches of failed runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from lake import Lake

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import Branch, ref
from forebay.lake.history import blame, every, on_main, sweep
from forebay.lake.lineage import Graph, document
from forebay.lake.publish import discard, publish
from forebay.lake.rest import Rest
from forebay.lake.state import RunsOf, state
from forebay.lake.tables import TableDefinition
from forebay.operators.tidy import tidy


def derive(lake: Lake, run: str, source: str, target: str) -> None:
    """A run that makes one table from another, and is published."""
    who = lake.who(run, target, task=f"make_{target}")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.write(f"SELECT n FROM lake.{lake.name(source)}", TableDefinition(lake.name(target)))
    with Rest(lake.config) as rest:
        publish(rest, lake.run(run), who.writes)


def test_blame(lake: Lake, rest: Rest) -> None:
    lake.directly("source", "(7)")
    lake.directly("t", "(1)")
    who = lake.who("one", "t")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.write(f"SELECT n FROM lake.{lake.name('source')}", TableDefinition(lake.name("t")), "append")
    lake.directly("t", "(2), (3)")
    publish(rest, lake.run("one"), who.writes)
    lake.write(lake.who("open", "t"), "t", "(9)")
    metadata, source = rest.table(lake.name("t")), rest.table(lake.name("source"))
    assert metadata is not None
    assert source is not None
    events = blame(metadata)
    assert [(e.operation, e.made.added, e.made.run) for e in events if e.made] == [
        ("append", 1, "one"),
        ("append", 2, ""),
        ("append", 1, ""),
    ]
    newest = events[0].made
    assert newest is not None
    assert newest.replay_of is not None
    assert (newest.task, newest.number, newest.complete) == ("write", 1, True)
    assert [str(each) for each in newest.inputs] == [f"{lake.name('source')}@{ref(source, 'main')}"]
    found = on_main(metadata, lake.run("one"))
    assert found is not None
    assert (found.head, found.base, found.others) == (ref(metadata, "main"), newest.parent, ())


def test_blame_shows_a_foreign_roll_back(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    table = lake.config.pyiceberg().load_table(lake.name("t"))
    first = table.current_snapshot()
    assert first is not None
    lake.directly("t", "(2)")
    table.refresh()
    with table.manage_snapshots() as manage:
        manage.set_current_snapshot(snapshot_id=first.snapshot_id)
    metadata = rest.table(lake.name("t"))
    assert metadata is not None
    events = blame(metadata)
    assert [(e.operation, e.on_main) for e in events] == [
        ("roll back", True),
        ("append", False),
        ("append", True),
    ]
    assert events[0].snapshot == first.snapshot_id


def test_lineage(lake: Lake, rest: Rest) -> None:
    lake.directly("a", "(1)")
    derive(lake, "one", "a", "b")
    derive(lake, "two", "b", "c")
    derive(lake, "three", "c", "d")
    # Around in a circle.
    derive(lake, "four", "d", "b")
    graph = Graph()
    names = [lake.name(table) for table in "abcd"]
    for name, metadata in every(rest, names):
        graph.add(name, metadata)
    assert [(e.source, e.run) for e in graph.up(lake.name("b"))] == [(names[0], "one"), (names[3], "four")]
    assert [e.target for e in graph.down(lake.name("c"))] == [names[3]]
    around = {(e.source, e.target) for e in graph.around(lake.name("a"), 1)}
    assert around == {(names[0], names[1])}
    everything = document(graph, names[2], graph.around(names[2], 10))
    assert {(e["from"][-1], e["to"][-1]) for e in everything["edges"]} == {
        ("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"),
    }  # fmt: skip
    assert [node["other_writers"] for node in everything["nodes"]] == [True, False, False, False]


def test_states(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    for run in ("published", "dropped", "open"):
        who = lake.who(run, "t")
        lake.write(who, "t", "(2)")
        if run == "published":
            publish(rest, lake.run(run), who.writes)
        if run == "dropped":
            discard(rest, lake.run(run), who.writes)
    metadata = rest.table(lake.name("t"))
    assert metadata is not None
    read = RunsOf.read(lake.name("t"), metadata)
    words = {run: read.words(lake.run(run)) for run in ("published", "dropped", "open", "other")}
    assert words == {"published": {"published"}, "dropped": {"discarded"}, "open": {"open"}, "other": set()}
    assert state("success", words["published"]) == "published"
    assert state("failed", words["open"]) == "failed"
    assert state("success", words["open"]) == state("running", words["open"], waits=True) == "open"
    assert state("running", words["open"]) == "running"
    assert state("failed", words["other"]) == "nothing written"
    assert state("failed", words["other"], wrote=True) == state("failed", words["dropped"]) == "discarded"
    assert (
        state("failed", {"open", "published"}) == state("success", {"published", "rolled back"}) == "partial"
    )


def test_sweep_takes_old_branches_of_ended_runs(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    for run in ("ended", "working"):
        lake.write(lake.who(run, "t", "new"), "t", "(2)")
    lake.write(lake.who("ended", "new"), "new", "(2)")
    tables = [lake.name("t"), lake.name("new"), lake.name("nowhere")]
    week, now = timedelta(days=7), datetime.now(UTC)
    working = lake.run("working")
    assert sweep(rest, tables, week, now) == []
    later = now + timedelta(days=8)
    gone = sweep(rest, tables, week, later, lambda run: run == working)
    assert gone == [(tables[0], "ended"), (tables[1], "ended")]
    metadata = rest.table(tables[0])
    assert metadata is not None
    assert [branch.name for branch in Branch.all(metadata)] == [working.branch]
    assert rest.table(tables[1]) is None
    assert lake.rows("t") == [1]


def test_sweep_leaves_no_table_that_nobody_published(lake: Lake, rest: Rest) -> None:
    first, *others = sorted(("a", "b", "c"), key=lambda run: lake.run(run).branch)
    for run in (first, *others):
        lake.write(lake.who(run, "new"), "new", "(2)")
    later = datetime.now(UTC) + timedelta(days=8)
    dropped = sweep(rest, [lake.name("new")], timedelta(days=7), later)
    assert [run for _, run in dropped] == [*others, first]
    assert rest.table(lake.name("new")) is None


def test_sweep_keeps_a_branch_as_long_as_its_run_was_told(lake: Lake, rest: Rest) -> None:
    lake.directly("t", "(1)")
    week, now = timedelta(days=7), datetime.now(UTC)
    for run, days in (("short", 2), ("long", 30), ("untold", 0)):
        who = replace(lake.who(run, "t"), keep=timedelta(days=days).total_seconds())
        lake.write(who, "t", "(2)")
    found = []
    for days in (1, 3, 8, 29, 31):
        gone = sweep(rest, [lake.name("t")], week, now + timedelta(days=days), own=True)
        found.append([run for _, run in gone])
    assert found == [[], ["short"], ["untold"], [], ["long"]]
    # Somebody who names an age is not asked to wait for what the run was told.
    lake.write(replace(lake.who("again", "t"), keep=timedelta(days=30).total_seconds()), "t", "(2)")
    assert sweep(rest, [lake.name("t")], week, now + timedelta(days=8)) == [(lake.name("t"), "again")]
    assert lake.rows("t") == [1]


def test_after_a_publish_nothing_of_the_tidying_up_is_an_error(
    lake: Lake, rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    lake.directly("t", "(1)")
    lake.write(lake.who("old", "t"), "t", "(2)")
    who = lake.who("new", "t")
    lake.write(who, "t", "(3)")
    done = publish(rest, who, who.writes)
    operator: Any = SimpleNamespace(
        keep={"inputs": 60.0, "failed_runs": 0.0}, tables=[lake.name("t")], log=logging.getLogger("tidy")
    )

    class Airflow:
        """A task's way to ask; where Airflow refuses, what it gives has no count."""

        refuses = True

        def get_dr_count(self, **_: object) -> int:
            return SimpleNamespace().count if self.refuses else 0  # type: ignore[no-any-return]

    airflow = Airflow()
    tidy(operator, airflow, who, rest, done)
    assert "published; tidying up after it failed" in caplog.text
    airflow.refuses = False
    tidy(operator, airflow, who, rest, done)
    metadata = rest.table(lake.name("t"))
    assert metadata is not None
    assert Branch.all(metadata) == []
    assert lake.rows("t") == [1, 3]


@pytest.mark.parametrize(
    "namespace", ["_x", "x_", "é", "𕝮.á", "a-b", "aws_x", ".", "..", "a.", "x" * 300, "\x00", " "]
)
def test_a_name_that_nothing_can_have_is_no_fault_of_the_catalog(
    lake: Lake, rest: Rest, namespace: str
) -> None:
    assert rest.table(f"{namespace}.t") is None
    assert rest.table(f"{lake.namespace}.{namespace}") is None
    assert rest.names(namespace) == []
