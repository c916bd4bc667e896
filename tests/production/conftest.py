"""Airflow as in production: the image's packages and the chart's settings, over the embedded store, catalog and database."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
INTEGRATION = HERE.parent / "integration"
sys.path[:0] = [str(INTEGRATION), str(HERE.parent / "kubernetes"), str(HERE)]
_spec = importlib.util.spec_from_file_location("stack_of_tests", INTEGRATION / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)
eventually = _module.eventually
"""For what is taken over from the integration tests."""

import keycloak as keycloaks  # noqa: E402  the folder is on the path by now
import platform_of_tests  # noqa: E402
import servers  # noqa: E402

if TYPE_CHECKING:
    from keycloak import Keycloak
    from platform_of_tests import Platform
    from servers import Server


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    with keycloaks.running(tmp_path_factory.mktemp("keycloak")) as running:
        yield running


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.openbao(tmp_path_factory.mktemp("openbao")) as running:
        yield running


@pytest.fixture(scope="session")
def lab(
    tmp_path_factory: pytest.TempPathFactory, keycloak: Keycloak, redis: Server, openbao: Server
) -> Iterator[Platform]:
    """All parts of a platform, with a run of lab.console and one of other.rows."""
    secrets = keycloak.settings | redis.settings | openbao.settings
    root = tmp_path_factory.mktemp("platform")
    with platform_of_tests.running(root, secrets, openbao.keep) as running:
        for job in ("lab.console", "other.rows"):
            run, tasks = running.run(job, seconds=600)
            assert run["state"] == "success", tasks
        yield running


@pytest.fixture(scope="session")
def hidden(lab: Platform, keycloak: Keycloak, redis: Server, openbao: Server) -> list[str]:
    """What no log, page or table may show."""
    names = (
        "secret_key",
        "postgres_password",
        "fernet_key",
        "api_secret_key",
        "jwt_secret",
        "admin_password",
    )
    return [keycloak.secret, *redis.secrets, *openbao.secrets, *(lab.stack.secrets[name] for name in names)]
