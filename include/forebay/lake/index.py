"""All tables of the lake at a glance, filled in the background, so that lists and search need not ask the catalog."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from forebay.lake.branch import Branch, Json
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.describe import Column, outline
from forebay.lake.history import Made, every
from forebay.lake.lineage import Graph
from forebay.lake.rest import Rest
from forebay.lake.search import Hit, Vocabulary, find

log = logging.getLogger(__name__)

_FRESH = 2.0
_SHARE = 20.0
"""Of the time, at most one part in so many is spent reading everything, and one listing the tables."""
_OVERLAP = 10.0
"""Seconds that a word of a publish may come late."""
_IDLE = 300.0
"""After so many seconds without a look the index is not kept fresh."""
_MANY = 500
"""From so many tables on their names are given before they are read."""
_TELL = 5.0
"""Seconds between two words of how far a reading is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One table, as lists and search show it."""

    table: str
    comment: str
    columns: tuple[Column, ...]
    partitioning: tuple[str, ...]
    rows: int | None
    bytes: int | None
    files: int | None
    changed: float | None
    """When main's snapshot was made, in seconds since 1970; None for a table without rows."""
    last: Made | None
    """Who made it."""
    open_runs: int
    """Branches of runs that are not published."""

    @property
    def namespace(self) -> str:
        return self.table.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.table.rpartition(".")[2]

    @classmethod
    def named(cls, table: str) -> Entry:
        """A table of which nothing but the name is known yet."""
        return cls(table, "", (), (), None, None, None, None, None, 0)

    @classmethod
    def of(cls, table: str, metadata: Json) -> Entry:
        about = outline(metadata)
        return cls(
            table, about.comment, about.columns, about.partitioning, about.size.rows, about.size.bytes, about.size.files, about.changed,
            None if about.current is None else Made.of(about.current), len(Branch.all(metadata)),
        )  # fmt: skip


@dataclass(frozen=True)
class View:
    """The lake as it was read last."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    graph: Graph = field(default_factory=Graph)
    at: float | None = None
    """When it was read, in seconds since 1970; None before the whole of it has been read for the first time."""
    error: str = ""
    """Why it could not be read the last time, if so."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    """What search looks through."""
    tables: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    """Those of each namespace that has some, by their names."""
    left: int = 0
    """Tables of which only the names are known yet."""

    @classmethod
    def of(
        cls, entries: Mapping[str, Entry], namespaces: Iterable[str], graph: Graph, at: float | None,
        vocabulary: Vocabulary | None = None, left: int = 0,
    ) -> View:  # fmt: skip
        tables: dict[str, list[Entry]] = {}
        for name in sorted(entries):
            tables.setdefault(entries[name].namespace, []).append(entries[name])
        return cls(
            entries,
            tuple(namespaces),
            graph,
            at,
            "",
            vocabulary or Vocabulary.of(entries.values()),
            tables,
            left,
        )

    def search(self, words: str, allowed: Callable[[str], bool], limit: int = 50) -> tuple[list[Hit], int]:
        """The first tables with all the words in names, columns or comments, best first; and how many there are."""
        return find(self.entries, self.vocabulary, words, allowed, limit)


@dataclass
class _Turn:
    """Something that takes its time, and is done again when it has not taken too much of it."""

    ended: float = 0.0
    took: float = 0.0

    def due(self) -> bool:
        return time.monotonic() - self.ended > max(_FRESH, self.took * _SHARE)

    def done(self, began: float) -> None:
        self.ended = time.monotonic()
        self.took = self.ended - began


class Index:
    """Keeps what is known of the lake fresh while somebody looks at it; whoever looks gets it at once.

    Reading everything takes seconds in a big lake, and listing its tables one. In between, only what somebody tells of
    is read: `published` says which tables were published since a moment.
    """

    def __init__(
        self,
        config: Callable[[], CatalogConfig],
        published: Callable[[float], Iterable[str]] = lambda since: (),
    ) -> None:
        self._config = config
        self._published = published
        self._view = View()
        self._turn = threading.Condition()
        self._turns = 0
        self._alive = False
        self._looked = 0.0
        self._told: set[str] = set()
        self._seen = 0.0
        """When the last reading began, in seconds since 1970."""
        self._whole, self._listed = _Turn(), _Turn()

    def view(self, wait: float = 3.0, *, names: bool = False) -> View:
        """What is known; the first time, or after a long time, waits for it so many seconds.

        With `names` it does not wait for the rest of a big lake once its tables' names are known.
        """
        with self._turn:
            self._looked = time.monotonic()
            started = not self._alive
            if started:
                self._alive = True
                threading.Thread(target=self._keep, name="forebay-index", daemon=True).start()
            if started or (self._view.at is None and not self._view.error):
                before = self._turns
                self._turn.wait_for(
                    lambda: (
                        self._turns != before
                        or (names and self._view.at is None and bool(self._view.entries))
                    ),
                    wait,
                )
            return self._view

    def changed(self, tables: Iterable[str]) -> None:
        """Says that these tables are not any more as they were read."""
        with self._turn:
            self._told.update(tables)
            self._turn.notify_all()

    def _keep(self) -> None:
        """The life of the thread: it ends when nobody has looked for a while."""
        first = True
        while True:
            began = time.monotonic()
            self._read(whole=not first or self._view.at is None)
            first = False
            took = time.monotonic() - began
            with self._turn:
                self._turns += 1
                self._turn.notify_all()
                if time.monotonic() - self._looked > _IDLE:
                    self._alive = False
                    return
                self._turn.wait_for(lambda: bool(self._told), max(_FRESH, took if took < 1 else _FRESH))

    def _read(self, *, whole: bool) -> None:
        began, at = time.monotonic(), time.time()
        with self._turn:
            told, self._told = self._told, set()
        try:
            with Rest(self._config(), timeout=10) as rest:
                if self._view.at is None or (whole and self._whole.due()):
                    self._view = read(rest, at, self._so_far if self._view.at is None else None)
                    self._whole.done(began)
                else:
                    names = None
                    if self._listed.due():
                        names = rest.all_names()
                        self._listed.done(began)
                    told |= set(self._published(self._seen - _OVERLAP))
                    self._view = renewed(rest, self._view, told, names, at)
                self._seen = at
        except Exception as error:
            with self._turn:
                self._told |= told
            known = isinstance(error, LakeError)
            if not known:
                log.exception("reading the catalog for the index broke")
            said = str(error) if known else f"reading the catalog broke ({type(error).__name__})"
            self._view = replace(self._view, error=said)

    def _so_far(self, view: View) -> None:
        with self._turn:
            self._view = view
            self._turn.notify_all()


def entry(table: str, metadata: Json) -> Entry:
    """A table's entry; one without anything but its name where its document is none that can be read."""
    try:
        return Entry.of(table, metadata)
    except Exception:
        # Anybody may have written it. The other tables are shown, whatever it is.
        log.exception("%s: its metadata cannot be read", table)
        return Entry.named(table)


