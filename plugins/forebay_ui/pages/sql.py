"""What do the data say? Ask them in SQL.

A worksheet: one SELECT at a time, in Trino's dialect, on what is published. It only reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from anyio import CancelScope
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from forebay.errors import ForebayError, JobSpecError
from forebay.lake.index import Entry, View
from forebay.query.process import Setup
from forebay.query.request import TYPES, Given, asked
from forebay_ui import queries
from forebay_ui.auth import Visiting, Visitor, of_namespace
from forebay_ui.html import STATIC, render
from forebay_ui.lake import index
from forebay_ui.query_api import api, file, job_files
from forebay_ui.running import Format, Running, places, refusal, start

__all__ = ["api", "router"]

TITLE, PLACE = "SQL", 50
router = APIRouter()

_ROWS = 1_000
"""Rows that a page without JavaScript shows."""
_TREE, _NAMESPACES = 100, 200
"""Tables of a namespace, and namespaces, that the list beside the text shows."""
_NUMERIC = ("tinyint", "smallint", "integer", "bigint", "real", "double")
_EXAMPLE = "SELECT *\nFROM {table}\nLIMIT 100"
Words = Annotated[str, Query(max_length=200, description="What to look for in the texts.")]


@dataclass(frozen=True)
class Sheet:
    """What stands in the worksheet."""

    workspace: str
    sql: str = ""
    given: dict[str, Given] = field(default_factory=dict)
    title: str = ""
    job: str = ""
    table: str = ""
    schedule: str = ""
    do: str = ""
    may: bool = False
    """Whether who looks may query; of nobody else a text is read."""

    @property
    def parameters(self) -> dict[str, Given]:
        """The text's `:name` with the values they have; those that have none yet are empty."""
        try:
            names = asked(self.sql).parameters if self.may and self.sql.strip() else ()
        except JobSpecError:
            names = tuple(self.given)
        return {name: self.given.get(name, Given("")) for name in names}


@dataclass
class Result:
    """What a page without JavaScript shows of a query."""

    columns: list[dict[str, str]] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)


async def typed(request: Request, who: Visiting) -> Sheet:
    """The form, as it was sent."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    if any("\0" in value for value in form.values()):
        raise HTTPException(422, "There is no such text.")
    return Sheet(
        form.get("workspace", ""), form.get("sql", "").replace("\r\n", "\n"), _given(form), form.get("title", ""),
        form.get("job", "").strip(), form.get("table", "").strip(), form.get("schedule", "").strip(), form.get("do", "run"),
    )  # fmt: skip


Typed = Annotated[Sheet, Depends(typed)]


@router.get("", response_class=HTMLResponse)
def worksheet(
    request: Request,
    who: Visiting,
    workspace: Annotated[str, Query(max_length=100)] = "",
    sql: Annotated[str, Query(max_length=20_000)] = "",
    query: Annotated[str, Query(max_length=32)] = "",
    saved: Annotated[str, Query(max_length=100)] = "",
) -> HTMLResponse:
    sheet = Sheet(workspace, sql, _given(dict(request.query_params)))
    if query and (found := queries.past(who, query)) is not None:
        given = {
            name: Given(each.get("value"), str(each.get("type"))) for name, each in found.parameters.items()
        }
        sheet = Sheet(found.workspace, found.sql, given)
    elif query:
        raise HTTPException(404, "There is no such query of yours.")
    if saved:
        kept = next((each for each in queries.saved(who, workspace) if each.name == saved), None)
        if kept is None:
            raise HTTPException(404, f"The workspace '{workspace}' keeps no query '{saved}'.")
        sheet = Sheet(workspace, kept.sql, title=kept.title)
    return _show(request, who, sheet)


@router.post("", response_class=HTMLResponse)
async def act(request: Request, who: Visiting, sheet: Typed) -> Response:
    try:
        if sheet.do == "save":
            made = await run_in_threadpool(queries.save, who, sheet.workspace, sheet.title, sheet.sql)
            return await _shown(request, who, sheet, said=f"Saved as “{made.title}” for {made.workspace}.")
        if sheet.do == "job":
            files = await run_in_threadpool(
                job_files, who, sheet.workspace, sheet.job, sheet.table, sheet.sql, sheet.given, sheet.schedule
            )  # fmt: skip
            return await _shown(request, who, sheet, files=files)
        if sheet.do in ("csv", "parquet"):
            wanted: Format = "csv" if sheet.do == "csv" else "parquet"
            return await file(request, await run_in_threadpool(_start, who, sheet, wanted))
        running = await run_in_threadpool(_start, who, sheet, "rows")
        return await _shown(request, who, sheet, result=await _result(request, running))
    except ForebayError as error:
        status = refusal(error).status_code
        return await _shown(request, who, sheet, status=status, error=str(error), mistakes=places(error))


@router.get("/history", response_class=HTMLResponse)
def past(request: Request, who: Visiting, everyone: bool = False, q: Words = "") -> HTMLResponse:
    everybodys = who.sees_all
    found = queries.history(who, everyone and everybodys, q.replace("\0", ""), limit=100)
    return render(
        request, "sql_history.html", who=who, places=request.app.state.places, title="SQL history", found=found, q=q,
        everyone=everyone and everybodys, everybodys=everybodys,
    )  # fmt: skip


@router.get("/saved", response_class=HTMLResponse)
def kept(request: Request, who: Visiting) -> HTMLResponse:
    readable = [name for name in who.owners.names if who.may("GET", name)]
    found = [(name, queries.saved(who, name)) for name in readable]
    return render(
        request, "sql_saved.html", who=who, places=request.app.state.places, title="Saved queries",
        found=[(name, each) for name, each in found if each], may=set(queries.workspaces(who)),
    )  # fmt: skip


@router.get("/tables/{namespace}", response_class=HTMLResponse, dependencies=[Depends(of_namespace("GET"))])
def tables(request: Request, namespace: str) -> HTMLResponse:
    """A namespace's part of the list beside the text, which is asked for when somebody unfolds it."""
    found = index().view(wait=1.0, names=True).tables.get(namespace, ())
    return render(request, "sql_tables.html", namespace=namespace, tables=found[:_TREE], total=len(found))


