"""What the tests of Kubernetes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cluster as clusters
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    """One control plane for all tests; each uses namespaces of its own."""
    with clusters.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running
