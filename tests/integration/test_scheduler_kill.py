"""kill -9 of the scheduler, alone and with its tasks, a lens, a store or a whole stack that goes in mid-run: the rows
are as without it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from catalog_proxy import Watch, proxy
from conftest import eventually
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import ref
from forebay.lake.pins import TAG
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition
from forebay.stack import supervisor
from forebay.stack.connections import connections

if TYPE_CHECKING:
    from conftest import Lab

JOB = "killed.tables"
TABLES = ("killed.source", "killed.copied")
GIVEN = "killed.given"
"""A table of one row that the job reads and does not write."""
Rows = tuple[list[int], list[int]]

# A dead scheduler's tasks are taken over 30 s after its last heartbeat, looked for every 10 s.
RECOVERY = 150


@dataclass
class Killed:
    """The lab with a proxy before the catalog of one workspace."""

    lab: Lab
    watch: Watch

    def rows(self) -> Rows:
        """What everybody sees of the two tables."""
        with DuckDBEngine(self.lab.lake.published()) as engine:
            source, copied = (
                engine.query(f"SELECT n FROM lake.{table} ORDER BY n").column("n").to_pylist()
                for table in TABLES
            )
        return source, copied

    def note(self, kind: str, run_id: str) -> Path:
        return self.lab.root / "notes" / f"{kind}-{run_id.replace('/', '_')}"

    def halves(self, run_id: str) -> list[int]:
        """The process ids of the tries that have come half way."""
        file = self.note("half", run_id)
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def give(self) -> int:
        """Writes the table that the job reads anew; its snapshot."""
        with DuckDBEngine(self.lab.lake) as engine:
            engine.write("SELECT 1 AS factor", TableDefinition(GIVEN))
        with Rest(self.lab.lake) as rest:
            return ref(rest.table(GIVEN) or {}, "main") or 0

    def booked(self, run_id: str, given: int) -> None:
        """What is done after the commit was done: both tables' assets have an event, and the input is kept by a tag."""
        for table in TABLES:
            assets = self.lab.api.get("/assets", name_pattern=table)["assets"]
            number = next(each["id"] for each in assets if each["name"] == table)
            events = self.lab.api.get("/assets/events", asset_id=number, source_run_id=run_id)["asset_events"]
            with Rest(self.lab.lake) as rest:
                main = ref(rest.table(table) or {}, "main")
            assert [each["extra"]["snapshot_id"] for each in events] == [str(main)], table
        with Rest(self.lab.lake) as rest:
            assert ref(rest.table(GIVEN) or {}, f"{TAG}{given}") == given

    def half_way(self, tries: int = 1, run_id: str = "") -> str:
        """Starts a run, or takes one, and waits until so many tries of its first task are half way."""
        run_id = run_id or self.lab.start(JOB)

        def come() -> bool:
            state = self.lab.api.run(JOB, run_id)["state"]
            assert state in ("queued", "running"), f"the run is {state} before its time"
            return len(self.halves(run_id)) >= tries

        eventually(RECOVERY, come, f"try {tries} is half way")
        return run_id

    def go_on(self, run_id: str) -> None:
        self.note("go-on", run_id).touch()

    def scheduler(self) -> int:
        """The scheduler's process id once it runs."""

        def running() -> int:
            found = supervisor.processes(self.lab.stack).get("scheduler")
            return found.pid if found is not None and found.state == "RUNNING" else 0

        return int(eventually(60, running, "the scheduler runs"))

    def kill(self, whom: str) -> None:
        pid = self.scheduler()
        if whom == "group":
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)

    def waits(self, run_id: str, number: int) -> bool:
        """Whether this try of the first task has failed, and another one is to come."""
        (half,) = (t for t in self.lab.api.task_instances(JOB, run_id) if t["task_id"] == "half")
        return half["state"] == "up_for_retry" and half["try_number"] == number

    def tries(self, run_id: str) -> dict[str, int]:
        return {str(t["task_id"]): int(t["try_number"]) for t in self.lab.api.task_instances(JOB, run_id)}

    def ended_right(self, run_id: str, before: Rows) -> None:
        """The run ends as if nothing had been, and nobody saw a part of it.

        A task that outlived its scheduler can fail, for nobody reads what its worker says any more. It is cleared
        then, once, as a person would do.
        """

        source = sorted([*before[0], 1, 2])
        after = source, sorted([*before[1], *(10 * n for n in source)])

        def whole() -> bool:
            # The tables are read one after the other, and the store publishes them so: milliseconds apart.
            return self.rows() in (before, after)

        def ended() -> str | None:
            eventually(5, whole, "what is seen is all of the run or nothing")
            state = str(self.lab.api.run(JOB, run_id)["state"])
            return state if state in ("success", "failed") else None

        state = eventually(RECOVERY, ended, "the run ends")
        if state == "failed":
            body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True}
            self.lab.api.request("POST", f"/api/v2/dags/{JOB}/clearTaskInstances", json=body)
            state = eventually(RECOVERY, ended, "the cleared run ends")
        assert state == "success"
        assert self.rows() == after

    def no_worker_is_left_over(self) -> None:
        """Workers of a scheduler that is gone are gone, too."""

        def left() -> list[int]:
            scheduler = self.scheduler()
            return [pid for pid, parent in self._workers() if parent != scheduler]

        eventually(30, lambda: not left(), "workers of the dead scheduler end")

    def _workers(self) -> Iterator[tuple[int, int]]:
        for process in supervisor.members(self.lab.stack):
            try:
                if "airflow worker -- LocalExecutor" in " ".join(process.cmdline()):
                    yield process.pid, process.ppid()
            except psutil.Error:
                continue


