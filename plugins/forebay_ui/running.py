"""One query on its way from the engine's process to whoever asked: noted, streamed, and ended when they leave."""

import json
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import finalize

from anyio import CancelScope
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from forebay.errors import ForebayError, JobSpecError
from forebay.lake.connection import LakeError
from forebay.query.frames import Frame
from forebay.query.limits import Limits
from forebay.query.pool import Busy
from forebay.query.process import QueryFailed, Worker
from forebay.query.request import Given, NotAllowed, asked, prepared
from forebay_ui import queries
from forebay_ui.auth import Visitor
from forebay_ui.queries import NoRight, Past

Format = Literal["rows", "csv", "parquet"]
_PATIENCE = 0.5
MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

RUNNING: dict[str, "Running"] = {}
"""Queries of this server by their id."""


@dataclass
class Running:
    """A query that is under way."""

    past: Past
    worker: Worker
    limits: Limits
    seen: Frame | None = None
    cancelled: bool = False
    broke: str = ""
    _over: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Taken by the first who ends it."""

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """What the query gives until it ends or fails; whoever stops listening ends it."""
        try:
            while True:
                found = await run_in_threadpool(self.worker.read, _PATIENCE)
                if found is None:
                    self.broke = (
                        "The query was cancelled."
                        if self.cancelled
                        else await run_in_threadpool(self.worker.died)
                    )
                    yield Frame("failed", json.dumps({"message": self.broke}).encode())
                    return
                if not found:
                    # A chance to notice that nobody listens any more.
                    yield Frame("progress", b"{}")
                for frame in found:
                    if frame.kind in ("end", "failed"):
                        self.seen = frame
                    yield frame
                    if self.seen is not None:
                        return
        finally:
            self.leave()

    def cancel(self) -> None:
        self.cancelled = True
        self.worker.stop()

    def leave(self) -> None:
        """Ends it beside whoever calls: a listener that left cannot be waited for."""
        if not self._over.locked():
            threading.Thread(target=self.finish, name="forebay-query-end", daemon=True).start()

    def finish(self) -> None:
        """Ends the process, and notes how the query ended; once, however often it is called."""
        if not self._over.acquire(blocking=False):
            return
        RUNNING.pop(self.past.id, None)
        queries.pool().give_back(self.worker)
        told: dict[str, Any] = {"seconds": round(time.time() - self.past.at, 3)}
        if self.seen is not None and self.seen.kind == "end":
            end = self.seen.document
            told = {"state": "done", "rows": end["rows"], "seconds": end["seconds"], "more": end["more"]}
        elif self.seen is not None:
            told |= {"state": "failed", "error": str(self.seen.document["message"])[:1000]}
        elif self.broke and not self.cancelled:
            told |= {"state": "failed", "error": self.broke}
        else:
            told |= {"state": "cancelled"}
        queries.ended(self.past.id, **told)


class Streamed(StreamingResponse):
    """A query's messages or its file. Whatever becomes of the answer, the query ends with it.

    What is left to Python's garbage collector otherwise: a generator that nobody reads to its end.
    """

    def __init__(self, made: Running, content: AsyncGenerator[bytes, None], **more: Any) -> None:
        super().__init__(content, **more)
        self._made, self._content = made, content
        # Also where nobody takes the answer up: nothing of its generator has run then.
        finalize(self, made.leave).atexit = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._made.leave()
            with CancelScope(shield=True):
                await self._content.aclose()


def start(
    who: Visitor,
    workspace: str,
    sql: str,
    given: Mapping[str, Given],
    *,
    explain: bool = False,
    format: Format = "rows",
    rows: int | None = None,
) -> Running:
    """Checks a query and its asker's rights, starts it, and notes it before anybody gets a row. Raises ForebayError."""
    queries.must_query(who, workspace)
    setup = queries.setup(who, workspace)
    found = asked(sql)
    job = prepared(found, given, setup.engine, who.reads, explain=explain)
    job = type(job)(job.sql, job.reads, explain, format)
    limits = setup.limits.at_most(rows)
    kept = {
        name: {"value": each.text, "type": each.type}
        for name, each in given.items()
        if name in found.parameters
    }
    past = queries.new(
        who, workspace, sql, parameters=kept, engine=setup.engine, format="explain" if explain else format,
        tables=job.reads, cap=limits.seconds,
    )  # fmt: skip
    worker = queries.pool().take(setup, str(who.user.get_id()))
    made = Running(past, worker, limits)
    try:
        RUNNING[past.id] = made
        try:
            # The engine begins while the database writes: what cannot be noted ends before it is read.
            worker.run(job, limits)
        finally:
            queries.remember(who, past)
    except ForebayError as error:
        made.broke = str(error)
        made.finish()
        raise
    except BaseException:
        # Also when the request is given up: whatever it was, the engine's process must not outlive it.
        made.finish()
        raise
    return made


def refusal(error: ForebayError) -> HTTPException:
    """An error as an answer."""
    if isinstance(error, (NotAllowed, NoRight)):
        return HTTPException(403, str(error))
    if isinstance(error, Busy):
        return HTTPException(429, str(error), {"retry-after": "2"})
    return HTTPException(503 if isinstance(error, (LakeError, QueryFailed)) else 422, str(error))


def places(error: ForebayError) -> list[dict[str, Any]]:
    """Where in the text the mistakes are."""
    if not isinstance(error, JobSpecError):
        return []
    return [{"line": each.line, "column": each.column, "message": each.message} for each in error.mistakes]
