"""What data do we have, who made it, and how do I open it?

Namespaces, their tables, search over names, columns and comments, and the pages of one table.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from forebay.lake.branch import Json
from forebay.lake.describe import Description, describe
from forebay.lake.history import Event, blame
from forebay.lake.index import Entry, Hit, View
from forebay.lake.lineage import document
from forebay.lake.rest import Rest
from forebay_ui import openings
from forebay_ui.auth import Visiting, of_namespace
from forebay_ui.html import render
from forebay_ui.lake import index, lake
from forebay_ui.rows import Rows, check_results, files, sample

TITLE, PLACE = "Catalog", 30
router, api = APIRouter(), APIRouter()

_PAGE = 200
_PATIENCE = 10.0
_PARTS = {
    "": "Overview", "sample": "Sample", "history": "History", "files": "Files", "checks": "Checks", "lineage": "Lineage",
    "open": "Open from…",
}  # fmt: skip

Sees = Depends(of_namespace("GET"))
Words = Annotated[str, Query(max_length=200, description="What to look for in names, columns and comments.")]
Page = Annotated[int, Query(ge=1, le=100_000, description="Which page, from 1.")]
Snapshot = Annotated[int | None, Query(description="A snapshot's id; main's by default.")]


@dataclass(frozen=True)
class Table:
    """One table, read from the catalog for this request."""

    name: str
    metadata: Json
    about: Description
    events: list[Event]


def table_of(namespace: str, table: str, _: Annotated[None, Sees]) -> Table:
    """The table in the path, once the visitor is known to be allowed to see it."""
    name = f"{namespace}.{table}"
    with Rest(lake(), timeout=_PATIENCE) as rest:
        metadata = rest.table(name) if "." not in table else None
    if metadata is None:
        raise HTTPException(404, f"There is no table '{name}'.")
    return Table(name, metadata, describe(name, metadata), blame(metadata))


The = Annotated[Table, Depends(table_of)]


@router.get("", response_class=HTMLResponse)
def catalog(request: Request, who: Visiting, q: Words = "") -> HTMLResponse:
    view = index().view()
    hits, total = view.search(q, who.reads) if q else ([], 0)
    return _render(
        request,
        who,
        "catalog.html",
        view,
        title="Catalog",
        q=q,
        hits=hits,
        total=total,
        namespaces=_namespaces(view, who),
    )


@router.get("/{namespace}", response_class=HTMLResponse, dependencies=[Sees])
def namespace(request: Request, who: Visiting, namespace: str, page: Page = 1) -> HTMLResponse:
    view = index().view()
    tables = _tables(view, namespace)
    if not tables and namespace not in view.namespaces and view.at is not None:
        raise HTTPException(404, f"There is no namespace '{namespace}'.")
    shown = tables[(page - 1) * _PAGE : page * _PAGE]
    return _render(
        request, who, "namespace.html", view, title=namespace, namespace=namespace, tables=shown, total=len(tables),
        page=page, pages=max(1, -(-len(tables) // _PAGE)), owner=who.owners.files.get(who.owners.of(namespace)),
        workspace=who.owners.of(namespace),
    )  # fmt: skip


def _part(part: str, fill: Callable[[Table, Visiting, Request], dict[str, Any]]) -> None:
    """A page of a table; all of them share the head and the bar."""

    def show(request: Request, who: Visiting, the: The) -> HTMLResponse:
        view = index().view(wait=0.5)
        ours = the.name.rpartition(".")[0]
        return _render(
            request, who, f"table_{part or 'overview'}.html", view, title=the.name, the=the, about=the.about,
            events=the.events, part=part, parts_of=list(_PARTS.items()), namespace=ours, table=the.name.rpartition(".")[2],
            workspace=who.owners.of(ours), owner=who.owners.files.get(who.owners.of(ours)),
            up=[e for e in view.graph.up(the.name) if who.reads(e.source.rpartition(".")[0])],
            down=[e for e in view.graph.down(the.name) if who.reads(e.target.rpartition(".")[0])],
            **fill(the, who, request),
        )  # fmt: skip

    router.add_api_route(
        "/{namespace}/{table}" + (f"/{part}" if part else ""),
        show,
        response_class=HTMLResponse,
        name=f"table_{part}",
    )


def _overview(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"checks": _try(lambda: check_results(lake(), the.name, limit=50))}


def _sample(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    asked = request.query_params.get("snapshot", "")
    if asked and not asked.isdigit():
        raise HTTPException(422, "snapshot: a snapshot's id is a number.")
    number = int(asked) if asked else None
    known = {int(each["snapshot-id"]) for each in the.metadata.get("snapshots") or ()}
    if number is not None and number not in known:
        raise HTTPException(
            404, f"{the.name} has no snapshot {number}. It may have been cleaned up: see its history."
        )
    return {"rows": _try(lambda: sample(lake(), the.name, number)), "snapshot": number}


def _files(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"files": _try(lambda: files(lake(), the.name, the.about.size.files))}


def _checks(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"checks": _try(lambda: check_results(lake(), the.name, limit=500))}


def _open(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"snippets": openings.snippets(lake(), the.name)}


def _plain(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {}


for _name, _fill in {
    "": _overview, "sample": _sample, "history": _plain, "files": _files, "checks": _checks, "lineage": _plain,
    "open": _open,
}.items():  # fmt: skip
    _part(_name, _fill)


@api.get("/catalog")
def list_namespaces(who: Visiting) -> list[dict[str, Any]]:
    """The namespaces you may see, with the number of their tables."""
    return [{"namespace": name, "tables": number} for name, number in _namespaces(_ready(), who)]


@api.get("/search")
def search(who: Visiting, q: Words, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
    """Tables with all these words in their names, columns or comments, best first."""
    hits, total = _ready().search(q, who.reads, limit)
    return {"total": total, "hits": [_hit(hit) for hit in hits]}


@api.get("/catalog/{namespace}", dependencies=[Sees])
def list_tables(namespace: str) -> list[dict[str, Any]]:
    """The tables of a namespace."""
    view = _ready()
    if namespace not in view.namespaces:
        raise HTTPException(404, f"There is no namespace '{namespace}'.")
    return [_entry(entry) for entry in _tables(view, namespace)]


@api.get("/catalog/{namespace}/{table}")
def describe_table(the: The) -> dict[str, Any]:
    """A table's columns, layout, size and refs."""
    found = asdict(the.about)
    found["snapshot"] = _id(the.about.snapshot)
    for each in found["references"]:
        each["snapshot"] = _id(each["snapshot"])
    return found


