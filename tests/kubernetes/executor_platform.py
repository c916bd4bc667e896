"""Airflow as in production beside a node: its parts are processes here, tasks are pods of our image there."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import airflow_chart as chart
import airflow_connections
import cluster as clusters
import httpx
import images
import node as nodes
import programs
import psycopg2
import yaml
from pyarrow.fs import S3FileSystem
from store import running_lens, running_store

from forebay.lake.connection import CatalogConfig
from forebay.stack import lifecycle, services
from forebay.stack.airflow_api import AirflowApi, Json
from forebay.stack.layout import Stack, free_port

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, WORKSPACE = "platform", "lab"
PATIENCE = 600.0
NODES = {"forebay-tasks": "here"}
"""Labels of the nodes of its workspace."""
_PROJECT = {
    "workspace.yaml": "owner: test\ndescription: Jobs whose tasks have pods of their own.\n",
    "jobs.py": (ROOT / "dags/flights/jobs.py").read_text(),
    "rows.yaml": """\
description: Writes a table.
tasks:
  - {key: rows, type: sql, sql: "SELECT n FROM UNNEST(ARRAY[1, 2, 3]) AS t (n)", table: lab.rows}
""",
    "waits.yaml": """\
description: Waits to be ended.
tasks:
  - {key: wait, type: python, function: programs.wait}
""",
    "eats.yaml": """\
description: Takes more memory than there is.
tasks:
  - {key: eat, type: python, function: programs.eat}
""",
    "eats_all.yaml": """\
description: Takes more memory than there is, and its container is killed for it.
tasks:
  - {key: eat, type: python, function: programs.eat_all}
""",
}
_PROGRAMS = """\
import os
import time


def wait() -> None:
    print("it waits", flush=True)
    time.sleep(3600)


def eat() -> None:
    kept = []
    while True:
        kept.append(b"x" * 2**26)


def eat_all() -> None:
    # A file in memory is no process' own, so the largest process is killed: that which watches over the task, and with it
    # the container. In cgroups of version 2 a container always ends so.
    os.dup2(os.memfd_create("eaten"), 1)
    os.execvp("cat", ["cat", "/dev/zero"])
"""


def until(what: Callable[[], Any]) -> Any:
    """What is true in the end; the machine is left some time to come there."""
    return nodes.until(lambda: what() or time.sleep(0.5), PATIENCE)


@dataclass(frozen=True)
class Platform:
    """A running one."""

    node: nodes.Node
    api: AirflowApi
    lake: CatalogConfig
    template: Path
    """Its pods' template, read for each pod."""
    commit: str
    """That its jobs are of."""

    @property
    def cluster(self) -> clusters.Cluster:
        return self.node.cluster

    def start(self, job: str) -> str:
        until(lambda: self.api.has_dag(job))
        return self.api.trigger(job, {})

    def task(self, job: str, run: str, key: str) -> Json:
        return self.api.get(f"/dags/{job}/dagRuns/{run}/taskInstances/{key}")

    def finish(self, job: str, run: str) -> tuple[str, list[Json]]:
        """The state in which a run ended, and its tasks."""
        until(lambda: self.api.run(job, run)["state"] in ("success", "failed"))
        return self.api.run(job, run)["state"], self.api.task_instances(job, run)

    def pods(self, run: str) -> dict[str, str]:
        """Those of a run's tasks by name, and the phase each is in."""
        return {
            pod["metadata"]["name"]: pod["status"]["phase"]
            for pod in self.cluster.get("pods", "-n", NAMESPACE)["items"]
            if (pod["metadata"].get("annotations") or {}).get("run_id") == run
        }

    def log(self, job: str, run: str, key: str, number: int = 1) -> str:
        """A task's log as Airflow's UI asks for it, with where it is from."""
        path = f"/dags/{job}/dagRuns/{run}/taskInstances/{key}/logs/{number}"
        return json.dumps(self.api.get(path, full_content=True)["content"])

    def why(self, job: str, run: str) -> list[Json]:
        """What the console says of a run that is not done, or failed."""
        path = f"/forebay/api/v1/runs/{job}/{quote(run, safe='')}/why"
        found: list[Json] = json.loads("".join(self.api.lines("GET", path)))
        return found


