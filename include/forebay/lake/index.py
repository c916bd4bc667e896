"""All tables of the lake at a glance, filled in the background, so that lists and search need not ask the catalog."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from forebay.lake.branch import MAIN, Branch, Json, ref, snapshots
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.describe import Column, describe
from forebay.lake.history import Made, every
from forebay.lake.lineage import Graph
from forebay.lake.rest import Rest

log = logging.getLogger(__name__)

_FRESH = 2.0
_SHARE = 4.0
"""Of the time, at most one part in so many is spent reading the catalog."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One table, as lists and search show it."""

    table: str
    comment: str
    columns: tuple[Column, ...]
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
    def of(cls, table: str, metadata: Json) -> Entry:
        about = describe(table, metadata)
        head = ref(metadata, MAIN)
        current = snapshots(metadata).get(head) if head is not None else None
        return cls(
            table, about.comment, about.columns, about.size.rows, about.size.bytes, about.size.files, about.changed,
            None if current is None else Made.of(current), len(Branch.all(metadata)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """A table that a search found, and where."""

    entry: Entry
    where: str
    """`name`, `column` or `comment`."""
    what: str
    """The column, or the comment."""


@dataclass(frozen=True)
class View:
    """The lake as it was read last."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    graph: Graph = field(default_factory=Graph)
    at: float | None = None
    """When it was read, in seconds since 1970; None before the first time."""
    error: str = ""
    """Why it could not be read the last time, if so."""
    _search: tuple[tuple[str, str], ...] = ()

    def search(self, words: str, allowed: Callable[[str], bool], limit: int = 50) -> tuple[list[Hit], int]:
        """The first tables with all the words in names, columns or comments, best first; and how many there are."""
        parts = words.lower().split()
        if not parts:
            return [], 0
        found = [
            hit
            for table, text in self._search
            if all(part in text for part in parts) and allowed(table.rpartition(".")[0])
            if (hit := _hit(self.entries[table], parts)) is not None
        ]
        rank = {"name": 0, "column": 1, "comment": 2}

        def best(hit: Hit) -> tuple[int, bool, int, str]:
            return (
                rank[hit.where],
                not hit.entry.name.lower().startswith(parts[-1].rpartition(".")[2]),
                len(hit.entry.name),
                hit.entry.table,
            )

        return sorted(found, key=best)[:limit], len(found)


class Index:
    """Reads the lake when somebody looks and what is known has aged; they get what is known, at once."""

    def __init__(self, config: Callable[[], CatalogConfig]) -> None:
        self._config = config
        self._view = View()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._reading = False
        self._ended = 0.0
        self._took = 0.0

    def view(self, wait: float = 3.0) -> View:
        """What is known; the first time waits for it so many seconds."""
        with self._lock:
            aged = time.monotonic() - self._ended > max(_FRESH, self._took * _SHARE)
            if aged and not self._reading:
                self._reading = True
                threading.Thread(target=self._read, name="forebay-index", daemon=True).start()
        if self._view.at is None:
            self._done.wait(wait)
        return self._view

    def _read(self) -> None:
        began = time.monotonic()
        try:
            self._view = read(self._config())
        except Exception as error:
            said = (
                str(error)
                if isinstance(error, LakeError)
                else f"reading the catalog broke ({type(error).__name__})"
            )
            if not isinstance(error, LakeError):
                log.exception("reading the catalog for the index broke")
            before = self._view
            self._view = View(
                before.entries, before.namespaces, before.graph, before.at, said, before._search
            )
        finally:
            with self._lock:
                self._ended = time.monotonic()
                self._took = self._ended - began
                self._reading = False
            self._done.set()


def read(config: CatalogConfig) -> View:
    """The whole lake, from the catalog."""
    entries: dict[str, Entry] = {}
    graph = Graph()
    at = time.time()
    with Rest(config, timeout=10) as rest:
        namespaces = rest.namespaces()
        names = [table for namespace in namespaces for table in rest.names(namespace)]
        for table, metadata in every(rest, names):
            entries[table] = Entry.of(table, metadata)
            graph.add(table, metadata)
    return View(entries, tuple(namespaces), graph, at, "", tuple(_texts(entries.values())))


def _texts(entries: Iterable[Entry]) -> Iterable[tuple[str, str]]:
    for entry in entries:
        columns = (f"{column.name}\n{column.comment}" for column in entry.columns)
        yield entry.table, "\n".join((entry.table, entry.comment, *columns)).lower()


def _hit(entry: Entry, parts: list[str]) -> Hit | None:
    def every_part(text: str) -> bool:
        return all(part in text.lower() for part in parts)

    if every_part(entry.table):
        return Hit(entry, "name", "")
    for column in entry.columns:
        if every_part(f"{entry.table} {column.name}"):
            return Hit(entry, "column", column.name)
    for column in entry.columns:
        if every_part(f"{entry.table} {column.name} {column.comment}"):
            return Hit(entry, "column", f"{column.name}: {column.comment}")
    return Hit(entry, "comment", entry.comment)
