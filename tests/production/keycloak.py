"""A Keycloak of the tests' own: from Maven Central, on loopback, with its database in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import processes
import programs

from forebay.machine import jars, java
from forebay.stack.layout import free_port

PIN = jars.Jar(
    "org.keycloak",
    "keycloak-quarkus-dist",
    "26.7.3",
    "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f",
    extension="zip",
)
_BUILT = ("--db=dev-mem", "--cache=local", "--health-enabled=false", "--metrics-enabled=false")
_SECONDS = 600
REALM, CLIENT = "people", "airflow"


def home() -> Path:
    """The server, configured once; all of it that changes later is in memory."""

    def unpack(folder: Path) -> None:
        jars.fetch(print, [PIN])
        archive = jars.folder() / PIN.file_name
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        archive.unlink()
        made = next(folder.iterdir())
        program = made / "bin" / "kc.sh"
        program.chmod(0o755)
        processes.run([str(program), "build", *_BUILT], env=_environment(), timeout=_SECONDS)

    return next(programs.kept("keycloak", PIN.sha256 + " ".join(_BUILT), unpack).iterdir())


def _environment() -> dict[str, str]:
    return {"JAVA_HOME": str(java.require()), "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m"}


@dataclass
class Keycloak:
    """A running server with one realm, a client for Airflow, and people in groups."""

    url: str
    admin: httpx.Client
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{REALM}"

    @property
    def settings(self) -> dict[str, str]:
        """What is in the Secret forebay-oidc."""
        return {
            "FOREBAY_OIDC_ISSUER": self.issuer,
            "FOREBAY_OIDC_CLIENT_ID": CLIENT,
            "FOREBAY_OIDC_CLIENT_SECRET": self.secret,
        }

    def make_realm(self) -> None:
        """The realm and the client as docs/runbooks/install.md describes them."""
        groups = {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": "groups", "full.path": "true", "userinfo.token.claim": "true"},
        }
        client = {
            "clientId": CLIENT, "secret": self.secret, "publicClient": False, "standardFlowEnabled": True,
            "directAccessGrantsEnabled": False, "redirectUris": ["http://127.0.0.1/*", "https://airflow.example.com/*"],
            "protocolMappers": [groups], "attributes": {"pkce.code.challenge.method": "S256"},
        }  # fmt: skip
        self._sent(
            "POST",
            "/admin/realms",
            {"realm": REALM, "enabled": True, "sslRequired": "none", "clients": [client]},
        )

    def make_person(self, name: str, password: str, *groups: str) -> None:
        """Somebody in groups, such as `lab/editor`, which are made too."""
        person = {
            "username": name, "enabled": True, "email": f"{name}@example.org", "emailVerified": True,
            "firstName": name, "lastName": "Test",
            "credentials": [{"type": "password", "value": password, "temporary": False}],
            "groups": [self._group(each) for each in groups],
        }  # fmt: skip
        self._sent("POST", f"/admin/realms/{REALM}/users", person)

    def leave(self, name: str, group: str) -> None:
        """Takes somebody out of a group."""
        users = self._sent("GET", f"/admin/realms/{REALM}/users?username={name}&exact=true").json()
        member = f"/admin/realms/{REALM}/users/{users[0]['id']}/groups"
        (found,) = (each["id"] for each in self._sent("GET", member).json() if each["path"] == f"/{group}")
        self._sent("DELETE", f"{member}/{found}")

    def _group(self, path: str) -> str:
        parent, _, child = path.rpartition("/")
        names = [parent, child] if parent else [child]
        where, found = f"/admin/realms/{REALM}/groups", ""
        for name in names:
            made = self.admin.post(where, json={"name": name}, headers=self._token())
            assert made.status_code in (201, 409), made.text
            found = self._sent(
                "GET", f"/admin/realms/{REALM}/group-by-path/{path if name == child else parent}"
            ).json()["id"]
            where = f"/admin/realms/{REALM}/groups/{found}/children"
        return f"/{path}"

    def _token(self) -> dict[str, str]:
        # They hold for a minute.
        asked = self.admin.post(
            "/realms/master/protocol/openid-connect/token",
            data={"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self.secret},
        )  # fmt: skip
        asked.raise_for_status()
        return {"authorization": f"Bearer {asked.json()['access_token']}"}

    def _sent(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = self.admin.request(method, path, json=body, headers=self._token())
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer


@contextlib.contextmanager
def running(work: Path) -> Iterator[Keycloak]:
    """A server that ends with the block."""
    port = free_port(set())
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as admin:
        keycloak = Keycloak(url, admin)
        command = [
            str(home() / "bin" / "kc.sh"), "start", "--optimized", "--http-enabled=true", "--http-host=127.0.0.1",
            f"--http-port={port}", f"--hostname={url}", f"--http-management-port={free_port({port})}",
        ]  # fmt: skip
        own = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": keycloak.secret}
        with processes.started(
            command, work / "keycloak.log", env={**os.environ, **_environment(), **own}
        ) as alive:
            _wait(keycloak, alive)
            keycloak.make_realm()
            yield keycloak


def _wait(keycloak: Keycloak, alive: Any) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        alive()
        with contextlib.suppress(httpx.HTTPError):
            if keycloak.admin.get("/realms/master").is_success:
                return
        time.sleep(0.5)
    raise AssertionError(f"Keycloak did not answer within {_SECONDS} s")
