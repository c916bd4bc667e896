"""Airflow's LocalExecutor with the engines' libraries loaded before its workers are forked."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.queues import SimpleQueue
from typing import Any

from airflow import settings
from airflow.executors.local_executor import LocalExecutor
from airflow.models.taskinstancekey import TaskInstanceKey

# What a sql or ingest task would import: 1 s of each task's time, paid once by the scheduler instead.
_MODULES = (
    "duckdb",
    "pyarrow.compute",
    "pyarrow.fs",
    "pyarrow.parquet",
    "pyiceberg.catalog.rest",
    "pyiceberg.io.pyarrow",
    "pyiceberg.table",
    "forebay.checks.results",
    "forebay.checks.run",
    "forebay.dag",
    "forebay.engines.duckdb",
    "forebay.engines.ingest",
    "forebay.operators.checks",
    "forebay.operators.engine",
    "forebay.operators.ingest",
    "forebay.operators.maintain",
    "forebay.operators.publish",
    "forebay.operators.python",
    "forebay.operators.run_job",
    "forebay.operators.spark",
    "forebay.operators.sql",
    "forebay.lake.file_io",
    "forebay.lake.history",
    "forebay.lake.pins",
    "forebay.lake.replay",
    "forebay.lake.retry",
    "forebay.sqltext",
    # One megabyte and 25 ms, for those whose SQL runs on Trino.
    "forebay.engines.trino_write",
    "forebay.operators.resume",
    "trino.auth",
    "trino.client",
    "trino.mapper",
)


IDLE = 0.09
"""Seconds for which an idle scheduler waits for the end of a task before it looks for other work."""


class _Work(SimpleQueue[Any]):
    """What the scheduler gives its workers. They end with it, each after the task it is at.

    Airflow's workers hold the pipe open for each other, so those of a killed scheduler would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self._owner = os.getpid()

    def get(self) -> Any:
        reader: Any = self._reader  # type: ignore[attr-defined]
        while True:
            # Not under the lock: it would stay with a worker that is killed while it waits, and no other would get work.
            came = reader.poll(1.0)
            if os.getppid() != self._owner:
                # What is left in it, the next scheduler gives out again.
                raise EOFError
            if came:
                with self._rlock:  # type: ignore[attr-defined]
                    if reader.poll(0):
                        return pickle.loads(reader.recv_bytes())


class WarmLocalExecutor(LocalExecutor):
    """Runs tasks on this machine; their processes share the libraries in memory and start at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._given: Counter[TaskInstanceKey] = Counter()
        self._idle = True

    def sync(self) -> None:
        # The scheduler calls this once a round. It would sleep through a task's end, of which it hears here at once.
        if self._idle:
            reader: Any = self.result_queue._reader  # type: ignore[attr-defined]
            reader.poll(IDLE)
        self._idle = True
        super().sync()

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._idle = False
        self._given.update(each.key for each in workload_list if isinstance(each.key, TaskInstanceKey))
        super()._process_workloads(workload_list)  # type: ignore[no-untyped-call]

    def _read_results(self) -> None:
        # A task that waits for an answer or a trigger ends its process, and goes on in another one under the same
        # key. Airflow fails it when it hears of the first one's end after it has given out the second (its issues
        # 67287 and 72716), so an end counts only when nothing of that key is left with the workers.
        while not self.result_queue.empty():
            key, state, _ = self.result_queue.get()
            if isinstance(key, TaskInstanceKey):
                self._given[key] -= 1
                if self._given[key] > 0:
                    continue
                del self._given[key]
            self.change_state(key, state)

    def _spawn_workers_with_gc_freeze(self, spawn_number: int) -> None:
        # Called by `start` before the first of them.
        if not isinstance(self.activity_queue, _Work):
            self.activity_queue = _Work()
        # Workers would inherit the connections to the database. PostgreSQL then would not hear of this scheduler's end as
        # long as a worker is at a task, and would keep for it the rows it had locked: no scheduler starts those runs.
        if settings.engine is not None:
            settings.engine.dispose()
        super()._spawn_workers_with_gc_freeze(spawn_number)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        for name in _MODULES:
            import_module(name)
        super().start()
        # Airflow's own freeze ends with the fork. Kept, the scheduler's collector does not write to, and so copy,
        # the pages it shares with its workers: 150 MB.
        gc.freeze()
