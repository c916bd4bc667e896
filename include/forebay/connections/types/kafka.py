"""Kafka: a broker's own protocol, as far as asking who it is, logging in and listing topics takes.

extra: `bootstrap.servers`, `security.protocol`, `sasl.mechanism` (PLAIN), `sasl.username`, `sasl.password`, as for librdkafka.
The layouts are those of the Kafka protocol guide: ApiVersions v0, SaslHandshake v1, SaslAuthenticate v0, Metadata v1.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

from forebay.connections.check import AUTHENTICATE, LIST, NETWORK, READ, Check
from forebay.connections.model import Connection
from forebay.connections.network import Place, Stream, Wrong

TITLE = "Kafka"
PLAN = (*NETWORK, READ, AUTHENTICATE, LIST)
EXAMPLE = {
    "conn_type": "kafka",
    "extra": {"bootstrap.servers": "kafka-1.example.com:9092", "security.protocol": "SASL_SSL",
              "sasl.mechanism": "PLAIN", "sasl.username": "forebay"},
}  # fmt: skip

_METADATA, _HANDSHAKE, _VERSIONS, _LOGIN = 3, 17, 18, 36
_PORT, _MOST = 9092, 1_000_000


def about(connection: Connection) -> str:
    return connection.text("bootstrap.servers") or connection.host


async def check(check: Check) -> None:
    connection = check.connection
    servers = connection.text("bootstrap.servers") or connection.host
    protocol = (connection.text("security.protocol") or "PLAINTEXT").upper()
    first = servers.partition(",")[0].strip()
    name, _, port = first.rpartition(":") if ":" in first else (first, "", "")
    if not name or (port and not port.isdecimal()):
        async with check.step(NETWORK[0], "Read the address"):
            raise Wrong("no broker is named", 'Write "bootstrap.servers": "host:9092" in extra.')
    where = Place(name.strip("[]"), int(port or connection.port or _PORT), protocol.endswith("SSL"))
    stream = await check.line(where)
    broker = Broker(check, stream)
    try:
        async with check.step(READ, "Ask for its versions") as finding:
            spoken = await broker.versions()
            finding.found = f"{len(spoken)} requests are understood"
            check.fact("newest produce request", f"version {spoken[0]}" if 0 in spoken else "")
        await _authenticate(check, broker, protocol)
        async with check.step(LIST, "List brokers and topics") as finding:
            brokers, topics = await broker.metadata()
            finding.found = f"{topics} topics on {len(brokers)} broker{'s' if len(brokers) != 1 else ''}"
            check.fact("brokers", ", ".join(brokers[:8]))
    finally:
        await stream.aclose()


async def _authenticate(check: Check, broker: Broker, protocol: str) -> None:
    connection = check.connection
    if not protocol.startswith("SASL"):
        check.skip(AUTHENTICATE, f"not asked for ({protocol})")
        return
    mechanism = (connection.text("sasl.mechanism", "sasl.mechanisms") or "PLAIN").upper()
    user = connection.text("sasl.username") or connection.login
    async with check.step(AUTHENTICATE, f"Log in as {user}"):
        if mechanism != "PLAIN":
            offered = await broker.handshake(mechanism)
            if mechanism not in offered:
                raise Wrong(
                    f"the broker does not offer {mechanism}, but {', '.join(offered) or 'nothing'}",
                    "Correct sasl.mechanism.",
                )
            raise Wrong(f"{mechanism} is offered; the doctor can log in by PLAIN only", "Try it in a task.")
        offered = await broker.handshake("PLAIN")
        if "PLAIN" not in offered:
            raise Wrong(
                f"the broker does not offer PLAIN, but {', '.join(offered) or 'nothing'}", "Correct sasl.mechanism."
            )  # fmt: skip
        said = await broker.login(user, connection.text("sasl.password") or connection.password)
        if said:
            raise Wrong(f"the broker refuses the login: {said}", "Correct sasl.username and sasl.password.")


@dataclass
class Broker:
    """A line to one broker."""

    check: Check
    stream: Stream
    _number: int = 0

    async def versions(self) -> dict[int, int]:
        """The newest version of each request that the broker understands."""
        answer = await self._ask(_VERSIONS, 0, b"")
        error, count = struct.unpack_from("!hi", answer)
        if error or not 0 < count < 1000:
            raise Wrong("this is no Kafka", "Something else answers there: correct host and port.")
        rows = (struct.unpack_from("!hhh", answer, 6 + 6 * number) for number in range(count))
        return {key: newest for key, _, newest in rows}

    async def handshake(self, mechanism: str) -> list[str]:
        """The mechanisms that the broker offers."""
        answer = await self._ask(_HANDSHAKE, 1, _text(mechanism))
        (count,) = struct.unpack_from("!i", answer, 2)
        found, at = [], 6
        for _ in range(min(count, 50)):
            word, at = _read(answer, at)
            found.append(word)
        return found

    async def login(self, user: str, password: str) -> str:
        """What the broker says against it; empty when it lets us in."""
        secret = f"\0{user}\0{password}".encode()
        answer = await self._ask(_LOGIN, 0, struct.pack("!i", len(secret)) + secret)
        (error,) = struct.unpack_from("!h", answer)
        return (_read(answer, 2)[0] or f"error {error}") if error else ""

    async def metadata(self) -> tuple[list[str], int]:
        """The brokers' addresses, as they tell them to clients, and how many topics there are."""
        answer = await self._ask(_METADATA, 1, struct.pack("!i", -1))
        (count,) = struct.unpack_from("!i", answer)
        brokers, at = [], 4
        for _ in range(min(count, 1000)):
            name, at = _read(answer, at + 4)
            (port,) = struct.unpack_from("!i", answer, at)
            _, at = _read(answer, at + 4)
            brokers.append(f"{name}:{port}")
        (topics,) = struct.unpack_from("!i", answer, at + 4)
        return brokers, topics

    async def _ask(self, key: int, version: int, body: bytes) -> bytes:
        self._number += 1
        request = struct.pack("!hhi", key, version, self._number) + _text("forebay") + body
        left = max(0.01, self.check.deadline - asyncio.get_running_loop().time())
        await self.stream.write(struct.pack("!i", len(request)) + request, timeout=left)
        (size,) = struct.unpack("!i", await self._exactly(4, left))
        if not 4 <= size <= _MOST:
            raise Wrong("this is no Kafka", "Something else answers there: correct host and port.")
        answer = await self._exactly(size, left)
        if struct.unpack_from("!i", answer)[0] != self._number:
            raise Wrong("this is no Kafka", "Something else answers there: correct host and port.")
        return answer[4:]

    async def _exactly(self, size: int, left: float) -> bytes:
        received = b""
        while len(received) < size:
            chunk = await self.stream.read(size - len(received), timeout=left)
            if not chunk:
                raise Wrong(
                    "the broker hung up",
                    "It may want TLS or a login: correct security.protocol. Brokers hang up without a word.",
                )
            received += chunk
        return received


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!h", len(data)) + data


def _read(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("!h", data, at)
    if size < 0:
        return "", at + 2
    return data[at + 2 : at + 2 + size].decode("utf-8", "replace"), at + 2 + size
