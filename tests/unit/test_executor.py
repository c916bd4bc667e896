"""What the executor tells the scheduler of a task's end, and when."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing import SimpleQueue, Value, get_context
from types import SimpleNamespace

from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

from forebay.executor import IDLE, WarmLocalExecutor, _Work

KEY = TaskInstanceKey("lab.approved", "approve", "manual", 1)


class Taken:
    """A queue whose workers are quick: it is always empty."""

    def put(self, work: object) -> None:
        pass

    def empty(self) -> bool:
        return True


def executor() -> WarmLocalExecutor:
    made = WarmLocalExecutor(parallelism=2)
    made.activity_queue, made.result_queue, made.workers = Taken(), SimpleQueue(), {}  # type: ignore[assignment]
    made._unread_messages = Value("i", 0)
    return made


def give(to: WarmLocalExecutor) -> None:
    work = SimpleNamespace(key=KEY)
    to.queued_tasks[KEY] = work  # type: ignore[assignment]
    to._process_workloads([work])


def end(of: WarmLocalExecutor, state: TaskInstanceState) -> None:
    of.result_queue.put((KEY, state, None))
    of._read_results()


def test_the_end_of_a_paused_task_says_nothing_once_it_was_given_out_again() -> None:
    tried = executor()
    give(tried)
    give(tried)
    end(tried, TaskInstanceState.SUCCESS)
    assert not tried.event_buffer
    end(tried, TaskInstanceState.FAILED)
    assert tried.event_buffer == {KEY: (TaskInstanceState.FAILED, None)}


def test_each_end_counts_when_it_is_heard_before_the_next_start() -> None:
    tried = executor()
    for state in (TaskInstanceState.SUCCESS, TaskInstanceState.FAILED):
        give(tried)
        end(tried, state)
        assert tried.event_buffer.pop(KEY) == (state, None)


def test_an_idle_scheduler_hears_of_an_end_at_once() -> None:
    tried = executor()
    give(tried)
    began = time.monotonic()
    tried.sync()
    assert time.monotonic() - began < IDLE / 2, "there may be more work to give out"
    threading.Timer(IDLE / 5, tried.result_queue.put, [(KEY, TaskInstanceState.SUCCESS, None)]).start()
    began = time.monotonic()
    tried.sync()
    assert time.monotonic() - began < IDLE * 0.9
    assert tried.event_buffer == {KEY: (TaskInstanceState.SUCCESS, None)}
    began = time.monotonic()
    tried.sync()
    assert time.monotonic() - began >= IDLE


def test_work_reaches_the_others_when_a_waiting_worker_was_killed() -> None:
    """The one that waits first held the lock for ever, and every worker waited for it."""
    fork = get_context("fork")
    work, done = _Work(), fork.Queue()

    def worker() -> None:
        while (given := work.get()) is not None:
            done.put((os.getpid(), given))

    workers = [fork.Process(target=worker) for _ in range(3)]
    for each in workers:
        each.start()
        time.sleep(0.2)
    killed, *others = workers
    try:
        killed.kill()
        killed.join(10)
        for number in range(20):
            work.put(number)
        taken = [done.get(timeout=20) for _ in range(20)]
        assert sorted(number for _, number in taken) == list(range(20))
        assert {process for process, _ in taken} <= {each.pid for each in others}
        for _ in others:
            work.put(None)
        for each in others:
            each.join(10)
            assert each.exitcode == 0
    finally:
        for each in workers:
            each.kill()
            each.join(10)
