"""The one factory of the console's application. Whatever it makes is closed: a route without a guard does not start.

This file must not have `from __future__ import annotations` (see auth.py).
"""

import asyncio
import logging
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import DataError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forebay.errors import ForebayError
from forebay.lake.connection import LakeError
from forebay_ui import pages
from forebay_ui.auth import SAFE, Visiting, enter, guards, same_origin, visitor
from forebay_ui.html import HEADERS, STATIC, render

log = logging.getLogger(__name__)

API = "/api/v1"
OPEN = frozenset({f"{API}/health"})
"""What answers without a login: whether the platform is well, in one word."""

AT_ONCE, PATIENCE = 24, 3.0
"""So many pages are made at a time, and whoever comes then waits so many seconds for a place.

A page holds one of the API server's 40 threads and asks Airflow, in the same process, for something that needs another:
were all of them pages, each would wait for the others.
"""
_FULL = "Too many pages are being made just now. Try again in a moment."

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
"""What is looked at before it is said that there is no such page; whatever else is a method has no answer here."""


@dataclass(frozen=True)
class Place:
    """A page in the console's bar."""

    slug: str
    title: str
    question: str


def application() -> FastAPI:
    """Every page, the JSON API, its documentation and the static files, behind Airflow's login."""
    app = FastAPI(title="Forebay", docs_url=None, redoc_url=None, openapi_url=None)
    closed = APIRouter(dependencies=[Depends(enter), Depends(same_origin)])
    modules = find()
    for slug, module in modules.items():
        if hasattr(module, "router"):
            closed.include_router(module.router, prefix=f"/{slug}", include_in_schema=False)
        if hasattr(module, "api"):
            closed.include_router(module.api, prefix=API, tags=[slug])
        if hasattr(module, "unlocked"):
            app.include_router(module.unlocked, prefix=API, tags=[slug])
    app.state.places = [
        Place(slug, module.TITLE, (module.__doc__ or "").strip().splitlines()[0])
        for slug, module in sorted(modules.items(), key=lambda each: getattr(each[1], "PLACE", 0))
        if getattr(module, "PLACE", 0)
    ]
    _common(app, closed)
    app.include_router(closed)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(ForebayError, _failed)
    app.add_exception_handler(DataError, _unfit)
    app.add_middleware(_Border)
    check(app)
    return app


def find() -> dict[str, ModuleType]:
    """The pages by their slug."""
    names = (each.name for each in pkgutil.iter_modules(pages.__path__))
    return {name: import_module(f"{pages.__name__}.{name}") for name in sorted(names)}


def check(app: FastAPI) -> None:
    """Refuses to start with a route that asks for no login; there are no mounts, for those could not be asked."""
    for route in app.routes:
        if not isinstance(route, APIRoute):
            raise RuntimeError(f"{route} is no route of FastAPI's: it would have no guard")
        if route.path in OPEN:
            continue
        found = guards(route.dependant)
        if missing := {visitor, enter, same_origin} - found:
            raise RuntimeError(f"{route.path} lacks {', '.join(each.__name__ for each in missing)}")
        if route.dependant.query_params and any(
            p.name in ("who", "user") for p in route.dependant.query_params
        ):
            raise RuntimeError(
                f"{route.path} takes its visitor from the address: FastAPI did not resolve its types"
            )


def _common(app: FastAPI, closed: APIRouter) -> None:
    @closed.get("/", include_in_schema=False)
    def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/health", 303)

    @closed.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        path = STATIC / name
        if path.parent != STATIC or not path.is_file():
            raise HTTPException(404, "There is no such file.")
        return FileResponse(path, headers={"cache-control": "private, max-age=86400"})

    @closed.get(f"{API}/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @closed.get(f"{API}/docs", include_in_schema=False)
    def documentation(request: Request, who: Visiting) -> Response:
        return render(
            request, "api.html", title="API", who=who, places=app.state.places, document=app.openapi()
        )

    @closed.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    def nothing(request: Request, rest: str) -> Response:
        if request.method in SAFE and rest.endswith("/"):
            return RedirectResponse(request.url.path.rstrip("/"), 303)
        raise HTTPException(404, "There is no such page.")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return await _answer(request, error.status_code, str(error.detail), error.headers)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return await _answer(request, 422, wrong)


async def _failed(request: Request, error: Exception) -> Response:
    return await _answer(request, 503 if isinstance(error, LakeError) else 404, str(error))


async def _unfit(request: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    # The database's own sentence and no more: the statement and its values are not for a page.
    return await _answer(request, 422, f"A value is none that can be kept: {str(error.orig).strip()}.")


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return await _answer(
        request, 500, f"The page broke ({type(error).__name__}). The API server's log has the details."
    )


_TITLES = {
    401: "Please log in",
    403: "Not allowed",
    404: "Not found",
    405: "Not found",
    422: "Not understood",
    503: "Cannot be shown now",
}


async def _answer(request: Request, status: int, message: str, headers: Any = None) -> Response:
    here = request.url.path.removeprefix(str(request.scope.get("root_path", "")))
    if here.startswith(("/api/", "/static/")):
        return JSONResponse({"detail": message}, status, headers)
    login = ""
    if status == 401:
        message = "The lake is shown to those who are logged in to Airflow."
        login = str(get_auth_manager().get_url_login())
        login += f"{'&' if '?' in login else '?'}{urlencode({'next': str(request.url)})}"
    title = _TITLES.get(status, "Something broke")
    answer = render(
        request, "message.html", status=status, title=title, message=message, login=login, who=None,
        # Neither has been asked who it is.
        places=[] if status in (401, 405) or message is _FULL else request.app.state.places,
    )  # fmt: skip
    if headers and "retry-after" in headers:
        answer.headers["retry-after"] = headers["retry-after"]
    return answer


class _Places:
    """Room for so many at a time, on whichever event loop they come."""

    def __init__(self, number: int, patience: float) -> None:
        self._number, self._patience = number, patience
        self._held: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    async def take(self) -> asyncio.Semaphore | None:
        """A place, to be released; None where there was none for a while."""
        loop = asyncio.get_running_loop()
        if self._held is None or self._held[0] is not loop:
            self._held = (loop, asyncio.Semaphore(self._number))
        places = self._held[1]
        try:
            async with asyncio.timeout(self._patience):
                await places.acquire()
        except TimeoutError:
            return None
        return places


class _Border:
    """Puts the security headers on every answer, and makes an answer of what broke on the way.

    It also lets in only so many at a time, until their answer begins.
    """

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self.app = app
        self._places = _Places(at_once, patience)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False
        place: asyncio.Semaphore | None = None

        def leave() -> None:
            nonlocal place
            if place is not None:
                place.release()
                place = None

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # What is streamed now takes threads for moments only, or is counted where it is made.
                leave()
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if _takes_a_thread(scope):
                place = await self._places.take()
                if place is None:
                    request = Request(scope, receive)
                    answer = await _answer(request, 503, _FULL, {"retry-after": "5"})
                    await answer(scope, receive, with_headers)
                    return
            await self.app(scope, receive, with_headers)
        except Exception as error:  # the border of every page: what it was is in the log, not on the page
            if started:
                raise
            request = Request(scope)
            answer = await _broken(request, error)
            await answer(scope, receive, with_headers)
        finally:
            leave()


def _takes_a_thread(scope: Scope) -> bool:
    here = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
    return here not in OPEN and not here.startswith("/static/")
