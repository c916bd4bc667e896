"""What data do we have, who made it, and how do I open it?

Namespaces, their tables, search over names, columns and comments, and the pages of one table.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from forebay.engines import openings
from forebay.lake.history import Event
from forebay.lake.index import Entry, View
from forebay.lake.search import Hit
from forebay_ui import table_diff, table_lineage, table_rollback
from forebay_ui.auth import Visiting, Visitor
from forebay_ui.charts import over_time
from forebay_ui.html import count, render
from forebay_ui.html import size as size_text
from forebay_ui.lake import index, lake
from forebay_ui.rows import by_rule, check_results, files, latest, sample
from forebay_ui.table_diff import choices
from forebay_ui.table_rollback import targets
from forebay_ui.tables import Sees, Table, The, attempt, note, number_of, show

TITLE, PLACE = "Catalog", 30
router, api = APIRouter(), APIRouter()
for _module in (table_diff, table_rollback, table_lineage):
    router.include_router(_module.router)
    api.include_router(_module.api)

_PAGE = 200
_VERDICTS = 30
Words = Annotated[str, Query(max_length=200, description="What to look for in names, columns and comments.")]
Page = Annotated[int, Query(ge=1, le=100_000, description="Which page, from 1.")]
Snapshot = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="A snapshot's id; main's by default.")]


@router.get("", response_class=HTMLResponse)
def catalog(request: Request, who: Visiting, q: Words = "") -> HTMLResponse:
    view = index().view(names=True)
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
    view = index().view(names=True)
    tables = view.tables.get(namespace, ())
    if not tables and namespace not in view.namespaces and view.at is not None:
        raise HTTPException(404, f"There is no namespace '{namespace}'.")
    shown = tables[(page - 1) * _PAGE : page * _PAGE]
    return _render(
        request, who, "namespace.html", view, title=namespace, namespace=namespace, tables=shown, total=len(tables),
        page=page, pages=max(1, -(-len(tables) // _PAGE)), owner=who.owners.files.get(who.owners.of(namespace)),
        workspace=who.owners.of(namespace),
    )  # fmt: skip


def _part(part: str, fill: Callable[[Table, Visiting, Request], dict[str, Any]]) -> None:
    def page(request: Request, who: Visiting, the: The) -> HTMLResponse:
        return show(request, who, the, part, f"table_{part or 'overview'}.html", **fill(the, who, request))

    router.add_api_route(
        "/{namespace}/{table}" + (f"/{part}" if part else ""),
        page,
        response_class=HTMLResponse,
        name=f"table_{part}",
    )


def _overview(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    points = the.about.growth
    sizes = [(at, float(size)) for at, _, size in points if size is not None]
    charts = [
        ("Rows", over_time([(at, float(rows)) for at, rows, _ in points], " rows", lambda n: count(int(n)))),
        ("Size", over_time(sizes, "", size_text)),
    ]
    return {
        "checks": attempt(lambda: latest(check_results(lake(), the.name, limit=200))),
        "growth": [each for each in charts if each[1] is not None],
    }


def _sample(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    number = number_of("snapshot", request.query_params.get("snapshot", ""))
    if number is not None:
        the.snapshot(number)
    note(who, "sample", the, snapshot=number or the.about.snapshot)
    return {
        "rows": attempt(lambda: sample(lake(), the.name, number)),
        "snapshot": number,
        "moments": choices(the),
    }


def _history(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    back = request.query_params.get("back")
    return {
        "targets": {made.snapshot for made in targets(the)},
        "back": number_of("back", back) if back else None,
    }


def _files(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"files": attempt(lambda: files(lake(), the.name, the.about.size))}


def _checks(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    found = attempt(lambda: check_results(lake(), the.name, limit=1000))
    rules = [] if isinstance(found, str) else by_rule(found, _VERDICTS)
    return {"checks": found if isinstance(found, str) else found[:200], "rules": rules, "shown": _VERDICTS}


def _open(the: Table, who: Visiting, request: Request) -> dict[str, Any]:
    return {"snippets": openings.snippets(lake(), the.name)}


for _name, _fill in {
    "": _overview, "sample": _sample, "history": _history, "files": _files, "checks": _checks, "open": _open,
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
    return [_entry(entry) for entry in view.tables.get(namespace, ())]


@api.get("/catalog/{namespace}/{table}")
def describe_table(the: The) -> dict[str, Any]:
    """A table's columns, layout, size and refs."""
    found = asdict(the.about)
    found["snapshot"] = _id(the.about.snapshot)
    for each in found["references"]:
        each["snapshot"] = _id(each["snapshot"])
    return found


