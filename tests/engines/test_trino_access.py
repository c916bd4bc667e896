"""The embedded Trino is closed: over TLS only, to nobody without a password, and no user acts as another."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import requests
from trino_server import PASSWORDS, TrinoServer

from forebay.engines.background import EngineError
from forebay.engines.trino_client import Server, TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.stack import trino_access


def ask(server: Server) -> list[list[object]]:
    client = TrinoClient(server)
    try:
        return client.run("SELECT current_user").rows
    finally:
        client.close()


def test_tasks_and_people_have_a_user_each(trino: TrinoServer) -> None:
    assert ask(trino.server) == [[trino_access.TASKS]]
    person = replace(trino.server, user="admin", password=trino.stack.secrets["admin_password"])
    assert ask(person) == [["admin"]]


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"user": "somebody"}, {"password": ""}])
def test_nobody_else_is_let_in(trino: TrinoServer, change: dict[str, str]) -> None:
    with pytest.raises(TrinoError, match=r"refuses user .* correct login and password") as caught:
        ask(replace(trino.server, **change))
    # Trying again with the same password is of no use, and locks accounts elsewhere.
    assert not caught.value.transient


def test_no_user_acts_as_another(trino: TrinoServer) -> None:
    asked = {
        "headers": {"X-Trino-User": "admin"}, "auth": (trino.server.user, trino.server.password),
        "verify": str(trino.server.verify), "timeout": 10,
    }  # fmt: skip
    answer = requests.post(f"{trino.server.address}/v1/statement", data="SELECT current_user", **asked).json()
    while "nextUri" in answer:
        answer = requests.get(answer["nextUri"], **asked).json()
    assert "cannot impersonate user admin" in answer["error"]["message"]


@pytest.mark.parametrize(
    "path", ["query", "node", "thread", "jmx/mbean", "service", "task", "memory", "statement"]
)
def test_every_path_asks_for_a_password(trino: TrinoServer, path: str) -> None:
    address, trusted = f"{trino.server.address}/v1/{path}", str(trino.server.verify)
    # What only its own nodes may ask is forbidden; what is asked with POST only says so.
    expected = {"task": 403, "memory": 403, "statement": 405}.get(path, 401)
    assert requests.get(address, timeout=10, verify=trusted).status_code == expected
    # As a proxy in front of it would say of itself, and as its own nodes name themselves.
    claims = {"X-Forwarded-Proto": "https", "X-Trino-User": "forebay", "X-Trino-Internal-Bearer": "made-up"}
    assert requests.get(address, timeout=10, verify=trusted, headers=claims).status_code >= 400


def test_plain_http_is_not_answered(trino: TrinoServer) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{trino.server.port}/v1/info", trust_env=False)


def test_only_its_own_certificate_is_trusted(trino: TrinoServer) -> None:
    with pytest.raises(
        TrinoError, match=r"certificate that is not trusted.* verify in the connection's extra"
    ) as caught:
        ask(replace(trino.server, verify=True))
    assert not caught.value.transient


def test_a_certificate_that_is_not_there_is_said() -> None:
    with pytest.raises(EngineError, match=r"verify names /nowhere/ca\.pem, which is no file on this machine"):
        Server.from_connection("trino.example", None, "me", "word", {"verify": "/nowhere/ca.pem"})
    assert Server.from_connection("trino.example", None, "me", "word", {"verify": "false"}).verify is False


def test_secrets_are_their_owners_and_the_certificate_stays(trino: TrinoServer) -> None:
    folder = trino.stack.state / "trino"
    for path in (trino_access.key(trino.stack), folder / "etc/password.db", folder / "etc/config.properties"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in trino_access.certificate(trino.stack).read_text()
    secrets = [trino.stack.secrets[name] for name in (*PASSWORDS, "trino_inner_secret")]
    for path in [*folder.rglob("*"), trino.log]:
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not [secret for secret in secrets if secret in text], path
    before = trino_access.certificate(trino.stack).read_text()
    trino_access.write(trino.stack)
    assert trino_access.certificate(trino.stack).read_text() == before


def test_a_certificate_that_lost_its_key_is_made_anew(trino: TrinoServer, tmp_path: Path) -> None:
    from forebay.stack.layout import Stack

    stack = Stack(tmp_path, tmp_path / "state")
    stack.__dict__.update(secrets=trino.stack.secrets, ports=trino.stack.ports)
    (stack.state / "trino" / "etc").mkdir(parents=True)
    trino_access.write(stack)
    first = trino_access.certificate(stack).read_text()
    trino_access.key(stack).write_text("")
    trino_access.write(stack)
    assert trino_access.certificate(stack).read_text() != first
    assert trino_access.key(stack).read_text().startswith(trino_access.certificate(stack).read_text())
