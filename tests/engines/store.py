"""A SeaweedFS and a lens of the tests' own, on free ports, stopped by their process ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from pyiceberg.exceptions import NoSuchNamespaceError, OAuthError, RESTError

from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import list_namespaces

KEY, SECRET = "forebay-tests", "s3cr3t'with-quote"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below the ephemeral range's usual start where possible."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Store:
    """A SeaweedFS over a folder; may be killed and started again on what it left."""

    NAMES = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
        "s3.port.iceberg",
        "admin.port",
    )

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder, host
        self.log = folder / "log"
        self._ports = dict(zip(self.NAMES, free_ports(len(self.NAMES)), strict=True))
        # Another grpc port than the one its maintenance worker dials keeps that worker off.
        self._ports["admin.port.grpc"] = free_ports(1)[0]
        self.config = CatalogConfig(
            uri=f"http://{host}:{self._ports['s3.port.iceberg']}",
            warehouse="warehouse",
            access_key=KEY,
            secret_key=SECRET,
            s3_endpoint=f"http://{host}:{self._ports['s3.port']}",
        )

    def start(self) -> None:
        weed = Path(sys.executable).parent / "weed"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    str(weed if weed.exists() else shutil.which("weed")),
                    "mini",
                    f"-dir={self.folder}",
                    f"-ip={self.host}",
                    f"-ip.bind={self.host}",
                    "-master.telemetry=false",
                    *(f"-{name}={port}" for name, port in self._ports.items()),
                    "-admin.ui=false",
                    f"-filer.localSocket={self.folder}/f",
                    f"-s3.localSocket={self.folder}/s",
                    "-s3.port.lance=0",
                    "-webdav=false",
                    "-tableBucket=warehouse",
                    "-bucket=lake",
                ],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "AWS_ACCESS_KEY_ID": KEY,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "TMPDIR": str(self.folder),
                },
            )
        wait_for_catalog(self.config, self.process, self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def running_store(folder: Path, host: str = "127.0.0.1") -> Iterator[Store]:
    store = Store(folder, host)
    try:
        store.start()
        yield store
    finally:
        store.stop()


def wait_for_catalog(config: CatalogConfig, process: subprocess.Popen[bytes], log: Path) -> None:
    # Tokens are given out before the warehouse is there, so a listing is what counts.
    def listed() -> bool:
        with contextlib.suppress(LakeError, OSError, RESTError, OAuthError, NoSuchNamespaceError):
            list_namespaces(config)
            return True
        return False

    wait_until(listed, process, log)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextlib.contextmanager
def running_lens(
    config: CatalogConfig,
    log: Path,
    port: int = 0,
    host: str = "127.0.0.1",
    program: tuple[str, ...] = ("-m", "forebay.lens"),
) -> Iterator[str]:
    port = port or free_ports(1)[0]
    command = [
        sys.executable,
        *program,
        "--catalog",
        config.uri,
        "--host",
        host,
        "--port",
        str(port),
    ]
    with log.open("a") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    log.with_name(f"{log.name}.pid").write_text(str(process.pid))
    address = f"http://{host}:{port}"
    try:
        for _ in range(200):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError(log.read_text())
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
