"""Where the stack keeps its files, which ports it uses and what its secrets are."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import tempfile
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from forebay.errors import ForebayError

PORTS = {"airflow": 8080, "s3": 8333, "catalog": 8181}
"""Ports a person meets, with their defaults; `forebay up --port NAME=N` moves one."""

INNER_PORTS = (
    "store-master", "store-master-grpc", "store-volume", "store-volume-grpc", "store-filer", "store-filer-grpc",
    "store-s3-grpc", "store-admin", "store-admin-grpc",
)  # fmt: skip
"""Loopback ports between the services: free ones are chosen at first start and remembered."""

# Linux keeps a Unix socket's path below 108 bytes; Postgres appends `/.s.PGSQL.5432.lock`.
_SOCKET_FOLDER_LIMIT = 85


class StackError(ForebayError):
    """The embedded stack cannot do what was asked of it."""


@dataclass(frozen=True)
class Stack:
    """One embedded stack: the repository it serves and the folder that holds all of its state."""

    root: Path
    state: Path

    @classmethod
    def of(cls, root: Path) -> Stack:
        """The stack of a repository: `.forebay/` in it, or the folder named by FOREBAY_STATE."""
        state = os.environ.get("FOREBAY_STATE")
        return cls(root.resolve(), Path(state).resolve() if state else root.resolve() / ".forebay")

    @property
    def airflow_home(self) -> Path:
        return self.state / "airflow"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def sockets(self) -> Path:
        """Folder of the Unix sockets: in the state folder unless its path is too long for one."""
        inside = self.state / "run"
        if len(str(inside)) <= _SOCKET_FOLDER_LIMIT:
            return inside
        name = hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"forebay-{os.getuid()}-{name}"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The stack's own secrets, made at first start; the file is readable by its owner only."""
        path = self.state / "secrets.json"
        stored = _read_json(path)
        found = {name: str(stored.get(name) or new) for name, new in _new_secrets().items()}
        if found != stored:
            write_private(path, json.dumps(found, indent=1))
        return found

    @cached_property
    def ports(self) -> dict[str, int]:
        """Port of each service by name, as last started (or as the next start would try)."""
        stored = _read_json(self.state / "ports.json")
        ports = {name: int(str(stored.get(name, default))) for name, default in PORTS.items()}
        for name in INNER_PORTS:
            ports[name] = int(str(stored.get(name, 0)))
        return ports

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def create(self) -> None:
        """Makes the state folder; nobody but its owner may look into it."""
        for folder in (self.state, self.airflow_home, self.logs, self.state / "store", self.sockets):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def choose_ports(self, moved: dict[str, int], *, free: bool) -> None:
        """Settles the ports for a start and remembers them.

        `moved` overrides single ports by name; `free` replaces every taken one.
        Raises StackError naming each taken port, who holds it and how to move it.
        """
        unknown = sorted(set(moved) - set(PORTS))
        if unknown:
            raise StackError(f"unknown port name {unknown[0]!r}. Known: {', '.join(PORTS)}.")
        ports = {**self.ports, **moved}
        chosen: set[int] = {ports[name] for name in PORTS}
        if len(chosen) < len(PORTS):
            raise StackError(f"two services on one port: {', '.join(f'{n}={ports[n]}' for n in PORTS)}.")
        taken = [name for name in PORTS if not port_is_free(ports[name])]
        if taken and not free:
            lines = [f"port {ports[name]} ({name}) is in use by {port_holder(ports[name])}" for name in taken]
            example = f"--port {taken[0]}={free_port(chosen)}"
            raise StackError(
                "; ".join(lines)
                + f". Stop what uses it, or move ours: forebay up {example} (or --free-ports)."
            )
        for name in taken:
            ports[name] = free_port(chosen)
            chosen.add(ports[name])
        for name in INNER_PORTS:
            if not ports[name] or ports[name] in chosen or not port_is_free(ports[name]):
                ports[name] = free_port(chosen)
            chosen.add(ports[name])
        write_private(self.state / "ports.json", json.dumps(ports, indent=1))
        self.__dict__["ports"] = ports


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(avoid: set[int]) -> int:
    """A port below the range the kernel hands to outgoing connections, so that none takes it meanwhile."""
    for _ in range(1000):
        port = 20000 + secrets.randbelow(12000)
        if port not in avoid and port_is_free(port):
            return port
    raise StackError("no free port found on 127.0.0.1 between 20000 and 32000.")


def port_holder(port: int) -> str:
    """Who listens on a port, in words; other users' processes cannot be named."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid:
                    return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
                break
    except (psutil.Error, OSError):
        pass
    return "another process"


def _new_secrets() -> dict[str, str]:
    return {
        "admin_password": secrets.token_urlsafe(18),
        "postgres_password": secrets.token_hex(24),
        "access_key": secrets.token_hex(10),
        "secret_key": secrets.token_hex(24),
        "store_signing_key": secrets.token_hex(24),
        "fernet_key": urlsafe_b64encode(os.urandom(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret_key": secrets.token_urlsafe(48),
    }


def _read_json(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(
            f"{path}: cannot be read ({error}). Restore it, or remove it to have it made anew."
        ) from error
    if not isinstance(data, dict):
        raise StackError(f"{path}: not a JSON object. Restore it, or remove it to have it made anew.")
    return data
