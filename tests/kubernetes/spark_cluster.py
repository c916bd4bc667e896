"""A cluster that runs `spark` tasks: a node, the Spark operator by its chart, and workspaces of our chart."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cluster as clusters
import images
import node as nodes
import programs

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "forebay-"


@dataclass(frozen=True)
class SparkCluster:
    """A node with our images and the Spark operator on it."""

    node: nodes.Node
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def cluster(self) -> clusters.Cluster:
        return self.node.cluster

    @property
    def here(self) -> str:
        """The address under which its pods find this machine."""
        return self.node.machine.here

    @contextlib.contextmanager
    def workspace(self, name: str = "", *settings: str, key: str = "a", secret: str = "b") -> Iterator[str]:
        """A workspace as our chart makes it, with the lake's credentials: gives its namespace."""
        name = name or f"test{next(self.numbers)}"
        chosen = [f"{name}.poolSlots=1", *(f"{name}.{each}" for each in settings)]
        command = [
            programs.helm(), "template", "forebay", str(ROOT / "helm/forebay"), "-n", "default",
            "--kube-version", programs.KUBERNETES.lstrip("v"), "-s", "templates/workspaces.yaml",
            *(word for each in chosen for word in ("--set", f"workspaces.{each}")),
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        namespace = PREFIX + name
        self.cluster.kubectl("apply", "-f", "-", given=made)
        self.cluster.kubectl(
            "create", "secret", "generic", "forebay-lake", "-n", namespace, f"--from-literal=access-key={key}",
            f"--from-literal=secret-key={secret}", f"--from-literal=catalog-credential={key}:{secret}",
        )  # fmt: skip
        try:
            yield namespace
        finally:
            self.cluster.kubectl("delete", "namespace", namespace, "--wait=false")

    def account(self, namespace: str, folder: Path) -> Path:
        """A kubeconfig of the account that Airflow's workers have in our chart, for the workspaces' namespaces."""
        name = "airflow-worker"
        made = self.cluster.kubectl("create", "serviceaccount", name, "-n", "default", check=False)
        assert made.returncode == 0 or "already exists" in made.stderr, made.stderr
        token = self.cluster.kubectl("create", "token", name, "-n", "default").stdout.strip()
        config: dict[str, Any] = json.loads(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = folder / f"{namespace}.kubeconfig"
        path.write_text(json.dumps(config))
        return path


def made_of(node: nodes.Node) -> SparkCluster:
    """Installs the Spark operator on a node, by its chart with our values."""
    for archive in images.spark(ROOT):
        node.load(archive)
    cluster = node.cluster
    module = programs.module(programs.SPARK_OPERATOR)
    cluster.add_kinds(module / "config/crd/bases")
    registry, _, rest = images.OPERATOR.partition("/")
    repository, _, tag = rest.partition(":")
    try:
        cluster.helm(
            "install", "spark-operator", str(module / "charts/spark-operator-chart"), "-n", "operators",
            "--create-namespace", "--skip-crds", "-f", str(ROOT / "helm/values/spark-operator.yaml"), "--wait",
            "--timeout", "180s", "--set",
            f"image.registry={registry},image.repository={repository},image.tag={tag},image.pullPolicy=Never",
        )  # fmt: skip
    except AssertionError as error:
        said = cluster.kubectl("describe", "pods", "-n", "operators", check=False).stdout
        raise AssertionError(f"{error}\n{said[-4000:]}") from None
    return SparkCluster(node)
