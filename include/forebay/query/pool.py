"""The processes of queries: one ready before it is asked for, as many at a time as may be."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from forebay.errors import ForebayError
from forebay.query.limits import Limits
from forebay.query.process import FRESH, Job, Setup, Worker


class Busy(ForebayError):
    """As many queries as may run at a time are running."""


class Pool:
    """The queries of this server, and one process in reserve for the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: list[Worker] = []
        self._running: dict[Worker, str] = {}
        """Whose query each of them runs."""
        self._reserved: list[str] = []
        """Whose queries have a place, and no process yet."""
        self._refilling = False
        self._closed = False

    def warm(self, setup: Setup) -> None:
        """Has a process ready soon; does not wait for it."""
        threading.Thread(target=self._refill, args=(setup,), name="forebay-query-spare", daemon=True).start()

    @contextlib.contextmanager
    def worker(self, setup: Setup, who: str = "") -> Iterator[Worker]:
        """A process for one query, gone afterwards. Raises Busy."""
        worker = self.take(setup, who)
        try:
            yield worker
        finally:
            self.give_back(worker)

    def take(self, setup: Setup, who: str = "") -> Worker:
        """A process for one query, to be given back. Raises Busy.

        Of several places one person (`who`) holds all but one at most; nobody in particular is not counted so.
        """
        most = setup.limits.at_once
        with self._lock:
            busy = [*self._running.values(), *self._reserved]
            if len(busy) >= most:
                raise Busy(
                    f"{len(busy)} queries run on this server, and no more may at a time. Try again in a moment."
                )
            if who and most > 1 and busy.count(who) >= most - 1:
                raise Busy(
                    f"{busy.count(who)} queries of yours run on this server, and one place is left for others. Wait for one "
                    "of them, or cancel it."
                )
            found = self._usable(setup)
            if found is not None:
                self._running[found] = who
                return found
            # The place is taken before the process starts, which takes a while.
            self._reserved.append(who)
        made = None
        try:
            made = Worker(setup)
        finally:
            with self._lock:
                self._reserved.remove(who)
                if made is not None:
                    self._running[made] = who
        return made

    def give_back(self, worker: Worker) -> None:
        """Ends the process, and has another one ready for the next query."""
        with self._lock:
            self._running.pop(worker, None)
        worker.stop()
        self.warm(worker.setup)

    def close(self) -> None:
        """Ends everything, for good."""
        with self._lock:
            self._closed = True
            workers, self._spare, self._running = [*self._spare, *self._running], [], {}
        for worker in workers:
            worker.stop()

    def _usable(self, setup: Setup) -> Worker | None:
        """A spare process of this set-up; called with the lock held."""
        found = None
        for worker in list(self._spare):
            fits = worker.setup == setup and worker.alive and time.monotonic() - worker.began < FRESH
            if fits and found is None:
                found = worker
                self._spare.remove(worker)
            elif not fits:
                self._spare.remove(worker)
                threading.Thread(target=worker.stop, daemon=True).start()
        return found

    def _refill(self, setup: Setup) -> None:
        with self._lock:
            found = self._usable(setup)
            if found is not None:
                self._spare.append(found)
                return
            if self._refilling or self._closed:
                return
            self._refilling = True
        made = None
        try:
            made = Worker(setup)
        finally:
            with self._lock:
                self._refilling = False
                closed = self._closed
                if made is not None and not closed:
                    self._spare.append(made)
            if made is not None and closed:
                made.stop()


def rows(pool: Pool, setup: Setup, job: Job, limits: Limits | None = None) -> dict[str, Any]:
    """A whole result at once: `columns`, `rows` (texts), `more`, `seconds`. For results that are known to be small."""
    found: dict[str, Any] = {"columns": [], "rows": []}
    with pool.worker(setup) as worker:
        worker.run(job, limits or setup.limits)
        for frame in worker.frames():
            if frame.kind == "columns":
                found |= frame.document
            elif frame.kind == "data":
                found["rows"] += frame.document["rows"]
            elif frame.kind == "end":
                found |= {name: value for name, value in frame.document.items() if name != "rows"}
    return found
