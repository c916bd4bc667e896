"""Kafka: a broker's own protocol, as far as asking who it is, logging in and listing topics with their rights takes.

extra: `bootstrap.servers`, `security.protocol`, `sasl.mechanism` (PLAIN), `sasl.username`, `sasl.password`, as for librdkafka.
The layouts are those of the Kafka protocol guide: ApiVersions v0 and v3, SaslHandshake v1, SaslAuthenticate v0, Metadata v8.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

from forebay.connections.check import AUTHENTICATE, LIST, NETWORK, READ, WRITE, Check
from forebay.connections.model import Connection
from forebay.connections.network import Place, Stream, Wrong

TITLE = "Kafka"
PLAN = (*NETWORK, READ, AUTHENTICATE, LIST, WRITE)
EXAMPLE = {
    "conn_type": "kafka",
    "extra": {"bootstrap.servers": "kafka-1.example.com:9092", "security.protocol": "SASL_SSL",
              "sasl.mechanism": "PLAIN", "sasl.username": "forebay"},
}  # fmt: skip

_METADATA, _HANDSHAKE, _VERSIONS, _LOGIN = 3, 17, 18, 36
_PORT, _MOST = 9092, 32 << 20
_ALERT = 0x1503
"""How TLS begins to say that it was not spoken to in TLS."""
_MAY_READ, _MAY_WRITE, _MAY_CREATE = 1 << 3, 1 << 4, 1 << 5
_NO_KAFKA = "this is no Kafka", "Something else answers there: correct host and port."
_RELEASES = {
    7: "3.3", 8: "3.4", 11: "3.5", 14: "3.6", 19: "3.7", 20: "3.8", 21: "3.9", 25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3",
    33: "4.4",
}  # fmt: skip
"""The last metadata.version of each release; a broker says no other number of its own."""


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
        await _authenticate(check, broker, protocol)
        async with check.step(LIST, "List brokers and topics") as finding:
            if spoken.get(_METADATA, 0) < 8:
                raise Wrong(
                    "it is older than Kafka 2.3", "Try it in a task: the doctor asks newer ones only."
                )
            cluster = await broker.metadata()
            brokers, topics = cluster.brokers, cluster.topics
            finding.found = f"{len(topics)} topics on {len(brokers)} broker{'s' if len(brokers) != 1 else ''}"
            check.fact("brokers", ", ".join(brokers[:8]))
            check.fact("cluster", cluster.name)
            # Not before the login: there a broker answers one such request and hangs up on the next.
            if spoken.get(_VERSIONS, 0) >= 3:
                check.fact("server", _release(await broker.level()))
        async with check.step(WRITE, "See what it may write") as finding:
            readable, writable = (
                sum(bool(each & right) for each in topics) for right in (_MAY_READ, _MAY_WRITE)
            )
            makes = bool(cluster.rights & _MAY_CREATE)
            finding.found = f"may read {readable} of the topics, write {writable}, and make {'others' if makes else 'none'}"
            if not writable and not makes:
                finding.warn(
                    finding.found, "Where jobs write, let an admin give the login that right (kafka-acls.sh --producer)."
                )  # fmt: skip
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
        if not offered:
            raise Wrong(
                "the broker asks for no login on this port",
                "Correct the port, or security.protocol: SSL or PLAINTEXT.",
            )
        if "PLAIN" not in offered:
            raise Wrong(
                f"the broker does not offer PLAIN, but {', '.join(offered)}", "Correct sasl.mechanism."
            )
        said = await broker.login(user, connection.text("sasl.password") or connection.password)
        if said:
            raise Wrong(f"the broker refuses the login: {said}", "Correct sasl.username and sasl.password.")


def _release(level: int | None) -> str:
    """What all brokers of the cluster are at least, by the metadata.version that they agreed on."""
    if level is None:
        return ""
    known = [release for number, release in _RELEASES.items() if number <= level]
    return f"Kafka {known[-1]} or newer (metadata.version {level})" if known else ""


@dataclass(frozen=True)
class Cluster:
    """What a broker tells of its cluster to this login: its topics' rights, and those on the cluster itself, as bits."""

    name: str
    brokers: list[str]
    topics: list[int]
    rights: int


