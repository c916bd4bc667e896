"""Talks to a Trino server: one statement at a time, followed to its end, cancelled at any time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.trino_types import Signature

if TYPE_CHECKING:
    from trino.client import TrinoRequest, TrinoStatus
    from trino.exceptions import TrinoQueryError

TELL_SECONDS = 5.0
_CANCEL_SECONDS = 2.0


class TrinoError(EngineError):
    """Trino could not do the work; `name` is its own word for why, `place` the line and column in
    `sql`, as it was sent."""

    def __init__(
        self,
        message: str,
        name: str = "",
        kind: str = "",
        place: tuple[int, int] | None = None,
        sql: str = "",
    ) -> None:
        super().__init__(message)
        self.name, self.kind, self.place, self.sql = name, kind, place, sql

    @property
    def by_user(self) -> bool:
        """Whether the SQL or its data are the cause: another try would end the same way."""
        return self.kind == "USER_ERROR" and self.name not in _NOT_THE_SQL


# Called user errors by Trino, and over when somebody or something else has changed.
_NOT_THE_SQL = {"USER_CANCELED", "ADMINISTRATIVELY_KILLED", "ADMINISTRATIVELY_PREEMPTED", "CATALOG_NOT_FOUND"}


@dataclass(frozen=True)
class Server:
    """Where Trino answers, and as whom it is asked. The password never shows in a repr."""

    host: str
    port: int
    user: str = "forebay"
    scheme: str = "http"
    password: str = field(default="", repr=False)
    verify: bool | str = True
    """A file of certificate authorities, or whether to ask at all."""
    session: tuple[tuple[str, str], ...] = ()
    """Session properties, such as query_max_run_time."""

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @classmethod
    def from_connection(
        cls,
        host: str | None,
        port: int | None,
        login: str | None,
        password: str | None,
        extra: Mapping[str, Any],
    ) -> Server:
        """From the fields of an Airflow connection of type `trino`."""
        if not host:
            raise EngineError("The Trino connection lacks a host.")
        scheme = str(extra.get("http_scheme") or ("https" if password or port == 443 else "http"))
        session = extra.get("session") or {}
        if not isinstance(session, Mapping):
            raise EngineError(
                "The Trino connection's extra: session is not a mapping of properties to values."
            )
        return cls(
            host, port or (443 if scheme == "https" else 8080), login or "forebay", scheme, password or "",
            extra.get("verify", True), tuple((str(name), str(value)) for name, value in session.items()),
        )  # fmt: skip


@dataclass(frozen=True)
class Label:
    """What Trino shows of who asks: in its own UI, its logs, and to its resource groups."""

    source: str = "forebay"
    tags: tuple[str, ...] = ()
    info: str = ""


@dataclass
class Answer:
    """A statement's result: columns with their types, rows, and how many rows it wrote."""

    query: str
    columns: list[tuple[str, Signature]] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    count: int | None = None
    more: bool = False
    """Whether there were more rows than were asked for."""


