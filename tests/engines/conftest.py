"""What the tests of the engines share: a store with its catalog, a lens, a Trino.

`--stack minio` puts MinIO with Iceberg's reference catalog in the place of SeaweedFS, `--stack one-by-one` a catalog that
commits one table at a time: what does not ask for the fixture `config` is left out then, for it would be the same.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from lake import Lake
from operator_process import Start
from store import free_ports, running_lens, running_store
from trino_server import TrinoServer, running_trino

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.rest import Rest
from forebay.machine import jars, java

# What the stack sets for its tasks.
os.environ["FOREBAY_JARS"] = str(jars.folder())
os.environ["JAVA_HOME"] = str(java.require())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stack", choices=["seaweedfs", "minio", "one-by-one"], default="seaweedfs")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "seaweedfs(why): what is tested is SeaweedFS's own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("stack") == "seaweedfs":
        return
    same = [item for item in items if "config" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=same)
    items[:] = [item for item in items if item not in same]
    for item in items:
        if mark := item.get_closest_marker("seaweedfs"):
            item.add_marker(pytest.mark.skip(mark.args[0]))


@pytest.fixture(scope="session")
def config(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CatalogConfig]:
    folder, stack = tmp_path_factory.mktemp("weed"), request.config.getoption("stack")
    if stack == "seaweedfs":
        with running_store(folder) as store:
            yield store.config
    else:
        from second_stack import running_second_stack

        with running_second_stack(folder, transactions=stack == "minio") as second:
            yield second.config


@pytest.fixture(scope="session")
def lens(config: CatalogConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a lens in front of the catalog, in a process of its own."""
    with running_lens(config, tmp_path_factory.mktemp("lens") / "log") as address:
        yield address


@pytest.fixture
def engine(config: CatalogConfig) -> Iterator[DuckDBEngine]:
    with DuckDBEngine(config) as made:
        yield made


@pytest.fixture
def namespace() -> str:
    """A namespace no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def trino(
    config: CatalogConfig, lens: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrinoServer]:
    """One Trino for all tests."""
    with running_trino(tmp_path_factory.mktemp("trino"), config, lens, free_ports(1)[0]) as server:
        yield server


@pytest.fixture
def rest(config: CatalogConfig) -> Iterator[Rest]:
    with Rest(config) as made:
        yield made


@pytest.fixture
def lake(config: CatalogConfig, lens: str, namespace: str) -> Lake:
    return Lake(config, lens, namespace)


@pytest.fixture
def start(config: CatalogConfig, lens: str) -> Iterator[Start]:
    made = Start(config, lens)
    yield made
    made.end()
