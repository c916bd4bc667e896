"""The index behind the console's lists and search, on a real catalog: what it sees, and how soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from lake import Lake
from test_history import derive
from test_rollback import write

from forebay.lake import index as index_module
from forebay.lake.branch import Json
from forebay.lake.history import every
from forebay.lake.index import Entry, Index, View, read, renewed
from forebay.lake.rest import Change, Rest


def test_it_reads_again_what_came_went_and_was_told_of(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "r", "a", "(1)")
    derive(lake, "reads", "a", "b")
    before = read(rest, time.time())
    assert before.entries[lake.name("a")].rows == 1
    assert [edge.target for edge in before.graph.down(lake.name("a"))] == [lake.name("b")]

    write(lake, rest, "again", "a", "(2)")
    write(lake, rest, "new", "c", "(1)")
    rest.drop(lake.name("b"))
    # It is not told of `a`: that one stays as it was known, while what came and went is seen from the names.
    after = renewed(rest, before, (), rest.all_names(), time.time())
    assert after.entries[lake.name("a")].rows == 1
    assert lake.name("c") in after.entries
    assert lake.name("b") not in after.entries
    assert after.graph.down(lake.name("a")) == []
    assert before.graph.down(lake.name("a")), "the view that somebody holds does not change"
    # Nothing is listed this time: what it is told of is read all the same, and what is not there is not there.
    write(lake, rest, "newer", "d", "(1)")
    told = renewed(rest, after, [lake.name("a"), lake.name("d"), "no.such"], None, time.time())
    assert lake.name("d") in told.entries
    assert "no.such" not in told.entries
    assert told.entries[lake.name("a")].rows == 2
    hits, _ = told.search(f"{lake.namespace}.c", lambda namespace: True)
    assert [hit.entry.table for hit in hits] == [lake.name("c")]


def test_it_follows_what_it_is_told_within_seconds(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "r", "a", "(1)")
    heard: list[str] = []
    index = Index(lambda: lake.config, lambda since: heard)
    assert index.view(wait=20).entries[lake.name("a")].rows == 1
    write(lake, rest, "again", "a", "(2)")
    heard.append(lake.name("a"))
    began = time.monotonic()
    while index.view().entries[lake.name("a")].rows != 2:
        assert time.monotonic() - began < 5
        time.sleep(0.05)


def test_what_cannot_be_read_is_said_and_the_rest_is_kept(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "r", "a", "(1)")
    configs = [lake.config]
    index = Index(lambda: configs[0])
    index.view(wait=20)
    configs[0] = lake.config.at("http://127.0.0.1:9")
    began = time.monotonic()
    while not index.view().error:
        assert time.monotonic() - began < 20
        time.sleep(0.1)
    view = index.view()
    assert "does not answer" in view.error
    assert lake.name("a") in view.entries


def test_a_table_with_records_of_strangers_hides_no_other(lake: Lake, rest: Rest) -> None:
    write(lake, rest, "r", "a", "(1)")
    write(lake, rest, "r", "b", "(1)")
    before = read(rest, time.time())
    name = lake.name("a")
    strange = {"forebay.branch.x": "no record", "forebay.rolled-back": "{", "forebay.published": "[" * 2000}
    rest.commit([Change(name, [], [{"action": "set-properties", "updates": strange}])])
    write(lake, rest, "again", "b", "(2)")
    assert read(rest, time.time()).entries[name].open_runs == 0
    after = renewed(rest, before, [name, lake.name("b")], None, time.time())
    assert after.entries[name].rows == 1
    assert after.entries[lake.name("b")].rows == 2


def test_of_a_big_lake_the_names_come_first(lake: Lake, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is big and how often it is told are made small, as a real big lake takes minutes to fill."""
    write(lake, rest, "r", "a", "(1)")
    derive(lake, "reads", "a", "b")
    monkeypatch.setattr(index_module, "_MANY", 1)
    heard: list[View] = []
    whole = read(rest, time.time(), heard.append)
    (names,) = heard
    assert names.at is None
    assert names.left == len(names.entries) == len(whole.entries)
    assert names.entries[lake.name("a")] == Entry.named(lake.name("a"))
    assert not names.graph.down(lake.name("a")), "what depends on the whole is not told from a part"
    assert [hit.entry.table for hit in names.search(lake.name("a"), lambda _: True)[0]] == [lake.name("a")]
    assert [entry.table for entry in whole.tables[lake.namespace]] == [lake.name("a"), lake.name("b")]
    assert whole.at is not None
    assert whole.left == 0

    # Who needs the whole waits for it, whoever is content with names does not.
    held = threading.Event()
    monkeypatch.setattr(index_module, "every", _slowly(held))
    index = Index(lambda: lake.config)
    seen = index.view(wait=20, names=True)
    assert seen.left == len(seen.entries) > 0
    assert index.view(wait=0.1).at is None
    held.set()
    assert index.view(wait=20).at is not None


def _slowly(held: threading.Event) -> Callable[..., Iterator[tuple[str, Json]]]:
    def slowly(
        rest: Rest, names: Sequence[str], tell: Callable[[int, int], None]
    ) -> Iterator[tuple[str, Json]]:
        found = every(rest, names, tell)
        first = next(found)
        assert held.wait(20)
        yield first
        yield from found

    return slowly
