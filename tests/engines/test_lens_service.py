"""The lens as a service: what it logs, hands on in pieces, answers in the catalog's place, and refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import httpx
import pyarrow as pa
import pytest
from lake import Lake
from store import running_lens
from uvicorn import Config, Server

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import MAIN, Branch, ref, snapshots
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import load
from forebay.lens.service import application


@dataclass
class Logged:
    """A lens with its log, and a table of one row."""

    lake: Lake
    rest: Rest
    log: Path
    client: httpx.Client

    def path(self, tail: str, who: TaskTry | None = None, view: str = "main") -> str:
        return f"/{f'run/{who.segment()}' if who else view}/v1/{self.lake.prefix}{tail}"

    def table(self, who: TaskTry | None = None, tail: str = "") -> str:
        return self.path(f"namespaces/{self.lake.namespace}/tables/t{tail}", who)

    def lines(self, count: int) -> dict[str, dict[str, Any]]:
        """The access log of so many requests, by view. A line comes after its answer: a busy lens has not written it yet."""
        for _ in range(200):
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            if len(lines) >= count:
                break
            time.sleep(0.05)
        assert len(lines) == count
        return {line["view"]: line for line in lines}


@pytest.fixture
def logged(lake: Lake, rest: Rest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    # As the stack and the images have it: each line is there when it is written.
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    lake.directly("t", "(1)")
    rest.tables([])
    authorization = str(rest._client.headers["Authorization"])
    with (
        running_lens(lake.config, tmp_path / "log") as address,
        httpx.Client(base_url=address, headers={"Authorization": authorization}, timeout=30) as client,
    ):
        yield Logged(Lake(lake.config, address, lake.namespace), rest, tmp_path / "log", client)


def append(document: dict[str, Any], number: int) -> dict[str, Any]:
    """A commit to main that shares its parent's files."""
    last = snapshots(document)[ref(document, MAIN) or 0]
    new = {
        **last, "snapshot-id": number, "parent-snapshot-id": last["snapshot-id"],
        "sequence-number": document["last-sequence-number"] + 1, "timestamp-ms": int(time.time() * 1000),
    }  # fmt: skip
    to_main = {"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": number}
    return {
        "requirements": [{"type": "assert-ref-snapshot-id", "ref": MAIN, "snapshot-id": last["snapshot-id"]}],
        "updates": [{"action": "add-snapshot", "snapshot": new}, to_main],
    }


def test_the_access_log_says_who_asked_for_what(logged: Logged) -> None:
    who = logged.lake.who("r", "t", number=2)
    logged.client.get(logged.table(who), params={"snapshots": "all", "token": "s3cr3t"})
    logged.client.get(logged.path("namespaces", view="published"))
    logged.client.get("/elsewhere")
    logged.client.get("/health")
    lines = logged.lines(3)
    run, published, other = (lines[view] for view in ("run", "published", "other"))
    path = unquote(f"/v1/{logged.lake.prefix}namespaces/{logged.lake.namespace}/tables/t")
    assert {name: run[name] for name in ("method", "view", "path", "status", "table", "job", "run", "task", "number")} == {
        "method": "GET", "view": "run", "path": path, "status": 200, "table": logged.lake.name("t"),
        "job": who.job, "run": "r", "task": "write", "number": 2,
    }  # fmt: skip
    assert 0 < run["catalog_ms"] <= run["ms"]
    assert run["at"].startswith("20")
    assert (published["status"], other["status"]) == (200, 404)
    assert "run" not in published
    kept = logged.log.read_text()
    for secret in ("s3cr3t", who.segment(), logged.lake.config.secret_key, "Bearer"):
        assert secret not in kept


