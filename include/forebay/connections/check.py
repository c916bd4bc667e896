"""One check under way: its steps, its facts, its lines. What every type of connection is written with."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpcore

from forebay.connections import network
from forebay.connections.guard import Address
from forebay.connections.model import Connection, Report, State, Step, cleaned
from forebay.connections.network import Certificate, Place, Stream, Wrong

RESOLVE, CONNECT, TLS, AUTHENTICATE = "resolve", "connect", "tls", "authenticate"
START, WAREHOUSE, LIST, READ, WRITE, LENS = "start", "warehouse", "list", "read", "write", "lens"
TITLES = {
    RESOLVE: "Resolve the name", CONNECT: "Connect", TLS: "TLS", START: "Start", AUTHENTICATE: "Authenticate",
    WAREHOUSE: "Open the warehouse", LIST: "List", READ: "Read", WRITE: "Write and delete a probe", LENS: "Ask the lens",
}  # fmt: skip
"""The steps that there are, and what they are called before they are tried."""

NETWORK = (RESOLVE, CONNECT, TLS)

Lookup = Callable[[str], Connection | None]
"""Finds another connection by its id: an engine's names its catalog's. None too for one that the asker may not check."""


class Ended(Exception):
    """A step failed without which the others make no sense."""


@dataclass
class Finding:
    """What a step has to say, filled in while it is under way."""

    found: str = ""
    hint: str = ""
    state: State = "ok"
    title: str = ""

    def warn(self, found: str, hint: str) -> None:
        """It works, but not all of it, or not for long."""
        self.state, self.found, self.hint = "warn", found, hint

    def skip(self, found: str) -> None:
        """There was nothing to try."""
        self.state, self.found = "skipped", found


@dataclass
class Check:
    """The check of one connection. `tell` hears of each step as it ends."""

    connection: Connection
    tell: Callable[[Step], None]
    timeout: float
    lookup: Lookup
    trust: network.Trust = field(default_factory=network.Trust)
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    places: dict[Place, list[Address]] = field(default_factory=dict)
    _lines: list[Stream] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.deadline = asyncio.get_running_loop().time() + self.timeout

    @contextlib.asynccontextmanager
    async def step(self, key: str, title: str = "", *, needed: bool = True) -> AsyncIterator[Finding]:
        """Times what is done in it. Wrong ends the check, or only the step where the others do not need it."""
        finding, began = Finding(title=title or TITLES[key]), time.perf_counter()
        try:
            async with asyncio.timeout_at(self.deadline):
                yield finding
        except Wrong as wrong:
            finding.state, finding.found, finding.hint = "bad", wrong.found, wrong.hint
        except (TimeoutError, httpcore.TimeoutException):
            finding.state, finding.found = "bad", f"no answer within {self.timeout:g} s"
            finding.hint = (
                "Packets vanish: a firewall or network policy drops them, or the machine is off. Open the way from "
                "where this check ran."
                if key in (RESOLVE, CONNECT)
                else "It took the connection and then kept silent: look at the service's own log and load."
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            finding.state, finding.found = "bad", f"the answer broke off ({_word(error)})"
            finding.hint = "Something else may answer on this port, or a proxy before the service. Look at the service's own log."
        self.end(key, finding, time.perf_counter() - began)
        if finding.state == "bad" and needed:
            raise Ended

    def end(self, key: str, finding: Finding, seconds: float | None) -> None:
        """Notes a step that ended."""
        tried = None if finding.state == "skipped" else seconds
        step = Step(key, finding.title, finding.state, tried, finding.found, finding.hint)
        self.steps.append(cleaned(step, self.connection))
        self.tell(self.steps[-1])

    def skip(self, key: str, found: str, title: str = "") -> None:
        """Notes a step that there is no need to try."""
        self.end(key, Finding(found, "", "skipped", title or TITLES[key]), None)

    def fact(self, name: str, value: object) -> None:
        """Something learned about the other side; empty values are left out."""
        if text := self.connection.clean(str(value)):
            self.facts[name] = text

    async def line(self, place: Place, context: ssl.SSLContext | None = None) -> Stream:
        """Resolves, connects and secures: the three first steps of whatever has a network."""
        self.fact("address", place)
        async with self.step(RESOLVE, f"Resolve {place.host}") as finding:
            addresses = self.places[place] = await network.resolve(place.host, place.port)
            finding.found = ", ".join(str(each) for each in addresses[:4] if str(each) != place.host)
        async with self.step(CONNECT, f"Connect to port {place.port}"):
            stream = await self.open(place)
        if not place.tls:
            async with self.step(TLS) as finding:
                self.in_the_clear(finding, addresses)
            return stream
        return await self.secured(stream, place, context)

    async def open(self, place: Place) -> Stream:
        """A line to a place whose addresses were looked at; the end of the check closes it."""
        self._lines.append(await network.connect(self.places[place], place, self.deadline))
        return self._lines[-1]

    async def close(self) -> None:
        """Ends all lines, at once: the other side is waited for no more."""
        for line in self._lines:
            with contextlib.suppress(TimeoutError, httpcore.NetworkError, ssl.SSLError, OSError):
                async with asyncio.timeout(0.2):
                    await line.aclose()

    def in_the_clear(self, finding: Finding, addresses: list[Address]) -> None:
        """What the step TLS of a line without TLS says."""
        if all(each.is_private or each.is_loopback for each in addresses):
            finding.skip("not used")
        else:
            finding.warn(
                "not used on a public address", "Passwords and data can be read on the way. Use TLS."
            )

    async def secured(self, stream: Stream, place: Place, context: ssl.SSLContext | None = None) -> Stream:
        """The step TLS: looks at the certificate. With `"verify": false` in extra what is wrong is only said."""
        trouble: Wrong | None = None
        async with self.step(TLS) as finding:
            try:
                safe, shown = await network.secure(
                    stream, place, self.deadline, context or self.trust.context
                )
            except Wrong as wrong:
                shown = await network.unverified(self.places[place], place, self.deadline)
                if shown is None:
                    raise
                self.certificate(finding, shown)
                about = (
                    f"{wrong.found}: {shown.subject}, issued by {shown.issuer}, valid until "
                    f"{shown.until:%Y-%m-%d %H:%M} UTC"
                )
                if self.connection.flag("verify") is not False:
                    raise Wrong(about, wrong.hint + self._unopened()) from None
                trouble = Wrong(about, wrong.hint)
            else:
                self.certificate(finding, shown)
            if trouble is not None:
                again = await self.open(place)
                safe, _ = await network.secure(again, place, self.deadline, network.believing())
                finding.warn(
                    trouble.found, f"The connection says not to look, so jobs believe it. {trouble.hint}"
                )
        return safe

    def certificate(self, finding: Finding, shown: Certificate | None) -> None:
        """What there is to say of a certificate, and whether it has to be renewed."""
        if shown is None:
            return
        self.fact("TLS", shown.version)
        self.fact("certificates", " ← ".join(shown.chain))
        finding.found = str(shown)
        if shown.ends_soon:
            finding.warn(
                f"the certificate ends in {shown.days:.0f} days: {shown.subject}, {shown.until:%Y-%m-%d %H:%M} UTC",
                "Renew it on the server before then.",
            )

    def _unopened(self) -> str:
        named = str(self.connection.extra.get("verify") or "")
        if not named or self.connection.flag("verify") is not None:
            return ""
        return " The connection's verify names a file, and the doctor opens no file that a connection names."

    def report(self, where: str) -> Report:
        """The steps so far, and those that were not tried."""
        told = {step.key for step in self.steps}
        for key in self.plan:
            if key not in told:
                self.skip(key, "not tried")
        states = {step.state for step in self.steps}
        state: State = "bad" if "bad" in states else "warn" if "warn" in states else "ok"
        return Report(
            self.connection.conn_id, self.connection.conn_type, state, tuple(self.steps), dict(self.facts),
            time.perf_counter() - self._began, time.time(), where,
        )  # fmt: skip


def _word(error: BaseException) -> str:
    text = str(error).strip()
    return text[:120] or type(error).__name__
