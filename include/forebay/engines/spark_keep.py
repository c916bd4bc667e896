"""What outlives an application's pods: its executors' logs and Kubernetes' events, in the store or in the task's log."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from forebay.engines.background import EngineError
from forebay.engines.files import S3Access
from forebay.engines.spark_api import SparkApi
from forebay.engines.spark_application import EXECUTOR
from forebay.engines.spark_reasons import ended_badly, role_of
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry

MOST_BYTES = 5_000_000
"""Of one log; what is kept is its end."""

_TASK_LINES, _TASK_EXECUTORS, _TASK_EVENTS = 200, 10, 50
"""What goes into the task's log where there is no store: lines of an executor, executors, events."""
_FAILED_LINES, _FAILED_EXECUTORS = 20, 3
"""What the task's log has of executors that failed, also where their logs are in the store."""
_AT_ONCE = 4


@dataclass(frozen=True)
class _Read:
    """One executor's log."""

    number: str
    failed: str
    """How it ended, where that was not well."""
    lines: int = 0
    tail: tuple[str, ...] = ()
    """Its last lines, without their times."""
    missing: str = ""
    """Why there is none."""


def folder(base: str, who: TaskTry) -> str:
    """The address of a try's logs, below the connection's `logs`."""
    job = who.job.partition(".")[2] or who.job
    parts = (who.workspace, job, who.run, who.task, str(who.number))
    return "/".join([base.rstrip("/"), *map(_segment, parts), ""])


class Keeper:
    """Keeps the logs of one application; nothing that goes wrong with that is the task's concern."""

    def __init__(
        self, api: SparkApi, name: str, address: str, config: CatalogConfig, log: Callable[[str], None]
    ) -> None:
        """`address` is a folder on the lake's S3; empty for the task's own log."""
        self._api, self._name, self._address, self._config, self._log = api, name, address, config, log
        self._over = threading.Event()
        self._store: Any = None

    def keep(self, seconds: float) -> None:
        """Keep what there is now. Returns after that many seconds at the latest."""
        thread = threading.Thread(target=self._keep, name="forebay-keep", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._over.set()
            self._log(f"Executors' logs and events could not all be kept in {seconds:.0f} s.")

    def _keep(self) -> None:
        try:
            pods = [pod for pod in self._api.pods(self._name) if role_of(pod) == "executor"]
            pods.sort(key=lambda pod: (not ended_badly(pod), _number(pod).zfill(9)))
            if not self._address or not self._in_store(pods):
                self._in_task_log(pods)
        except Exception as error:  # noqa: BLE001  what counts is how the application ended
            self._say(f"Executors' logs and events could not be kept: {error}")

    def _in_store(self, pods: Sequence[Mapping[str, Any]]) -> bool:
        """False where the store does not take them."""
        scheme, _, place = self._address.partition("://")
        config = self._config
        access = S3Access(config.s3_endpoint, config.access_key, config.secret_key, config.s3_region)
        try:
            self._store = access.filesystem()
            # Logs go with their pods, events stay for an hour.
            with ThreadPoolExecutor(_AT_ONCE, "forebay-keep") as pool:
                found = list(pool.map(lambda pod: self._one(pod, place), pods))
            events = self._events()
            self._put(f"{place}events.log", events)
        except OSError as error:
            bucket = place.partition("/")[0]
            self._say(
                f"Nothing could be kept at {self._address}: {error}. Is there a bucket {bucket}, and may the lake's "
                "key write to it? The last lines follow here."
            )
            return False
        lines = sum(each.lines for each in found)
        self._say(
            f"kept: {scheme}://{place} ({_count(len(pods), 'executor')}, {_count(lines, 'line')}, "
            f"{_count(len(events), 'event')})"
        )
        for each in [one for one in found if one.failed][:_FAILED_EXECUTORS]:
            self._say(f"executor-{each.number} {each.failed}; its last lines:")
            self._tell(each, _FAILED_LINES)
        self._tell_missing(found, pods)
        return True

    def _in_task_log(self, pods: Sequence[Mapping[str, Any]]) -> None:
        found = [self._one(pod, "") for pod in pods[:_TASK_EXECUTORS]]
        for each in found:
            self._say(f"executor-{each.number} {each.failed or 'ended'}; its last lines:")
            self._tell(each, _TASK_LINES)
        self._tell_missing(found, pods)
        if more := len(pods) - len(found):
            self._say(
                f"… and {_count(more, 'executor')} more. `logs` in the Spark connection's extra, such as "
                '"s3://logs/spark", keeps all of it.'
            )
        for event in self._events()[-_TASK_EVENTS:]:
            self._say(f"event: {event}")

    def _one(self, pod: Mapping[str, Any], place: str) -> _Read:
        """Reads a log, and puts it below `place` at once: few of them are in memory at a time."""
        number, failed = _number(pod), ended_badly(pod)
        if self._over.is_set():
            return _Read(number, failed, missing="there was no time for it")
        try:
            text = self._api.end_of_log(str(pod["metadata"]["name"]), EXECUTOR, MOST_BYTES)
        except EngineError as error:
            return _Read(number, failed, missing=str(error))
        lines = self._config.redact(text).splitlines()
        if place:
            self._put(f"{place}executor-{number}.log", lines)
        tail = tuple(line.partition(" ")[2] for line in lines[-_TASK_LINES:])
        return _Read(number, failed, len(lines), tail)

    def _put(self, path: str, lines: Sequence[str]) -> None:
        with self._store.open_output_stream(
            path, metadata={"Content-Type": "text/plain; charset=utf-8"}
        ) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())

    def _events(self) -> list[str]:
        try:
            return [self._config.redact(line) for line in self._api.events_around(self._name)]
        except EngineError as error:
            return [f"No events could be had: {error}"]

    def _gone(self, pods: Sequence[Mapping[str, Any]]) -> list[str]:
        """Numbers of executors that the operator saw, and whose pods somebody took away."""
        found: Mapping[str, Any] = {}
        with contextlib.suppress(EngineError):
            found = (self._api.application(self._name) or {}).get("status") or {}
        there = {str(pod["metadata"]["name"]) for pod in pods}
        names = [name for name in found.get("executorState") or {} if name not in there]
        return sorted((match[1] for name in names if (match := re.search(r"-exec-(\d+)$", name))), key=int)

    def _tell(self, read: _Read, most: int) -> None:
        for line in read.tail[-most:]:
            self._say(f"executor-{read.number}: {line}")

    def _tell_missing(self, found: Sequence[_Read], pods: Sequence[Mapping[str, Any]]) -> None:
        for each in found:
            if each.missing:
                self._say(f"executor-{each.number}: no log: {each.missing}")
        if gone := self._gone(pods):
            shown = ", ".join(f"executor-{number}" for number in gone[:10])
            self._say(f"{shown}{' …' if len(gone) > 10 else ''}: the pod is gone, and its log with it")

    def _say(self, line: str) -> None:
        if not self._over.is_set():
            self._log(line)


def _segment(text: str) -> str:
    """A name as one part of an address: a slash in it is no way out, nor are dots."""
    quoted = quote(text, safe=":+@=#[]")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _number(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("spark-exec-id") or "0")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
