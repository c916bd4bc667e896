"""A Trino of the tests' own: with the stack's configuration, on free ports, stopped by its process id."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from forebay.engines.trino import TrinoEngine
from forebay.engines.trino_client import Server
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.machine import trino as machine
from forebay.stack import trino as stack_trino
from forebay.stack.layout import Stack

ACCESS, SECRET = "${ENV:FOREBAY_LAKE_ACCESS_KEY}", "${ENV:FOREBAY_LAKE_SECRET_KEY}"


class TrinoServer:
    """Trino over a store and a lens; may be killed and started again."""

    def __init__(self, folder: Path, config: CatalogConfig, lens: str, port: int) -> None:
        self.log = folder / "trino.log"
        self.stack = Stack(folder, folder / "state")
        ports = {
            "trino": port,
            "catalog": _port(config.uri),
            "s3": _port(config.s3_endpoint),
            "lens": _port(lens),
        }
        secrets = {"access_key": config.access_key, "secret_key": config.secret_key}
        self.stack.__dict__.update(ports=ports, secrets=secrets, parts=("trino",))
        self.server = Server("127.0.0.1", port, "tests")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        machine.fetch(print)
        stack_trino.write(self.stack)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                stack_trino.command(self.stack),
                cwd=stack_trino.folder(self.stack),
                env={**os.environ, **stack_trino.secrets(self.stack)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(900):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.HTTPError, ValueError):
                if httpx.get(f"{self.server.address}/v1/info", trust_env=False).json()["starting"] is False:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def engine(self, config: CatalogConfig, who: TaskTry | None = None, **more: object) -> TrinoEngine:
        return TrinoEngine(config, self.server, access_key=ACCESS, secret_key=SECRET, who=who, **more)  # type: ignore[arg-type]


@contextlib.contextmanager
def running_trino(folder: Path, config: CatalogConfig, lens: str, port: int) -> Iterator[TrinoServer]:
    server = TrinoServer(folder, config, lens, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _port(url: str) -> int:
    return urlsplit(url).port or 0
