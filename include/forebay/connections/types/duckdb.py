"""DuckDB, which runs in each task: whether its library and extensions load, and whether the catalog it reads answers.

DuckDB has a network of its own that the doctor cannot look over, so the catalog is asked by the doctor, not by DuckDB.
"""

from __future__ import annotations

from forebay.connections import network
from forebay.connections.check import LIST, READ, START, Check, Ended
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.types import iceberg
from forebay.connections.web import Web

TITLE = "DuckDB"
PLAN = (START, READ, LIST)
EXAMPLE = {
    "conn_type": "duckdb",
    "extra": {"catalog": "lake_catalog", "memory_limit": "1GB", "threads": 2},
}


def about(connection: Connection) -> str:
    return f"in each task, catalog {names_catalog(connection)}"


async def check(check: Check) -> None:
    connection = check.connection
    if connection.host:
        check.fact("not looked at", "host names a file, and the doctor opens no file that a connection names")
    async with check.step(START, "Load DuckDB and its extensions") as finding:
        version, extensions = await network.in_thread(_start)
        check.fact("server", f"DuckDB {version}, in each task's process")
        check.fact("memory", connection.text("memory_limit"))
        check.fact("threads", connection.text("threads"))
        finding.found = ", ".join(extensions)
    async with check.step(READ, "Run SELECT 1"):
        await network.in_thread(_select)
    await catalog_of(check)


def _start() -> tuple[str, list[str]]:
    import duckdb

    from forebay.engines.session import EXTENSIONS, extension

    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as engine:
        for name in EXTENSIONS:
            engine.execute(f"LOAD '{extension(name)}'")
    return str(duckdb.__version__), list(EXTENSIONS)


def _select() -> None:
    import duckdb

    with duckdb.connect() as engine:
        row = engine.execute("SELECT 1").fetchone()
    if row != (1,):
        raise Wrong("SELECT 1 is not 1", "Install DuckDB again: make install")


def names_catalog(connection: Connection) -> str:
    """The connection of the catalog that an engine's names."""
    return connection.text("catalog") or "lake_catalog"


async def catalog_of(check: Check) -> None:
    """The step that asks the catalog which an engine's connection names."""
    named = names_catalog(check.connection)
    async with check.step(LIST, f"List the namespaces of {named}", needed=False) as finding:
        found = await network.in_thread(lambda: check.lookup(named))
        if found is None:
            raise Wrong(
                f"there is no connection '{named}'",
                "Make it in Airflow, or correct catalog in extra. One that you may not check counts as none.",
            )
        if found.conn_type not in ("iceberg", *iceberg.ALSO):
            raise Wrong(
                f"'{named}' is of type {found.conn_type}, not iceberg", "Name a catalog as catalog in extra."
            )
        inner = Check(found, lambda _: None, check.timeout, check.lookup, check.trust)
        inner.deadline = check.deadline
        web = Web(inner)
        try:
            catalog = await iceberg.reach(inner, web)
            answer = await catalog.ask("GET", "namespaces", query={"pageSize": "1"})
        except Ended:
            step = inner.steps[-1]
            raise Wrong(f"{named}: {step.found}", step.hint) from None
        if answer.is_error:
            raise Wrong(f"{named}: listing is refused (HTTP {answer.status})", f"See the check of {named}.")
        finding.found = f"{named} answers"
