"""Trino: over its own HTTP protocol, so that every address it hands out is looked at.

host, port, login; password for logins that have one; extra: http_scheme, catalog, verify, auth (jwt with jwt__token).
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from dataclasses import dataclass, field
from typing import Any

from forebay.connections.check import AUTHENTICATE, LIST, NETWORK, READ, WRITE, Check
from forebay.connections.model import Connection
from forebay.connections.network import Place, Wrong
from forebay.connections.web import Web, place_of, split

TITLE = "Trino"
PLAN = (*NETWORK, AUTHENTICATE, LIST, READ, WRITE)
EXAMPLE = {
    "conn_type": "trino",
    "host": "trino.example.com",
    "port": 8443,
    "login": "forebay",
    "extra": {"http_scheme": "https", "catalog": "lake"},
}


def place(connection: Connection) -> Place:
    """Where the coordinator is; TLS by protocol, by https:// or because there is a password."""
    parts = split(connection.host, "http")
    named = connection.text("http_scheme", "protocol") or (parts.scheme if "://" in connection.host else "")
    tls = named == "https" or (not named and bool(connection.password))
    return Place(str(parts.hostname), connection.port or parts.port or (443 if tls else 8080), tls)


@dataclass
class Coordinator:
    """Runs small statements and collects their rows."""

    web: Web
    base: str
    headers: dict[str, str] = field(default_factory=dict)

    async def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a statement; Wrong with Trino's own words where it fails."""
        answer = await self.web.ask(
            "POST", f"{self.base}/v1/statement", headers=self.headers, body=sql.encode()
        )
        rows: list[list[Any]] = []
        while True:
            if answer.status in (401, 403):
                raise Wrong(
                    f"the login is refused (HTTP {answer.status})",
                    "Correct login and password. Trino takes passwords over TLS only.",
                )
            if answer.status in (502, 503, 504):
                raise Wrong(f"it is not ready (HTTP {answer.status})", "Wait until it has started.")
            if answer.is_error:
                raise Wrong(
                    f"this is no Trino, or not of a kind we know (HTTP {answer.status})",
                    "Correct host and port.",
                )
            page = answer.json()
            if not isinstance(page, dict):
                raise Wrong("this is no Trino", "Something else answers there: correct host and port.")
            if error := page.get("error"):
                raise Wrong(
                    f"{error.get('errorName', '')}: {error.get('message', '')}",
                    "See the query in Trino's UI.",
                )
            rows += page.get("data") or []
            following = str(page.get("nextUri") or "")
            if not following or len(rows) > 10_000:
                return rows
            if place_of(split(following)) != place_of(split(self.base)):
                # It may name itself otherwise behind a proxy; the login goes to the address that the connection has.
                if "/v1/" not in following:
                    raise Wrong(
                        "it leads on to another address, where the login is not sent",
                        "Something else answers there: correct host and port.",
                    )
                following = self.base + following[following.index("/v1/") :]
            answer = await self.web.ask("GET", following, headers=self.headers)
            if answer.status == 503:
                await asyncio.sleep(0.05)


async def check(check: Check) -> None:
    connection = check.connection
    web = Web(check, careless=connection.flag("verify") is False)
    try:
        where = place(connection)
    except Wrong as wrong:
        async with check.step(NETWORK[0], "Read the address"):
            raise wrong from None
        return
    web.adopt(where, await check.line(where))
    base = f"{'https' if where.tls else 'http'}://{where}"
    coordinator = Coordinator(web, base, _headers(connection))
    await _authenticate(check, coordinator)
    catalogs = await _list(check, coordinator)
    async with check.step(READ, "Run SELECT 1") as finding:
        rows = await coordinator.rows("SELECT 1")
        if rows != [[1]]:
            raise Wrong("SELECT 1 is not 1", "Look at the coordinator's log.")
        finding.found = "one row"
    await _write(check, coordinator, catalogs)


def _headers(connection: Connection) -> dict[str, str]:
    user = connection.login or "forebay"
    headers = {"x-trino-user": user, "x-trino-source": "forebay connections check"}
    if token := connection.text("jwt__token"):
        headers["authorization"] = f"Bearer {token}"
    elif connection.password:
        pair = base64.b64encode(f"{user}:{connection.password}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    return headers


async def _authenticate(check: Check, coordinator: Coordinator) -> None:
    connection = check.connection
    async with check.step(AUTHENTICATE, f"Log in as {connection.login or 'forebay'}") as finding:
        if connection.password and not coordinator.base.startswith("https:"):
            raise Wrong(
                "a password is set, and the address has no TLS",
                'Trino takes passwords over TLS only: write "http_scheme": "https" in extra, or take the password out.',
            )
        info = await coordinator.web.ask("GET", f"{coordinator.base}/v1/info")
        said = info.json() if not info.is_error else {}
        if isinstance(said, dict) and said:
            version = said.get("nodeVersion") or {}
            check.fact("server", f"Trino {version.get('version', '')}")
            check.fact("environment", said.get("environment", ""))
            check.fact("up for", said.get("uptime", ""))
            if said.get("starting"):
                raise Wrong("Trino is still starting", "Wait until it has started: it takes half a minute.")
        rows = await coordinator.rows("SELECT current_user")
        finding.found = f"Trino calls this login {rows[0][0]}" if rows else ""


async def _list(check: Check, coordinator: Coordinator) -> list[str]:
    async with check.step(LIST, "List the catalogs") as finding:
        catalogs = [str(row[0]) for row in await coordinator.rows("SHOW CATALOGS")]
        finding.found = ", ".join(catalogs[:8])
        return catalogs
    return []


async def _write(check: Check, coordinator: Coordinator, catalogs: list[str]) -> None:
    named, schema = check.connection.text("catalog"), check.connection.schema
    if named not in catalogs:
        check.skip(WRITE, "jobs get a catalog of their own for each try, through the lens")
        return
    if not schema:
        check.skip(WRITE, f"the connection names no schema of the catalog {named} to write to")
        return
    name = f'"{named}"."{schema}"."forebay_probe_{uuid.uuid4().hex[:12]}"'.replace(";", "")
    async with check.step(WRITE, "Make and drop a table", needed=False) as finding:
        try:
            await coordinator.rows(f"CREATE TABLE {name} (x integer)")
        except Wrong as wrong:
            finding.warn(
                f"can read, cannot make a table: {wrong.found}",
                "Give this login the right. Jobs that only read from here need it not.",
            )
            return
        try:
            await coordinator.rows(f"DROP TABLE {name}")
        except Wrong as wrong:
            finding.warn(f"made {name}, and may not drop it: {wrong.found}", "Drop it, and give the right.")
