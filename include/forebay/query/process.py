"""The process of one query: started, asked, read from, ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import forebay
from forebay.errors import ForebayError
from forebay.lake.connection import CatalogConfig
from forebay.query.frames import BrokenFrame, Decoder, Frame
from forebay.query.limits import Limits

Engine = Literal["duckdb", "trino"]
_READY = 30.0
_CHUNK = 1 << 18
_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031
FRESH = 540.0
"""A process that waits ends by itself a little later (worker.IDLE)."""

_FOLDER = "forebay-query-"
"""How the folders of queries' processes begin."""

# Of the caller's environment a query's process sees these: no key, no address of a database.
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH")


class QueryFailed(ForebayError):
    """The query ended without its result; the text says why."""


@dataclass(frozen=True)
class Setup:
    """Where queries run. Holds secrets: never log it."""

    engine: Engine
    config: CatalogConfig = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    server: dict[str, Any] = field(default_factory=dict, repr=False)
    """What Trino's client needs: the fields of trino_client.Server, and where Trino finds the lake's keys."""
    macros: Sequence[str] = field(default=(), repr=False)

    def line(self, folder: str) -> bytes:
        limits = self.limits
        told = {
            "engine": self.engine, "config": asdict(self.config), "server": self.server, "macros": list(self.macros),
            "memory": limits.memory, "spill": limits.spill, "threads": limits.threads, "seconds": limits.seconds,
            "folder": folder,
        }  # fmt: skip
        return json.dumps(told).encode() + b"\n"


@dataclass(frozen=True)
class Job:
    """What to run: the engine's own SQL, and the tables that it reads."""

    sql: str
    reads: tuple[str, ...]
    explain: bool = False
    format: Literal["rows", "csv", "parquet"] = "rows"


class Worker:
    """A process that runs one query. `stop` may be called from any thread, at any time, more than once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.began = time.monotonic()
        self._folder = tempfile.mkdtemp(prefix=_FOLDER)
        # Held while this process lives, however it ends: what nobody holds is swept.
        self._held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        self._stopped = threading.Lock()
        self._is_ready = False
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "PYTHONPATH": str(Path(forebay.__file__).parents[1]),
            "HOME": self._folder,
            "TMPDIR": self._folder,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "forebay.query.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=environment,
            # Signals for the caller's group are not for it: it ends with its standard input.
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._out, _SET_PIPE_SIZE, _PIPE)
        self._write(setup.line(self._folder))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Job, limits: Limits) -> None:
        """Waits until the engine is open, and starts the query. Raises QueryFailed."""
        deadline = time.monotonic() + _READY
        while not self._is_ready:
            for frame in self.read(1.0) or ():
                self._is_ready = self._is_ready or frame.kind == "ready"
                if frame.kind == "failed":
                    raise QueryFailed(str(frame.document["message"]))
            if not self.alive and not self._is_ready:
                raise QueryFailed(self.died())
            if time.monotonic() > deadline:
                raise QueryFailed(f"The SQL engine was not ready within {_READY:.0f} s.")
        told = {**asdict(job), "rows": limits.rows, "bytes": limits.bytes, "seconds": limits.seconds}
        self._write(json.dumps(told).encode() + b"\n")

    def read(self, patience: float) -> list[Frame] | None:
        """The next frames; none when there are none for so many seconds, None at the end."""
        try:
            if not select.select([self._out], [], [], patience)[0]:
                return []
            data = os.read(self._out.fileno(), _CHUNK)
        except (OSError, ValueError):
            return None
        try:
            return self._decoder.feed(data) if data else None
        except BrokenFrame:
            self._process.kill()
            return None

    def frames(self) -> Iterator[Frame]:
        """Everything the query gives, to its end. Raises QueryFailed where it has none."""
        while (found := self.read(60.0)) is not None:
            for frame in found:
                if frame.kind == "failed":
                    raise QueryFailed(str(frame.document["message"]))
                yield frame
                if frame.kind == "end":
                    return
        raise QueryFailed(self.died())

    def stop(self) -> None:
        """Ends the process: at once where it only computes, within 2 s where it has to tell an engine elsewhere."""
        if not self._stopped.acquire(blocking=False):
            return
        with contextlib.suppress(OSError):
            self._in.close()
        if self.setup.engine == "duckdb":
            self._process.kill()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
        with contextlib.suppress(OSError):
            self._out.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._held)

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(line)
            while view:
                view = view[self._in.write(view) or 0 :]

    def died(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        if code == -14:
            return f"The query took longer than the {self.setup.limits.seconds} s that a query may take."
        if code in (-6, -9, -11):
            return (
                "The query's process was ended: it took more memory than a query may take, or was cancelled."
            )
        return (
            "The query was cancelled." if code in (0, 1) else f"The query's process ended with code {code}."
        )


def sweep(folder: Path | None = None, older: float = FRESH) -> list[Path]:
    """Removes the folders, with what was spilled to them, that nobody holds any more; gives those.

    A server that was killed leaves them. They are looked at once they are some minutes old.
    """
    gone = []
    for path in (folder or Path(tempfile.gettempdir())).glob(f"{_FOLDER}*"):
        try:
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            found = os.fstat(held)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime >= older:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path)
        except OSError:
            pass
        finally:
            os.close(held)
    return gone
