"""What a lens remembers between requests. All of it may be lost: what then cannot be known is taken for unsafe."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakValueDictionary

from forebay.lake.branch import Json
from forebay.lake.identity import TaskTry
from forebay.lens.refused import forbidden

MOST_BYTES, MOST_TASKS = 64_000_000, 5_000
"""Of tables' documents as JSON, which take some four times that in memory; and tries of tasks."""
K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Seen:
    """What one try of a task was shown."""

    complete: bool = True
    """Whether this lens has seen all of the try."""
    shown: dict[str, int | None] = field(default_factory=dict)
    """The snapshot last shown of each table."""
    first: dict[str, int | None] = field(default_factory=dict)
    scanned: set[str] = field(default_factory=set)
    """Tables of which the client reported a scan."""


class Memory:
    """Tables as the catalog last told them, what each task read, and the newest try of each task."""

    def __init__(self) -> None:
        self._began = time.time()
        self._tables: OrderedDict[str, tuple[Json, int]] = OrderedDict()
        self._bytes = 0
        self._seen: OrderedDict[TaskTry, Seen] = OrderedDict()
        self._forgotten = 0.0
        """When the newest try began that is not remembered any more."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._newest: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def lock(self, table: str) -> asyncio.Lock:
        """Held while a commit to the table is under way: commits of one lens do not race each other."""
        return self._locks.setdefault(table, asyncio.Lock())

    def turn(self, table: str) -> asyncio.Lock:
        """Held by who publishes the table, over several requests."""
        return self._turns.setdefault(table, asyncio.Lock())

    def table(self, table: str, metadata: Json, size: int) -> None:
        """Keeps a table's document, of so many bytes as JSON."""
        self.forget(table)
        self._tables[table] = metadata, size
        self._bytes += size
        while self._bytes > MOST_BYTES:
            self.forget(next(iter(self._tables)))

    def known(self, table: str) -> Json | None:
        return self._tables.get(table, (None, 0))[0]

    def forget(self, table: str) -> None:
        self._bytes -= self._tables.pop(table, (None, 0))[1]

    def of(self, who: TaskTry) -> Seen:
        """What this try has seen so far."""
        found = self._seen.get(who) or Seen(who.began >= self._began and who.began > self._forgotten)
        for gone in _keep(self._seen, who, found, MOST_TASKS):
            self._forgotten = max(self._forgotten, gone.began)
        return found

    def reads(self, who: TaskTry, table: str, snapshot: int | None) -> None:
        seen = self.of(who)
        seen.first.setdefault(table, snapshot)
        seen.shown[table] = snapshot

    def seen(self, who: TaskTry) -> None:
        """Notes that this try is at work."""
        if who.task:
            key = (who.job, who.run, who.task)
            _keep(self._newest, key, max(who.number, self._newest.get(key, 0)), MOST_TASKS)

    def fence(self, who: TaskTry) -> None:
        """Refuses an older try: its rows were put back when the newer one began."""
        newest = self._newest.get((who.job, who.run, who.task), who.number)
        if newest > who.number:
            raise forbidden(
                f"try {newest} of {who.task} has begun, so this is a leftover of try {who.number}: it writes nothing "
                "any more. Stop it"
            )


def _keep(store: OrderedDict[K, V], key: K, value: V, most: int) -> list[K]:
    """Puts it in, as the newest; gives the keys of the oldest, which had to go."""
    store[key] = value
    store.move_to_end(key)
    return [store.popitem(last=False)[0] for _ in range(len(store) - most)]
