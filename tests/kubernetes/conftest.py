"""What the tests of Kubernetes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cluster as clusters
import node as nodes
import programs
import pytest
import spark_cluster as spark_clusters

ROOT = Path(__file__).resolve().parents[2]
CRDS = {
    "github.com/cloudnative-pg/cloudnative-pg@v1.30.0": "config/crd/bases",
    programs.SPARK_OPERATOR: "config/crd/bases",
    "github.com/prometheus-operator/prometheus-operator@v0.89.0": "example/prometheus-operator-crd",
}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    """One control plane for all tests; each uses namespaces of its own."""
    with clusters.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def kinds(cluster: clusters.Cluster) -> None:
    """The kinds of objects that the operators bring."""
    cluster.add_kinds(*(programs.module(module) / folder for module, folder in CRDS.items()))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    """One control plane with a node for all tests; each uses namespaces of its own."""
    with nodes.running(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(scope="session")
def spark_cluster(node: nodes.Node) -> spark_clusters.SparkCluster:
    """The node with the Spark operator on it; each test uses a workspace of its own."""
    return spark_clusters.made_of(node)
