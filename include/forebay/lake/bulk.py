"""Many documents of the catalog at the same time.

With httpx, which everything else here uses, a request costs this side 1.8 ms of processor time, by asyncio 0.5 ms; ten
thousand tables are asked for in one go. It is imported where there are many only: that takes longer than a few requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import orjson
from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from forebay.lake.branch import Json
from forebay.lake.rest import trust

_AT_ONCE = 16


def documents(addresses: Sequence[str], like: httpx.Client) -> list[Json | None]:
    """What is at these addresses, asked for as that client does; None for what is not given.

    Raises httpx.ConnectError or httpx.ReadError, as the client would. Not for a thread that runs an event loop.
    """
    try:
        return asyncio.run(_documents(addresses, like))
    except ClientConnectorError as error:
        raise httpx.ConnectError(str(error)) from None
    except (ClientError, TimeoutError) as error:
        raise httpx.ReadError(type(error).__name__) from None


async def _documents(addresses: Sequence[str], like: httpx.Client) -> list[Json | None]:
    found: list[Json | None] = [None] * len(addresses)
    left = iter(enumerate(addresses))
    async with ClientSession(
        connector=TCPConnector(limit=_AT_ONCE, ssl=trust(addresses[0])),
        cookie_jar=DummyCookieJar(),
        headers={name: text for name, text in like.headers.items() if name == "authorization"},
        timeout=ClientTimeout(sock_connect=like.timeout.connect, sock_read=like.timeout.read),
    ) as session:

        async def some() -> None:
            for number, address in left:
                async with session.get(URL(address, encoded=True), allow_redirects=False) as answer:
                    if answer.status == 200:
                        found[number] = orjson.loads(await answer.read())

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return found
