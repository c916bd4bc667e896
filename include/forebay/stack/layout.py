"""Where the stack keeps its files, which ports it uses and what its secrets are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import stat
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from forebay.errors import ForebayError, suggestion

PORTS = {"airflow": 8080, "s3": 8333, "catalog": 8181, "lens": 8182, "trino": 8083}
"""Ports a person meets, with their defaults; `forebay up --port NAME=N` moves one."""

PARTS = ("trino",)
"""What a stack has only when it was asked for: `forebay up --with NAME`; each has a port of its name."""

_TLS = ("trino",)

INNER_PORTS = (
    "store-master", "store-master-grpc", "store-volume", "store-volume-grpc", "store-filer", "store-filer-grpc",
    "store-s3-grpc", "store-admin", "store-admin-grpc",
)  # fmt: skip
"""Loopback ports between the services: free ones are chosen at first start and remembered."""

# Linux keeps a Unix socket's path below 108 bytes; supervisord appends `/supervisor.sock.<process>` for a moment.
_SOCKET_FOLDER_LIMIT = 80

# What the database was made with: a new one of these opens nothing that is there.
_LOCKED_WITH = ("postgres_password", "fernet_key")


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
        if len(os.fsencode(inside)) <= _SOCKET_FOLDER_LIMIT:
            return inside
        name = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]
        # Not TMPDIR: every command must find the same folder, whatever its environment.
        return Path(f"/tmp/forebay-{os.getuid()}-{name}")

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The stack's own secrets, made at first start; the file is readable by its owner only."""
        path = self.state / "secrets.json"
        if not path.exists() and not (self.state / "postgres").exists():
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, json.dumps(_new_secrets(), indent=1), anew=True)
        remedy = f"Restore it; without it the database in {self.state} cannot be opened, so else: forebay down, and remove that folder."
        stored = _read_json(path, remedy)
        lost = [name for name in _LOCKED_WITH if not stored.get(name)]
        if lost:
            raise StackError(f"{path}: {lost[0]} is missing. {remedy}")
        # One that an earlier release did not have is made now.
        found = {name: str(stored.get(name) or new) for name, new in _new_secrets().items()}
        if found != stored:
            write_private(path, json.dumps(found, indent=1))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return found

    @cached_property
    def ports(self) -> dict[str, int]:
        """Port of each service by name, as last started (or as the next start would try)."""
        path = self.state / "ports.json"
        remedy = "Correct it, or remove it to have it made anew."
        stored = _read_json(path, remedy)
        ports = {name: stored.get(name, default) for name, default in PORTS.items()}
        ports |= {name: stored.get(name, 0) for name in INNER_PORTS}
        for name, port in ports.items():
            least = 1 if name in PORTS else 0
            if not isinstance(port, int) or isinstance(port, bool) or not least <= port <= 65535:
                raise StackError(f"{path}: {name} is {port!r}, which is no port. {remedy}")
        return {name: port for name, port in ports.items() if isinstance(port, int)}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Those of PARTS that this stack was asked for."""
        path = self.state / "parts.json"
        stored = _read_json(path, "Remove it, and name them again: forebay up --with NAME.")
        return tuple(name for name in PARTS if stored.get(name))

    def choose_parts(self, wanted: Collection[str], unwanted: Collection[str]) -> bool:
        """Remembers which of PARTS the stack has; True when that is new."""
        chosen = tuple(
            name for name in PARTS if (name in self.parts or name in wanted) and name not in unwanted
        )
        if chosen == self.parts:
            return False
        write_private(self.state / "parts.json", json.dumps(dict.fromkeys(chosen, True)))
        self.__dict__["parts"] = chosen
        return True

    def url(self, port: str) -> str:
        scheme = "https" if port in _TLS else "http"
        return f"{scheme}://127.0.0.1:{self.ports[port]}"

    def create(self) -> None:
        """Makes the state folder; nobody but its owner may look into it."""
        for folder in (self.state, self.airflow_home, self.logs, self.state / "store", self.sockets):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                status = folder.lstat()
                # In /tmp anyone may have made it before us, also as a link to a folder of ours.
                if stat.S_ISLNK(status.st_mode) and folder == self.sockets:
                    raise StackError(f"{folder}: is a link. Remove it, or use a shorter FOREBAY_STATE.")
                if folder.stat().st_uid != os.getuid():
                    raise StackError(
                        f"{folder}: belongs to another user. Have it removed, or put the state elsewhere: "
                        "FOREBAY_STATE=/path forebay up."
                    )
                folder.chmod(0o700)
            except OSError as error:
                raise StackError(
                    f"{folder}: cannot be made a private folder ({error.strerror}). Mend that, or put the state "
                    "elsewhere: FOREBAY_STATE=/path forebay up."
                ) from error

    def choose_ports(self, moved: dict[str, int], *, free: bool, only: Collection[str] | None = None) -> None:
        """Settles the ports for a start and remembers them.

        `moved` overrides single ports by name; `free` replaces every taken one. `only` names those that are to be
        started where the others run already.
        Raises StackError naming each taken port, who holds it and how to move it.
        """
        unknown = sorted(set(moved) - set(PORTS))
        if unknown:
            raise StackError(f"unknown port name {unknown[0]!r}.{suggestion(unknown[0], PORTS)}")
        ports = {**self.ports, **moved}
        needed = [name for name in PORTS if name not in PARTS or name in self.parts]
        chosen: set[int] = {ports[name] for name in needed}
        if len(chosen) < len(needed):
            raise StackError(
                f"two services on one port: {', '.join(f'{n}={ports[n]}' for n in needed)}. "
                f"Move one: forebay up --port NAME={free_port(chosen)}."
            )
        asked = needed if only is None else [name for name in needed if name in only]
        taken = [name for name in asked if not port_is_free(ports[name])]
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
        for name in INNER_PORTS if only is None else ():
            if not ports[name] or ports[name] in chosen or not port_is_free(ports[name]):
                ports[name] = free_port(chosen)
            chosen.add(ports[name])
        write_private(self.state / "ports.json", json.dumps(ports, indent=1))
        self.__dict__["ports"] = ports


def write_private(path: Path, text: str, *, anew: bool = False) -> None:
    """Writes a file that only its owner can read, whole or not at all; with `anew` one that is there stays."""
    # mkstemp makes a file that only its owner can read.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not anew:
            os.replace(temporary, path)
            return
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


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
                    process = psutil.Process(connection.pid)
                    return f"{process.name()} (process {connection.pid}){_stack_of(process)}"
                break
    except (psutil.Error, OSError):
        pass
    return "another process"


def _stack_of(process: psutil.Process) -> str:
    """Words for the Forebay stack that a process belongs to; empty where it belongs to none."""
    from forebay.stack.services import STATE_VARIABLE

    state = ""
    with contextlib.suppress(psutil.Error, OSError):
        state = process.environ().get(STATE_VARIABLE, "")
    return f" of the Forebay stack in {state}" if state else ""


def _new_secrets() -> dict[str, str]:
    return {
        "admin_password": secrets.token_urlsafe(18),
        "postgres_password": secrets.token_hex(24),
        "access_key": secrets.token_hex(10),
        "secret_key": secrets.token_hex(24),
        "store_signing_key": secrets.token_hex(24),
        "trino_password": secrets.token_hex(24),
        "trino_worksheet_password": secrets.token_hex(24),
        "trino_inner_secret": secrets.token_hex(48),
        "fernet_key": urlsafe_b64encode(os.urandom(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret_key": secrets.token_urlsafe(48),
    }


def _read_json(path: Path, remedy: str) -> dict[str, object]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(f"{path}: cannot be read ({error}). {remedy}") from error
    if not isinstance(data, dict):
        raise StackError(f"{path}: not a JSON object. {remedy}")
    return data
