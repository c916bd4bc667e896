"""What the tests of Kubernetes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cluster as clusters
import programs
import pytest

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
    for module, folder in CRDS.items():
        cluster.kubectl("apply", "--server-side", "-f", str(programs.module(module) / folder))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
