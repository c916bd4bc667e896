"""An Iceberg REST catalog, and the object store below it with the same key.

Login and password are the client's id and secret. extra: warehouse, s3.endpoint, s3.region, lens, oauth2-server-uri, scope,
token (in place of login and password), s3.access-key-id and s3.secret-access-key (where the store's key is another one).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from forebay.connections import s3
from forebay.connections.check import (
    AUTHENTICATE,
    LENS,
    LIST,
    NETWORK,
    READ,
    WAREHOUSE,
    WRITE,
    Check,
)
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.s3 import S3
from forebay.connections.web import Answer, Web, place_of, split
from forebay.lake.capabilities import Capabilities

TITLE = "Iceberg REST"
ALSO = ("iceberg_rest",)
PLAN = (*NETWORK, AUTHENTICATE, WAREHOUSE, LIST, READ, WRITE, LENS)
EXAMPLE = {
    "conn_type": "iceberg",
    "host": "http://127.0.0.1:8181",
    "login": "access key",
    "extra": {
        "warehouse": "warehouse",
        "s3.endpoint": "http://127.0.0.1:8333",
        "s3.region": "us-east-1",
        "s3.path-style-access": "true",
        "lens": "http://127.0.0.1:8182",
    },
}


@dataclass
class Catalog:
    """The catalog as the check reaches it."""

    check: Check
    web: Web
    uri: str
    token: str = ""
    prefix: str = ""

    async def ask(
        self, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> Answer:
        headers = {"accept": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if body:
            headers["content-type"] = "application/json"
        asked = f"?{urlencode(query)}" if query else ""
        return await self.web.ask(
            method, f"{self.uri}/v1/{self.prefix}{path}{asked}", headers=headers, body=body
        )


def about(connection: Connection) -> str:
    warehouse = connection.text("warehouse")
    return (connection.host or connection.text("uri")) + (f", warehouse {warehouse}" if warehouse else "")


def uri_of(check: Check) -> str:
    """The catalog's address, without credentials and without the /v1 that clients add."""
    connection = check.connection
    parts = split(connection.host or connection.text("uri"))
    if connection.port and not parts.port:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    return (
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        .geturl()
        .rstrip("/")
        .removesuffix("/v1")
    )


async def check(check: Check) -> None:
    web = Web(check)
    catalog = await reach(check, web)
    namespaces = await _list(catalog)
    await _read(catalog, namespaces)
    await _write(catalog)
    await _lens(catalog)


async def reach(check: Check, web: Web) -> Catalog:
    """The first steps: to the catalog, with a token, and with its own idea of the warehouse."""
    try:
        uri = uri_of(check)
    except Wrong as wrong:
        async with check.step(NETWORK[0], "Read the address"):
            raise wrong from None
        raise AssertionError from None
    catalog = Catalog(check, web, uri)
    place = place_of(urlsplit(uri))
    web.adopt(place, await check.line(place))
    await _authenticate(catalog)
    await _warehouse(catalog)
    return catalog


