"""A platform without Kubernetes: Airflow by the image's lock and helm/values/airflow.yaml, each part a process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import processes
from airflow_chart import config, packages, variables
from stack_of_tests import REPOSITORY, Lab

from forebay.stack import lifecycle, supervisor
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack, free_port
from forebay.stack.services import FOUNDATION, database_url, environment, write_configuration

PROJECT = Path(__file__).parent / "project"
PARTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler",),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
_HASTE = {
    # What holds for a cluster's size is for one machine's: how soon a dead worker's task is missed, and how long an
    # API server that shares two cores with everything else may take.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
}


@dataclass
class Platform(Lab):
    """A running platform; the tests' own commands reach it as those of the embedded stack do."""

    settings: dict[str, str] = field(default_factory=dict, repr=False)
    parts: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    store: Any = None
    """The object store, as PyArrow has it."""
    worker: Any = None

    def airflow(self, *arguments: str) -> str:
        """What a command of Airflow prints."""
        done = subprocess.run(
            self.command(*arguments), env=self.settings, cwd=self.root, capture_output=True, text=True, timeout=900
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        return [str(packages() / "bin" / "python"), "-m", "airflow", *arguments]

    def begin(self, name: str, *arguments: str) -> Any:
        """Starts a part; gives what tells its process's id."""
        log = self.stack.logs / f"{name}.log"
        return self.parts.enter_context(
            processes.started(self.command(*arguments), log, env=self.settings, cwd=self.root)
        )

    def start_worker(self) -> Any:
        """A worker of Celery's; `worker` then gives its process's id."""
        self.worker = self.begin("worker", "celery", "worker", "--concurrency", "2", "--skip-serve-logs")
        return self.worker

    def said(self) -> str:
        """Everything that the parts have written to their logs."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.stack.logs.glob("*.log")))


def chart() -> dict[str, str]:
    """The settings of helm/values/airflow.yaml as environment variables, and those that the chart makes of others."""
    sections = config()
    # There is no Kubernetes here: the first of both executors.
    core = sections["core"] | {"executor": sections["core"]["executor"].partition(",")[0]}
    return variables(sections | {"core": core})


def settings(stack: Stack, secrets: Mapping[str, str]) -> dict[str, str]:
    """The environment of each part: the chart's settings, addresses on this machine, and Secrets."""
    url, taken = stack.url("airflow"), set(stack.ports.values())
    ports = {name: str(free_port(taken)) for name in ("worker", "trigger", "health")}
    bundles = [
        {"name": name, "classpath": "forebay.git_bundle.GitJobsBundle", "kwargs": {
            "repo_url": str(stack.root), "tracking_ref": "HEAD", "subdir": f"dags/{name}", "refresh_interval": 30,
        }} for name in ("lab", "other")
    ]  # fmt: skip
    own = json.loads(chart()["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    home = stack.state / "production"
    kept = environment(stack, os.environ)
    made = {
        name: kept[name] for name in ("JAVA_HOME", "FOREBAY_JARS", "NO_PROXY", "no_proxy", "PYTHONWARNINGS")
    }
    made |= {name: os.environ[name] for name in ("HOME", "LANG", "SSL_CERT_FILE") if name in os.environ}
    made |= chart() | {
        "PATH": f"{packages() / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(REPOSITORY / "include"),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": stack.secrets["fernet_key"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(stack),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(stack.ports["airflow"]),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": stack.secrets["api_secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": stack.secrets["jwt_secret"],
        # What is in the image.
        "AIRFLOW__FAB__CONFIG_FILE": str(REPOSITORY / "images" / "webserver_config.py"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": ports["worker"],
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": ports["trigger"],
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": ports["health"],
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([*own, *bundles]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "AIRFLOW__METRICS__OTEL_ON": "False",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database_url(stack, 'postgresql')}",
        # For repositories that need no key.
        "AIRFLOW_CONN_GIT_DEFAULT": '{"conn_type": "git"}',
    }
    return made | _HASTE | secrets


def secret_connections(stack: Stack) -> dict[str, str]:
    """What is in the Secret forebay-connections."""
    return {
        f"AIRFLOW_CONN_{each['connection_id']}".upper(): json.dumps(
            {
                name: json.loads(str(value)) if name == "extra" else value
                for name, value in each.items()
                if value and name not in ("connection_id", "description")
            }
        )
        for each in connections(stack)
    }


def make_bucket(platform: Platform) -> None:
    """The bucket of tasks' logs, as docs/runbooks/install.md asks for."""
    from pyarrow.fs import S3FileSystem

    secrets, url = platform.stack.secrets, platform.stack.url("s3").removeprefix("http://")
    platform.store = S3FileSystem(
        access_key=secrets["access_key"], secret_key=secrets["secret_key"], endpoint_override=url, scheme="http",
        region="us-east-1", allow_bucket_creation=True,
    )  # fmt: skip
    platform.store.create_dir("logs")


@contextlib.contextmanager
def running(
    root: Path, secrets: Mapping[str, str], keep: Callable[[str, Mapping[str, object]], None]
) -> Iterator[Platform]:
    """A platform that ends with the block; the connection lake_catalog is in the vault only."""
    shutil.copytree(PROJECT, root, dirs_exist_ok=True)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    # Where the tests' own programs look for the console.
    (root / "plugins").symlink_to(REPOSITORY / "plugins")
    (root / ".gitignore").write_text(".forebay\nplugins\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Jobs"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    stack = Stack(root, root / ".forebay")
    stack.create()
    try:
        stack.choose_ports({}, free=True)
        lifecycle._initialise_database(stack, print)
        write_configuration(stack, os.environ)
        # Airflow's own processes among them are left alone.
        supervisor.start(stack, environment(stack, os.environ))
        lifecycle._wait(stack, FOUNDATION, processes.PATIENCE, print)
        with AirflowApi.of_stack(stack) as api, contextlib.ExitStack() as parts:
            known = secret_connections(stack)
            keep("lake_catalog", json.loads(known.pop("AIRFLOW_CONN_LAKE_CATALOG")))
            given = known | secrets
            platform = Platform(root, stack, api, settings(stack, given), parts)
            (stack.state / "production").mkdir()
            make_bucket(platform)
            platform.airflow("db", "migrate")
            # Somebody for the tests' own commands, as a robot of one's own would be.
            platform.airflow(
                "users", "create", "--username", "admin", "--password", stack.secrets["admin_password"], "--role", "Admin",
                "--firstname", "A", "--lastname", "Robot", "--email", "admin@example.org",
            )  # fmt: skip
            alive = [platform.begin(name, *arguments) for name, arguments in PARTS.items()]
            alive.append(platform.start_worker())
            _wait(stack.url("airflow"), alive)
            yield platform
    finally:
        lifecycle.down(stack)


def _wait(url: str, alive: list[Any]) -> None:
    deadline = time.monotonic() + processes.PATIENCE
    while time.monotonic() < deadline:
        for each in alive:
            each()
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/forebay/api/v1/health", trust_env=False, timeout=60).status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError("the API server did not answer")
