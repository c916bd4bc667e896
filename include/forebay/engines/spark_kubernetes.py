"""PySpark programs on Kubernetes: a SparkApplication of the Spark operator, followed to its end."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.engines.background import Background, Cancelled, EngineError
from forebay.engines.results import TableResult
from forebay.engines.spark import last_words
from forebay.engines.spark_api import Refused, SparkApi, Unreachable
from forebay.engines.spark_application import (
    BEFORE,
    COLLECTED,
    DIGEST,
    FOLLOWED,
    LABEL,
    application_name,
    config_map,
    digest,
    manifest,
    selector,
)
from forebay.engines.spark_driver_log import DriverLog
from forebay.engines.spark_keep import Keeper, folder
from forebay.engines.spark_orphans import sweep
from forebay.engines.spark_reasons import (
    ENDED,
    driver_ended,
    failure,
    hopeless,
    image_missing,
    state_of,
    unnoticed,
    waiting,
)
from forebay.engines.spark_settings import Cluster, Program

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from forebay.lake.connection import CatalogConfig
    from forebay.lake.identity import TaskTry

Made = TypeVar("Made")

_POLL_SECONDS = 1.0
_IMAGE_SECONDS = 120.0
"""How long a registry may be away."""
_AWAY_SECONDS = 300.0
"""How long the API server may be away."""
_SILENT_SECONDS, _OPERATOR_SECONDS = 10.0, 60.0
"""How long the operator may not notice that the driver has ended: until it is said, and until it is waited for no more."""
_KEEP_SECONDS, _LAST_SECONDS = 60.0, 2.5
"""How long keeping logs may take: at an application's end, and of a killed task, which has five seconds in all."""


class _GivenUp(EngineError):
    """The application will not do the work; it is deleted when its logs are kept."""


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
        airflow: str = "",
        on_application: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`airflow` is a name for the Airflow whose task this is; `on_application` hears Spark's own name of the application."""
        self.api = SparkApi(client, cluster.namespace)
        self._cluster, self._program, self._log, self._start = cluster, program, log, start_seconds
        self._airflow, self._on_application = airflow, on_application
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
        if chosen is None:
            return None
        name = str(chosen["metadata"]["name"])
        if state_of(chosen) == "NEW":
            # The operator may be at it: one that is touched now would be submitted twice, and fail by that.
            return _number(chosen)
        try:
            # Whoever took it for an orphan a moment ago finds it touched, and leaves it.
            self.api.annotate(name, {FOLLOWED: str(who.number)})
        except Refused as error:
            if error.status != 404:
                raise
            self.delete(name)
            return None
        return _number(chosen)

    def sweep(self, over: Callable[[str, str, str], bool]) -> None:
        """Delete what tasks left behind that are over; see `forebay.engines.spark_orphans`. Stops no task."""
        try:
            sweep(self.api, self._airflow, over, self._log)
        except EngineError as error:
            self._log(f"Applications that nobody will come back for could not be looked for: {error}")

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
        """Note that the task has the result, so that a task that is cleared afterwards starts anew. Stops no task."""
        try:
            self.api.annotate(application_name(who), {COLLECTED: "true"})
        except EngineError as error:
            self._log(f"That the task has its result could not be noted: {error}")

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
            with contextlib.suppress(EngineError):
                # Whoever made it may have died just before.
                self.api.own_programs(application)
        before = json.loads((application["metadata"].get("annotations") or {}).get(BEFORE) or "{}")
        address = folder(self._cluster.logs, who) if self._cluster.logs else ""
        keeper = Keeper(self.api, self._name, address, config, self._log)
        try:
            self._follow(application, DriverLog(self.api, lambda line: self._log(config.redact(line))))
        except Cancelled:
            keeper.keep(_LAST_SECONDS)
            raise
        except EngineError as error:
            keeper.keep(_KEEP_SECONDS)
            if isinstance(error, _GivenUp):
                with contextlib.suppress(EngineError):
                    self.api.delete(self._name)
            raise
        keeper.keep(_KEEP_SECONDS)
        return changes(config, {table: before.get(table) for table in writes}, "spark", started)

    def _create(
        self, who: TaskTry, config: CatalogConfig, before: Mapping[str, int | None]
    ) -> dict[str, Any]:
        made = manifest(who, self._cluster, self._program, config, before, self._airflow)
        programs = config_map(self._name, who, self._program)
        self._patiently(lambda: self.api.put_programs(programs))
        try:
            application = self._patiently(lambda: self.api.create(made))
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

    def _patiently(self, make: Callable[[], Made]) -> Made:
        """Makes something, also where that cannot be for a while: a webhook is away, as when the operator restarts."""
        said: set[str] = set()
        until = time.monotonic() + self._start
        while True:
            self.background.check()
            try:
                return make()
            except Refused as error:
                if not error.passing or time.monotonic() > until:
                    raise
                self._once(said, f"waits: {error}")
            self._ending.wait(_POLL_SECONDS)

    def _follow(self, application: Mapping[str, Any], follower: DriverLog) -> None:
        """Waits for the end, and says meanwhile what happens."""
        said: set[str] = set()
        state, started, seen = "", time.monotonic(), time.monotonic()
        spark = ""
        missing: float | None = None
        ended: float | None = None
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
            if not spark and (spark := str((found.get("status") or {}).get("sparkApplicationId") or "")):
                self._on_application(spark)
            follower.look(pods)
            if state in ENDED:
                follower.finish()
                if state != "COMPLETED":
                    raise EngineError(self._why(found, pods, follower.tail))
                return
            ended = (ended or now) if follower.began and driver_ended(pods) else None
            if ended is not None and now - ended > _SILENT_SECONDS:
                self._once(said, f"waits: {unnoticed(pods, _OPERATOR_SECONDS - _SILENT_SECONDS)}")
                if now - ended > _OPERATOR_SECONDS:
                    follower.finish()
                    if driver_ended(pods) == "Succeeded":
                        return
                    raise EngineError(self._why(found, pods, follower.tail))
            if reason := hopeless(pods):
                raise _GivenUp(f"The driver cannot start: {reason}.")
            missing = (missing or now) if image_missing(pods) else None
            if reason := waiting(found, pods, now - started):
                self._once(said, f"waits: {reason}")
                if missing is not None and now - missing > _IMAGE_SECONDS:
                    raise _GivenUp(
                        f"The driver cannot start: {reason}. Is it named rightly, and in the registry?"
                    )
            if not follower.began and now - started > self._start:
                raise _GivenUp(
                    f"The driver did not start in {self._start:.0f} s: {reason or 'its state is ' + state}."
                )
            self._ending.wait(_POLL_SECONDS)

    def _why(
        self, application: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], tail: Sequence[str]
    ) -> str:
        events: list[str] = []
        with contextlib.suppress(EngineError):
            events = self.api.events(f"{self._name}-driver")
        if self._cluster.logs:
            # Else all of them come with the executors' logs.
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
        said: set[str] = set()
        for _ in range(20):
            try:
                self.api.delete(self._name)
            except EngineError as error:
                self._once(said, f"The application {self._name} could not be deleted: {error}")
                time.sleep(0.5)
            else:
                return


_USABLE = ("NEW", "SUBMITTED", "RUNNING", "SUCCEEDING", "COMPLETED")


def _number(application: Mapping[str, Any]) -> int:
    return int((application["metadata"].get("labels") or {}).get(f"{LABEL}try") or 0)


def _alive(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Pending", "Running")