@pytest.fixture(scope="module")
def killed(lab: Lab) -> Iterator[Killed]:
    watch = Watch()
    with proxy(lab.stack.url("catalog"), watch) as address:
        catalog = next(each for each in connections(lab.stack) if each["connection_id"] == "lake_catalog")
        lab.api.put_connections([{**catalog, "connection_id": "watched_catalog", "host": address}])
        with DuckDBEngine(lab.lake) as engine:
            for table in TABLES:
                engine.write("SELECT 0::BIGINT AS n", TableDefinition(table))
        made = Killed(lab, watch)
        made.give()
        yield made


def test_workers_hold_no_connection_of_their_scheduler(killed: Killed) -> None:
    # PostgreSQL would keep a dead scheduler's locks for as long as one of its workers is at a task.
    scheduler = psutil.Process(killed.scheduler())
    eventually(60, lambda: len(scheduler.children()) >= 4, "the workers are there")
    assert _sockets(scheduler.pid)
    for worker in scheduler.children():
        assert not _sockets(worker.pid) & _sockets(scheduler.pid)


def _sockets(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(each))
    return {each for each in found if each.startswith("socket:")}


def test_a_task_outlives_its_scheduler(killed: Killed) -> None:
    before = killed.rows()
    run_id = killed.half_way()
    killed.kill("alone")
    killed.go_on(run_id)
    killed.ended_right(run_id, before)
    killed.no_worker_is_left_over()


def test_a_task_is_taken_from_its_dead_scheduler(killed: Killed) -> None:
    before = killed.rows()
    run_id = killed.half_way()
    killed.kill("alone")
    # Both tries are alive now, or were: what the first still writes must not count.
    killed.half_way(2, run_id)
    killed.go_on(run_id)
    killed.ended_right(run_id, before)
    assert killed.tries(run_id)["half"] == 2
    first = killed.halves(run_id)[0]
    eventually(15, lambda: not psutil.pid_exists(first), "the first try's process ends")
    killed.no_worker_is_left_over()


def test_a_task_dies_with_its_scheduler(killed: Killed) -> None:
    before = killed.rows()
    run_id = killed.half_way()
    killed.kill("group")
    assert killed.rows() == before
    killed.go_on(run_id)
    killed.ended_right(run_id, before)
    assert killed.tries(run_id)["half"] == 2
    killed.no_worker_is_left_over()


@pytest.mark.parametrize("whom", ["alone", "group"])
@pytest.mark.parametrize("point", ["before publish", "after publish"])
def test_killed_while_it_publishes(killed: Killed, point: str, whom: str) -> None:
    before, given = killed.rows(), killed.give()
    hit = threading.Event()

    def hook(at: str) -> None:
        if at == point and not hit.is_set():
            hit.set()
            killed.kill(whom)
            if at == "before publish":
                # What was on its way to the catalog is lost with the process.
                raise ConnectionAbortedError

    killed.watch.hook = hook
    run_id = killed.half_way()
    killed.go_on(run_id)
    try:
        killed.ended_right(run_id, before)
    finally:
        killed.watch.hook = lambda _: None
    assert hit.is_set()
    assert killed.tries(run_id)["half"] == 1
    killed.booked(run_id, given)
    killed.no_worker_is_left_over()


def test_the_stack_is_killed_in_mid_run(killed: Killed) -> None:
    before = killed.rows()
    run_id = killed.half_way()
    for process in supervisor.members(killed.lab.stack):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    eventually(10, lambda: not supervisor.members(killed.lab.stack), "everything is gone")
    started = killed.lab.forebay("up")
    assert started.returncode == 0, started.stdout + started.stderr
    assert killed.rows() == before
    killed.go_on(run_id)
    killed.ended_right(run_id, before)


def test_lens_and_store_go_in_mid_run(killed: Killed) -> None:
    """The task is tried again while they are away, says why, and nobody sees a part of it."""
    before, stack = killed.rows(), killed.lab.stack
    run_id = killed.half_way()
    for number, (service, said) in enumerate(
        (("lens", "The lens at .* does not answer"), ("store", "the catalog does not answer")), start=1
    ):
        supervisor.stop_process(stack, service)
        killed.go_on(run_id)
        eventually(90, lambda n=number: killed.waits(run_id, n), f"try {number} fails without the {service}")
        killed.note("go-on", run_id).unlink()
        supervisor.start_process(stack, service)
        log = "\n".join(killed.lab.api.log(JOB, run_id, "half", number))
        assert re.search(said, log), log
        killed.half_way(number + 1, run_id)
        assert killed.rows() == before
    killed.go_on(run_id)
    killed.ended_right(run_id, before)
    assert killed.tries(run_id)["half"] == 3
