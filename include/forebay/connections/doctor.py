"""Runs checks: one, or all of them at the same time, each with its own time-out."""

from __future__ import annotations

import asyncio
import pkgutil
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import ModuleType

from forebay.connections import types
from forebay.connections.check import Check, Ended, Finding, Lookup
from forebay.connections.model import Connection, Report, Side, Step
from forebay.connections.network import Trust

TIMEOUT = 5.0
"""Seconds that one check may take by default."""

FALLBACK = "generic"

# So many checks work at the same time, so that each is quick; one that waits for its next step as long as this lets
# another one begin.
_AT_ONCE = 8
_WAITS = 0.05


@dataclass(frozen=True)
class Event:
    """A step that ended, or the report of a check that did."""

    conn_id: str
    step: Step | None = None
    report: Report | None = None
    side: Side = "server"


@lru_cache(maxsize=1)
def known() -> dict[str, str]:
    """The module of each connection type that has a check of its own."""
    found: dict[str, str] = {}
    for each in pkgutil.iter_modules(types.__path__):
        module = f"{types.__name__}.{each.name}"
        for name in (each.name, *getattr(import_module(module), "ALSO", ())):
            found[name] = module
    return found


def module_of(conn_type: str) -> ModuleType:
    """The check of a type; the one of a plain TCP port where it has none."""
    return import_module(known().get(conn_type, known()[FALLBACK]))


def title(conn_type: str) -> str:
    """A type as people call it."""
    return str(module_of(conn_type).TITLE) if conn_type in known() else conn_type


async def examine(
    connection: Connection,
    *,
    tell: Callable[[Step], None] = lambda _: None,
    timeout: float = TIMEOUT,
    where: str = "",
    lookup: Lookup = lambda _: None,
    trust: Trust | None = None,
) -> Report:
    """Checks one connection. Never raises because of it: whatever goes wrong is in the report."""
    module = module_of(connection.conn_type)
    check = Check(connection, tell, timeout, lookup, trust or Trust(), plan=module.PLAN)
    check.fact("not opened", ", ".join(_files(connection)))
    try:
        await module.check(check)
    except Ended:
        pass
    except Exception as error:  # noqa: BLE001
        # The border of a check: a type may ask other people's libraries, which raise what they like, and one check must not
        # end the others. Its text could hold a secret, so only its kind is shown.
        at = next((key for key in check.plan if key not in {s.key for s in check.steps}), "check")
        finding = Finding(
            f"the check itself broke ({type(error).__name__})",
            "This is a fault of the doctor, not of the connection.",
            "bad",
            "Check",
        )
        check.end(at, finding, 0.0)
    finally:
        await check.close()
    return check.report(where)


def check_all(
    connections: Sequence[Connection],
    *,
    timeout: float = TIMEOUT,
    where: str = "",
    lookup: Lookup = lambda _: None,
    done: Callable[[list[Report]], None] = lambda _: None,
    authorities: str = "",
) -> Iterator[Event]:
    """All checks at the same time: events as they come, in no order among connections.

    `done` is called with all reports before the last event is given out, also when nobody takes the events any more.
    `authorities` are certificates as PEM text to believe besides the machine's.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    reports: list[Report] = []
    trust = Trust(authorities)

    async def all_of_them() -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(connection: Connection) -> None:
            await places.acquire()
            released = False

            def release() -> None:
                nonlocal released
                if not released:
                    released = True
                    places.release()

            loop = asyncio.get_running_loop()
            later = loop.call_later(_WAITS, release)

            def tell(step: Step) -> None:
                nonlocal later
                events.put(Event(connection.conn_id, step))
                later.cancel()
                if not released:
                    later = loop.call_later(_WAITS, release)

            try:
                report = await examine(
                    connection,
                    tell=tell,
                    timeout=timeout,
                    where=where,
                    lookup=lookup,
                    trust=trust,
                )
            finally:
                later.cancel()
                release()
            reports.append(report)
            events.put(Event(connection.conn_id, report=report))

        await asyncio.gather(*(one(each) for each in connections))

    def run() -> None:
        try:
            # What a check imports must not count against the others.
            for module in {module_of(each.conn_type) for each in connections}:
                for name in ("anyio", "anyio._backends._asyncio", *getattr(module, "NEEDS", ())):
                    import_module(name)
            asyncio.run(all_of_them())
        finally:
            try:
                done(reports)
            finally:
                events.put(None)

    threading.Thread(target=run, name="forebay-doctor", daemon=True).start()
    return iter(events.get, None)


def not_checked(conn_id: str, step: Step, where: str, conn_type: str = "") -> Report:
    """The report on a connection whose check could not begin, for the reason that the step tells."""
    return Report(conn_id, conn_type, "bad", (step,), {}, 0.0, time.time(), where)


def _files(connection: Connection) -> list[str]:
    """Fields of extra that look like the name of a file. The doctor opens none of them, and says so."""
    return sorted(
        name
        for name, value in connection.extra.items()
        if isinstance(value, str) and value.startswith(("/", "~", "./", "../", "file:"))
    )


def about(connection: Connection) -> str:
    """What it leads to, in a few words and without secrets."""
    module = module_of(connection.conn_type)
    if hasattr(module, "about"):
        return connection.clean(str(module.about(connection)))
    port = f":{connection.port}" if connection.port else ""
    schema = f"/{connection.schema}" if connection.schema and "://" not in connection.host else ""
    return connection.clean(f"{connection.host}{port}{schema}")


def example(conn_type: str) -> dict[str, object]:
    """A connection of this type as Airflow's form wants it, without secrets."""
    return dict(module_of(conn_type).EXAMPLE)
