"""A write that a worker left running in Trino when it died: the next try goes on with it, where that is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from forebay.engines.trino import Unfinished
from forebay.engines.trino_progress import Progress
from forebay.operators.engine import QUERY, trino

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.lake.identity import TaskTry
    from forebay.operators.base import ForebayOperator


@dataclass(frozen=True)
class Left:
    """What a try left: its name, under which the query still writes, and where the query is."""

    who: TaskTry
    at: Unfinished


def fingerprint(*what: object) -> str:
    """Of all that decides which rows a task writes: a try goes on only with what it would do itself."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def sources(operator: ForebayOperator, context: Context) -> list[object]:
    """Which tries of the tasks before this one its rows come from: those of others are other rows."""
    from forebay.operators.publish import words_of

    ti = context.get("ti")
    return [] if ti is None else [words_of(ti, key) for key in sorted(operator.upstream_task_ids)]


class Keeping:
    """Puts where a write is, and how far, into the task's state, which outlives the worker."""

    progress: Progress | None = None

    def __init__(
        self, operator: ForebayOperator, context: Context, who: TaskTry, text: str, resumed: Unfinished | None
    ) -> None:
        self._log, self._store = operator.log, context.get("task_state_store")
        self._by: dict[str, Any] = {"text": text, "number": who.number, "began": who.began}
        self._query = resumed.query if resumed is not None else ""

    @property
    def at_work(self) -> bool:
        """Whether the write itself has begun."""
        return bool(self._query)

    def __call__(self, at: Unfinished) -> None:
        self._query = at.query
        if self._store is None:
            return
        try:
            self._store.set(QUERY, {**asdict(at), **self._by, **self._far()})
        except Exception as error:  # noqa: BLE001  the write matters more than the way back to it
            self._log.warning("Where query %s is could not be kept: %s", at.query, error)

    def done(self) -> None:
        """Nothing is left to go on with: whoever runs the task again wants it done again. The query's id stays, to look at."""
        if self._store is not None and self._query:
            self._store.set(QUERY, {"query": self._query, **self._far()})

    def _far(self) -> dict[str, Any]:
        return {} if self.progress is None else {"progress": asdict(self.progress)}


def left(operator: ForebayOperator, connection: Connection, context: Context, text: str) -> Left | None:
    """The write of an earlier try that goes on in Trino without its worker.

    None where it failed or was cancelled, where Trino lost it, and where this try would write something else: then
    the earlier try is ended, what it wrote is taken back, and this one begins anew.
    """
    from forebay.operators.transaction import named

    store: Any = context.get("task_state_store")
    said = store.get(QUERY) if store is not None and context["ti"].try_number > 1 else None
    if not isinstance(said, Mapping) or said.get("text") != text:
        return None
    who = named(operator, context)
    who = replace(who, number=int(said["number"]), began=float(said["began"]))
    with trino(connection, operator.catalog(main=True)) as engine:
        engine.await_server()
        uri = engine.client.reach(str(said["uri"]))
    if uri is None:
        return None
    query, catalog = str(said["query"]), str(said["catalog"])
    at = Unfinished(query, uri, catalog, int(said["before"]), bool(said["created"]))
    operator.log.info("Trino's query %s of try %s goes on: this try takes it over", at.query, who.number)
    return Left(who, at)