def test_a_lost_race_is_a_conflict_also_for_main(logged: Logged) -> None:
    """A run's snapshot takes the number that somebody else has chosen for main; SeaweedFS calls that a bad request, others a conflict."""
    document = logged.rest.table(logged.lake.name("t"))
    assert document is not None
    late = append(document, 17)
    logged.lake.write(logged.lake.who("r", "t"), "t", "(2)")
    catalog = f"{logged.lake.config.uri}/v1/{logged.lake.prefix}namespaces/{logged.lake.namespace}/tables/t"
    raw = httpx.post(catalog, json=late, headers=dict(logged.client.headers))
    assert raw.status_code in (400, 409)
    assert "sequence number" in raw.text or raw.status_code == 409
    answer = logged.client.post(logged.table(), json=late)
    assert answer.status_code == 409
    assert answer.json()["error"]["type"] == "CommitFailedException"
    assert answer.json()["error"]["message"] == raw.json()["error"]["message"]
    several = {"identifier": {"namespace": [logged.lake.namespace], "name": "t"}, **late}
    answer = logged.client.post(logged.path("transactions/commit"), json={"table-changes": [several]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "CommitFailedException")
    # For the run's own commit the number is counted on, so that there is no race to lose.
    who = logged.lake.who("r2", "t")
    assert logged.client.post(logged.table(who), json=late).status_code == 200
    assert logged.lake.rows("t") == [1]


@pytest.mark.parametrize(("method", "tail"), [("POST", "views"), ("DELETE", "views/v"), ("POST", "views/v")])
def test_views_are_not_written_in_a_run(logged: Logged, method: str, tail: str) -> None:
    who = logged.lake.who("r", "t")
    answer = logged.client.request(
        method, logged.path(f"namespaces/{logged.lake.namespace}/{tail}", who), json={"name": "v"}
    )
    assert answer.status_code == 403
    assert (
        "is not done inside a run: it would be seen by everybody at once" in answer.json()["error"]["message"]
    )


def test_what_is_not_rewritten_passes_as_it_is(logged: Logged) -> None:
    who = logged.lake.who("r", "t")
    for tail in (
        f"namespaces/{logged.lake.namespace}/tables/t/credentials",
        "namespaces",
        "namespaces/nowhere",
    ):
        asked = httpx.get(
            f"{logged.lake.config.uri}/v1/{logged.lake.prefix}{tail}", headers=dict(logged.client.headers)
        )
        for view in (logged.path(tail), logged.path(tail, who)):
            passed = logged.client.get(view)
            assert (passed.status_code, passed.content) == (asked.status_code, asked.content), view
            assert passed.headers.get("content-type") == asked.headers.get("content-type")
    # The caller's own login, and none of the lens's.
    anonymous = httpx.get(str(logged.client.base_url.join(logged.table(who))))
    assert anonymous.status_code in (401, 403)


def test_an_answer_is_handed_on_in_pieces() -> None:
    """What the lens does not rewrite it does not gather: the first piece is there while the last is yet to come."""
    last = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await writer.drain()
        await last.wait()
        writer.write(b"-last")
        await writer.drain()
        writer.close()

    async def ask() -> tuple[bytes, bytes]:
        catalog = await asyncio.start_server(slow, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{catalog.sockets[0].getsockname()[1]}"
        server = Server(Config(application(address), port=0, log_level="warning", access_log=False))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            async with (
                asyncio.timeout(30),
                httpx.AsyncClient() as client,
                client.stream("GET", f"http://127.0.0.1:{port}/main/v1/anything") as answer,
            ):
                pieces = answer.aiter_raw()
                first = await anext(pieces)
                last.set()
                return first, b"".join([piece async for piece in pieces])
        finally:
            server.should_exit = True
            await serving
            catalog.close()

    assert asyncio.run(ask()) == (b"first", b"-last")


def test_a_commit_after_its_run_was_published_at_the_catalog_itself(lake: Lake, rest: Rest) -> None:
    """The lens did not see the publish: what it remembers must not refuse what the catalog would take."""
    lake.directly("t", "(1)")
    early, other = lake.who("r", "t"), lake.who("r", "t", task="other")
    seen = load(lake.view(early), lake.name("t"))
    assert seen is not None
    lake.write(other, "t", "(2)")
    publish(rest, lake.run("r"), early.writes)
    with seen.transaction() as transaction:
        transaction.append(pa.table({"n": pa.array([3], pa.int32())}))
    document = rest.table(lake.name("t"))
    assert document is not None
    branch = Branch.find(document, early.branch)
    assert branch is not None
    assert branch.base == seen.metadata.snapshots[0].snapshot_id
    assert lake.rows("t", early) == [1, 3]


def turn(address: str, *tables: str, timeout: float = 10) -> socket.socket:
    """A connection that has asked for its turn."""
    host, _, port = address.removeprefix("http://").partition(":")
    asked = socket.create_connection((host, int(port)), timeout)
    query = urlencode([("table", each) for each in tables])
    asked.sendall(f"GET /turn?{query} HTTP/1.1\r\nHost: lens\r\n\r\n".encode())
    return asked


def is_on(asked: socket.socket, seconds: float = 10) -> bool:
    """Whether it is that connection's turn within some seconds."""
    asked.settimeout(seconds)
    found = b""
    with contextlib.suppress(TimeoutError):
        while b"now" not in found:
            found += asked.recv(1000)
    return b"now" in found


def test_turns_are_taken_in_order_and_end_with_who_had_them(lens: str, namespace: str) -> None:
    a, b = f"{namespace}.a", f"{namespace}.b"
    with turn(lens, a, b) as first, turn(lens, a) as gone, turn(lens, b, a, b) as third:
        assert is_on(first)
        with turn(lens, f"{namespace}.c") as other:
            assert is_on(other)
        assert not is_on(third, 0.5)
        # Both leave without a word, one before its turn has come.
        gone.close()
        assert not is_on(third, 0.5)
        first.close()
        assert is_on(third)
    with turn(lens, a) as last:
        assert is_on(last)


def test_a_turn_does_not_last_for_ever(namespace: str, config: CatalogConfig, tmp_path: Path) -> None:
    short = tmp_path / "short.py"
    short.write_text(
        "import forebay.lens.service as s, forebay.lens.__main__ as m\ns.LONGEST_TURN = 0.3\nm.main()\n"
    )
    with (
        running_lens(config, tmp_path / "log", program=(str(short),)) as address,
        turn(address, namespace) as first,
        turn(address, namespace) as second,
    ):
        assert is_on(first)
        assert is_on(second)


def test_rows_that_come_after_their_empty_table_was_published(lake: Lake, rest: Rest) -> None:
    """The lens must not take the branch that it remembers for one that is there."""
    who = lake.who("r", "t")
    with DuckDBEngine(lake.view(who)) as engine:
        engine.execute(
            [f"CREATE SCHEMA lake.{lake.namespace}", f"CREATE TABLE lake.{lake.name('t')} (n INTEGER)"]
        )
    seen = load(lake.view(who), lake.name("t"))
    assert seen is not None
    assert publish(rest, lake.run("r"), who.writes) == []
    seen.append(pa.table({"n": pa.array([1], pa.int32())}))
    document = rest.table(lake.name("t"))
    assert document is not None
    assert Branch.find(document, who.branch) is not None
    assert lake.rows("t") == []
    publish(rest, lake.run("r"), who.writes, wrote=who.writes)
    assert lake.rows("t") == [1]
