"""The broker of Celery's messages and the vault of secrets: real servers on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import processes
import programs

from forebay.stack.layout import free_port

POLICY = 'path "secret/data/airflow/*" { capabilities = ["read"] }'
"""As docs/runbooks/install.md has it."""


@dataclass
class Server:
    """A running server: what Airflow's environment needs of it, and what no log may show."""

    settings: dict[str, str] = field(repr=False)
    secrets: list[str] = field(repr=False)
    client: httpx.Client | None = None

    def keep(self, conn_id: str, connection: Mapping[str, object]) -> None:
        """Stores an Airflow connection in the vault."""
        kept = {name: json.dumps(value) if name == "extra" else value for name, value in connection.items()}
        self.ask("POST", f"secret/data/airflow/connections/{conn_id}", {"data": kept})

    def ask(self, method: str, path: str, body: object = None) -> Any:
        assert self.client is not None
        answer = self.client.request(method, f"/v1/{path}", json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else {}


@contextlib.contextmanager
def redis(work: Path) -> Iterator[Server]:
    """A Redis with a password."""
    program, libraries = programs.redis()
    port, password = free_port(set()), secrets.token_hex(24)
    file = work / "redis.conf"
    file.touch(0o600)
    file.write_text(f"bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ''\ndir {work}\n")
    with processes.started(
        [program, str(file)], work / "redis.log", env={**os.environ, **libraries}
    ) as alive:
        _until(lambda: "Ready to accept connections" in (work / "redis.log").read_text(), alive)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        yield Server({"AIRFLOW__CELERY__BROKER_URL": url}, [password])


@contextlib.contextmanager
def openbao(work: Path) -> Iterator[Server]:
    """An OpenBao in which Airflow has a role that may read its own secrets, and no more."""
    port, root = free_port(set()), secrets.token_hex(16)
    url = f"http://127.0.0.1:{port}"
    command = [
        programs.openbao(), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={root}",
        f"-dev-listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (
        httpx.Client(base_url=url, headers={"x-vault-token": root}, timeout=60, trust_env=False) as client,
        processes.started(command, work / "openbao.log", env={**os.environ, "HOME": str(work)}) as alive,
    ):
        _until(lambda: client.get("/v1/sys/health").is_success, alive)
        server = Server({}, [root], client)
        server.ask("PUT", "sys/policies/acl/airflow", {"policy": POLICY})
        server.ask("POST", "sys/auth/approle", {"type": "approle"})
        server.ask("POST", "auth/approle/role/airflow", {"token_policies": ["airflow"], "token_ttl": "1m"})
        role = server.ask("GET", "auth/approle/role/airflow/role-id")["data"]["role_id"]
        secret = server.ask("POST", "auth/approle/role/airflow/secret-id")["data"]["secret_id"]
        arguments = {
            "url": url, "auth_type": "approle", "role_id": role, "secret_id": secret, "mount_point": "secret",
            "connections_path": "airflow/connections", "variables_path": "airflow/variables",
        }  # fmt: skip
        server.settings |= {
            "AIRFLOW__SECRETS__BACKEND": "airflow.providers.hashicorp.secrets.vault.VaultBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(arguments),
        }
        server.secrets.append(secret)
        yield server


def _until(check: Any, alive: Any) -> None:
    deadline = time.monotonic() + processes.PATIENCE
    while time.monotonic() < deadline:
        alive()
        with contextlib.suppress(httpx.HTTPError):
            if check():
                return
        time.sleep(0.2)
    raise AssertionError("the server did not answer")
