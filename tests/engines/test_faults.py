"""kill -9 of the task, the lens and the store at named points: nothing lost, nothing doubled, the next try ends right.

A proxy before the catalog sees every commit, those of the lens and those of publish, and kills when its point comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from relay import Relay
from store import Store, running_lens, running_store

from forebay.engines.background import EngineError
from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError
from forebay.lake.branch import ref
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.retry import put_back
from forebay.lake.tables import TableDefinition

Hook = Callable[[str], None]
TASK = Path(__file__).with_name("transaction_task.py")


class Proxy:
    """Hands everything to the catalog; `hook` is called as `before` and `after` of each commit."""

    def __init__(self, upstream: str) -> None:
        self.hook: Hook = lambda _: None
        proxy = self
        client = httpx.Client(base_url=upstream, timeout=30, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                # A commit to a table, or to several; not the making of one, and not a token.
                commits = self.command == "POST" and b'"requirements"' in body
                try:
                    if commits:
                        proxy.hook("before publish" if b"forebay.published" in body else "before commit")
                    answer = client.request(self.command, self.path, content=body, headers=headers)
                    if commits:
                        proxy.hook("after publish" if b"forebay.published" in body else "after commit")
                except (httpx.HTTPError, ConnectionAbortedError):
                    # Whoever asks sees what a dead server looks like.
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):
                    self.send_response(answer.status_code)
                    for name, value in answer.headers.items():
                        if name not in (
                            "transfer-encoding",
                            "content-length",
                            "connection",
                            "content-encoding",
                        ):
                            self.send_header(name, value)
                    self.send_header("content-length", str(len(answer.content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(answer.content)

            do_GET = do_HEAD = do_POST = do_DELETE = do

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Faults:
    """A store, a proxy, a lens, and the tasks of one run over three tables."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self._folder = store, folder
        self.proxy = Proxy(store.config.uri)
        self._lens = contextlib.ExitStack()
        self.start_lens()
        self.task: subprocess.Popen[bytes] | None = None

    def start_lens(self) -> None:
        self._lens.close()
        behind = replace(self.store.config, uri=self.proxy.address)
        self.address = self._lens.enter_context(running_lens(behind, self._folder / "lens.log"))
        self.lens_pid = int((self._folder / "lens.log.pid").read_text())

    def close(self) -> None:
        self._lens.close()
        self.proxy.close()

    @property
    def config(self) -> CatalogConfig:
        return replace(
            self.store.config,
            uri=self.proxy.address,
            oauth_uri=self.store.config.token_uri,
            lens=self.address,
        )

    def begin(self, *names: str) -> list[str]:
        self.namespace = f"f{uuid.uuid4().hex[:10]}"
        self.tables = [f"{self.namespace}.{name}" for name in names or ("a", "b", "c")]
        with DuckDBEngine(self.store.config) as engine:
            for table in self.tables:
                engine.write("SELECT 1 AS n", TableDefinition(table))
        return self.tables

    def attempt(self, step: str, number: int) -> bool:
        """One try, in a process of its own; whether it ended well."""
        order = {
            "config": asdict(self.config), "tables": self.tables, "run": self.namespace, "number": number, "step": step,
        }  # fmt: skip
        self.task = subprocess.Popen(
            [sys.executable, str(TASK), json.dumps(order)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.output = self.task.communicate(timeout=90)[0].decode()
        return self.task.returncode == 0

    def rows(self, table: str) -> list[int]:
        # A store that was just started again answers 500 for some moments, which is no row too many or too few.
        deadline = time.monotonic() + 30
        while True:
            try:
                with DuckDBEngine(self.store.config) as engine:
                    found = engine.query(f"SELECT n FROM lake.{table} ORDER BY n").column("n")
                return [int(number) for number in found.to_pylist()]
            except EngineError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def state(self) -> list[list[int]]:
        return [self.rows(table) for table in self.tables]

    def mains(self) -> list[int | None]:
        """The snapshot that is main, of each table."""
        # As in `rows`.
        deadline = time.monotonic() + 30
        while True:
            try:
                with Rest(self.store.config) as rest:
                    return [ref(found, "main") for found in rest.tables(self.tables).values()]
            except LakeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def kill_when_moved(self, table: str) -> None:
        """Kills the store as soon as main of a table is another one."""
        with Rest(self.store.config) as rest:
            first = rest.table(table)
            deadline = time.monotonic() + 60
            while rest.table(table) == first and time.monotonic() < deadline:
                pass
        self.store.kill()


BEFORE, AFTER = [[1], [1], [1]], [[1, 2], [2, 3], [1, 2]]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    folder = tmp_path_factory.mktemp("faults")
    with running_store(folder) as store:
        made = Faults(store, folder)
        try:
            yield made
        finally:
            made.close()


POINTS = [
    ("task", "before commit", 1),
    ("task", "after commit", 1),
    ("task", "before commit", 2),
    ("task", "after commit", 2),
    ("task", "after commit", 3),
    ("task", "before publish", 1),
    ("task", "after publish", 1),
    ("lens", "before commit", 1),
    ("lens", "after commit", 1),
    ("lens", "before commit", 3),
    ("store", "before commit", 2),
    ("store", "after commit", 2),
    ("store", "before publish", 1),
    ("store", "after publish", 1),
]


@pytest.mark.parametrize(("victim", "point", "nth"), POINTS, ids=lambda part: str(part).replace(" ", "-"))
def test_killed(faults: Faults, victim: str, point: str, nth: int) -> None:
    faults.begin()
    counted = 0
    killed = threading.Event()

    def hook(at: str) -> None:
        nonlocal counted
        counted += at == point
        if at != point or counted != nth or killed.is_set():
            return
        killed.set()
        if victim == "store":
            faults.store.kill()
        else:
            assert faults.task is not None
            os.kill(faults.task.pid if victim == "task" else faults.lens_pid, 9)
        if point.startswith("before") or victim == "store":
            raise ConnectionAbortedError

    faults.proxy.hook = hook
    number = 0
    for step in ("write", "publish"):
        for _ in range(6):
            number += step == "write"
            done = faults.attempt(step, number)
            if killed.is_set():
                if victim == "store" and faults.store.process.poll() is not None:
                    faults.store.start()
                if victim == "lens" and not _alive(faults.lens_pid):
                    faults.start_lens()
            if step == "write":
                assert faults.state() == BEFORE, "nothing is seen before it is published"
            if done:
                break
        else:
            raise AssertionError(faults.output)
    assert killed.is_set(), f"the point {point} {nth} never came"
    assert faults.state() == AFTER
    # And once more: what was published is not written again.
    assert faults.attempt("publish", number), faults.output
    assert faults.state() == AFTER


def test_the_store_is_killed_between_its_pointer_flips(faults: Faults) -> None:
    """SeaweedFS flips the tables of one commit one by one: where it stops half way, publishing again finishes it."""
    faults.proxy.hook = lambda _: None
    for _ in range(10):
        faults.begin(*"abcdef")
        assert faults.attempt("write", 1), faults.output
        before = faults.mains()
        watch = threading.Thread(target=faults.kill_when_moved, args=(faults.tables[0],))
        watch.start()
        faults.attempt("publish", 1)
        watch.join()
        faults.store.start()
        moved = sum(one != other for one, other in zip(before, faults.mains(), strict=True))
        assert faults.attempt("publish", 1), faults.output
        assert faults.state() == [[1, 2], [2, 3], *[[1, 2]] * 4]
        if 0 < moved < len(before):
            return
    raise AssertionError("the store was never killed between two flips")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_dead_lens_and_a_dead_catalog_say_so(faults: Faults) -> None:
    tables = faults.begin()
    who = TaskTry(job="job.job", run="r", task="w", writes=tuple(tables), began=time.time())
    nowhere = replace(faults.config, lens="http://127.0.0.1:9")
    with (
        pytest.raises(
            (EngineError, LakeError),
            match=r"The lens at http://127.0.0.1:9 does not answer .* forebay status",
        ),
        DuckDBEngine(nowhere.seen_by(who)) as engine,
    ):
        engine.write("SELECT 2 AS n", TableDefinition(tables[0]), "append")
    faults.proxy.hook = lambda _: None
    faults.store.kill()
    try:
        answer = httpx.get(f"{faults.address}/health")
        assert answer.status_code == 503
        assert answer.json()["status"] == "catalog down"
        answer = httpx.get(f"{faults.address}/main/v1/config")
        assert answer.status_code in (502, 503)
        with (
            pytest.raises(ForebayError, match=r"forebay status|broke off"),
            Rest(faults.store.config) as rest,
        ):
            publish(rest, Run("job.job", "r"), tables)
    finally:
        faults.store.start()
    assert faults.state() == BEFORE


@pytest.mark.parametrize("what", ["s3_endpoint", "lens"])
def test_the_store_or_the_lens_goes_in_mid_run(faults: Faults, what: str) -> None:
    """The try says which of them is away and what to do; nothing is published, and the next try ends right."""
    faults.proxy.hook = lambda _: None
    tables = faults.begin()
    relay = Relay(getattr(faults.config, what))
    away = replace(faults.config, **{what: relay.address})
    who = TaskTry(job="job.job", run=faults.namespace, task="w", writes=tuple(tables), began=time.time())
    name = {"s3_endpoint": "store", "lens": "lens"}[what]
    with DuckDBEngine(away.seen_by(who)) as engine:
        engine.write("SELECT 2 AS n", TableDefinition(tables[0]), "append")
        assert engine.query(f"SELECT n FROM lake.{tables[0]}").num_rows == 2
        relay.cut()
        for mode in ("append", "overwrite"):
            with pytest.raises(
                ForebayError, match=f"The {name} at {relay.address} does not answer .*forebay status"
            ):
                engine.write("SELECT 2 AS n", TableDefinition(tables[1]), mode)  # type: ignore[arg-type]
        with pytest.raises(ForebayError, match="forebay status"):
            engine.query(f"SELECT n FROM lake.{tables[2]}")
    assert faults.state() == BEFORE
    relay.mend()
    again = replace(who, number=2)
    with Rest(faults.config) as rest, DuckDBEngine(away.seen_by(again)) as engine:
        put_back(rest, again)
        for table in tables:
            engine.write("SELECT 2 AS n", TableDefinition(table), "append")
        publish(rest, again, tables, {"w": 2}, tables)
    assert faults.state() == [[1, 2]] * 3
    relay.cut()
