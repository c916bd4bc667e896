"""The catalog's REST interface where documents are wanted as they are: no library keeps what Forebay needs to see.

Paths and documents are those of the Iceberg REST catalog specification.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from forebay.lake.branch import ONLY_BRANCH, Json
from forebay.lake.capabilities import Capabilities
from forebay.lake.connection import CatalogConfig, LakeError

_MANY = 8
_BULK = 64
"""From so many documents on, what a client adds to each counts."""


class CommitConflict(LakeError):
    """An assertion did not hold: the table moved since it was read."""


class CommitUnknown(LakeError):
    """The catalog broke off: the commit may have happened."""


class NoTransactions(LakeError):
    """The catalog has no commit over several tables."""


@dataclass(frozen=True)
class Change:
    """One table's part of a commit."""

    table: str
    requirements: list[Json] = field(default_factory=list)
    updates: list[Json] = field(default_factory=list)

    def document(self) -> Json:
        namespace, _, name = self.table.rpartition(".")
        return {
            "identifier": {"namespace": namespace.split("."), "name": name},
            "requirements": self.requirements,
            "updates": self.updates,
        }


def trust(*addresses: str) -> ssl.SSLContext | bool:
    """For httpx's `verify`: the machine's own certificate authorities (or SSL_CERT_FILE), where an address has TLS.

    Reading them costs 30 ms, which addresses without TLS need not pay.
    """
    tls = any(each.startswith("https:") for each in addresses)
    return ssl.create_default_context() if tls else False


