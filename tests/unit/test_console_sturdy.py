"""What the console bears: texts, stamps and answers that nobody in their senses would send."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import httpx
import pytest
from broken import answering
from fastapi import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.connections.model import Connection
from forebay.engines.trino_client import Server
from forebay.lake.identity import TaskTry
from forebay.query.frames import Frame
from forebay.query.limits import Limits
from forebay.query.request import Given
from forebay_ui import queries, run_diff
from forebay_ui.app import _Border
from forebay_ui.engine_now import query_now
from forebay_ui.html import ago, moment
from forebay_ui.pages.audit import Filter
from forebay_ui.pages.jobs import given
from forebay_ui.pages.sql import Sheet
from forebay_ui.query_api import lines
from forebay_ui.running import Running, Streamed
from forebay_ui.spark_now import application_now


def test_only_who_may_query_has_a_text_read() -> None:
    text = "SELECT * FROM a.b WHERE day = :day"
    assert Sheet("w", text).parameters == {}
    assert Sheet("w", text, may=True).parameters == {"day": Given("")}


@pytest.mark.parametrize("at", [1e18, -1e18, float("nan"), float("inf")])
def test_a_moment_that_no_calendar_has_is_shown_as_none(at: float) -> None:
    assert moment(at) == "at no known time"
    assert "?" in ago(at)


class Left(Running):
    """A query without a process, which says that nobody listens any more."""

    def __init__(self) -> None:
        super().__init__(cast("Any", SimpleNamespace(id="q", engine="duckdb")), cast("Any", self), Limits())
        self.left = 0

    def read(self, patience: float) -> list[Frame]:
        return []

    def leave(self) -> None:
        self.left += 1


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("how", ["cancelled", "broken"])
def test_a_query_ends_with_its_answer_and_not_with_the_next_collection(version: str, how: str) -> None:
    made, closed = Left(), []

    async def content() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"row"
        finally:
            closed.append(True)

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            if how == "broken":
                raise OSError
            await anyio.sleep_forever()

    async def answer() -> None:
        answer = Streamed(made, content())
        with anyio.move_on_after(0.2), suppress(ClientDisconnect, OSError):
            await answer({"type": "http", "asgi": {"spec_version": version}}, receive, send)
        assert closed
        assert made.left

    anyio.run(answer)


def test_an_answer_that_nobody_takes_up_ends_its_query() -> None:
    made = Left()
    Streamed(made, lines(made))
    assert made.left == 1


def test_who_stops_reading_the_lines_ends_the_query() -> None:
    made = Left()

    async def some() -> None:
        found = lines(made)
        assert json.loads(await anext(found))["type"] == "started"
        assert json.loads(await anext(found))["type"] == "progress"
        await found.aclose()
        assert made.left == 1

    anyio.run(some)


def test_pages_leave_threads_for_what_they_ask_airflow() -> None:
    """Each page waits in a thread for an answer that takes another of the server's 40: none is left for it."""
    done: list[int] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        def nested() -> None:
            anyio.from_thread.run(anyio.to_thread.run_sync, time.sleep, 0.01)

        with anyio.fail_after(20):
            await anyio.to_thread.run_sync(nested)
        await Response("made")(scope, receive, send)

    async def ask(border: ASGIApp) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(border), base_url="http://x") as client:
            done.append((await client.get("/catalog", timeout=30)).status_code)

    async def many() -> None:
        border = _Border(page, patience=20)
        async with anyio.create_task_group() as group:
            for _ in range(80):
                group.start_soon(ask, border)

    anyio.run(many)
    assert done == [200] * 80


def test_who_comes_when_all_places_are_taken_is_told_to_come_again() -> None:
    held, left = anyio.Event(), anyio.Event()

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        held.set()
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await left.wait()
        if scope["path"] != "/stream":
            await Response("made")(scope, receive, send)

    async def two() -> None:
        border = _Border(page, at_once=1, patience=0.1)
        transport = httpx.ASGITransport(border)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
            anyio.create_task_group() as group,
        ):
            # What is streamed keeps no place once it has begun, nor do files.
            group.start_soon(border, _scope("/stream"), anyio.sleep_forever, _nowhere)
            await held.wait()
            group.start_soon(client.get, "/api/v1/catalog")
            await anyio.sleep(0.2)
            refused = await client.get("/api/v1/catalog")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "Try again" in refused.json()["detail"]
            group.start_soon(client.get, "/static/console.css")
            left.set()
            assert (await client.get("/api/v1/catalog")).status_code == 200

    anyio.run(two)


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "headers": [],
        "query_string": b"",
    }


async def _nowhere(message: Any) -> None: ...


def test_nobody_waits_for_a_turn_to_compare() -> None:
    with run_diff._turn(), run_diff._turn():
        with pytest.raises(HTTPException) as refused, run_diff._turn():
            pass
        assert refused.value.status_code == 429
    with run_diff._turn():
        pass


@pytest.mark.parametrize("text", ["[" * 2000, '{"a":' * 20_000, "[]", "1", "{"])
def test_parameters_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        given(text)
    assert given("") == {}
    assert given('{"day": 1}') == {"day": 1}


@pytest.mark.parametrize("at", ["NaN", "1e18", "-1", "Infinity", '"x"', "null", "[" * 5000])
def test_a_saved_query_that_somebody_spoiled_is_left_out(at: str) -> None:
    text = f'{{"title": "t", "sql": "SELECT 1", "by": "me", "at": {at}}}'
    assert queries._saved("t", "w", text) is None
    assert queries._saved("t", "w", text.replace(at, "5")) is not None


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'"x"', b'{"queryStats": 3}', b"[" * 5000])
def test_whatever_answers_in_an_engines_place_breaks_no_page(body: bytes) -> None:
    with answering(lambda request: (200, {}, body)) as served:
        assert query_now(Server("127.0.0.1", served.port), "q")[0] == "What answers is no Trino"
        where = {"apiVersion": "v1", "clusters": [{"name": "c", "cluster": {"server": served.url}}]}
        where |= {
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        where |= {"users": [{"name": "u", "user": {"token": "t"}}]}
        extra = {"kube_config": json.dumps(where)}
        found = application_now(Connection.of("k", "kubernetes", extra=extra), TaskTry("w.j", "r", "t"))
        assert found == ("What answers is no Kubernetes", served.url)


def test_authorities_that_are_none_break_no_page(tmp_path: Path) -> None:
    bad = tmp_path / "authorities.pem"
    bad.write_text("none")
    for path in (str(bad), str(tmp_path / "gone.pem")):
        assert (
            query_now(Server("127.0.0.1", 9, scheme="https", verify=path), "q")[0] == "Trino cannot be asked"
        )


def test_the_audit_looks_some_months_back_where_nobody_says_how_far() -> None:
    def since(first: str, last: str) -> Any:
        wanted = Filter("people", "", "", "", "x", first, last).wanted()
        return wanted.since

    assert abs((datetime.now(UTC) - since("", "")).total_seconds() - 90 * 86400) < 60
    assert since("", "2026-04-01") == datetime(2026, 1, 2, tzinfo=UTC)
    assert since("1970-01-01", "") == datetime(1970, 1, 1, tzinfo=UTC)
