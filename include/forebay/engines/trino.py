"""SQL on Trino: a SELECT into a table, statements as they are, or rows to look at."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from forebay.engines import trino_write
from forebay.engines.background import Background, EngineError
from forebay.engines.duckdb import Mode
from forebay.engines.results import TableResult
from forebay.engines.trino_catalog import RunCatalog, catalog_properties, create_statement, stale
from forebay.engines.trino_client import Answer, Label, Server, Step, TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.engines.trino_progress import Progress
from forebay.engines.trino_types import Signature, arrow_type, plain
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import TableDefinition
from forebay.sqlquote import literal

if TYPE_CHECKING:
    import pyarrow as pa

    from forebay.sqltext import Statement

Result = TypeVar("Result")
ATTEMPTS = 5
_LAST_WORD = 10.0
"""Most seconds that a process waits at its end for a catalog to be dropped."""

_NAMES = 5
"""How many names of a catalog are tried where others have them."""

SOURCE = "forebay/"
"""What Trino is told as the source of a job's queries, before the job's full name."""

MAX_ROWS = 1_000_000
"""Most rows that `query` brings into this process."""

_AWAY = ("DOWN", "SERVER_STARTING_UP")
_STARTS = 90.0
_CONFLICTS = ("TRANSACTION_CONFLICT", "ICEBERG_COMMIT_ERROR", "SERVER_STARTING_UP")


class Keeper(Protocol):
    """Where the ids of queries are kept while they run."""

    def __call__(self, query: str, info: str) -> None: ...


@dataclass(frozen=True)
class Unfinished:
    """The statement that brings a table's new rows, while it runs: another process can go on from here."""

    query: str
    uri: str
    """Where its next answer is."""
    catalog: str
    """The catalog that it writes in."""
    before: int
    """Rows of the table before it."""
    created: bool
    """Whether the table was made for it."""


