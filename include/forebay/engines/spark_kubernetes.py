"""PySpark programs on Kubernetes: a SparkApplication of the Spark operator, followed to its end."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.engines.background import Background, EngineError
from forebay.engines.results import TableResult
from forebay.engines.spark import last_words
from forebay.engines.spark_api import Refused, SparkApi, Unreachable
from forebay.engines.spark_application import (
    BEFORE,
    COLLECTED,
    DIGEST,
    LABEL,
    application_name,
    config_map,
    digest,
    manifest,
    selector,
)
from forebay.engines.spark_reasons import ENDED, failure, hopeless, image_missing, state_of, waiting
from forebay.engines.spark_settings import Cluster, Program

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from forebay.lake.connection import CatalogConfig
    from forebay.lake.identity import TaskTry

_POLL_SECONDS = 1.0
_IMAGE_SECONDS = 120.0
"""How long a registry may be away."""
_AWAY_SECONDS = 300.0
"""How long the API server may be away."""


class SparkOnKubernetes:
    """One task's application; `cancel` may be called from a signal handler at any time.

    A worker that was started anew goes on with the application that is there: see `earlier`.
    """

    def __init__(
        self,
        client: ApiClient,
        cluster: Cluster,
        program: Program,
        *,
        log: Callable[[str], None] = print,
        start_seconds: float = 600.0,
    ) -> None:
        self.api = SparkApi(client, cluster.namespace)
        self._cluster, self._program, self._log, self._start = cluster, program, log, start_seconds
        self._name = ""
        self._ending = threading.Event()
        self.background: Background[Any] = Background(self._end_now)

    def earlier(self, who: TaskTry) -> int | None:
        """The number of the try whose application does this very work and has not been collected yet.

        All others of the task are deleted, and are gone when this returns: there is never a second driver.
        """
        wanted = digest(self._program, self._cluster, who.pins)
        chosen: Mapping[str, Any] | None = None
        others = []
        for each in sorted(self.api.applications(selector(who)), key=_number, reverse=True):
            annotations = each["metadata"].get("annotations") or {}
            fit = annotations.get(DIGEST) == wanted and COLLECTED not in annotations
            leaving = each["metadata"].get("deletionTimestamp") is not None
            if chosen is None and fit and not leaving and state_of(each) in _USABLE:
                chosen = each
            elif state_of(each) not in ENDED:
                others.append(str(each["metadata"]["name"]))
        for name in others:
            self._log(f"ends the application {name} of an earlier try")
            self.delete(name)
        return None if chosen is None else _number(chosen)

    def run(self, who: TaskTry, config: CatalogConfig, writes: Sequence[str] = ()) -> list[TableResult]:
        """Start the application of this try, or go on with it where it is there, and report the tables in `writes`.

        `config` is the lake as this try sees it. Raises EngineError with the reason and the program's last words.
        """
        self._name = application_name(who)
        results: list[TableResult] = self.background.run(lambda: self._run(who, config, writes))
        return results

    def cancel(self) -> None:
        """Delete the application and its driver. Returns at once."""
        self.background.cancel()

    def collected(self, who: TaskTry) -> None:
        """Note that the task has the result, so that a task that is cleared afterwards starts anew."""
        with contextlib.suppress(EngineError):
            self.api.annotate(application_name(who), {COLLECTED: "true"})

    def delete(self, name: str, seconds: float = 30.0) -> None:
        """Delete an application, and wait until its driver is gone."""
        self.api.delete(name)
        until = time.monotonic() + seconds
        while self.api.application(name) is not None or any(map(_alive, self.api.pods(name))):
            if time.monotonic() > until:
                raise EngineError(
                    f"The application {name} does not go. Look at it: kubectl get sparkapplication,pods -n "
                    f"{self.api.namespace} -l sparkoperator.k8s.io/app-name={name}"
                )
            time.sleep(0.3)

    def _run(self, who: TaskTry, config: CatalogConfig, writes: Sequence[str]) -> list[TableResult]:
        from forebay.engines.written import changes, snapshots

        started = time.monotonic()
        application = self.api.application(self._name)
        if application is None:
            application = self._create(who, config, snapshots(config, writes))
        else:
            self._log(f"goes on with the application {self._name} ({state_of(application)})")
        before = json.loads((application["metadata"].get("annotations") or {}).get(BEFORE) or "{}")
        self._follow(application)
        return changes(config, {table: before.get(table) for table in writes}, "spark", started)

    def _create(
        self, who: TaskTry, config: CatalogConfig, before: Mapping[str, int | None]
    ) -> dict[str, Any]:
        made = manifest(who, self._cluster, self._program, config, before)
        self.api.put_programs(config_map(self._name, who, self._program))
        self.background.check()
        try:
            application = self.api.create(made)
        except Refused as error:
            if error.status != 409:
                raise
            # The answer to an earlier request was lost.
            found = self.api.application(self._name)
            if found is None:
                raise
            application = found
        if self._ending.is_set():
            # It was not there yet when the task was killed.
            self.api.delete(self._name)
        self.background.check()
        self.api.own_programs(application)
        self._log(
            f"SparkApplication {self._name} in {self.api.namespace}: image {self._cluster.image}, "
            f"{made['spec']['executor']['instances']} executors at first"
        )
        return application

    def _follow(self, application: Mapping[str, Any]) -> None:
        """Waits for the end, and says meanwhile what happens."""
        follower = _Log(self.api, self._log)
        said: set[str] = set()
        state, started, seen = "", time.monotonic(), time.monotonic()
        missing: float | None = None
        while True:
            self.background.check()
            now = time.monotonic()
            try:
                found = self.api.application(self._name)
                pods = self.api.pods(self._name)
                seen = now
            except Unreachable as error:
                if now - seen > _AWAY_SECONDS:
                    raise
                self._once(said, f"{error} The application goes on; it is asked for again.")
                self._ending.wait(_POLL_SECONDS)
                continue
            if found is None or found["metadata"].get("deletionTimestamp"):
                self.background.check()
                raise EngineError(f"The application {self._name} was deleted while it ran.")
            if state_of(found) != state:
                state = state_of(found)
                self._log(f"{self._name}: {state}")
            follower.look(pods)
            if state in ENDED:
                follower.finish()
                if state != "COMPLETED":
                    raise EngineError(self._why(found, pods, follower.tail))
                return
            if reason := hopeless(pods):
                self._give_up(f"The driver cannot start: {reason}.")
            missing = (missing or now) if image_missing(pods) else None
            if reason := waiting(found, pods, now - started):
                self._once(said, f"waits: {reason}")
                if missing is not None and now - missing > _IMAGE_SECONDS:
                    self._give_up(
                        f"The driver cannot start: {reason}. Is it named rightly, and in the registry?"
                    )
            if not follower.began and now - started > self._start:
                self._give_up(
                    f"The driver did not start in {self._start:.0f} s: {reason or 'its state is ' + state}."
                )
            self._ending.wait(_POLL_SECONDS)

    def _give_up(self, why: str) -> None:
        with contextlib.suppress(EngineError):
            self.api.delete(self._name)
        raise EngineError(why)

    def _why(
        self, application: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], tail: Sequence[str]
    ) -> str:
        events: list[str] = []
        with contextlib.suppress(EngineError):
            events = self.api.events(f"{self._name}-driver")
        for event in events[-10:]:
            self._log(f"event: {event}")
        words = last_words(tail)
        return failure(application, pods, events) + (f"\n{words}" if words else "")

    def _once(self, said: set[str], line: str) -> None:
        if line not in said:
            said.add(line)
            self._log(line)

    def _end_now(self) -> None:
        """In a thread of its own: the caller may be a signal handler, and the API server slow."""
        if self._ending.is_set():
            return
        self._ending.set()
        if self._name:
            threading.Thread(target=self._end, name="forebay-end", daemon=True).start()

    def _end(self) -> None:
        for _ in range(20):
            try:
                self.api.delete(self._name)
            except EngineError:
                time.sleep(0.5)
            else:
                return


_USABLE = ("NEW", "SUBMITTED", "RUNNING", "SUCCEEDING", "COMPLETED")


def _number(application: Mapping[str, Any]) -> int:
    return int((application["metadata"].get("labels") or {}).get(f"{LABEL}try") or 0)


def _alive(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Pending", "Running")


class _Log:
    """The driver's log, line by line as it is written; after a lost connection from where it was."""

    def __init__(self, api: SparkApi, log: Callable[[str], None]) -> None:
        self._api, self._log = api, log
        self.tail: deque[str] = deque(maxlen=400)
        self.began = False
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._seen = 0

    def look(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Begin to read when the driver has begun to write."""
        for pod in pods:
            role = (pod["metadata"].get("labels") or {}).get("spark-role")
            phase = (pod.get("status") or {}).get("phase")
            if role == "driver" and phase in ("Running", "Succeeded", "Failed"):
                self.began = True
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._read,
                        args=(str(pod["metadata"]["name"]),),
                        name="forebay-log",
                        daemon=True,
                    )
                    self._thread.start()

    def finish(self, seconds: float = 10.0) -> None:
        if self._thread is not None:
            self._thread.join(seconds)
        self._over.set()

    def _read(self, pod: str) -> None:
        while not self._over.is_set():
            try:
                for number, line in enumerate(self._api.log(pod), 1):
                    # A connection that broke begins at the first line again.
                    if number > self._seen:
                        self._seen = number
                        self.tail.append(line)
                        self._log(line)
            except Unreachable:
                time.sleep(1.0)
            except Refused as error:
                if error.status != 400:
                    self._log(f"The driver's log cannot be read: {error}")
                    return
                time.sleep(1.0)
            else:
                return
