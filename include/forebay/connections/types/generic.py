"""Any service on a TCP port: whether something listens there. Also what is done for types without a check of their own."""

from __future__ import annotations

from forebay.connections.check import NETWORK, RESOLVE, Check
from forebay.connections.network import Place, Wrong

TITLE = "TCP"
ALSO = ("tcp",)
PLAN = NETWORK
EXAMPLE = {"conn_type": "generic", "host": "scada.example.com", "port": 2404}


async def check(check: Check) -> None:
    connection = check.connection
    host = connection.host.partition("://")[2] or connection.host
    host = host.rpartition("@")[2].partition("/")[0]
    port = connection.port
    if port is None and host.count(":") == 1:
        host, _, named = host.partition(":")
        port = int(named) if named.isdecimal() else None
    if not host or not port:
        missing = "host" if not host else "port"
        async with check.step(RESOLVE, "Read the address"):
            raise Wrong(
                f"the connection names no {missing}",
                f"Forebay has no check for the type '{connection.conn_type}' but whether its port answers; that takes host and port.",
            )
    tls = bool(connection.flag("tls") or connection.flag("ssl") or connection.flag("use_ssl"))
    stream = await check.line(Place(host.strip("[]"), port, tls))
    await stream.aclose()
