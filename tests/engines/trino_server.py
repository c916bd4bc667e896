"""A Trino of the tests' own: with the stack's configuration, on free ports, stopped by its process id."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from given_connection import catalog_fields

from forebay.engines.trino import TrinoEngine
from forebay.engines.trino_client import Server
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.machine import trino as machine
from forebay.stack import trino as stack_trino
from forebay.stack import trino_access
from forebay.stack.layout import Stack
from forebay.stack.trino_groups import Share, limits_of, resource_groups, session_limits, shares

PASSWORDS = ("admin_password", "trino_password", "trino_worksheet_password")
SHARES = {
    "crowded": Share(1, queued=1, job_queries=1),
    # As tests/unit/test_chart.py has it of the rendered chart.
    "charted": Share(6, 200, 2, 50, 10, "2h", "1MB"),
}
ACCESS, SECRET = "${ENV:FOREBAY_LAKE_ACCESS_KEY}", "${ENV:FOREBAY_LAKE_SECRET_KEY}"
KEYS = {
    "access_key": ACCESS, "secret_key": SECRET,
    "client_id": "${ENV:CATALOG_CLIENT}", "client_secret": "${ENV:CATALOG_SECRET}",
}  # fmt: skip
"""All of them, for a catalog whose login is not the store's key."""


class TrinoServer:
    """Trino over a store and a lens; may be killed and started again."""

    def __init__(self, folder: Path, config: CatalogConfig, lens: str, port: int) -> None:
        self.log = folder / "trino.log"
        self.stack = Stack(folder, folder / "state")
        workspace = folder / "dags" / "crowded" / "workspace.yaml"
        workspace.parent.mkdir(parents=True)
        workspace.write_text("owner: tests\nlimits: {max_concurrent_tasks: 1, max_concurrent_runs: 1}\n")
        ports = {
            "trino": port,
            "catalog": _port(config.uri),
            "s3": _port(config.s3_endpoint),
            "lens": _port(lens),
        }
        secrets = {"access_key": config.access_key, "secret_key": config.secret_key}
        secrets |= {name: f"{name} of the tests" for name in PASSWORDS}
        self._login = dict(zip(("CATALOG_CLIENT", "CATALOG_SECRET"), config.credential, strict=True))
        secrets["trino_inner_secret"] = "of the tests, and long enough for what it is"
        self.stack.__dict__.update(ports=ports, secrets=secrets, parts=("trino",))
        self.server: Server = trino_access.server(self.stack)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        machine.fetch(print)
        stack_trino.write(self.stack)
        self._share()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                stack_trino.command(self.stack),
                cwd=stack_trino.folder(self.stack),
                env={**os.environ, **self._login, **stack_trino.environment(self.stack)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(3000):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.HTTPError, ValueError):
                trusted = ssl.create_default_context(cafile=str(self.server.verify))
                told = httpx.get(f"{self.server.address}/v1/info", trust_env=False, verify=trusted)
                if told.json()["starting"] is False:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def _share(self) -> None:
        """Gives the workspace `crowded` a queue of one, and the workspace `charted` all that a chart's values may say."""
        etc = stack_trino.folder(self.stack) / "etc"
        given = {**shares(limits_of(self.stack.root)), **SHARES}
        groups = resource_groups(given, trino_access.WORKSHEET)
        (etc / "resource-groups.json").write_text(json.dumps(groups))
        (etc / "session-limits.json").write_text(json.dumps(session_limits(given)))

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
        return TrinoEngine(config, self.server, who=who, **{**KEYS, **more})  # type: ignore[arg-type]


def lake_connections(config: CatalogConfig, lens: str, trino: TrinoServer) -> dict[str, dict[str, Any]]:
    """The connections of a stack with this Trino, as Airflow would give them to a task."""
    extra = {"catalog": "lake_catalog", **KEYS, "verify": trino.server.verify}
    return {
        "lake_catalog": catalog_fields(config, lens),
        "lake_sql": {
            "conn_type": "trino", "host": trino.server.host, "port": trino.server.port, "login": trino.server.user,
            "password": trino.server.password, "extra_dejson": extra,
        },
    }  # fmt: skip


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
