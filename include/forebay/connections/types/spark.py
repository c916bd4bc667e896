"""Spark: local in each task, a standalone master, or a Kubernetes cluster; and the catalog it reads."""

from __future__ import annotations

from forebay.connections import network
from forebay.connections.check import (
    AUTHENTICATE,
    CONNECT,
    LIST,
    NETWORK,
    READ,
    RESOLVE,
    START,
    TLS,
    WRITE,
    Check,
)
from forebay.connections.model import Connection
from forebay.connections.network import Place, Wrong
from forebay.connections.types import kubernetes
from forebay.connections.types.duckdb import catalog_of
from forebay.errors import ForebayError

TITLE = "Spark"
PLAN: tuple[str, ...] = (START, LIST)
EXAMPLE = {
    "conn_type": "spark",
    "host": "local[*]",
    "extra": {"catalog": "lake_catalog", "driver_memory": "1g"},
}

_MASTER = 7077


async def check(check: Check) -> None:
    host = check.connection.host or "local[*]"
    check.fact("master", host)
    check.fact("memory of the driver", check.connection.text("driver_memory"))
    if host.startswith("k8s://"):
        check.plan = (*NETWORK, AUTHENTICATE, READ, WRITE, START, LIST)
        # The catalog's step is the one that lists.
        await kubernetes.cluster(check, host.removeprefix("k8s://"), READ)
        await _programs(check)
    elif host.startswith("local"):
        await _programs(check)
    else:
        check.plan = (RESOLVE, CONNECT, TLS, START, LIST)
        await _standalone(check, host)
        await _programs(check)
    await catalog_of(check)


def masters(connection: Connection) -> list[Place]:
    """The standalone masters that a connection names. Raises ValueError for what is no address."""
    named = (each.partition(":") for each in connection.host.removeprefix("spark://").split(","))
    return [Place(name, connection.port or int(port or _MASTER)) for name, _, port in named]


async def _standalone(check: Check, host: str) -> None:
    try:
        place = masters(check.connection)[0]
    except ValueError:
        async with check.step(RESOLVE, "Read the address"):
            raise Wrong(f"'{host}' is no address", "Write it as spark://host:7077") from None
        return
    stream = await check.line(place)
    await stream.aclose()


async def _programs(check: Check) -> None:
    """Java, PySpark and the pinned jars, which the task that submits needs here whatever the master is."""
    async with check.step(START, "Find Java, PySpark and the jars") as finding:
        try:
            java, version, missing = await network.in_thread(_here)
        except ForebayError as error:
            raise Wrong(str(error), "forebay setup") from None
        if missing:
            raise Wrong(f"missing: {missing}", "forebay setup")
        check.fact("server", f"Spark {version}")
        finding.found = f"Java {java}"


def _here() -> tuple[int | None, str, str]:
    from importlib.metadata import version

    from forebay.machine import jars, java

    home = java.require()
    return java.release(home), version("pyspark"), ", ".join(jar.file_name for jar in jars.missing())
