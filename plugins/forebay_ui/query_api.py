"""The JSON API of queries.

This file must not have `from __future__ import annotations` (see auth.py).
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any, Literal

from anyio import CancelScope
from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from forebay.errors import ForebayError
from forebay.query import job_text
from forebay.query.request import MAX_LENGTH, Given, mistakes
from forebay.sqltext.functions import known_functions
from forebay_ui import queries
from forebay_ui.auth import Visiting, Visitor
from forebay_ui.lake import index
from forebay_ui.queries import NoRight, Past
from forebay_ui.running import MEDIA, RUNNING, Running, Streamed, refusal, start

api = APIRouter()
_NAME = r"^[a-z][a-z0-9_]*$"

Workspace = Annotated[
    str, Field(min_length=1, max_length=100, description="The workspace in which to query.")
]
Text = Annotated[str, Field(max_length=MAX_LENGTH, description="One SELECT in Trino's dialect.")]
Id = Annotated[str, Path(min_length=1, max_length=32)]
Slug = Annotated[str, Path(min_length=1, max_length=100)]
OfWorkspace = Annotated[str, Path(min_length=1, max_length=100)]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(Closed):
    """A parameter's value, as text; null is NULL."""

    value: str | None = Field(max_length=10_000)
    type: Literal["automatic", "string", "integer", "number", "boolean", "date", "datetime"] = "automatic"


class Ask(Closed):
    """A query."""

    workspace: Workspace
    sql: Text
    parameters: dict[str, Value] = Field(default={}, max_length=100, description="A value for each `:name`.")
    format: Literal["rows", "csv", "parquet"] = Field(default="rows", description="`rows` are lines of JSON.")
    explain: bool = Field(default=False, description="The engine's plan instead of the rows.")
    rows: int | None = Field(default=None, ge=1, le=2**31 - 1, description="At most so many rows.")


class Check(Closed):
    """A text to look at without running it."""

    workspace: Workspace
    sql: Text


class Keep(Closed):
    """A query to keep."""

    title: str = Field(min_length=1, max_length=80)
    sql: Text


class JobWanted(Closed):
    """What a query is to become."""

    workspace: Workspace
    sql: Text
    job: str = Field(max_length=60, pattern=_NAME)
    table: str = Field(max_length=200)
    schedule: str = Field(default="", max_length=100)
    parameters: dict[str, Value] = Field(default={}, max_length=100)


@api.post("/query", response_class=Response)
async def query(request: Request, who: Visiting, ask: Ask) -> Response:
    """Runs a SELECT and streams its result.

    As `rows`, each line is a JSON object: `started` (with the query's id and its limits), `columns`, `rows` (every
    value is text or null), `progress`, and at last `end` (with the numbers of rows and seconds; `more` says which limit
    cut the result) or `failed`. As `csv` and `parquet` it is a file, which breaks off where the query fails.
    Closing the connection cancels the query.
    """
    given = {name: Given(each.value, each.type) for name, each in ask.parameters.items()}
    try:
        made = await run_in_threadpool(
            start, who, ask.workspace, ask.sql, given, explain=ask.explain, format=ask.format, rows=ask.rows
        )
    except ForebayError as error:
        raise refusal(error) from error
    if ask.format == "rows":
        # A proxy that collected the lines would make progress useless.
        return Streamed(
            made, lines(made), media_type="application/x-ndjson", headers={"x-accel-buffering": "no"}
        )
    return await file(request, made)


@api.post("/query/check")
def check(who: Visiting, ask: Check) -> dict[str, Any]:
    """What is wrong with a text, its parameters, and the tables it reads; nothing runs."""
    try:
        queries.must_query(who, ask.workspace)
        setup = queries.setup(who, ask.workspace)
        wrong, parameters, reads = mistakes(ask.sql, setup.engine)
    except ForebayError as error:
        raise refusal(error) from error
    return {
        "mistakes": [{"line": each.line, "column": each.column, "message": each.message} for each in wrong],
        "parameters": list(parameters),
        "reads": list(reads),
    }