def _drawn(graph: Graph, table: str, metadata: Json) -> None:
    try:
        graph.add(table, metadata)
    except Exception:
        log.exception("%s: its lineage cannot be read", table)


def read(rest: Rest, at: float, tell: Callable[[View], None] | None = None) -> View:
    """The whole lake, from the catalog. Of a big one `tell` hears what is known meanwhile: first the names."""
    names, namespaces = rest.all_names(), rest.namespaces()
    entries: dict[str, Entry] = {}
    graph = Graph()
    told = 0.0

    def far(done: int, of: int) -> None:
        nonlocal told
        if tell is not None and of >= _MANY and time.monotonic() - told > _TELL:
            unread = {name: Entry.named(name) for name in names}
            tell(View.of(unread | entries, namespaces, Graph(), None, left=of - len(entries)))
            told = time.monotonic()

    for table, metadata in every(rest, names, far):
        entries[table] = entry(table, metadata)
        _drawn(graph, table, metadata)
    return View.of(entries, namespaces, graph, at)


def renewed(rest: Rest, before: View, told: Iterable[str], listed: Iterable[str] | None, at: float) -> View:
    """The view with the tables told of read again, and with those that came and went where `listed` has all there are."""
    known = before.entries.keys()
    names = known | set(told) if listed is None else set(listed)
    gone = known - names
    again = (names - known) | (set(told) & names)
    namespaces = before.namespaces if listed is None and not again else tuple(rest.namespaces())
    if not gone and not again:
        return replace(before, namespaces=namespaces, at=at, error="")
    documents = dict(every(rest, sorted(again)))
    entries, graph = dict(before.entries), before.graph.copy()
    left = [entries.pop(table) for table in sorted(gone | again) if table in entries]
    for table in gone | again:
        graph.remove(table)
    came = [entry(table, documents[table]) for table in sorted(documents)]
    for each in came:
        entries[each.table] = each
        _drawn(graph, each.table, documents[each.table])
    return View.of(entries, namespaces, graph, at, before.vocabulary.renewed(left, came))