@api.get("/catalog/{namespace}/{table}/history")
def table_history(the: The, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[dict[str, Any]]:
    """What happened to a table and who did it, newest first."""
    return [_event(event) for event in the.events[:limit]]


@api.get("/catalog/{namespace}/{table}/sample")
def table_sample(the: The, snapshot: Snapshot = None) -> dict[str, Any]:
    """Some rows of a table, now or at a snapshot; every value is text."""
    found = sample(lake(), the.name, snapshot)
    return {"columns": found.columns, "rows": found.rows}


@api.get("/catalog/{namespace}/{table}/lineage")
def table_lineage(the: The, who: Visiting, depth: Annotated[int, Query(ge=1, le=20)] = 3) -> dict[str, Any]:
    """The tables that this one was made from and those made from it, as nodes and edges."""
    graph = _ready().graph
    edges = [
        edge
        for edge in graph.around(the.name, depth)
        if who.reads(edge.source.rpartition(".")[0]) and who.reads(edge.target.rpartition(".")[0])
    ]
    return document(graph, the.name, edges)


def _render(request: Request, who: Visiting, template: str, view: View, **context: Any) -> HTMLResponse:
    return render(request, template, who=who, places=request.app.state.places, view=view, **context)


def _ready() -> View:
    view = index().view(wait=10)
    if view.at is None:
        raise HTTPException(503, view.error or "The catalog is being read. Ask again in a moment.")
    return view


def _namespaces(view: View, who: Visiting) -> list[tuple[str, int]]:
    counts = dict.fromkeys(view.namespaces, 0)
    for entry in view.entries.values():
        counts[entry.namespace] = counts.get(entry.namespace, 0) + 1
    return [(name, number) for name, number in sorted(counts.items()) if who.reads(name)]


def _tables(view: View, namespace: str) -> list[Entry]:
    return sorted((e for e in view.entries.values() if e.namespace == namespace), key=lambda e: e.table)


def _try(work: Callable[[], Rows | Any]) -> Any:
    """What needs more than the catalog, or the sentence why it is not there: the rest of the page is shown anyway."""
    from forebay.errors import ForebayError

    try:
        return work()
    except ForebayError as error:
        return str(error)


def _id(number: int | None) -> str | None:
    # JavaScript would round it.
    return None if number is None else str(number)


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "table": entry.table, "comment": entry.comment, "rows": entry.rows, "bytes": entry.bytes, "files": entry.files,
        "changed": entry.changed, "job": entry.last.job if entry.last else "", "open_runs": entry.open_runs,
        "columns": [asdict(column) for column in entry.columns],
    }  # fmt: skip


def _hit(hit: Hit) -> dict[str, Any]:
    return {"table": hit.entry.table, "where": hit.where, "what": hit.what, "comment": hit.entry.comment}


def _event(event: Event) -> dict[str, Any]:
    made = event.made
    plain = {
        "at": event.at, "operation": event.operation, "snapshot": _id(event.snapshot), "on_main": event.on_main,
        "note": event.note,
    }  # fmt: skip
    if made is not None:
        plain |= {
            "added": made.added, "removed": made.removed, "job": made.job, "run": made.run, "task": made.task,
            "try": made.number, "commit": made.commit, "user": made.user, "engine": made.engine,
            "inputs": [str(each) for each in made.inputs], "inputs_complete": made.complete,
        }  # fmt: skip
    return plain
