"""The embedded stack: closed to others, mended when it crashes, gone when it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from conftest import command, eventually
from forebay.stack import layout, lifecycle, supervisor
from forebay.stack.layout import PORTS, Stack
from forebay.stack.services import SERVICES

if TYPE_CHECKING:
    from conftest import Lab


def test_status_shows_every_service(lab: Lab) -> None:
    found = lab.json("status")
    assert found["healthy"] is True
    services = {service["name"]: service for service in found["services"]}
    assert set(services) == set(SERVICES)
    for service in services.values():
        assert service["state"] == "up"
        assert service["health"] == "healthy"
        assert service["pid"] > 0
        assert service["memory"] > 1 << 20
    assert services["api-server"]["port"] == lab.stack.ports["airflow"]
    assert httpx.get(found["url"] + "/api/v2/version").json()["version"] == "3.3.2"
    text = lab.forebay("status")
    assert all(name in text.stdout for name in SERVICES)


def test_what_was_due_before_the_first_start_finds_the_lake(lab: Lab) -> None:
    """The scheduler starts such runs at once: the connections have to be there before it is."""
    for job in ("story.daily", "tale.daily"):

        def ended(job: str = job) -> list[str]:
            runs = lab.api.get(f"/dags/{job}/dagRuns", run_type="scheduled")["dag_runs"]
            return [each["state"] for each in runs if each["state"] in ("success", "failed")]

        assert set(eventually(120, ended, f"the run of {job} that was due ends")) == {"success"}


def test_up_twice_is_harmless(lab: Lab) -> None:
    before = {name: process.pid for name, process in supervisor.processes(lab.stack).items()}
    again = lab.forebay("up")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "The stack is up already.")
    assert {name: process.pid for name, process in supervisor.processes(lab.stack).items()} == before


def test_everything_listens_on_loopback_only(lab: Lab) -> None:
    listening = [
        connection.laddr.ip
        for process in supervisor.members(lab.stack)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 8
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_secrets_are_made_for_this_stack_and_stay_private(lab: Lab) -> None:
    state = lab.stack.state
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for name in ("secrets.json", "supervisord.conf", "airflow/airflow.cfg", "airflow/passwords.json"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
    secrets = json.loads((state / "secrets.json").read_text())
    assert all(len(value) >= 20 for value in secrets.values())
    assert lab.forebay("password").stdout.strip() == secrets["admin_password"]

    hidden = [value for name, value in secrets.items() if name != "access_key"]
    for process in supervisor.members(lab.stack):
        text = " ".join(process.cmdline())
        assert not any(value in text for value in hidden), process.name()
    for log in (*(state / "logs").iterdir(), *(state / "airflow/logs").rglob("*.log")):
        text = log.read_text(errors="replace")
        assert not any(value in text for value in hidden), log
    shown = json.dumps(lab.api.get("/connections"))
    assert not any(value in shown for value in hidden)


def test_nobody_gets_in_without_a_password(lab: Lab) -> None:
    url = lab.stack.url("airflow")
    assert httpx.get(f"{url}/api/v2/dags").status_code == 401
    for password in ("admin", "airflow", ""):
        assert httpx.post(
            f"{url}/auth/token", json={"username": "admin", "password": password}
        ).status_code in (400, 401)
    assert httpx.get(f"{lab.stack.url('s3')}/lake").status_code == 403
    assert httpx.get(f"{lab.stack.url('catalog')}/v1/warehouse/namespaces").status_code in (401, 403)


def test_a_crashed_service_comes_back(lab: Lab) -> None:
    for name in ("triggerer", "store"):
        pid = supervisor.processes(lab.stack)[name].pid
        os.kill(pid, signal.SIGKILL)
        eventually(
            20,
            lambda n=name, p=pid: supervisor.processes(lab.stack)[n].pid not in (0, p),
            f"{name} is restarted",
        )
    eventually(60, lambda: lab.forebay("status").returncode == 0, "all is healthy again")
    run, _ = lab.run("lab.everything")
    assert run["state"] == "success"


def test_logs_and_restart(lab: Lab) -> None:
    assert len(lab.forebay("logs", "scheduler", "--lines", "5").stdout.splitlines()) == 5
    wrong = lab.forebay("logs", "schedular")
    assert wrong.returncode == 1
    assert "Did you mean 'scheduler'?" in wrong.stderr
    pid = supervisor.processes(lab.stack)["triggerer"].pid
    restarted = lab.forebay("restart", "triggerer")
    assert restarted.returncode == 0, restarted.stderr
    assert supervisor.processes(lab.stack)["triggerer"].pid != pid


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Stack]:
    """A project without jobs, whose stack is stopped at the end."""
    (tmp_path / "dags").mkdir()
    stack = Stack(tmp_path, tmp_path / ".forebay")
    yield stack
    lifecycle.down(stack)


def test_a_taken_port_is_named_with_its_holder_and_a_way_out(empty: Stack) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused = command(empty.root, "up", "--port", f"airflow={port}", *_elsewhere("s3", "catalog"))
    assert refused.returncode == 1
    assert f"port {port} (airflow) is in use by" in refused.stderr
    assert f"(process {os.getpid()})" in refused.stderr
    assert "forebay up --port airflow=" in refused.stderr
    assert not supervisor.members(empty)


def test_a_service_that_ends_again_and_again_is_told_with_its_log(
    empty: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        # Somebody takes it after the stack has looked.
        monkeypatch.setattr(layout, "port_is_free", lambda _: True)
        ports = {**_free(*PORTS), "lens": port}
        with pytest.raises(lifecycle.StackError, match=r"lens did not start[^$]*address already in use"):
            lifecycle.up(empty, lambda _: None, ports=ports)


def test_stacks_start_one_after_another(empty: Stack) -> None:
    said: list[str] = []
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        ports = {**_free(*PORTS), "airflow": holder.getsockname()[1]}
        with ThreadPoolExecutor() as pool:
            with lifecycle._turn(said.append):
                second = pool.submit(lifecycle.up, empty, said.append, ports=ports)
                eventually(60, lambda: any("another stack is starting" in line for line in said), "it waits")
                # The first one opens its ports only now, and the second has not chosen its own before.
                holder.listen()
            with pytest.raises(lifecycle.StackError, match=r"\(airflow\) is in use by"):
                second.result()


def test_start_crash_half_way_and_stop(empty: Stack) -> None:
    started = command(empty.root, "up", *_elsewhere(*PORTS))
    assert started.returncode == 0, started.stderr
    # Another command on the same folder while one is at work.
    with _held(empty):
        busy = command(empty.root, "down")
    assert busy.returncode == 1
    assert "another forebay command" in busy.stderr

    # The supervisor dies: its processes are left, and the next start begins by ending them.
    pids = [process.pid for process in supervisor.processes(empty).values()]
    pid = int((empty.sockets / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(10)
    assert any(psutil.pid_exists(child) for child in pids)
    status = command(empty.root, "status")
    assert status.returncode == 1
    assert "forebay up" in status.stdout
    again = command(empty.root, "up")
    assert again.returncode == 0, again.stderr
    assert "an earlier start left behind" in again.stderr
    assert not any(psutil.pid_exists(child) for child in pids)

    ports = dict(empty.ports)
    stopped = command(empty.root, "down")
    assert (stopped.returncode, stopped.stdout) == (0, "The stack is down.\n")
    time.sleep(0.2)
    assert not supervisor.members(empty)
    for port in ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    sockets = {str(p) for p in Path("/tmp").glob("seaweedfs-*.sock")}
    assert not [s for s in sockets if any(str(port) in s for port in ports.values())]
    assert command(empty.root, "down").stdout == "The stack was not running.\n"


def test_a_full_disk_is_a_sentence(empty: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(empty.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10 << 20))
    with pytest.raises(lifecycle.StackError, match=r"only 10 MB are free.*FOREBAY_STATE=/path forebay up"):
        lifecycle.up(empty, lambda _: None)


def _free(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as held:
        probes = {name: held.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def _elsewhere(*names: str) -> list[str]:
    return [word for name, port in _free(*names).items() for word in ("--port", f"{name}={port}")]


class _held:
    """Holds a stack's lock as another forebay command would."""

    def __init__(self, stack: Stack) -> None:
        self.lock = lifecycle._only_one(stack)

    def __enter__(self) -> None:
        self.lock.__enter__()

    def __exit__(self, *_: object) -> None:
        self.lock.__exit__(None, None, None)