async def _authenticate(catalog: Catalog) -> None:
    connection = catalog.check.connection
    async with catalog.check.step(AUTHENTICATE, "Authenticate: get a token") as finding:
        if token := connection.text("token"):
            catalog.token = token
            answer = await catalog.ask("GET", "config")
            if answer.status in (401, 403):
                raise Wrong("the token is refused", "Put a new token into extra.")
            finding.found = "the token is taken"
            return
        if connection.text("rest.auth.type") == "none":
            finding.skip("the connection says that nobody logs in")
            return
        if not connection.login and not connection.password:
            finding.skip("the connection holds no credential")
            return
        where = connection.text("oauth2-server-uri") or f"{catalog.uri}/v1/oauth/tokens"
        form = {
            "grant_type": "client_credentials",
            "client_id": connection.login,
            "client_secret": connection.password,
            "scope": connection.text("scope") or "catalog",
        }
        answer = await catalog.web.ask(
            "POST",
            where,
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        if answer.status in (400, 401, 403):
            raise Wrong(
                f"the catalog refuses the credential of '{connection.login}' (HTTP {answer.status})",
                "Correct login (the client's id) and password (its secret).",
            )
        if answer.is_error:
            raise Wrong(
                f"no token is given out there (HTTP {answer.status})",
                "Name the address of tokens as oauth2-server-uri in extra, or correct the host.",
            )
        document = answer.json()
        catalog.token = str(document.get("access_token") or "") if isinstance(document, dict) else ""
        if not catalog.token:
            raise Wrong("the answer holds no token", "Something else answers there: correct the address.")


async def _warehouse(catalog: Catalog) -> None:
    named = catalog.check.connection.text("warehouse")
    async with catalog.check.step(
        WAREHOUSE, f"Open the warehouse {named}" if named else "Read the configuration"
    ) as finding:
        answer = await catalog.ask("GET", "config", query={"warehouse": named} if named else None)
        if answer.status in (401, 403):
            raise Wrong("the catalog wants a login", "Put login and password into the connection.")
        if answer.is_error:
            raise Wrong(
                f"the catalog does not know the warehouse '{named}' (HTTP {answer.status})",
                "Correct warehouse in extra.",
            )
        document = answer.json()
        if not isinstance(document, dict) or not ({"defaults", "overrides"} & set(document)):
            raise Wrong(
                "this is no Iceberg REST catalog", "Something else answers there: correct host and path."
            )
        can = Capabilities.of(document)
        catalog.prefix, prefix = can.prefix, can.prefix.rstrip("/")
        catalog.check.fact("warehouse", named)
        catalog.check.fact("prefix", prefix)
        if can.told:
            catalog.check.fact("several tables in one commit", "yes" if can.transactions else "no")
        finding.found = f"prefix {prefix}" if prefix else ""
        if can.missing:
            finding.warn(
                f"it lacks {', '.join(can.missing)}",
                "Runs cannot write through it. Give this client the rights, or take another catalog.",
            )


async def _list(catalog: Catalog) -> list[list[str]]:
    async with catalog.check.step(LIST, "List the namespaces") as finding:
        answer = await catalog.ask("GET", "namespaces", query={"pageSize": "100"})
        if answer.status in (401, 403):
            raise Wrong("listing namespaces: access denied", "Give this client the right in the catalog.")
        if answer.status == 404:
            raise Wrong(
                "the warehouse is not there", "Correct warehouse in extra, or make it in the catalog."
            )
        if answer.is_error:
            raise Wrong(f"the catalog answered HTTP {answer.status}", "Look at the catalog's log.")
        document = answer.json()
        found = [
            [str(part) for part in each]
            for each in (document.get("namespaces") or () if isinstance(document, dict) else ())
            if isinstance(each, list)
        ]
        finding.found = (
            f"{len(found)}{' or more' if document.get('next-page-token') else ''} "
            f"namespace{'s' if len(found) != 1 else ''}"
        )
        return found
    return []


async def _read(catalog: Catalog, namespaces: list[list[str]]) -> None:
    """Loads a table and reads its metadata file from the store: a catalog without its store is of no use."""
    check = catalog.check
    async with check.step(READ, "Read a table's metadata, in catalog and store", needed=False) as finding:
        name, location = "", ""
        for namespace in namespaces[:5]:
            path = "%1F".join(quote(part, safe="") for part in namespace)
            answer = await catalog.ask("GET", f"namespaces/{path}/tables", query={"pageSize": "1"})
            tables = [] if answer.is_error else answer.json().get("identifiers") or []
            if tables:
                table = str(tables[0]["name"])
                name = ".".join((*namespace, table))
                loaded = await catalog.ask("GET", f"namespaces/{path}/tables/{quote(table, safe='')}")
                if loaded.is_error:
                    raise Wrong(
                        f"table {name} cannot be loaded (HTTP {loaded.status})", "Look at the catalog's log."
                    )
                location = str(loaded.json().get("metadata-location") or "")
                break
        endpoint = check.connection.text("s3.endpoint")
        check.fact("store", endpoint)
        if endpoint:
            place_of(split(endpoint, "https"))
        if not name:
            finding.skip("there is no table to read yet")
            return
        if not endpoint or not location.startswith("s3://"):
            finding.found = f"table {name}; the connection names no store to read its files from"
            return
        await _file(catalog, location)
        finding.found = f"table {name}"


async def _file(catalog: Catalog, location: str) -> None:
    connection = catalog.check.connection
    store = S3(
        connection.text("s3.endpoint"),
        connection.text("s3.region") or "us-east-1",
        connection.text("s3.access-key-id") or connection.login,
        connection.text("s3.secret-access-key") or connection.password,
        path_style=connection.flag("s3.path-style-access") is not False,
    )
    parts = urlsplit(location)
    try:
        answer = await store.ask(
            catalog.web, "GET", parts.netloc, parts.path.lstrip("/"), headers={"range": "bytes=0-0"}
        )
    except Wrong as wrong:
        raise Wrong(
            f"the catalog answers, its store does not: {wrong.found}",
            f"Correct s3.endpoint in extra. {wrong.hint}",
        ) from None
    if answer.status not in (200, 206):
        why = s3.refused(answer, store, catalog.web, f"bucket '{parts.netloc}'")
        raise Wrong(f"the catalog answers, its store refuses: {why.found}", why.hint)


async def _write(catalog: Catalog) -> None:
    name = f"forebay_probe_{uuid.uuid4().hex[:12]}"
    async with catalog.check.step(WRITE, "Make and drop a namespace", needed=False) as finding:
        body = f'{{"namespace": ["{name}"], "properties": {{}}}}'.encode()
        made = await catalog.ask("POST", "namespaces", body)
        if made.status in (401, 403):
            finding.warn(
                "can read, cannot write: access denied",
                "Give this client the right to make namespaces. Jobs that only read need it not.",
            )
            return
        if made.is_error:
            finding.warn(
                f"can read, cannot make a namespace (HTTP {made.status})", "Look at the catalog's log."
            )
            return
        gone = await catalog.ask("DELETE", f"namespaces/{name}")
        if gone.is_error:
            finding.warn(
                f"made the namespace {name}, and may not drop it", "Give this client the right, and drop it."
            )


async def _lens(catalog: Catalog) -> None:
    lens = catalog.check.connection.text("lens")
    if not lens:
        finding = "the connection names no lens: runs cannot write through it"
        catalog.check.skip(LENS, finding, "Ask the lens")
        return
    async with catalog.check.step(LENS, "Ask the lens", needed=False):
        try:
            answer = await catalog.web.ask("GET", f"{lens.rstrip('/')}/health")
        except Wrong as wrong:
            raise Wrong(
                f"the lens does not answer: {wrong.found}", "Start it: forebay restart lens"
            ) from None
        said: Any = {}
        if "json" in answer.headers.get("content-type", ""):
            said = answer.json()
        if answer.is_error:
            status = said.get("status") if isinstance(said, dict) else ""
            raise Wrong(f"the lens is unwell: {status or answer.status}", "forebay logs lens")
