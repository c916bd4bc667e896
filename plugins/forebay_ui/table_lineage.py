"""What a table was made from and what was made from it.

This file must not have `from __future__ import annotations` (see auth.py).
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from forebay.lake.index import View
from forebay.lake.lineage import Edge, document
from forebay_ui.auth import Visiting, Visitor
from forebay_ui.html import count
from forebay_ui.lake import index
from forebay_ui.lineage_picture import HEIGHT, WIDTH, draw
from forebay_ui.tables import The, show

router, api = APIRouter(), APIRouter()

_DEEPEST = 20
Depth = Annotated[int, Query(ge=1, le=_DEEPEST, description="How many steps up and down.")]


@router.get("/{namespace}/{table}/lineage", response_class=HTMLResponse, name="table_lineage")
def lineage(request: Request, who: Visiting, the: The, depth: Depth = 3) -> HTMLResponse:
    view = index().view()
    edges = _seen(view, who, the.name, depth)
    below = {
        name: f"{name.rpartition('.')[0]} · {count(entry.rows)} rows"
        if (entry := view.entries.get(name))
        else f"{name.rpartition('.')[0]} · not there"
        for name in {the.name, *(e.source for e in edges), *(e.target for e in edges)}
    }
    further = depth < _DEEPEST and len(_seen(view, who, the.name, depth + 1)) > len(edges)
    return show(
        request, who, the, "lineage", "table_lineage.html", picture=draw(the.name, edges, below) if edges else None,
        box=(WIDTH, HEIGHT), depth=depth, further=further, foreign=the.name in view.graph.foreign,
    )  # fmt: skip


@api.get("/catalog/{namespace}/{table}/lineage")
def table_lineage(the: The, who: Visiting, depth: Depth = 3) -> dict[str, Any]:
    """The tables that this one was made from and those made from it, as nodes and edges."""
    view = index().view(wait=10)
    if view.at is None:
        raise HTTPException(503, view.error or "The catalog is being read. Ask again in a moment.")
    return document(view.graph, the.name, _seen(view, who, the.name, depth))


def _seen(view: View, who: Visitor, table: str, depth: int) -> list[Edge]:
    return [
        edge
        for edge in view.graph.around(table, depth)
        if who.reads(edge.source.rpartition(".")[0]) and who.reads(edge.target.rpartition(".")[0])
    ]
