"""What the tests of stores share: a MinIO and a SeaweedFS, each with a client."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from second_stack import Minio
from store import KEY, SECRET, running_store

from forebay.buckets.client import Store
from forebay.connections.s3 import S3
from forebay.machine import jars, java

os.environ["FOREBAY_JARS"] = str(jars.folder())
os.environ["JAVA_HOME"] = str(java.require())


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    server = Minio(tmp_path_factory.mktemp("minio"))
    try:
        server.start()
        with server.client() as client:
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with (
        running_store(tmp_path_factory.mktemp("weed")) as weed,
        Store(S3(weed.config.s3_endpoint, "us-east-1", KEY, SECRET), "seaweedfs") as client,
    ):
        yield client


@pytest.fixture(params=["minio", "seaweedfs"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found