@router.post("/saved/{workspace}/{name}")
def remove(request: Request, who: Visiting, workspace: str, name: str) -> Response:
    try:
        if not queries.forget(who, workspace, name):
            raise HTTPException(404, f"The workspace '{workspace}' keeps no query '{name}'.")
    except ForebayError as error:
        raise refusal(error) from error
    return RedirectResponse(f"{request.scope.get('root_path', '')}/sql/saved", 303)


def _start(who: Visitor, sheet: Sheet, wanted: Format) -> Running:
    rows = _ROWS if wanted == "rows" else None
    given = sheet.given
    return start(
        who, sheet.workspace, sheet.sql, given, explain=sheet.do == "explain", format=wanted, rows=rows
    )


async def _result(request: Request, running: Running) -> Result:
    found, frames = Result(), running.frames()
    try:
        async for frame in frames:
            if frame.kind == "columns":
                found.columns = frame.document["columns"]
            elif frame.kind == "data":
                found.rows += frame.document["rows"]
            elif frame.kind == "end":
                found.end = frame.document
            elif frame.kind == "failed":
                raise ForebayError(str(frame.document["message"]))
            elif await request.is_disconnected():
                raise ForebayError("Nobody waits for the query any more.")
    finally:
        running.leave()
        with CancelScope(shield=True):
            await frames.aclose()
    return found


async def _shown(request: Request, who: Visitor, sheet: Sheet, **more: Any) -> HTMLResponse:
    return await run_in_threadpool(lambda: _show(request, who, sheet, **more))


def _show(request: Request, who: Visitor, sheet: Sheet, *, status: int = 200, **more: Any) -> HTMLResponse:
    mine = queries.workspaces(who)
    if sheet.workspace not in who.owners.names or not who.may("GET", sheet.workspace):
        sheet = replace(sheet, workspace=mine[0] if mine else "")
    sheet = replace(sheet, may=bool(mine))
    setup, trouble = _warm(who, sheet.workspace) if mine else (None, "")
    view = index().view(wait=1.0, names=True)
    namespaces, first = _tree(who, sheet.workspace, view)
    if not sheet.sql and first:
        sheet = replace(sheet, sql=_EXAMPLE.format(table=first[0].table))
    shown = {"result": None, "error": "", "mistakes": [], "said": "", "files": {}, **more}
    return render(
        request, "sql.html", status=status, who=who, places=request.app.state.places, title="SQL", sheet=sheet, mine=mine,
        setup=setup, trouble=trouble, view=view, namespaces=namespaces[:_NAMESPACES], all_namespaces=len(namespaces), first=first,
        types=TYPES, numeric=_NUMERIC, editor=(STATIC / "editor.js").is_file(), saved=queries.saved(who, sheet.workspace), **shown,
    )  # fmt: skip


def _warm(who: Visitor, workspace: str) -> tuple[Setup | None, str]:
    """The engine, of which a process is made ready while the person still types; or why there is none."""
    try:
        setup = queries.setup(who, workspace)
    except ForebayError as error:
        return None, str(error)
    queries.pool().warm(setup)
    return setup, ""


def _tree(who: Visitor, workspace: str, view: View) -> tuple[list[tuple[str, int]], Sequence[Entry]]:
    """Namespaces and how many tables they have, the workspace's own before the others; and the tables of the first."""
    mine = [name for name in view.tables if who.reads(name)]
    mine.sort(key=lambda name: (who.owners.of(name) != workspace, name))
    return [(name, len(view.tables[name])) for name in mine], view.tables[mine[0]][:_TREE] if mine else []


def _given(form: Mapping[str, str]) -> dict[str, Given]:
    return {
        name.removeprefix("value."): Given(text, form.get(f"type.{name.removeprefix('value.')}", "automatic"))
        for name, text in form.items()
        if name.startswith("value.")
    }