@dataclass
class Broker:
    """A line to one broker."""

    check: Check
    stream: Stream
    _number: int = 0

    async def versions(self) -> dict[int, int]:
        """The newest version of each request that the broker understands."""
        read = await self._ask(_VERSIONS, 0, b"")
        if read.number("h"):
            raise Wrong(*_NO_KAFKA)
        return {read.number("h"): read.number("xxh") for _ in range(read.count())}

    async def level(self) -> int | None:
        """The metadata.version that the brokers agreed on; None where they have none."""
        read = await self._ask(_VERSIONS, 3, b"\0\x08forebay\x021\0")
        read.number("h")
        for _ in range(read.varint() - 1):
            read.skip(6)
            read.tags()
        read.number("i")
        features = Reader(read.tags().get(2, b""))
        for _ in range(features.varint() - 1):
            name, newest = features.skip(features.varint() - 1), features.number("hxx")
            features.tags()
            if name == b"metadata.version":
                return newest
        return None

    async def handshake(self, mechanism: str) -> list[str]:
        """The mechanisms that the broker offers; none on a port that asks for no login."""
        read = await self._ask(_HANDSHAKE, 1, _text(mechanism))
        read.number("h")
        return [read.text() for _ in range(read.count())]

    async def login(self, user: str, password: str) -> str:
        """What the broker says against it; empty when it lets us in."""
        secret = f"\0{user}\0{password}".encode()
        read = await self._ask(_LOGIN, 0, struct.pack("!i", len(secret)) + secret)
        error = read.number("h")
        return (read.text() or f"error {error}") if error else ""

    async def metadata(self) -> Cluster:
        """Brokers at the addresses that they tell to clients, and the topics that this login sees."""
        # All topics, none made for being asked for, with the rights on both.
        read = await self._ask(_METADATA, 8, struct.pack("!i???", -1, False, True, True))
        read.number("i")
        brokers = []
        for _ in range(read.count()):
            read.number("i")
            brokers.append(f"{read.text()}:{read.number('i')}")
            read.text()
        name = read.text()
        read.number("i")
        topics = []
        for _ in range(read.count()):
            read.number("h")
            read.text()
            read.skip(1)
            for _ in range(read.count()):
                read.skip(14)
                for _ in range(3):
                    read.skip(4 * read.count())
            topics.append(read.number("i"))
        return Cluster(name, brokers, topics, read.number("i"))

    async def _ask(self, key: int, version: int, body: bytes) -> Reader:
        self._number += 1
        request = struct.pack("!hhi", key, version, self._number) + _text("forebay") + body
        left = max(0.01, self.check.deadline - asyncio.get_running_loop().time())
        await self.stream.write(struct.pack("!i", len(request)) + request, timeout=left)
        (size,) = struct.unpack("!i", await self._exactly(4, left))
        if size >> 16 == _ALERT:
            raise Wrong("this port speaks TLS", "Correct the port, or security.protocol: SSL or SASL_SSL.")
        if not 4 <= size <= _MOST:
            raise Wrong(*_NO_KAFKA)
        answer = Reader(await self._exactly(size, left))
        if answer.number("i") != self._number:
            raise Wrong(*_NO_KAFKA)
        return answer

    async def _exactly(self, size: int, left: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = await self.stream.read(min(size - len(received), 1 << 16), timeout=left)
            if not chunk:
                raise Wrong(
                    "the broker hung up",
                    "It may want TLS or a login: correct security.protocol. Brokers hang up without a word.",
                )
            received += chunk
        return bytes(received)


@dataclass
class Reader:
    """An answer from its begin to its end; Wrong where there is less of it than it says."""

    data: bytes
    at: int = 0

    def skip(self, size: int) -> bytes:
        """The next bytes."""
        if not 0 <= size <= len(self.data) - self.at:
            raise Wrong(*_NO_KAFKA)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> int:
        """One number, in a form of `struct`."""
        (found,) = struct.unpack(f"!{form}", self.skip(struct.calcsize(f"!{form}")))
        return int(found)

    def count(self) -> int:
        return self.number("i")

    def text(self) -> str:
        return self.skip(max(0, self.number("h"))).decode("utf-8", "replace")

    def varint(self) -> int:
        found, shift = 0, 0
        while (byte := self.number("B")) & 0x80 and shift < 28:
            found, shift = found | (byte & 0x7F) << shift, shift + 7
        return found | byte << shift

    def tags(self) -> dict[int, bytes]:
        """Fields that later versions added."""
        return {self.varint(): self.skip(self.varint()) for _ in range(self.varint())}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!h", len(data)) + data