@api.get("/catalog/{namespace}/{table}/history")
def table_history(
    the: The, who: Visiting, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> list[dict[str, Any]]:
    """What happened to a table and who did it, newest first, and to which snapshots it can be rolled back."""
    back = {made.snapshot for made in targets(the)}
    return [_event(event, back, who) for event in the.events[:limit]]


@api.get("/catalog/{namespace}/{table}/sample")
def table_sample(the: The, who: Visiting, snapshot: Snapshot = None) -> dict[str, Any]:
    """Some rows of a table, now or at a snapshot; every value is text."""
    if snapshot is not None:
        the.snapshot(snapshot)
    note(who, "sample", the, snapshot=snapshot or the.about.snapshot)
    found = sample(lake(), the.name, snapshot)
    return {"columns": found.columns, "rows": found.rows}


@api.get("/catalog/{namespace}/{table}/files")
def table_files(the: The) -> dict[str, Any]:
    """How a table lies in files: sizes, partitions and their skew."""
    return asdict(files(lake(), the.name, the.about.size))


@api.get("/catalog/{namespace}/{table}/checks")
def table_checks(the: The, limit: Annotated[int, Query(ge=1, le=5000)] = 100) -> list[dict[str, Any]]:
    """What checks found on a table, newest first."""
    found = check_results(lake(), the.name, limit=limit)
    return [{**each, "snapshot_id": _id(each["snapshot_id"])} for each in found]


@api.get("/catalog/{namespace}/{table}/open")
def table_openings(the: The) -> dict[str, Any]:
    """How to open a table from DuckDB, PyIceberg, Spark and Trino, without secrets."""
    return {"openings": [asdict(each) for each in openings.snippets(lake(), the.name)]}


def _render(request: Request, who: Visiting, template: str, view: View, **context: Any) -> HTMLResponse:
    return render(request, template, who=who, places=request.app.state.places, view=view, **context)


def _ready() -> View:
    view = index().view(wait=10)
    if view.at is None:
        far = f": {len(view.entries) - view.left:,} of {len(view.entries):,} tables" if view.left else ""
        raise HTTPException(503, view.error or f"The catalog is being read{far}. Ask again in a moment.")
    return view


def _namespaces(view: View, who: Visiting) -> list[tuple[str, int]]:
    names = sorted({*view.namespaces, *view.tables})
    return [(name, len(view.tables.get(name, ()))) for name in names if who.reads(name)]


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


def _event(event: Event, back: set[int], who: Visitor) -> dict[str, Any]:
    made = event.made
    plain = {
        "at": event.at, "operation": event.operation, "snapshot": _id(event.snapshot), "on_main": event.on_main,
        "note": event.note, "can_roll_back_to": made is not None and made.snapshot in back,
    }  # fmt: skip
    if made is not None:
        read = [str(each) for each in made.inputs if who.reads(each.table.rpartition(".")[0])]
        plain |= {
            "added": made.added, "removed": made.removed, "job": made.job, "run": made.run, "task": made.task,
            "try": made.number, "commit": made.commit, "user": made.user, "engine": made.engine,
            "inputs": read, "inputs_hidden": len(made.inputs) - len(read), "inputs_complete": made.complete,
        }  # fmt: skip
    return plain
