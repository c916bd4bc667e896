"""The catalog's answers and the lens's own: reading and writing the documents of the REST specification."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from forebay.lake.branch import Json
from forebay.lens.refused import Refused
from forebay.lens.upstream import Answer

# Hop-by-hop (RFC 9110 §7.6.1), and what is computed anew for a document that was rewritten.
HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
}
REWRITTEN = HOP | {"content-encoding", "etag", "if-none-match", "accept-encoding", "date", "server"}
_RACE = re.compile(r"sequence number", re.IGNORECASE)


async def body(request: Request) -> Json:
    """The request's JSON object. Raises Refused."""
    try:
        found = orjson.loads(await request.body() or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "BadRequestException", "the request's body is not a JSON object")
    return found


def document(answer: Answer) -> Json:
    """The JSON object of an answer. Tables with a long history are megabytes: the standard library takes five times
    as long.
    """
    found: Json = orjson.loads(answer.content)
    return found


def json(content: Any, status: int = 200) -> Response:
    """An answer of the lens's own."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def error(status: int, kind: str, message: str) -> Response:
    """An error as the REST specification has it (ErrorModel)."""
    return json({"error": {"message": message, "type": kind, "code": status}}, status)


def as_is(answer: Answer) -> Response:
    """The catalog's answer, handed on."""
    headers = {name: value for name, value in answer.headers.items() if name not in REWRITTEN}
    return Response(answer.content, answer.status_code, headers)


def failed(answer: Answer) -> Response:
    """An error of the catalog; a lost race is always the conflict that clients repeat."""
    if answer.status_code == 400 and lost_race(answer):
        return error(409, "CommitFailedException", message(answer))
    return as_is(answer)


def lost_race(answer: Answer) -> bool:
    """Whether the catalog refused a commit because somebody else's came first.

    SeaweedFS says so with a 400 as well, and with a 500 where the snapshot has no parent. A commit of a run asserts its
    branch's head, so that it cannot be done twice.
    """
    return answer.status_code == 409 or (
        answer.status_code in (400, 500) and _RACE.search(answer.text) is not None
    )


def message(answer: Answer) -> str:
    try:
        return str(document(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:1000]


def kind(answer: Answer) -> str:
    try:
        return str(document(answer)["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return "RESTException"
