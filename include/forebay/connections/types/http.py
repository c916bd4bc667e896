"""A web service: whether it answers, and takes the login where there is one.

As Airflow's HTTP hook reads it: host (may begin with https://), schema, port, login and password; extra holds headers.
"""

from __future__ import annotations

import base64

from forebay.connections.check import AUTHENTICATE, NETWORK, Check
from forebay.connections.network import Wrong
from forebay.connections.web import Web, place_of, split

TITLE = "HTTP"
PLAN = (*NETWORK, AUTHENTICATE)
EXAMPLE = {"conn_type": "http", "host": "api.example.com", "schema": "https", "login": "user"}

# Settings of the hook's own, not headers.
_NOT_HEADERS = frozenset(
    ("timeout", "allow_redirects", "proxies", "verify", "trust_env", "cert", "max_redirects", "check_response", "stream")
)  # fmt: skip


async def check(check: Check) -> None:
    connection = check.connection
    address = (
        connection.host if "://" in connection.host else f"{connection.schema or 'http'}://{connection.host}"
    )
    try:
        parts = split(address)
        if connection.port and not parts.port:
            parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
        place = place_of(parts)
    except Wrong as wrong:
        async with check.step(NETWORK[0], "Read the address"):
            raise wrong from None
        return
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    headers = {
        str(name): str(value)
        for name, value in connection.extra.items()
        if name not in _NOT_HEADERS and isinstance(value, str)
    }
    user, password = connection.login or parts.username or "", connection.password or parts.password or ""
    if user or password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    web = Web(check, careless=connection.flag("verify") is False)
    web.adopt(place, await check.line(place))
    async with check.step(
        AUTHENTICATE, "Ask for the page" if not headers else "Ask for the page, with the login"
    ) as finding:
        answer = await web.ask("GET", url, headers=headers, redirects=True)
        finding.found = f"HTTP {answer.status}"
        if answer.status in (401, 407):
            raise Wrong(
                f"the login is refused (HTTP {answer.status})",
                "Correct login and password, or the header in extra." if headers else "Put the login into the connection.",
            )  # fmt: skip
        if answer.status == 403:
            raise Wrong("access denied (HTTP 403)", "The login is known; give it the right.")
        if answer.status == 400 and "https" in answer.text.lower()[:2000]:
            raise Wrong("this port wants TLS (HTTP 400)", "Use https:// in place of http://.")
        if answer.status >= 500:
            finding.warn(f"it answers HTTP {answer.status}", "The service is there and unwell: see its log.")
