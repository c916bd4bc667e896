"""The lens as an ASGI service in front of an Iceberg REST catalog.

`/main/v1/…` is the catalog as it is; `/published/v1/…` the same, with the branches of runs left out of every table
(DuckDB shows rows of a branch where a table has nothing else yet). `/run/<who>/v1/…` is the catalog as a task of a run sees it, where `<who>`
is TaskTry.segment(). `/turn?table=…` lets those who publish one table do so one after the other: it is a courtesy, and
decides nothing. The caller's credential goes to the catalog with each request; the lens has none of its own.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import unquote, urlencode

from aiohttp import ClientConnectorError, ClientError, ConnectionTimeoutError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from forebay.lake.branch import MAIN, ONLY_BRANCH, Branch, Json, ref, show
from forebay.lake.identity import TaskTry, UnknownRun
from forebay.lake.pins import SnapshotGone, shown_to
from forebay.lens import answers, telemetry
from forebay.lens.commit import Asked, created, may_write
from forebay.lens.commits import Commits, identified
from forebay.lens.memory import Memory
from forebay.lens.refused import Refused, conflict, forbidden
from forebay.lens.upstream import Answer, Upstream, lower

_TABLE = re.compile(
    r"v1/(?:(?P<prefix>.+?)/)?namespaces/(?P<namespace>[^/]+)/tables/(?P<table>[^/]+)(?P<tail>/.*)?"
)
_TABLES = re.compile(r"v1/(?:(?P<prefix>.+?)/)?namespaces/(?P<namespace>[^/]+)/tables/?")
_NAMESPACES = re.compile(r"v1/(?:.+?/)?namespaces/?")
_TRANSACTION = re.compile(r"v1/(?:(?P<prefix>.+?)/)?transactions/commit")
_CONFIG, _TOKENS = "v1/config", "v1/oauth/tokens"
LONGEST_TURN = 60
"""Seconds; a publish that takes longer goes on, beside the next one."""


class Lens:
    """The service's state: a client to the catalog, and what it remembers of tables and tasks."""

    def __init__(self, catalog: str) -> None:
        self.memory = Memory()
        self.commits = Commits(self.memory, self._send)
        self.upstream = Upstream(catalog)

    async def main(self, request: Request) -> Response:
        """The catalog as it is."""
        rest = _rest(request)
        found = _TABLE.fullmatch(rest)
        only = request.headers.get(ONLY_BRANCH)
        if request.method == "DELETE" and only is not None and found and not found["tail"]:
            return await self._drop_unused(request, rest, _name(found), only)
        return await self._pass(request, rest)

    async def published(self, request: Request) -> Response:
        """The catalog without what runs have not published."""
        rest = _rest(request)
        found = _TABLE.fullmatch(rest)
        if found is None or found["tail"] or request.method != "GET":
            return await self._pass(request, rest)
        request.state.table = _name(found)
        document, answer = await self._load(request, rest)
        if document is None:
            return answers.as_is(answer)
        return answers.json({**document, "metadata": show(document["metadata"], "")})

    async def run(self, request: Request) -> Response:
        """The catalog as one run sees it."""
        try:
            who = TaskTry.parse(request.path_params["who"])
        except UnknownRun as error:
            raise Refused(404, "NotFoundException", str(error)) from None
        request.state.who = who
        self.memory.seen(who)
        rest, method = _rest(request), request.method
        if found := _TABLE.fullmatch(rest):
            request.state.table = table = _name(found)
            tail = found["tail"] or ""
            if tail == "/metrics" and method == "POST":
                return await self._metrics(request, who)
            if tail not in ("", "/credentials"):
                raise forbidden(f"{tail.strip('/')} is not done inside a run")
            if tail == "" and method != "HEAD":
                return await self._table(request, who, rest, table)
        elif found := _TABLES.fullmatch(rest):
            if method == "POST":
                return await self._create(request, who, rest, unquote(found["namespace"]))
        elif _TRANSACTION.fullmatch(rest):
            return await self.commits.transaction(request, who, rest)
        elif rest == _CONFIG:
            return await self._config(request, rest)
        elif method not in ("GET", "HEAD") and rest != _TOKENS and not _is_new_namespace(method, rest):
            raise forbidden(
                f"{method} {rest.partition('/')[2]} is not done inside a run: it would be seen by everybody at "
                "once. Do it outside of one, at the catalog's own address"
            )
        return await self._pass(request, rest)

    async def turn(self, request: Request) -> Response:
        """Answers when it is the client's turn to publish these tables, and goes on answering until it has hung up."""
        tables = sorted(set(request.query_params.getlist("table")))

        async def chunks() -> AsyncIterator[bytes]:
            async with AsyncExitStack() as turns:
                for table in tables:
                    await turns.enter_async_context(self.memory.turn(table))
                yield b"now\n"
                with suppress(TimeoutError):
                    async with asyncio.timeout(LONGEST_TURN):
                        while (await request.receive())["type"] != "http.disconnect":
                            pass

        return StreamingResponse(chunks(), media_type="text/plain")

    async def health(self, request: Request) -> Response:
        """200 when the catalog answers, 503 when it does not."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(3):
                answer = await self.upstream.send("GET", _CONFIG)
            # A catalog that asks for a login is there.
            well = answer.status_code < 500
            detail = f"HTTP {answer.status_code}"
        except (ClientError, TimeoutError) as error:
            well, detail = False, type(error).__name__
        milliseconds = round(1000 * (time.monotonic() - began), 1)
        body = {"status": "ok" if well else "catalog down", "catalog": detail, "catalog_ms": milliseconds}
        return answers.json(body, 200 if well else 503)

    async def _table(self, request: Request, who: TaskTry, rest: str, table: str) -> Response:
        match request.method:
            case "GET":
                document, answer = await self._load(request, rest)
                if document is None:
                    return answers.as_is(answer)
                self.memory.table(table, document["metadata"], len(answer.content))
                try:
                    shown = {**document, "metadata": shown_to(document["metadata"], who, table)}
                except SnapshotGone as error:
                    raise forbidden(str(error)) from None
                self.memory.reads(who, table, ref(shown["metadata"], MAIN))
                return answers.json(shown)
            case "POST":
                return await self.commits.one(request, who, rest, table)
            case "DELETE":
                return await self._drop(request, who, rest, table)
        raise Refused(405, "BadRequestException", f"{request.method} is not for tables")

    async def _create(self, request: Request, who: TaskTry, rest: str, namespace: str) -> Response:
        body = await answers.body(request)
        request.state.table = table = f"{namespace.replace(chr(31), '.')}.{body.get('name')}"
        self.memory.fence(who)
        may_write(Asked(who, table, None))
        if not body.get("stage-create"):
            branch = created(who)
            body["properties"] = {**(body.get("properties") or {}), branch.key: branch.text()}
        async with self.memory.lock(table):
            answer = await self._send(request, "POST", rest, json=body)
        if answer.is_error:
            return answers.failed(answer)
        document = answers.document(answer)
        return answers.json({**document, "metadata": show(document["metadata"], who.branch)})

    async def _drop(self, request: Request, who: TaskTry, rest: str, table: str) -> Response:
        self.memory.fence(who)
        may_write(Asked(who, table, None))
        try:
            return await self._drop_unused(request, rest, table, who.branch, made=True)
        except Refused:
            raise forbidden(
                f"{table} was not made by this run, so the run does not drop it: its readers would lose it before "
                "the run is published. Drop it outside of a run, or write it anew with mode: overwrite"
            ) from None

    async def _drop_unused(
        self, request: Request, rest: str, table: str, only: str, *, made: bool = False
    ) -> Response:
        """Drops a table that has no rows but those of one branch, while no other run can begin one."""
        async with self.memory.lock(table):
            document, answer = await self._load(request, rest)
            if document is None:
                return answers.as_is(answer)
            branches = Branch.all(document["metadata"])
            mine = [each for each in branches if each.name == only]
            made = not made or any(each.created_by for each in mine)
            if not made or len(branches) > len(mine) or ref(document["metadata"], MAIN) is not None:
                raise conflict(f"{table} is used by others")
            self.memory.forget(table)
            return await self._pass(request, rest)

    async def _metrics(self, request: Request, who: TaskTry) -> Response:
        """Iceberg's clients tell what they scanned and committed."""
        body = await answers.body(request)
        if body.get("report-type") == "scan-report":
            self.memory.of(who).scanned.add(request.state.table)
        return Response(status_code=204)

    async def _config(self, request: Request, rest: str) -> Response:
        answer = await self._send(request, "GET", rest)
        if answer.is_error:
            return answers.as_is(answer)
        document = answers.document(answer)
        for part in ("defaults", "overrides"):
            # The catalog's own address would lead its clients past the lens.
            (document.get(part) or {}).pop("uri", None)
        if document.get("endpoints"):
            document["endpoints"] = [each for each in document["endpoints"] if "/plan" not in each]
        return answers.json(document)

    async def _load(self, request: Request, rest: str) -> tuple[Json | None, Answer]:
        """A table's whole document from the catalog; None when the catalog refused."""
        answer = await self._send(request, "GET", rest)
        return (None if answer.is_error else answers.document(answer)), answer

    async def _send(self, request: Request, method: str, rest: str, json: Json | None = None) -> Answer:
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name not in answers.REWRITTEN and name != "content-type"
        ]
        # `snapshots=refs` would leave out what a branch is made of.
        params = [each for each in request.query_params.multi_items() if each[0] != "snapshots"]
        with telemetry.upstream(request):
            return await self.upstream.send(method, rest, headers=headers, query=urlencode(params), json=json)

    async def _pass(self, request: Request, rest: str) -> Response:
        """Hands a request on and streams the answer back."""
        # Errors of commits are read here, so they have to be readable.
        left_out = answers.HOP | ({"accept-encoding"} if request.method == "POST" else set())
        headers = [(name, value) for name, value in request.headers.items() if name not in left_out]
        content = await request.body() or None
        async with AsyncExitStack() as locks:
            written = sorted(await _written(request, rest))
            for name in written:
                await locks.enter_async_context(self.memory.lock(name))
            try:
                with telemetry.upstream(request):
                    answer = await self.upstream.stream(
                        request.method, rest, headers=headers, query=request.url.query, content=content
                    )
            finally:
                for name in written:
                    self.memory.forget(name)
        kept = {name: value for name, value in lower(answer.headers).items() if name not in answers.HOP}
        if answer.status >= 400 and request.method == "POST":
            return answers.failed(await Answer.read(answer))

        async def chunks() -> AsyncIterator[bytes]:
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        if request.method == "HEAD" or answer.status == 204:
            answer.release()
            return Response(status_code=answer.status, headers=kept)
        return StreamingResponse(chunks(), answer.status, kept)


