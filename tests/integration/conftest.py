"""A stack of the tests' own, on free ports in a temporary folder, over the example workspace and the tests' jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from console_client import browser
from forebay.lake.connection import CatalogConfig
from forebay.stack import lifecycle
from forebay.stack.airflow_api import AirflowApi, ApiError, Json
from forebay.stack.connections import connections
from forebay.stack.layout import Stack

REPOSITORY = Path(__file__).parents[2]


def command(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `forebay …` in a repository, as a person would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli.main", *arguments],
        cwd=root,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def eventually(seconds: float, check: Callable[[], Any], what: str) -> Any:
    """The first true result of `check`; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@dataclass
class Lab:
    """A running stack with its project."""

    root: Path
    stack: Stack
    api: AirflowApi

    def forebay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command(self.root, *arguments)

    def json(self, *arguments: str) -> Any:
        run = self.forebay(*arguments, "--output", "json")
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads(run.stdout)

    def known(self, dag_id: str) -> Json | None:
        try:
            dag = self.api.get(f"/dags/{dag_id}")
        except ApiError as error:
            if "HTTP 404" in str(error):
                return None
            raise
        return None if dag["is_stale"] else dag

    def start(self, dag_id: str, parameters: dict[str, object] | None = None) -> str:
        eventually(30, lambda: self.known(dag_id), f"{dag_id} is known")
        return self.api.trigger(dag_id, parameters or {})

    def finish(self, dag_id: str, run_id: str, seconds: float = 120) -> tuple[Json, dict[str, list[Json]]]:
        """The run and its task instances by key, once it has ended."""

        def ended() -> Json | None:
            run = self.api.run(dag_id, run_id)
            return run if run["state"] in ("success", "failed") else None

        run = eventually(seconds, ended, f"{dag_id} {run_id} ends")
        tasks: dict[str, list[Json]] = {}
        for task in self.api.task_instances(dag_id, run_id):
            tasks.setdefault(str(task["task_id"]), []).append(task)
        return run, tasks

    def run(self, dag_id: str, parameters: dict[str, object] | None = None, seconds: float = 120) -> Any:
        return self.finish(dag_id, self.start(dag_id, parameters), seconds)

    @property
    def lake(self) -> CatalogConfig:
        catalog = next(c for c in connections(self.stack) if c["connection_id"] == "lake_catalog")
        return CatalogConfig.from_connection(
            str(catalog["host"]),
            str(catalog["login"]),
            str(catalog["password"]),
            json.loads(str(catalog["extra"])),
        )


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("project")
    for folder in ("dags/flights", "sql/flights", "spark_jobs/flights", "include/flights", "plugins"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    shutil.copytree(Path(__file__).parent / "project", root, dirs_exist_ok=True)
    stack = Stack(root, root / ".forebay")
    started = command(root, "up", "--free-ports")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        with AirflowApi.of_stack(stack) as api:
            yield Lab(root, stack, api)
    finally:
        lifecycle.down(stack)


@pytest.fixture
def admin(lab: Lab) -> Iterator[httpx.Client]:
    """The console as an administrator sees it."""
    with browser(lab, "admin") as client:
        yield client
