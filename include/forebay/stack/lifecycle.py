"""Starts and stops the embedded stack."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from forebay.machine import jars, java, trino
from forebay.stack import health, supervisor
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack, StackError, write_private
from forebay.stack.services import (
    AIRFLOW,
    FOUNDATION,
    environment,
    names,
    postgres_program,
    write_configuration,
)

Progress = Callable[[str], None]

_FREE_DISK = 1 << 30
_TELL = 15.0
"""Seconds after which a start says what it still waits for."""
_STARTS = 3
"""So often a service may be started before it is well: what ends each time, as on a port that another has, is told."""
_TURN = "\0forebay-start"


def up(
    stack: Stack,
    progress: Progress,
    *,
    ports: dict[str, int] | None = None,
    free_ports: bool = False,
    parts: Collection[str] = (),
    without: Collection[str] = (),
) -> bool:
    """Starts the stack, or what of it is not running; False when all of it was up already.

    `parts` are started too, from now on at each start, until they are named in `without`. Returns when every service is healthy. Raises StackError with what is wrong and what to do.
    """
    with _only_one(stack), contextlib.ExitStack() as turn:
        _check_disk(stack)
        if supervisor.running(stack):
            if parts:
                turn.enter_context(_turn(progress))
            moved = {name: port for name, port in (ports or {}).items() if stack.ports.get(name) != port}
            if moved:
                raise StackError("the stack is running; run `forebay down` before moving a port.")
            changed = _change_parts(stack, progress, parts, without, ports or {}, free_ports)
            states = supervisor.processes(stack)
            down = [name for name in names(stack) if name not in states or states[name].state != "RUNNING"]
            if not changed and not down and not health.unhealthy(stack):
                # A start that was broken off may not have come to this.
                _make_connections(stack, progress)
                return False
            for name in down:
                progress(f"starting {name}")
                supervisor.start_process(stack, name)
        else:
            leftovers = supervisor.members(stack)
            if leftovers:
                progress(f"ending {len(leftovers)} processes that an earlier start left behind")
                supervisor.kill_leftovers(stack)
            java.require()
            jars.fetch(progress)
            stack.create()
            stack.choose_parts(parts, without)
            _fetch_parts(stack, progress)
            turn.enter_context(_turn(progress))
            stack.choose_ports(ports or {}, free=free_ports)
            own_environment = environment(stack, os.environ)
            _initialise_database(stack, progress)
            write_configuration(stack, os.environ)
            (stack.sockets / "supervisor.sock").unlink(missing_ok=True)
            progress("starting object store, catalog and database")
            supervisor.start(stack, own_environment)
            _wait(stack, ("postgres",), 60, progress)
            _migrate(stack, progress)
            progress("starting Airflow")
            for name in AIRFLOW:
                if name != "scheduler":
                    supervisor.start_process(stack, name)
            # It starts tasks, and they need the lake and the way there; nothing else of Airflow does.
            _wait(stack, FOUNDATION, 60, progress)
            if not _connected(stack):
                _wait(stack, ("api-server",), 300, progress)
                _make_connections(stack, progress)
            supervisor.start_process(stack, "scheduler")
        _wait(stack, names(stack), 300, progress)
        _make_connections(stack, progress)
        return True


def down(stack: Stack) -> bool:
    """Stops everything; False when nothing was running. Leaves no process and no socket behind."""
    if not stack.state.exists():
        return False
    with _only_one(stack):
        was_up = supervisor.running(stack) or bool(supervisor.members(stack))
        supervisor.stop(stack)
        left = supervisor.members(stack)
        if left:
            raise StackError("still running: " + ", ".join(f"{p.name()} ({p.pid})" for p in left))
        for name in ("supervisor.sock", "filer.sock", "s3.sock"):
            (stack.sockets / name).unlink(missing_ok=True)
        for name in ("master", "volume", "filer", "s3", "admin"):
            # SeaweedFS has no setting for these.
            for port in stack.ports.values():
                Path(tempfile.gettempdir(), f"seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)
        return was_up


def restart(stack: Stack, services: tuple[str, ...], progress: Progress) -> None:
    """Restarts some services, or all."""
    known = names(stack)
    unknown = [name for name in services if name not in known]
    if unknown:
        raise StackError(f"unknown service {unknown[0]!r}. Known: {', '.join(known)}.")
    if not services:
        down(stack)
        up(stack, progress)
        return
    if not supervisor.running(stack):
        raise StackError("the stack is not running. Start it: forebay up.")
    for name in services:
        progress(f"restarting {name}")
        supervisor.stop_process(stack, name)
        supervisor.start_process(stack, name)
    _wait(stack, services, 120, progress)


def _change_parts(
    stack: Stack,
    progress: Progress,
    parts: Collection[str],
    without: Collection[str],
    ports: dict[str, int],
    free: bool,
) -> bool:
    """Starts and stops parts of a stack that runs; True when there was something to do."""
    before = stack.parts
    if not stack.choose_parts(parts, without):
        return False
    added = [name for name in stack.parts if name not in before]
    _fetch_parts(stack, progress)
    stack.choose_ports({name: port for name, port in ports.items() if name in added}, free=free, only=added)
    write_configuration(stack, os.environ)
    for name in before:
        if name not in stack.parts:
            progress(f"stopping {name}")
            supervisor.remove_process(stack, name)
    for name in added:
        progress(f"starting {name}")
        supervisor.add_process(stack, name)
    return True


def _fetch_parts(stack: Stack, progress: Progress) -> None:
    if "trino" in stack.parts:
        java.require_trino()
        trino.fetch(progress)


@contextlib.contextmanager
def _only_one(stack: Stack) -> Iterator[None]:
    """Holds the folder's lock: two commands never change one stack at once."""
    try:
        stack.state.mkdir(parents=True, exist_ok=True)
        stack.state.chmod(0o700)
        file = (stack.state / "lock").open("a+")
    except OSError as error:
        raise StackError(
            f"{stack.state}: cannot be written ({error.strerror}). Free disk space or fix its owner."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StackError(
                f"another forebay command (process {file.read().strip() or 'unknown'}) is starting or stopping this "
                "stack. Wait for it, or end it, and try again."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def _turn(progress: Progress) -> Iterator[None]:
    """Stacks of one machine start one after another: each finds the ports of those before it open, and takes none twice."""
    # A name of Linux's own for a socket: it leaves no file and ends with its process.
    with socket.socket(socket.AF_UNIX) as mark:
        told = False
        while True:
            try:
                mark.bind(_TURN)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            if not told:
                progress("another stack is starting on this machine; waiting for it")
            told = True
            time.sleep(0.2)
        yield


def _check_disk(stack: Stack) -> None:
    free = shutil.disk_usage(stack.state).free
    if free < _FREE_DISK:
        raise StackError(
            f"only {free >> 20} MB are free on the disk of {stack.state}; the stack needs 1 GB. Free some space, "
            "or put its state elsewhere: FOREBAY_STATE=/path forebay up."
        )


def _initialise_database(stack: Stack, progress: Progress) -> None:
    data = stack.state / "postgres"
    if (data / "PG_VERSION").exists():
        return
    progress("creating Airflow's database")
    fresh = stack.state / "postgres.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password = stack.state / "postgres.password"
    write_private(password, stack.secrets["postgres_password"])
    options = (
        "-U",
        "airflow",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    )
    run = subprocess.run(
        [*postgres_program("initdb"), *options, "-D", str(fresh)],
        capture_output=True,
        text=True,
        cwd=stack.state,
    )
    password.unlink()
    if run.returncode:
        raise StackError(f"PostgreSQL's initdb failed: {run.stderr.strip()[-1000:]}")
    fresh.replace(data)


def _migrate(stack: Stack, progress: Progress) -> None:
    """Brings the database to this Airflow's schema; skipped when it was this Airflow that did so last."""
    from importlib.metadata import version

    done = stack.state / "migrated"
    wanted = version("apache-airflow-core")
    if done.exists() and done.read_text() == wanted:
        return
    progress("creating Airflow's tables")
    run = subprocess.run(
        [str(Path(sys.executable).with_name("airflow")), "db", "migrate"],
        env=environment(stack, os.environ), capture_output=True, text=True, cwd=stack.root,
    )  # fmt: skip
    if run.returncode:
        log = stack.logs / "migrate.log"
        log.write_text(run.stdout + run.stderr)
        raise StackError(f"Airflow could not prepare its database. See {log}.")
    done.write_text(wanted)


def _wait(stack: Stack, names: tuple[str, ...], seconds: float, progress: Progress) -> None:
    """Waits until services are healthy. One that gives up, or ends again and again, is an error with its log's tail."""
    began = told = time.monotonic()
    pids: dict[str, set[int]] = {name: set() for name in names}
    while True:
        waiting = health.unhealthy(stack, names)
        if not waiting:
            return
        states = supervisor.processes(stack)
        for name in states.keys() & waiting.keys():
            pids[name] |= {states[name].pid} - {0}
        failed = [
            name for name in waiting
            if len(pids[name]) > _STARTS or (name in states and states[name].state == "FATAL")
        ]  # fmt: skip
        now = time.monotonic()
        if now - told > _TELL:
            told = now
            progress(f"waiting for {', '.join(waiting)}, {now - began:.0f} s")
        if failed or now - began > seconds:
            name = next(iter(failed or waiting))
            tail = health.log_tail(stack, name, 15)
            raise StackError(
                f"{name} did not start ({waiting[name]}). End of its log:\n{tail}\n"
                f"All of it: forebay logs {name}. To start over: forebay down, then forebay up."
            )
        time.sleep(0.2)


def _make_connections(stack: Stack, progress: Progress) -> None:
    """Stores the lake's connections in Airflow unless ours are as we last wrote them.

    A connection that a person changed stays as it is until a port or secret of the stack changes.
    """
    if _connected(stack):
        return
    wanted = connections(stack)
    progress("storing connections")
    with AirflowApi.of_stack(stack) as api:
        api.put_connections(wanted)
    _stored(stack).write_text(_fingerprint(wanted))


def _connected(stack: Stack) -> bool:
    """Whether Airflow has the lake's connections as they are now."""
    stored = _stored(stack)
    return stored.exists() and stored.read_text() == _fingerprint(connections(stack))


def _stored(stack: Stack) -> Path:
    return stack.state / "connections.sha256"


def _fingerprint(wanted: list[dict[str, object]]) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