def application(catalog: str) -> Starlette:
    """The service in front of the catalog at this address."""
    lens = Lens(catalog)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with lens.upstream:
            yield

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/health", lens.health),
            Route("/metrics", telemetry.metrics),
            Route("/turn", lens.turn),
            Route("/main/{rest:path}", lens.main, methods=every),
            Route("/published/{rest:path}", lens.published, methods=every),
            Route("/run/{who}/{rest:path}", lens.run, methods=every),
        ],
        exception_handlers={
            Refused: _refused,
            ClientConnectorError: _no_catalog,
            ConnectionTimeoutError: _no_catalog,
            ClientError: _catalog_failed,
            404: _not_found,
        },
    )
    app.add_middleware(telemetry.AccessLog)
    return app


def _rest(request: Request) -> str:
    """What of the address is the catalog's, as the client wrote it: decoded, `%1F` and `%2F` in a name would be lost."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii").split("/", 3 if "who" in request.path_params else 2)[-1]


async def _written(request: Request, rest: str) -> set[str]:
    """What a request that is handed on changes, by name. SeaweedFS lets two writers make one table or namespace at
    once, and the rows of one are lost: so they go one after the other.
    """
    if request.method != "POST":
        return set()
    if found := _TABLE.fullmatch(rest):
        return set() if found["tail"] else {_name(found)}
    if found := _TABLES.fullmatch(rest):
        return {
            f"{unquote(found['namespace']).replace(chr(31), '.')}.{(await answers.body(request)).get('name')}"
        }
    if _TRANSACTION.fullmatch(rest):
        return {identified(change) for change in (await answers.body(request)).get("table-changes") or ()}
    return {""} if _NAMESPACES.fullmatch(rest) else set()


def _name(found: re.Match[str]) -> str:
    return f"{unquote(found['namespace']).replace(chr(31), '.')}.{unquote(found['table'])}"


def _is_new_namespace(method: str, rest: str) -> bool:
    return method == "POST" and _NAMESPACES.fullmatch(rest) is not None


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answers.error(error.status, error.kind, f"{error}.")


async def _not_found(request: Request, _: Exception) -> Response:
    message = f"the lens has no {request.url.path}. Use /main, or the address in the task's log."
    return answers.error(404, "NotFoundException", message)


async def _no_catalog(_: Request, error: Exception) -> Response:
    # Nothing was sent, so a client may repeat a commit.
    return answers.error(
        503, "ServiceUnavailableException", f"the catalog does not answer ({type(error).__name__})."
    )


async def _catalog_failed(_: Request, error: Exception) -> Response:
    # The catalog may have done it: clients treat 502 as a commit in an unknown state.
    return answers.error(
        502, "BadGatewayException", f"the catalog broke off its answer ({type(error).__name__})."
    )
