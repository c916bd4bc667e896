"""What the lens tells about itself: an access log of one JSON object a line, and Prometheus metrics."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
REQUESTS = Counter(
    "forebay_lens_requests", "Requests by view, method and status.", ("view", "method", "status")
)
SECONDS = Histogram(
    "forebay_lens_request_seconds", "From request to answer.", ("view", "method"), buckets=_BUCKETS
)
UPSTREAM = Histogram("forebay_lens_catalog_seconds", "Of that, waiting for the catalog.", buckets=_BUCKETS)
_QUIET = ("/health", "/metrics")


@contextmanager
def upstream(request: Request) -> Iterator[None]:
    """Counts the time inside as the catalog's."""
    began = time.perf_counter()
    try:
        yield
    finally:
        spent = time.perf_counter() - began
        UPSTREAM.observe(spent)
        request.state.upstream = getattr(request.state, "upstream", 0.0) + spent


async def metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class AccessLog:
    """Writes a line for each request: who asked what of which table, the answer, and the time it took."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            spent = time.perf_counter() - began
            view = scope["path"].split("/", 2)[1]
            view = view if view in ("main", "published", "run") else "other"
            REQUESTS.labels(view, scope["method"], str(status)).inc()
            SECONDS.labels(view, scope["method"]).observe(spent)
            sys.stdout.write(json.dumps(_line(scope, view, status, spent)) + "\n")


def _line(scope: Scope, view: str, status: int, spent: float) -> dict[str, object]:
    state = scope.get("state") or {}
    # A query may hold what a client should not have put there, and the segment says nothing to people.
    path = scope["path"] if view != "run" else "/" + scope["path"].split("/", 3)[-1]
    line: dict[str, object] = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": scope["method"],
        "view": view,
        "path": path,
        "status": status,
        "ms": round(1000 * spent, 2),
        "catalog_ms": round(1000 * state.get("upstream", 0.0), 2),
    }
    if table := state.get("table"):
        line["table"] = table
    if who := state.get("who"):
        line.update(job=who.job, run=who.run, task=who.task, number=who.number)
    return line
