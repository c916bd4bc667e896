"""Talks to supervisord, which starts, restarts and stops the stack's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from forebay.stack.layout import Stack, StackError
from forebay.stack.services import FOUNDATION, STATE_VARIABLE, program


@dataclass(frozen=True)
class Process:
    """One supervised process as supervisord sees it: state is its word, such as RUNNING or FATAL."""

    name: str
    state: str
    pid: int
    since: float
    detail: str


def start(stack: Stack, environment: Mapping[str, str]) -> None:
    """Starts supervisord in the background; the processes that start with it come up."""
    command = [program("supervisord"), "-c", str(stack.state / "supervisord.conf")]
    run = subprocess.run(command, env=dict(environment), cwd=stack.root, capture_output=True, text=True)
    if run.returncode:
        raise StackError(f"the process supervisor did not start: {(run.stdout + run.stderr).strip()[-1000:]}")
    deadline = time.monotonic() + 10
    while not running(stack):
        if time.monotonic() > deadline:
            raise StackError(f"the process supervisor does not answer. See {stack.logs / 'supervisor.log'}.")
        time.sleep(0.05)


def running(stack: Stack) -> bool:
    """Whether the stack's supervisord answers."""
    if not stack.supervisor_socket.exists():
        return False
    try:
        with _server(stack) as server:
            server.supervisor.getState()
    except (OSError, xmlrpc.client.Error):
        return False
    return True


def processes(stack: Stack) -> dict[str, Process]:
    """All supervised processes by name; empty when supervisord is down."""
    if not running(stack):
        return {}
    with _server(stack) as server:
        return {
            str(info["name"]): Process(
                str(info["name"]),
                str(info["statename"]),
                int(info["pid"]),
                float(info["start"]),
                str(info["description"]),
            )
            for info in server.supervisor.getAllProcessInfo()
        }


def start_process(stack: Stack, name: str) -> None:
    """Starts one process unless it runs."""
    with _server(stack) as server, contextlib.suppress(xmlrpc.client.Fault):
        server.supervisor.startProcess(name, False)


def add_process(stack: Stack, name: str) -> None:
    """Takes a process up that supervisord.conf has and the running supervisord does not know yet."""
    with _server(stack) as server:
        server.supervisor.reloadConfig()
        with contextlib.suppress(xmlrpc.client.Fault):
            server.supervisor.addProcessGroup(name)


def remove_process(stack: Stack, name: str) -> None:
    """Stops a process and forgets it."""
    stop_process(stack, name)
    with _server(stack) as server, contextlib.suppress(xmlrpc.client.Fault):
        server.supervisor.removeProcessGroup(name)


def stop_process(stack: Stack, name: str) -> None:
    """Stops one process and waits for its end; harmless where it does not run."""
    with _server(stack) as server, contextlib.suppress(xmlrpc.client.Fault):
        server.supervisor.stopProcess(name, True)


def stop(stack: Stack) -> None:
    """Stops all processes and supervisord, then whatever of this stack is still there."""
    if running(stack):
        with _server(stack) as server:
            pid = server.supervisor.getPID()
            # Airflow first: it still writes to the database and the lake while it ends.
            names = [name for name in processes(stack) if name not in FOUNDATION]
            for name in names:
                with contextlib.suppress(xmlrpc.client.Fault):
                    server.supervisor.stopProcess(name, False)
            deadline = time.monotonic() + 12
            while (
                any(processes(stack)[name].state == "STOPPING" for name in names)
                and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            server.supervisor.shutdown()
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            psutil.Process(int(pid)).wait(25)
    kill_leftovers(stack)


def members(stack: Stack) -> list[psutil.Process]:
    """Every process that belongs to the stack, found by the variable in its environment."""
    found = []
    for process in psutil.process_iter():
        if process.pid in (os.getpid(), os.getppid()):
            continue
        with contextlib.suppress(psutil.Error):
            if process.environ().get(STATE_VARIABLE) == str(stack.state):
                found.append(process)
    return found


def kill_leftovers(stack: Stack) -> None:
    """Ends processes of the stack that no supervisor watches any more: asks first, insists after three seconds."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for sent in (signal.SIGTERM, signal.SIGKILL):
        left = [process for process in members(stack) if process.pid not in own]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
        psutil.wait_procs(left, timeout=3)
        if not left:
            return


@contextlib.contextmanager
def _server(stack: Stack) -> Iterator[Any]:
    # XML-RPC has no types: what it answers is described at http://supervisord.org/api.html.
    transport = SupervisorTransport(None, None, f"unix://{stack.supervisor_socket}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
        yield server