class TrinoEngine:
    """One task's Trino. Use it with `with`; `cancel` may be called from a signal handler at any time.

    It makes a catalog in Trino that shows the lake as `config` does, and drops it at its end, unless `catalog` names one
    that is there. SQL given to it names tables as namespace.table (see forebay.sqltext). `on_step` hears how far a
    write is; with `resumed`, `write` goes on from there, in the catalog of the try that began it. With `drops_beside`
    the catalog of work that went well is dropped beside what the process does next; the process waits for it at its end.
    """

    def __init__(
        self,
        config: CatalogConfig,
        server: Server,
        *,
        access_key: str = "",
        secret_key: str = "",
        client_id: str = "",
        client_secret: str = "",
        catalog: str | None = None,
        who: TaskTry | None = None,
        on_query: Keeper = lambda query, info: None,
        on_step: Callable[[Unfinished], None] = lambda _: None,
        on_progress: Callable[[str, Progress], None] = lambda query, progress: None,
        resumed: Unfinished | None = None,
        drops_beside: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self._catalog = catalog
        keys = (access_key, secret_key, client_id, client_secret)
        self._properties = {} if catalog else catalog_properties(config, *keys)
        self._who = who or TaskTry("forebay.query", f"{time.time()}", began=time.time())
        self._mine = RunCatalog.of(self._who)
        if resumed is not None:
            self._mine = replace(self._mine, name=resumed.catalog)
        self._log = log
        label = _label(who)
        self.client = TrinoClient(server, label, on_query, log, on_progress)
        self._made = resumed is not None
        self._on_step, self.resumed = on_step, resumed
        self._drops_beside = drops_beside
        self.background: Background[Any] = Background(self.client.cancel)

    def __enter__(self) -> TrinoEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._drops_beside:
            closing = threading.Thread(target=self.close, name="forebay-close", daemon=True)
            closing.start()
            atexit.register(closing.join, _LAST_WORD)
        else:
            self.close()

    def close(self) -> None:
        """Drop the catalog, and with it whatever might still run in it."""
        if self._made:
            self._made = False
            # Whoever comes next drops it where Trino does not answer now.
            with contextlib.suppress(EngineError):
                self.client.run(f"DROP CATALOG {self._mine.name}", quiet=True)
        self.client.close()

    def cancel(self) -> None:
        """Stop what runs; the waiting call raises Cancelled. Nothing is committed after that."""
        self.background.cancel()

    @staticmethod
    def dialect(statement: Statement) -> str:
        """A statement as this engine takes it."""
        from forebay.sqltext import to_trino

        return to_trino(statement)

    def await_server(self, seconds: float = _STARTS) -> None:
        """Wait for a server that is being started anew. Raises TrinoError where it is not there by then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.client.run("SELECT 1", quiet=True)
                return
            except TrinoError as error:
                if error.name not in _AWAY or time.monotonic() > deadline:
                    raise
            self.background.check()
            time.sleep(1.0)

    def end_earlier(self) -> list[str]:
        """Drop the catalogs of this task's earlier tries, which ends their queries, and of tries long forgotten."""
        names = [str(name) for (name,) in self.client.run("SHOW CATALOGS", quiet=True).rows]
        dropped = stale(names, self._mine)
        for name in dropped:
            # Two tasks may sweep at once.
            with contextlib.suppress(TrinoError):
                self.client.run(f"DROP CATALOG {name}", quiet=True)
                self._log(f"dropped Trino's catalog {name}, which an earlier try left")
        return dropped

    def end_query(self, query: str) -> bool:
        """End a query by its id; False where it is over already."""
        try:
            said = f"CALL system.runtime.kill_query(query_id => {literal(query)}, message => 'the task was started anew')"
            self.client.run(said, quiet=True)
        except TrinoError as error:
            if error.name in ("NOT_FOUND", "INVALID_FUNCTION_ARGUMENT", "NOT_SUPPORTED"):
                return False
            raise
        return True

    @property
    def catalog(self) -> str:
        """The catalog's name, made at first use."""
        if self._catalog is not None:
            return self._catalog
        if not self._made:
            # A first try has none before it, and asking takes a tenth of a second: one in sixteen looks for forgotten ones.
            if self._mine.number > 1 or self._mine.task.startswith("0"):
                self.end_earlier()
            self._make()
            self._made = True
        return self._mine.name

    def _make(self) -> None:
        for taken in range(_NAMES):
            self._mine = RunCatalog.of(self._who, taken)
            try:
                self.client.run(create_statement(self._mine.name, self._properties), quiet=True)
                return
            except TrinoError as error:
                if error.name not in ("ALREADY_EXISTS", "CATALOG_ALREADY_EXISTS"):
                    raise
            # Somebody else's, or one that Trino made and could not say so: it is not ours to drop, nor to write through.
            self._log(f"Trino has a catalog {self._mine.name} already, so this try takes another name")
        raise EngineError(
            f"Trino at {self.client.server.address} has catalogs of {_NAMES} names that this try would take, such as "
            f"{self._mine.name}. See whose they are (SHOW CATALOGS), drop them (DROP CATALOG name) and run the task again."
        )

    def write(
        self,
        select: str,
        definition: TableDefinition,
        mode: Mode = "overwrite",
        merge_key: Sequence[str] = (),
    ) -> TableResult:
        """Put a SELECT's rows into a table, created when missing.

        A column the table lacks is added; one the SELECT lacks stays NULL (merge: keeps its value). append and merge
        are one commit, the other modes two: the new rows come first, then the old ones go.
        """
        return self._run(lambda: trino_write.write(self, select, definition, mode, tuple(merge_key)))

    def execute(self, statements: Sequence[str]) -> list[int | None]:
        """Run statements in turn, each its own commit; the rows each changed, where Trino says so."""
        return self._run(lambda: [self.statement(each).count for each in statements])

    def query(self, select: str, limit: int | None = None) -> pa.Table:
        """The rows of a SELECT as an Arrow table, at most `limit`; without one, more than MAX_ROWS are an error."""
        import pyarrow as pa

        answer = self._run(lambda: self.statement(select, MAX_ROWS if limit is None else limit))
        if answer.more and limit is None:
            raise EngineError(
                f"The SELECT gives more than {MAX_ROWS:,} rows, too many to bring here. Aggregate it, or write it to a table."
            )
        types = [arrow_type(kind) for _, kind in answer.columns]
        columns = [
            pa.array([plain(row[number], kind) for row in answer.rows], types[number])
            for number, (_, kind) in enumerate(answer.columns)
        ]
        return pa.Table.from_arrays(columns, names=[name for name, _ in answer.columns])

    def columns(self, select: str) -> list[tuple[str, Signature]]:
        """Names and Trino types of a SELECT's columns, without running it."""
        return self.statement(f"SELECT * FROM (\n{select}\n) LIMIT 0", quiet=True).columns

    def work(self, function: Callable[[], Result]) -> Result:
        """Run a function of several steps, where `cancel` can stop it between them."""
        return self._run(function)

    def bring(self, sql: str, before: int, created: bool) -> Answer:
        """Run the statement that brings a table's new rows, or follow the one that was resumed to its end."""

        def step(query: str, uri: str) -> None:
            self._on_step(Unfinished(query, uri, self._mine.name, before, created))

        if self.resumed is not None:
            return self.client.resume(self.resumed.uri, step)
        return self.statement(sql, on_step=step)

    def statement(
        self, sql: str, limit: int | None = None, *, quiet: bool = False, on_step: Step | None = None
    ) -> Answer:
        """Run one statement, again where another writer came first: nothing of it was committed then."""
        session = {f"{self.catalog}.merge_manifests_on_write": "false"}
        for attempt in range(ATTEMPTS):
            self.background.check()
            try:
                return self.client.run(
                    sql, catalog=self.catalog, limit=limit, session=session, quiet=quiet, on_step=on_step
                )
            except TrinoError as error:
                if attempt == ATTEMPTS - 1 or error.name not in _CONFLICTS or "unknown" in str(error).lower():
                    raise
                time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _run(self, work: Callable[[], Result]) -> Result:
        result: Result = self.background.run(work)
        return result


def _label(who: TaskTry | None) -> Label:
    if who is None:
        return Label()
    import json

    info = json.dumps(
        {
            "workspace": who.workspace,
            "job": who.job,
            "run": who.run,
            "task": who.task,
            "try": who.number,
            "user": who.user,
        }
    )
    # Of a header's characters, and without the comma that parts tags.
    tags = tuple(quote(tag, safe=":+@/ ") for tag in (who.workspace, who.job, who.run))
    return Label(f"{SOURCE}{who.job}", tags, info)