class TrinoClient:
    """Runs statements. `cancel` may be called from a signal handler; the one under way then ends with an error."""

    def __init__(
        self,
        server: Server,
        label: Label | None = None,
        on_query: Callable[[str, str], None] = lambda _query, _info: None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.server, self.label = server, label or Label()
        self._on_query, self._log = on_query, log
        self._now: tuple[str, str] | None = None

    def run(
        self,
        sql: str,
        *,
        catalog: str | None = None,
        limit: int | None = None,
        session: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> Answer:
        """Run one statement to its end, or until it gave `limit` rows. Raises TrinoError.

        Its id is told before its first result is asked for. `quiet` ones are housekeeping: not told, not followed.
        """
        with self._translated(sql):
            request = self._request(catalog, session or {})
            status = request.process(request.post(sql))
            if not quiet:
                self._on_query(status.id, status.info_uri)
            return self._follow(request, status, limit, quiet)

    def cancel(self) -> None:
        """End the statement under way; nothing of it is committed. Takes no lock, asks once, waits two seconds at most."""
        import requests

        now = self._now
        if now is None:
            return
        with contextlib.suppress(requests.RequestException), requests.Session() as fresh:
            fresh.trust_env = False
            fresh.verify = self.server.verify
            fresh.delete(
                now[1], timeout=_CANCEL_SECONDS, auth=self._auth(), headers={"X-Trino-User": self.server.user}
            )

    def _auth(self) -> tuple[str, str] | None:
        return (self.server.user, self.server.password) if self.server.password else None

    def _request(self, catalog: str | None, session: Mapping[str, str]) -> TrinoRequest:
        import requests
        from trino.auth import BasicAuthentication
        from trino.client import ClientSession, TrinoRequest

        server = self.server
        http = requests.Session()
        # The server's address is the whole truth: no proxy or netrc of the environment.
        http.trust_env = False
        asks = ClientSession(
            user=server.user,
            catalog=catalog,
            source=self.label.source,
            properties={**dict(server.session), **session},
            headers={"X-Trino-Client-Info": self.label.info} if self.label.info else None,
            client_tags=list(self.label.tags),
            timezone="UTC",
            heartbeat_interval=None,
        )
        made = TrinoRequest(
            server.host, server.port, asks, http_session=http, http_scheme=server.scheme, max_attempts=4,
            auth=BasicAuthentication(server.user, server.password) if server.password else None,
            request_timeout=(5.0, 60.0),
        )  # fmt: skip
        # Its own argument takes no file of authorities.
        http.verify = server.verify
        return made

    def _follow(self, request: TrinoRequest, status: TrinoStatus, limit: int | None, quiet: bool) -> Answer:
        from trino.mapper import RowMapperFactory

        answer = Answer(status.id)
        mapper = None
        told = began = time.monotonic()
        said = ""
        try:
            while True:
                self._now = (status.id, status.next_uri) if status.next_uri else None
                if status.columns and mapper is None:
                    answer.columns = [(str(one["name"]), one["typeSignature"]) for one in status.columns]
                    mapper = RowMapperFactory().create(status.columns, legacy_primitive_types=False)
                if isinstance(status.rows, list) and status.rows and mapper is not None:
                    answer.rows += mapper.map(status.rows)
                if status.update_count is not None:
                    answer.count = int(status.update_count)
                if limit is not None and len(answer.rows) > limit:
                    answer.rows, answer.more = answer.rows[:limit], True
                    self.cancel()
                    return answer
                if status.next_uri is None:
                    return answer
                if not quiet and time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    line = progress(status.stats)
                    if line != said:
                        said = line
                        self._log(f"{status.id}: {line}, {told - began:.0f} s")
                status = request.process(request.get(status.next_uri))
        finally:
            self._now = None

    @contextlib.contextmanager
    def _translated(self, sql: str) -> Iterator[None]:
        import requests
        from trino.exceptions import Error, HttpError, TrinoQueryError

        try:
            yield
        except TrinoQueryError as error:
            place = error.error_location
            raise TrinoError(
                _explained(_said(error), str(error.error_name or "")), str(error.error_name or ""),
                str(error.error_type or ""), place, sql,
            ) from None  # fmt: skip
        except HttpError as error:
            if "404" in str(error) or "410" in str(error):
                raise TrinoError(
                    f"Trino at {self.server.address} no longer knows the query: it was restarted in between. What the "
                    "query had not committed is lost; run the task again.",
                    "QUERY_GONE",
                ) from None
            if "401" in str(error):
                raise TrinoError(
                    f"Trino at {self.server.address} refuses user {self.server.user}: correct login and password of the "
                    "connection.",
                    "LOGIN",
                ) from None
            raise TrinoError(f"Trino at {self.server.address} answers {str(error)[:300]}", "HTTP") from None
        except (requests.RequestException, Error) as error:
            raise TrinoError(
                f"Trino at {self.server.address} does not answer ({type(error).__name__}). Is it up? forebay status",
                "DOWN",
            ) from None


def progress(stats: Mapping[str, Any]) -> str:
    """How far a query is, in words: state, splits, rows read, bytes written."""
    parts = [str(stats.get("state", "")).lower()]
    total = int(stats.get("totalSplits") or 0)
    if total:
        parts.append(f"{int(stats.get('completedSplits') or 0):,} of {total:,} splits")
    parts.append(f"{int(stats.get('processedRows') or 0):,} rows, {_size(stats.get('processedBytes'))} read")
    if written := int(stats.get("physicalWrittenBytes") or 0):
        parts.append(f"{_size(written)} written")
    return ", ".join(filter(None, parts))


def _size(count: object) -> str:
    number = float(str(count or 0))
    for unit in ("B", "KB", "MB"):
        if number < 1024:
            return f"{number:,.0f} {unit}"
        number /= 1024
    return f"{number:,.1f} GB"


_ADVICE: Sequence[tuple[str, str]] = (
    (
        "EXCEEDED",
        "Select less, or raise the limit in Trino's configuration or the connection's extra (session).",
    ),
    ("ADMINISTRATIVELY", "An administrator of Trino ended it: ask there, then run the task again."),
    ("CLUSTER_OUT_OF_MEMORY", "Others took the memory: run the task again later, or give Trino more."),
    ("QUERY_QUEUE_FULL", "Too many queries wait in the resource group: run the task again later."),
    ("NO_NODES_AVAILABLE", "No worker of Trino is up: look at its nodes."),
    ("SERVER_STARTING_UP", "Trino is still starting: run the task again in a minute."),
    ("CATALOG_NOT_FOUND", "The run's catalog was dropped while the task worked: run the task again."),
    ("USER_CANCELED", "Somebody cancelled the query in Trino."),
    ("QUERY_EXPIRED", "Trino heard nothing of the task for too long: run the task again."),
)


def _said(error: TrinoQueryError) -> str:
    """The message, with what the catalog or the store answered where Trino keeps that to itself."""
    message, cause = str(error.message), error.failure_info
    while cause and cause.get("cause"):
        cause = cause["cause"]
    deepest = str((cause or {}).get("message") or "")
    return message if not deepest or deepest in message else f"{message.rstrip('.')}: {deepest}"


def _explained(message: str, name: str) -> str:
    advice = next((words for begin, words in _ADVICE if name.startswith(begin)), "")
    return f"{message.rstrip('.')}. {advice}" if advice else message
