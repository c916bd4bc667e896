"""Spark: local in each task, a standalone master, YARN, or a Kubernetes cluster; and the catalog it reads."""

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
from forebay.machine import hadoop

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
        await _cluster(check, host)
        await _programs(check)
    await catalog_of(check)


def masters(connection: Connection) -> list[Place]:
    """The standalone masters that a connection names, or the ResourceManagers of YARN that this machine's settings do.

    Raises ValueError for what is no address, and HadoopError.
    """
    if connection.host == hadoop.MASTER:
        return [Place(host, port) for host, port in hadoop.resource_managers(hadoop.folder())]
    named = (each.partition(":") for each in connection.host.removeprefix("spark://").split(","))
    return [Place(name, connection.port or int(port or _MASTER)) for name, _, port in named]


async def _cluster(check: Check, host: str) -> None:
    try:
        places = masters(check.connection)
    except ForebayError as error:
        async with check.step(RESOLVE, "Read Hadoop's settings"):
            raise Wrong(str(error)) from None
    except ValueError:
        async with check.step(RESOLVE, "Read the address"):
            raise Wrong(f"'{host}' is no address", "Write it as spark://host:7077, or say yarn") from None
    for other in places[1:]:
        check.fact("stands in", other)
    stream = await check.line(places[0])
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
