"""Pages that are sent as they come about, so that a person sees each part when it is there. They need no JavaScript."""

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from forebay_ui.html import environment, shared

# A control character, which no text of ours holds.
_FLUSH = "\x1e"

NOT_COMPRESSED = {"content-encoding": "identity"}
"""Keeps Airflow's API server from waiting for more to compress."""


def stream(request: Request, template: str, **context: Any) -> StreamingResponse:
    """A page that is sent up to each `{{ flush }}` of its template as soon as that is reached."""
    pieces = environment().get_template(template).generate(shared(request), **context, style="", flush=_FLUSH)

    def parts() -> Iterator[str]:
        waiting: list[str] = []
        for piece in pieces:
            waiting.append(piece.replace(_FLUSH, ""))
            if _FLUSH in piece:
                yield "".join(waiting)
                waiting.clear()
        yield "".join(waiting)

    return StreamingResponse(parts(), media_type="text/html", headers=NOT_COMPRESSED)
