"""Airflow's REST API from inside the API server, as the visitor of a page: what they may not see there, they do not see here."""

import asyncio
from typing import Any

import httpx

from forebay.stack.airflow_api import AirflowApi

_PATIENCE = 20.0


class VisitorApi(AirflowApi):
    """Asks the API server's own application, without the network. For threads, not for its event loop."""

    def __init__(self, token: str, loop: asyncio.AbstractEventLoop) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url="http://airflow", transport=_Inside(loop), headers=headers)
        self._client.headers.setdefault("authorization", "")
        self.url = "the API server"


class _Inside(httpx.BaseTransport):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = asyncio.run_coroutine_threadsafe(_ask(request), self._loop)
        try:
            return asked.result(_PATIENCE)
        except TimeoutError:
            asked.cancel()
            raise httpx.ReadTimeout("Airflow took too long", request=request) from None


async def _ask(request: httpx.Request) -> httpx.Response:
    from airflow.api_fastapi.app import cached_app

    application: Any = cached_app()
    content = request.read()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application, raise_app_exceptions=False)
    ) as client:
        headers = [(name, value) for name, value in request.headers.raw if value]
        answer = await client.request(request.method, request.url, headers=headers, content=content)
    # Its content is read and unpacked: what follows is for a caller without an event loop.
    kept = {name: value for name, value in answer.headers.items() if name in ("content-type", "location")}
    return httpx.Response(answer.status_code, headers=kept, content=answer.content, request=request)