@api.get("/query/tables")
def query_tables(
    who: Visiting,
    begin: Annotated[str, Query(max_length=400, description="How the tables' names begin.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 500,
) -> JSONResponse:
    """What an editor completes: namespaces, functions, and the tables you may read whose names begin so.

    Of very many tables it names the first ones, and says that there are `more`: ask with a longer beginning.
    """
    view = index().view(wait=2, names=True)
    names = sorted(name for name in view.entries if name.startswith(begin.lower()))
    found = [entry for entry in map(view.entries.__getitem__, names) if who.reads(entry.namespace)]
    tables = [
        {
            "table": entry.table,
            "comment": entry.comment,
            "columns": [[column.name, column.type] for column in entry.columns],
        }
        for entry in found[:limit]
    ]
    namespaces = [name for name in sorted(view.namespaces) if who.reads(name)]
    functions = sorted(known_functions())
    # Made here, as FastAPI would look at each of the many values first.
    return JSONResponse(
        {"tables": tables, "more": len(found) > limit, "namespaces": namespaces, "functions": functions}
    )


@api.get("/query/history")
def query_history(
    who: Visiting,
    everyone: bool = False,
    words: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[dict[str, Any]]:
    """Your queries, newest first; with `everyone` everybody's, for admins."""
    try:
        return [asdict(each) for each in queries.history(who, everyone, words.replace("\0", ""), limit)]
    except NoRight as error:
        raise refusal(error) from error


@api.get("/query/saved/{workspace}")
def saved_queries(who: Visiting, workspace: OfWorkspace) -> list[dict[str, Any]]:
    """The queries that a workspace keeps."""
    if not who.may("GET", workspace):
        raise HTTPException(403, f"Your role in Airflow does not let you see the workspace '{workspace}'.")
    return [asdict(each) for each in queries.saved(who, workspace)]


@api.put("/query/saved/{workspace}")
def save_query(who: Visiting, workspace: OfWorkspace, keep: Keep) -> dict[str, Any]:
    """Keeps a query for its workspace, in place of one with the same title."""
    try:
        return asdict(queries.save(who, workspace, keep.title, keep.sql))
    except ForebayError as error:
        raise refusal(error) from error


@api.delete("/query/saved/{workspace}/{name}", status_code=204)
def remove_query(who: Visiting, workspace: OfWorkspace, name: Slug) -> None:
    """Removes a workspace's query."""
    try:
        if not queries.forget(who, workspace, name):
            raise HTTPException(404, f"The workspace '{workspace}' keeps no query '{name}'.")
    except ForebayError as error:
        raise refusal(error) from error


@api.post("/query/job")
def query_job(who: Visiting, wanted: JobWanted) -> dict[str, str]:
    """A query as a job: the YAML and the SQL file to commit, by their paths."""
    given = {name: Given(each.value, each.type) for name, each in wanted.parameters.items()}
    try:
        return job_files(who, wanted.workspace, wanted.job, wanted.table, wanted.sql, given, wanted.schedule)
    except ForebayError as error:
        raise refusal(error) from error


def job_files(
    who: Visitor, workspace: str, job: str, table: str, sql: str, given: dict[str, Given], schedule: str
) -> dict[str, str]:
    """The files of a job that somebody may add to a workspace. Raises ForebayError."""
    if not who.may("PUT", workspace):
        raise NoRight(f"Your role in Airflow does not let you edit the jobs of the workspace '{workspace}'.")
    return job_text.files(who.owners.root, workspace, job, table, sql, given, schedule)


@api.get("/query/{query_id}")
def past_query(who: Visiting, query_id: Id) -> dict[str, Any]:
    """One query of yours: its text, its parameters, and how it ended."""
    return asdict(_past(who, query_id))


@api.delete("/query/{query_id}", status_code=204)
def cancel_query(who: Visiting, query_id: Id) -> None:
    """Cancels a query of yours; an admin may cancel anybody's, which is noted.

    Only the process of the API server that runs it can. Where there are several (`[api] workers`, replicas), stop reading
    its rows instead: a query ends when nobody listens any more, wherever it runs, and at its time cap at the latest.
    """
    found = _past(who, query_id, event="")
    running = RUNNING.get(query_id)
    if running is None:
        raise HTTPException(
            404,
            "The query has ended, or runs on another process of the API server: stop reading its rows, and it ends.",
        )
    if found.owner != str(who.user.get_id()):
        queries.note_others(who, "query_cancel", found)
    running.cancel()


def _past(who: Visiting, query_id: str, event: str = "query_read") -> Past:
    found = queries.past(who, query_id, event)
    if found is None:
        raise HTTPException(404, f"There is no query '{query_id}' of yours.")
    return found


async def lines(made: Running) -> AsyncGenerator[bytes, None]:
    """A query's messages, one line of JSON each; its rows come as lines already."""
    limits = made.limits
    told = {"rows": limits.rows, "bytes": limits.bytes, "seconds": limits.seconds}
    yield _line({"type": "started", "id": made.past.id, "engine": made.past.engine, "limits": told})
    async with aclosing(made.frames()) as frames:
        async for frame in frames:
            yield frame.payload if frame.kind == "data" else _line({"type": frame.kind, **frame.document})


async def file(request: Request, made: Running) -> Response:
    """A query's result as a file to keep; what fails before its first byte is an answer like any other."""
    frames = made.frames()
    try:
        async for frame in frames:
            if frame.kind == "failed":
                raise HTTPException(422, str(frame.document["message"]))
            if frame.kind == "columns":
                break
            if await request.is_disconnected():
                raise HTTPException(499, "Nobody waits for the query any more.")
    except BaseException:
        # Also when the request is given up: whatever it was, the query ends with it.
        made.leave()
        with CancelScope(shield=True):
            await frames.aclose()
        raise

    async def rest() -> AsyncGenerator[bytes, None]:
        async with aclosing(frames):
            async for frame in frames:
                if frame.kind == "data":
                    yield frame.payload
                elif frame.kind == "failed":
                    # The answer has begun: breaking it off is the only way left to say that it is not whole.
                    raise RuntimeError("the query failed after its first rows")

    name = f"query-{made.past.id}.{made.past.format}"
    return Streamed(
        made, rest(), media_type=MEDIA[made.past.format],
        headers={"content-disposition": f'attachment; filename="{name}"', "x-accel-buffering": "no"},
    )  # fmt: skip


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
