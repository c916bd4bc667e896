"""Which engine a task's SQL runs on: the connection's type decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from forebay import sqltext
from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.trino import TrinoEngine, Unfinished
from forebay.engines.trino_catalog import keys
from forebay.engines.trino_client import Server
from forebay.engines.trino_errors import TrinoError
from forebay.engines.trino_progress import Progress
from forebay.errors import ForebayError, Mistake

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.lake.identity import TaskTry
    from forebay.operators.base import ForebayOperator
    from forebay.operators.resume import Keeping
    from forebay.sqltext import Statement

TYPES = ("duckdb", "trino")
QUERY = "trino_query"
"""Where a task's state keeps the id of its query in Trino and how far it is; while it writes, also how to go on with it."""


def kind_of(connection: Connection, conn_id: str) -> str:
    """The type of a SQL connection. Raises ForebayError for one that runs no SQL here."""
    if connection.conn_type not in TYPES:
        raise ForebayError(
            f"connection {conn_id} is of type {connection.conn_type}; SQL runs on {' and '.join(TYPES)}. Correct its "
            "type in Airflow, or name another connection as conn_id."
        )
    return str(connection.conn_type)


def opened(
    operator: ForebayOperator,
    connection: Connection,
    context: Context,
    exclusive: Sequence[str] = (),
    keeping: Keeping | None = None,
    resumed: Unfinished | None = None,
    texts: Sequence[str] = (),
) -> DuckDBEngine | TrinoEngine:
    """The connection's engine, on the lake as this try sees it, for statements in its dialect."""
    config, settings = operator.catalog(exclusive=exclusive), connection.extra_dejson
    if connection.conn_type == "trino":
        assert operator._who is not None
        store = context.get("task_state_store")

        def keep(query: str, info: str) -> None:
            operator.log.info("Trino's query %s: %s", query, info)
            # A write says more of itself once it is at work; what may have to queue before it does not.
            if store is not None and (keeping is None or not keeping.at_work):
                store.set(QUERY, {"query": query})

        def tell(query: str, progress: Progress) -> None:
            if keeping is not None:
                keeping.progress = progress
            elif store is not None:
                store.set(QUERY, {"query": query, "progress": asdict(progress)})

        return trino(
            connection, config, operator._who, keep, _logged(operator), on_step=keeping, on_progress=tell,
            resumed=resumed, drops_beside=True,
        )  # fmt: skip
    return DuckDBEngine(
        config,
        memory_limit=str(settings.get("memory_limit", "1GB")),
        threads=int(settings.get("threads", 2)),
        macros=sqltext.macros_for(texts),
    )


def trino(
    connection: Connection,
    config: Any,
    who: TaskTry | None = None,
    keep: Any = None,
    log: Any = None,
    on_step: Callable[[Unfinished], None] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
    resumed: Unfinished | None = None,
    drops_beside: bool = False,
) -> TrinoEngine:
    """The Trino of a connection."""
    extra: Mapping[str, Any] = connection.extra_dejson
    server = Server.from_connection(
        connection.host, connection.port, connection.login, connection.password, extra
    )
    return TrinoEngine(
        config,
        server,
        **keys(extra),
        who=who,
        on_query=keep or (lambda query, info: None),
        log=log or (lambda line: None),
        on_step=on_step or (lambda _: None),
        on_progress=on_progress or (lambda query, progress: None),
        resumed=resumed,
        drops_beside=drops_beside,
    )


@contextlib.contextmanager
def counting(
    operator: ForebayOperator, connection: Connection, context: Context
) -> Iterator[TrinoEngine | None]:
    """The Trino that counts rows for a check; None where the connection is another engine's."""
    if connection.conn_type != "trino":
        yield None
        return
    # The rows that stay depend on those that were there.
    with opened(operator, connection, context, operator.tables) as engine:
        assert isinstance(engine, TrinoEngine)
        yield engine


def dialect(kind: str) -> Callable[[Statement], str]:
    """How an engine takes a statement."""
    return TrinoEngine.dialect if kind == "trino" else DuckDBEngine.dialect


class Engines:
    """Several engines that work for one task: all are stopped together."""

    def __init__(self, *engines: DuckDBEngine | TrinoEngine) -> None:
        self._engines = engines

    def cancel(self) -> None:
        for engine in self._engines:
            engine.cancel()


def before_a_try(operator: ForebayOperator, connection: Connection, conn_id: str, context: Context) -> str:
    """The engine's name; what an earlier try of this task left running in Trino is ended, and commits nothing.

    Its query's id is in the task's state.
    """
    from forebay.operators.transaction import named

    kind, ti = kind_of(connection, conn_id), context["ti"]
    if kind != "trino" or ti.try_number < 2:
        return kind
    who = named(operator, context)
    store = context.get("task_state_store")
    said = store.get(QUERY) if store is not None else None
    query = said.get("query") if isinstance(said, Mapping) else None
    with trino(connection, operator.catalog(main=True), who, log=_logged(operator)) as engine:
        try:
            engine.await_server()
            if query and engine.end_query(str(query)):
                operator.log.info("Trino's query %s of an earlier try was ended", query)
            engine.end_earlier()
        except TrinoError as error:
            # The lens lets an older try write nothing either.
            operator.log.warning("Earlier tries could not be looked for in Trino: %s", error)
    return kind


def _logged(operator: ForebayOperator) -> Callable[[str], None]:
    return lambda line: operator.log.info("%s", line)


def blamed(error: TrinoError, statements: Sequence[Statement] = (), texts: Sequence[str] = ()) -> Exception:
    """What a task raises for an error of Trino: at its place in the SQL file, and final where another try
    would end the same way."""
    message = str(error)
    if error.place is not None:
        line, column = error.place
        sent = error.sql.split("\n")
        for statement, text in zip(statements, texts, strict=True):
            if line <= len(sent) and sent[line - 1] == text:
                place = sqltext.located(statement, text, 1, column)
                said = message.partition(": ")[2] if message.startswith("line ") else message
                message = str(Mistake(statement.lines.file, *place, "", said))
                break
    return ForebayError(message) if error.transient else AirflowFailException(message)
