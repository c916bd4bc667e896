"""HTTP over a line whose address was looked at: no proxy, no cookies, no redirect but to a place that may be reached."""

from __future__ import annotations

import asyncio
import email.utils
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

from forebay.connections import network
from forebay.connections.check import Check
from forebay.connections.network import Place, Stream, Wrong

_MOST = 1_000_000
_REDIRECTS = 5
_SKEW = 60.0


@dataclass(frozen=True)
class Answer:
    """What a server said; of its body at most 1 MB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Its body as JSON; Wrong where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Wrong(
                f"the answer is no JSON (HTTP {self.status})",
                "Something else answers at this address: correct host, port and path.",
            ) from None

    @property
    def is_error(self) -> bool:
        return self.status >= 400


def split(address: str, default: str = "http") -> SplitResult:
    """The parts of an address; Wrong where it is none."""
    whole = address if "://" in address else f"{default}://{address}"
    try:
        parts = urlsplit(whole)
        _ = parts.port
    except ValueError:
        raise Wrong("the address cannot be understood", "Write it as https://host:port") from None
    if parts.scheme not in ("http", "https"):
        raise Wrong(f"the address begins with {parts.scheme}://", "Write it as http:// or https://")
    if not parts.hostname:
        raise Wrong("no host is named", "Put the address in the connection, as https://host:port")
    return parts


def place_of(parts: SplitResult) -> Place:
    tls = parts.scheme == "https"
    return Place(str(parts.hostname), parts.port or (443 if tls else 80), tls)


@dataclass
class Web:
    """A client of one check. Keeps one line to each place."""

    check: Check
    context: ssl.SSLContext | None = None
    careless: bool = False
    """Whether certificates are believed, because the connection says so and the step TLS said it."""
    _lines: dict[Place, httpcore.AsyncHTTP11Connection] = field(default_factory=dict)
    skew: float | None = None
    _main: Place | None = None
    """Where the connection itself leads: only that server is told about."""

    def adopt(self, place: Place, stream: Stream) -> None:
        """Uses a line that is open already."""
        self._main = self._main or place
        self._lines[place] = httpcore.AsyncHTTP11Connection(_origin(place), stream)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        redirects: bool = False,
    ) -> Answer:
        """One request. With `redirects` it follows up to five of them; to other places nothing of the connection's goes along."""
        sent = dict(headers or {})
        for _ in range(_REDIRECTS + 1):
            answer = await self._once(method, url, sent, body)
            target = answer.headers.get("location", "")
            if not redirects or answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            there = urljoin(url, target)
            if place_of(split(there)) != place_of(split(url)):
                # Any header may be a credential: extra names what the service asks for.
                sent, body = {}, b""
            url = there
            if answer.status == 303:
                method, body = "GET", b""
        raise Wrong("it redirects in circles", "Name the address where it ends.")

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = split(url)
        place = place_of(parts)
        line = self._lines.get(place)
        fresh = line is None or not line.is_available()
        if fresh:
            line = await self._open(place)
        assert line is not None
        try:
            return await self._send(line, method, parts, headers, body)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
            if fresh or method not in ("GET", "HEAD", "PUT", "DELETE"):
                raise
        # A kept line may be closed by the other side just then.
        return await self._send(await self._open(place), method, parts, headers, body)

    async def _open(self, place: Place) -> httpcore.AsyncHTTP11Connection:
        deadline = self.check.deadline
        if place not in self.check.places:
            self.check.places[place] = await network.resolve(place.host, place.port)
        stream = await self.check.open(place)
        if place.tls:
            context = network.believing() if self.careless else self.context or self.check.trust.context
            stream, _ = await network.secure(stream, place, deadline, context)
        self.adopt(place, stream)
        return self._lines[place]

    async def _send(
        self,
        line: httpcore.AsyncHTTP11Connection,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        left = max(0.01, self.check.deadline - asyncio.get_running_loop().time())
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {
            "host": parts.netloc.rpartition("@")[2],
            "user-agent": "forebay-connections",
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in headers.items()},
        }
        if body or method in ("POST", "PUT"):
            sent["content-length"] = str(len(body))
        place = place_of(parts)
        url = httpcore.URL(
            scheme=parts.scheme.encode(),
            host=place.host.encode("idna") if not place.host.isascii() else place.host.encode(),
            port=place.port,
            target=target.encode("ascii", "replace"),
        )
        try:
            request = httpcore.Request(
                method, url, headers=list(sent.items()), content=body,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), left)},
            )  # fmt: skip
        except (TypeError, ValueError, UnicodeError):
            raise Wrong(
                "the connection's values cannot be sent", "Take line breaks and the like out of them."
            ) from None
        response = await line.handle_async_request(request)
        received = b""
        cut = False
        try:
            async for chunk in response.aiter_stream():
                received += chunk
                if len(received) > _MOST:
                    cut = True
                    break
        finally:
            await response.aclose()
        if cut:
            self._lines.pop(place, None)
        answer = Answer(
            response.status,
            {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
            received[:_MOST],
        )
        if place == self._main:
            self._look(answer)
        return answer

    def _look(self, answer: Answer) -> None:
        """Who answers, and what time it is there."""
        if server := answer.headers.get("server", ""):
            self.check.facts.setdefault("server", self.check.connection.clean(server))
        there = email.utils.parsedate_tz(answer.headers.get("date", ""))
        if there is not None and self.skew is None:
            self.skew = email.utils.mktime_tz(there) + 0.5 - time.time()
            self.check.fact("clock", clock(self.skew))

    @property
    def skewed(self) -> bool:
        """Whether the other clock is more than a minute away from ours."""
        return self.skew is not None and abs(self.skew) > _SKEW


def clock(skew: float) -> str:
    """How far another clock is from this machine's."""
    if abs(skew) < 2:
        return "as here, within two seconds"
    size = abs(skew)
    words = (
        f"{size:.0f} s" if size < 120 else f"{size / 60:.0f} min" if size < 7200 else f"{size / 3600:.0f} h"
    )
    return f"{words} {'ahead of' if skew > 0 else 'behind'} this machine's"


def _origin(place: Place) -> httpcore.Origin:
    return httpcore.Origin(b"https" if place.tls else b"http", place.host.encode("idna"), place.port)
