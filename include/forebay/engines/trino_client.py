"""Talks to a Trino server: one statement at a time, followed to its end, cancelled at any time."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.trino_errors import of_connection, of_http, of_query
from forebay.engines.trino_progress import Progress
from forebay.engines.trino_types import Signature

if TYPE_CHECKING:
    from requests import Session
    from trino.client import TrinoRequest, TrinoStatus

TELL_SECONDS = 5.0
STEADY_SECONDS = 5.0
"""From then on a statement is long enough for its place to be kept at each step."""

_CANCEL_SECONDS = 2.0


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

    def trust(self) -> ssl.SSLContext | bool:
        """`verify` as httpx takes it."""
        return (
            self.verify if isinstance(self.verify, bool) else ssl.create_default_context(cafile=self.verify)
        )

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
            _verify(extra.get("verify", True)), tuple((str(name), str(value)) for name, value in session.items()),
        )  # fmt: skip


def _verify(given: object) -> bool | str:
    """How the server's certificate is looked at. Raises EngineError for a file that is not there."""
    if str(given).lower() in ("true", "false"):
        return str(given).lower() == "true"
    if not Path(str(given)).is_file():
        raise EngineError(
            f"The Trino connection's extra: verify names {given}, which is no file on this machine. Put the certificate of "
            "Trino's authority there, or name where it is."
        )
    return str(given)


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


Step = Callable[[str, str], None]
"""Is told a query's id and the address of its next answer, before that is asked for."""


class TrinoClient:
    """Runs statements. `cancel` may be called from a signal handler; the one under way then ends with an error."""

    def __init__(
        self,
        server: Server,
        label: Label | None = None,
        on_query: Callable[[str, str], None] = lambda _query, _info: None,
        log: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[str, Progress], None] = lambda _query, _progress: None,
    ) -> None:
        self.server, self.label = server, label or Label()
        self._on_query, self._log, self._on_progress = on_query, log, on_progress
        self._now: tuple[str, str] | None = None
        self._http: Session | None = None

    def close(self) -> None:
        """Hang up."""
        if self._http is not None:
            self._http.close()

    def run(
        self,
        sql: str,
        *,
        catalog: str | None = None,
        limit: int | None = None,
        session: Mapping[str, str] | None = None,
        quiet: bool = False,
        on_step: Step | None = None,
    ) -> Answer:
        """Run one statement to its end, or until it gave `limit` rows. Raises TrinoError.

        Its id is told before its first result is asked for. `quiet` ones are housekeeping: told and followed only where
        they have to queue.
        `on_step` hears where `resume` can go on. `on_progress` hears how far one is every TELL_SECONDS, and at its end.
        """
        with self._translated(sql):
            request = self._request(catalog, session or {})
            status = request.process(request.post(sql))
            if on_step is not None and status.next_uri:
                on_step(status.id, status.next_uri)
            if not quiet:
                self._on_query(status.id, status.info_uri)
            return self._follow(request, status, limit, quiet, on_step)

    def reach(self, uri: str) -> str | None:
        """Where to go on with a statement that another process began; None where it has failed or is not there."""
        from trino.exceptions import HttpError, TrinoQueryError

        with self._translated(""):
            request = self._request(None, {})
            try:
                status = request.process(request.get(uri))
                if status.next_uri:
                    # That was the last answer once more; how the statement stands now is said in the next one.
                    uri = str(status.next_uri)
                    request.process(request.get(uri))
            except (TrinoQueryError, HttpError):
                return None
        return uri

    def resume(self, uri: str, on_step: Step | None = None) -> Answer:
        """Follow a statement that another process began, from the address that `reach` gave."""
        with self._translated(""):
            request = self._request(None, {})
            status = request.process(request.get(uri))
            self._on_query(status.id, status.info_uri)
            return self._follow(request, status, None, False, on_step)

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
        from trino.auth import BasicAuthentication
        from trino.client import ClientSession, TrinoRequest

        server = self.server
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
        return TrinoRequest(
            server.host, server.port, asks, http_session=self._session(), http_scheme=server.scheme, max_attempts=4,
            auth=BasicAuthentication(server.user, server.password) if server.password else None,
            request_timeout=(5.0, 60.0),
        )  # fmt: skip

    def _session(self) -> Session:
        """One for all statements: a TLS connection is made once."""
        import requests

        if self._http is None:
            self._http = requests.Session()
            # The server's address is the whole truth: no proxy or netrc of the environment.
            self._http.trust_env = False
            self._http.verify = self.server.verify
        return self._http

    def _follow(
        self, request: TrinoRequest, status: TrinoStatus, limit: int | None, quiet: bool, on_step: Step | None
    ) -> Answer:
        from trino.mapper import RowMapperFactory

        answer = Answer(status.id)
        mapper = None
        told = began = time.monotonic()
        said = None
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
                if answer.more or status.next_uri is None:
                    if not quiet:
                        self._on_progress(status.id, Progress.of(status.stats))
                    return answer
                if quiet and _queues(status) and time.monotonic() - told >= TELL_SECONDS:
                    quiet = False
                    self._on_query(status.id, status.info_uri)
                if not quiet and time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    progress = Progress.of(status.stats)
                    if progress != said:
                        said = progress
                        self._log(f"{status.id}: {progress}, {told - began:.0f} s")
                        self._on_progress(status.id, progress)
                if on_step is not None and time.monotonic() - began >= STEADY_SECONDS:
                    on_step(status.id, status.next_uri)
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
            raise of_query(error, sql) from None
        except HttpError as error:
            raise of_http(error, self.server.address, self.server.user) from None
        except (requests.RequestException, Error) as error:
            raise of_connection(error, self.server.address) from None


def _queues(status: TrinoStatus) -> bool:
    return str(status.stats.get("state", "")) == "QUEUED"