@contextlib.contextmanager
def running(folder: Path, node: nodes.Node) -> Iterator[Platform]:
    """A platform that ends with the block; database, store, lens and repository are this machine's."""
    node.load(images.airflow(ROOT))
    here = node.machine.here
    (folder / "weed").mkdir()
    with contextlib.ExitStack() as stays:
        store = stays.enter_context(running_store(folder / "weed", here))
        lens = stays.enter_context(running_lens(store.config, folder / "lens.log", host=here))
        _bucket(store.config).create_dir("logs")
        commit, git, api = _repository(folder / "git" / "jobs"), free_port(set()), free_port(set())
        stack = Stack(folder, folder / ".forebay")
        stack.create()
        lifecycle._initialise_database(stack, print)
        made = _made(f"http://{here}:{git}/jobs/.git")
        told = {name: value for each in made for name, value in each.get("data", {}).items()}
        connections = told | airflow_connections.of_lake(store.config, lens)
        template = folder / "pod_template_file.yaml"
        write_template(template)
        _prepare(node, api, stack, connections, [each for each in made if each["kind"] == "PriorityClass"])
        stays.callback(node.cluster.kubectl, "delete", "namespace", NAMESPACE, "--wait=false")
        settings = _settings(folder, here, api, template, stack) | connections
        parts = clusters.Parts(folder, [], settings)
        stays.callback(parts.stop)
        program, *words = services.postgres(stack)
        parts.start("postgres", *words, program=program)
        nodes.until(lambda: _answers(stack), also=parts.alive)
        served = ("-m", "http.server", str(git), "--bind", here, "--directory", str(folder / "git"))
        parts.start("git", *served, program=sys.executable)
        _airflow(settings, "db", "migrate")
        password = stack.secrets["admin_password"]
        _airflow(
            settings, "users", "create", "--username", "admin", "--password", password, "--role", "Admin",
            "--firstname", "A", "--lastname", "Robot", "--email", "admin@example.org",
        )  # fmt: skip
        for part, account in (
            ("api-server", "airflow-api-server"), ("scheduler", "airflow-scheduler"), ("dag-processor", ""),
        ):  # fmt: skip
            own = (
                {"AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(_login(node.cluster, account, folder))}
                if account
                else {}
            )
            parts.start(part, "-m", "airflow", part, program=_python(), **own)
        url = f"http://{here}:{api}"
        nodes.until(lambda: _healthy(url), PATIENCE, also=parts.alive)
        with AirflowApi(url, "admin", password) as client:
            pool = {"name": WORKSPACE, "slots": 8, "include_deferred": False}
            client.request("POST", "/api/v2/pools", json=pool)
            yield Platform(node, client, store.config, template, commit)
            parts.alive()


def write_template(path: Path, cpu: str = "250m", memory: str = "") -> None:
    """The pods' template, with another CPU than that for a node of production's size, or with other memory, too."""
    made = chart.pod_template(images.AIRFLOW)
    resources = made["spec"]["containers"][0]["resources"]
    resources["requests"]["cpu"] = cpu
    if memory:
        resources["requests"]["memory"] = resources["limits"]["memory"] = memory
    path.write_text(yaml.safe_dump(made))


def _python() -> str:
    return str(chart.packages() / "bin" / "python")


def _airflow(settings: dict[str, str], *words: str) -> None:
    programs.run([_python(), "-m", "airflow", *words], env=settings, timeout=600)


def label(node: nodes.Node, labels: Mapping[str, str | None]) -> None:
    """Labels the node; None takes a label off."""
    words = [f"{name}-" if value is None else f"{name}={value}" for name, value in labels.items()]
    node.cluster.kubectl("label", "node", nodes.NODE, *words)


def _made(repository: str) -> list[Json]:
    """What our chart makes of a workspace whose tasks have pods of their own: what Airflow is told, priority classes."""
    chosen = {
        "executor": "KubernetesExecutor", "scheduling": "interactive", "git.repository": repository, "git.branch": "main",
        **{f"nodeSelector.{name}": value for name, value in NODES.items()},
    }  # fmt: skip
    command = [
        programs.helm(), "template", "forebay", str(ROOT / "helm/forebay"), "-n", NAMESPACE,
        "--kube-version", programs.KUBERNETES.lstrip("v"),
        *(word for each in ("placement", "bundles", "scheduling") for word in ("-s", f"templates/{each}.yaml")),
        *(word for name, value in chosen.items() for word in ("--set", f"workspaces.{WORKSPACE}.{name}={value}")),
    ]  # fmt: skip
    return [each for each in yaml.safe_load_all(programs.run(command, timeout=60)) if each]


def _settings(folder: Path, here: str, port: int, template: Path, stack: Stack) -> dict[str, str]:
    """The environment of Airflow's own parts: as in their pods, but for addresses and files."""
    url = f"http://{here}:{port}"
    own: chart.Config = {
        "core": {
            "plugins_folder": str(ROOT / "plugins"), "execution_api_server_url": f"{url}/execution/",
            "fernet_key": stack.secrets["fernet_key"],
        },
        "database": {"sql_alchemy_conn": services.database_url(stack)},
        "api": {"host": here, "port": str(port), "base_url": url, "secret_key": stack.secrets["api_secret_key"]},
        "api_auth": {"jwt_secret": stack.secrets["jwt_secret"]},
        "fab": {"config_file": str(ROOT / "images" / "webserver_config.py")},
        "kubernetes_executor": {"in_cluster": "False", "pod_template_file": str(template)},
        "scheduler": {"scheduler_health_check_server_port": str(free_port(set()))},
        "dag_processor": {"refresh_interval": "5", "dag_bundle_storage_path": str(folder / "bundles")},
        "logging": {"base_log_folder": str(folder / "logs")},
        "metrics": {"otel_on": "False"},
    }  # fmt: skip
    sections = chart.merged(chart.config(), chart.defaults(NAMESPACE, images.AIRFLOW), own)
    # The list of bundles is that of our chart.
    del sections["dag_processor"]["dag_bundle_config_list"]
    return chart.variables(sections) | {
        "PATH": f"{Path(_python()).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder), "LANG": "C.UTF-8", "AIRFLOW_HOME": str(folder / "airflow"),
        "PYTHONPATH": str(ROOT / "include"), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def _prepare(
    node: nodes.Node, port: int, stack: Stack, connections: dict[str, str], classes: Sequence[Json]
) -> None:
    """What docs/runbooks/install.md and Airflow's chart make in the platform's namespace."""

    def of(kind: str, name: str, **rest: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **rest}

    keys = {
        "fernet-key": stack.secrets["fernet_key"],
        "api-secret-key": stack.secrets["api_secret_key"],
        "jwt-secret": stack.secrets["jwt_secret"],
    }
    cfg = chart.written(chart.merged(chart.config(), chart.defaults(NAMESPACE, images.AIRFLOW)))
    # Nobody answers at these: a task asks the API server for everything.
    nobody = {
        "forebay-airflow-database": "postgresql://a:b@nobody:5432/airflow",
        "airflow-broker-url": "redis://nobody",
    }
    service = {"kubernetes.io/service-name": "airflow-api-server"}
    answers = of("EndpointSlice", "airflow-api-server", addressType="IPv4", ports=[{"port": port}])
    answers |= {"apiVersion": "discovery.k8s.io/v1", "endpoints": [{"addresses": [node.machine.here]}]}
    answers["metadata"]["labels"] = service
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *classes,
        *chart.rights(NAMESPACE),
        of("Secret", "forebay-airflow-keys", stringData=keys),
        of("Secret", "forebay-connections", stringData=connections),
        *(of("Secret", name, stringData={"connection": url}) for name, url in nobody.items()),
        of("ConfigMap", "airflow-config", data={"airflow.cfg": cfg, "airflow_local_settings.py": ""}),
        of("Service", "airflow-api-server", spec={"ports": [{"port": 8080, "targetPort": port}]}),
        answers,
    ]
    node.cluster.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": made})
    label(node, NODES)


def _login(cluster: clusters.Cluster, account: str, folder: Path) -> Path:
    """A kubeconfig of one of the chart's accounts."""
    config: dict[str, Any] = json.loads(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", account, "-n", NAMESPACE, "--duration=3h").stdout.strip()
    config["users"][0]["user"] = {"token": token}
    path = folder / f"{account}.kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _repository(folder: Path) -> str:
    """Makes the repository of the jobs; gives its commit."""
    jobs, own = folder / "dags" / WORKSPACE, folder / "include" / WORKSPACE
    jobs.mkdir(parents=True)
    own.mkdir(parents=True)
    for name, text in _PROJECT.items():
        (jobs / name).write_text(text)
    (own / "programs.py").write_text(_PROGRAMS)
    git = ["git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (
        ["init", "--quiet", "-b", "main"],
        ["add", "."],
        ["commit", "--quiet", "--message", "Jobs"],
        # With it any server of files is one of repositories.
        ["update-server-info"],
    ):
        programs.run([*git, *words], timeout=60)
    return programs.run([*git, "rev-parse", "HEAD"], timeout=60).strip()


def _bucket(config: CatalogConfig) -> S3FileSystem:
    return S3FileSystem(
        access_key=config.access_key, secret_key=config.secret_key, scheme="http", region=config.s3_region,
        endpoint_override=config.s3_endpoint.removeprefix("http://"), allow_bucket_creation=True,
    )  # fmt: skip


def _answers(stack: Stack) -> bool:
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(services.database_url(stack, "postgresql")).close()
        return True
    return False


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/forebay/api/v1/health", trust_env=False, timeout=60).status_code == 200
    return False