class Rest:
    """A client of the catalog, for `with`. Every method raises LakeError when the catalog cannot be asked."""

    def __init__(self, config: CatalogConfig, *, timeout: float = 60.0) -> None:
        self.config = config
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(5.0, timeout)),
            verify=trust(config.uri, config.token_uri, config.lens),
            trust_env=False,
        )
        self._prefix: str | None = None
        self.transactions = True
        """Whether the catalog commits several tables at once: it says so, or the first try tells."""

    def __enter__(self) -> Rest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def table(self, name: str) -> Json | None:
        """The metadata document of a table, None where there is no such table."""
        loaded = self.loaded(name)
        return None if loaded is None else loaded["metadata"]

    def loaded(self, name: str) -> Json | None:
        """All that the catalog says of a table: its metadata, and where it lies."""
        if _is_no_name(name):
            return None
        answer = self._send("GET", self._path(name))
        if _is_nowhere(answer):
            return None
        found: Json = self._checked(answer, name).json()
        return found

    def tables(self, names: Sequence[str]) -> dict[str, Json]:
        """The documents of those that exist, read at the same time."""
        found = dict(self.each(names))
        return {name: found[name] for name in names if name in found}

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, Json]]:
        """The documents of those that exist, in the order in which they come."""
        prefix = self._connect()
        if len(names) < _BULK:
            with ThreadPoolExecutor(min(_MANY, len(names) or 1)) as pool:
                read = list(zip(names, pool.map(self.table, names), strict=True))
            yield from ((name, metadata) for name, metadata in read if metadata is not None)
            return
        from forebay.lake.bulk import documents

        with self._reached():
            paths = [f"/v1/{prefix}{self._path(name)}" for name in names]
            for place, document in documents(self.config.uri, paths, self._client):
                # What was not given is asked for alone, which tells why.
                metadata = self.table(names[place]) if document is None else document["metadata"]
                if metadata is not None:
                    yield names[place], metadata

    def names(self, namespace: str) -> list[str]:
        """Tables of a namespace, as namespace.table; none where the namespace is missing."""
        names: list[str] = []
        token: str | None = None if _is_no_name(namespace) else ""
        while token is not None:
            params = {"pageToken": token} if token else {}
            answer = self._send("GET", f"namespaces/{_namespace(namespace)}/tables", params=params)
            if _is_nowhere(answer):
                return []
            document = self._checked(answer, namespace).json()
            names += [".".join([*each["namespace"], each["name"]]) for each in document["identifiers"]]
            token = document.get("next-page-token") or None
        return sorted(names)

    def namespaces(self) -> list[str]:
        """All namespaces of the first level, sorted."""
        names: list[str] = []
        token: str | None = ""
        while token is not None:
            answer = self._send("GET", "namespaces", params={"pageToken": token} if token else {})
            document = self._checked(answer, "namespaces").json()
            names += [".".join(each) for each in document["namespaces"]]
            token = document.get("next-page-token") or None
        return sorted(names)

    def all_names(self) -> list[str]:
        """Every table of every namespace of the first level."""
        namespaces = self.namespaces()
        with ThreadPoolExecutor(_MANY) as pool:
            return [name for found in pool.map(self.names, namespaces) for name in found]

    def drop(self, name: str, *, only: str | None = None) -> None:
        """Takes a table out of the catalog; its files stay for maintenance to find.

        With `only` it is dropped if there are no rows but those of this branch, else CommitConflict is raised. The lens
        looks after that, so that no run begins to write it meanwhile.
        """
        asked: dict[str, Any] = {"params": {"purgeRequested": "false"}}
        if only is not None:
            asked |= {"headers": {ONLY_BRANCH: only}, "at": self.config.main().uri}
        answer = self._send("DELETE", self._path(name), **asked)
        if answer.status_code == 409:
            raise CommitConflict(f"{name}: {_message(answer)}")
        if answer.status_code != 404:
            self._checked(answer, name)

    def commit(self, changes: Sequence[Change]) -> None:
        """All changes at once. Raises CommitConflict, CommitUnknown, or NoTransactions for more than one."""
        named = ", ".join(change.table for change in changes)
        if len(changes) == 1:
            document = changes[0].document()
            answer = self._send("POST", self._path(changes[0].table), json=document)
        else:
            body = {"table-changes": [change.document() for change in changes]}
            answer = self._send("POST", "transactions/commit", json=body)
            if answer.status_code in (404, 405, 406, 501) and not _is_missing_table(answer):
                self.transactions = False
                raise NoTransactions("the catalog does not commit several tables at once")
        if answer.status_code == 409 or (answer.status_code == 400 and "sequence number" in answer.text):
            raise CommitConflict(f"{named}: {_message(answer)}")
        if answer.status_code >= 500 and answer.status_code != 503:
            raise CommitUnknown(f"{named}: the catalog answered {answer.status_code}: {_message(answer)}")
        self._checked(answer, named)

    @contextlib.contextmanager
    def turn(self, tables: Sequence[str]) -> Iterator[None]:
        """For `with`: those who publish one of these tables do so one after the other, as the lens lets them.

        Without a lens, or where that takes too long, all go at once: then one of them is refused and does its work again.
        """
        with contextlib.ExitStack() as held:
            if self.config.lens:
                asked = self._client.stream("GET", f"{self.config.lens}/turn", params={"table": list(tables)})
                with contextlib.suppress(httpx.HTTPError):
                    # Has a name, because without one it would be gone at once, and the connection with it.
                    answer = held.enter_context(asked).iter_raw()
                    next(answer, None)
            yield

    def _path(self, name: str) -> str:
        namespace, _, table = name.rpartition(".")
        return f"namespaces/{_namespace(namespace)}/tables/{quote(table, safe='')}"

    def _connect(self) -> str:
        if self._prefix is None:
            with self._reached():
                if self.config.token_uri:
                    token = self._client.post(self.config.token_uri, data=self.config.login())
                    self._client.headers["Authorization"] = (
                        f"Bearer {self._checked(token, 'login').json()['access_token']}"
                    )
                asked = self._client.get(
                    f"{self.config.uri}/v1/config", params={"warehouse": self.config.warehouse}
                )
            found = Capabilities.of(self._checked(asked, "configuration").json())
            self._prefix, self.transactions = found.prefix, self.transactions and found.transactions
        return self._prefix

    def _send(self, method: str, path: str, at: str = "", **what: Any) -> httpx.Response:
        prefix = self._connect()
        address = at or self.config.uri
        with self._reached():
            try:
                answer = self._client.request(method, f"{address}/v1/{prefix}{path}", **what)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                if method != "GET":
                    raise
                # A connection that was kept open may be closed just when it is used again.
                answer = self._client.request(method, f"{address}/v1/{prefix}{path}", **what)
            if answer.status_code == 401:
                # The token has run out: once more with a new one.
                self._prefix = None
                self._connect()
                answer = self._client.request(method, f"{address}/v1/{prefix}{path}", **what)
            return answer

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise LakeError(
                f"The catalog at {self.config.uri} does not answer ({error}). Is it up? forebay status"
            ) from None
        except httpx.HTTPError as error:
            raise CommitUnknown(
                f"The catalog at {self.config.uri} broke off its answer ({type(error).__name__})."
            ) from None

    def _checked(self, answer: httpx.Response, what: str) -> httpx.Response:
        if answer.is_error:
            said = self.config.redact(_message(answer))
            raise LakeError(f"{what}: the catalog refused (HTTP {answer.status_code}): {said}")
        return answer


def _is_nowhere(answer: httpx.Response) -> bool:
    """Whether there is no such table or namespace, or can be none: a name SeaweedFS allows to nobody is a 400.

    Its other 400s are faults of its own.
    """
    return answer.status_code == 404 or (
        answer.status_code == 400
        and re.search(r"\b(table name|namespace (name|levels|is required)|invalid namespace)", answer.text)
        is not None
    )


def _is_no_name(name: str) -> bool:
    """Whether nothing can have the name: Jetty refuses the byte before a catalog behind it hears of it."""
    return "\0" in name


def _namespace(namespace: str) -> str:
    return "%1F".join(quote(part, safe="") for part in namespace.split("."))


def _is_missing_table(answer: httpx.Response) -> bool:
    return answer.status_code == 404 and "NoSuchTable" in answer.text


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]
