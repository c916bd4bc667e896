"""What a run changed, table by table: rows, files, columns, and some of the rows.

This file must not have `from __future__ import annotations` (see auth.py).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from forebay.stack.compare import Difference, difference
from forebay.stack.story import OneTable
from forebay_ui import audit
from forebay_ui.lake import lake
from forebay_ui.owners import root
from forebay_ui.run_of import The, TheRun, show
from forebay_ui.tables import attempt

router, api = APIRouter(), APIRouter()

_ROWS = 10
_BYTES = 64 << 20
"""How much of the files a page reads; the command reads more."""
# Rows are held in memory while they are compared.
_TURN = threading.BoundedSemaphore(2)


@router.get("/{job}/{run}/diff", response_class=HTMLResponse)
def diff(request: Request, the: The) -> HTMLResponse:
    with _turn():
        found = [(each.table, attempt(lambda each=each: _compared(the, each))) for each in _mine(the)]  # type: ignore[misc]
    return show(request, the, "run_diff.html", found=found, hidden=_hidden(the), story=the.story)


@api.get("/runs/{job}/{run}/diff")
def diff_run(the: The) -> dict[str, Any]:
    """What a run changed: of one that is not published its branch, of one that is what was published."""
    with _turn():
        return {
            "job": the.job,
            "run_id": the.name,
            "airflow": the.known.airflow,
            "tables": [_compared(the, each).document() for each in _mine(the)],
            "hidden": _hidden(the),
        }


@contextmanager
def _turn() -> Iterator[None]:
    """A place among those who compare. Nobody waits for one: that would keep a thread from all other pages."""
    if not _TURN.acquire(blocking=False):
        raise HTTPException(
            429, "Others are comparing runs just now. Try again in a moment.", {"retry-after": "5"}
        )
    try:
        yield
    finally:
        _TURN.release()


def _mine(the: TheRun) -> list[OneTable]:
    found = [
        each
        for each in the.story.tables
        if each.sides is not None and the.who.reads(each.table.rpartition(".")[0])
    ]
    if found:
        audit.record(
            the.who, "compare_run", workspace=the.workspace, job=the.job, run=the.known.run.airflow,
            tables=[each.table for each in found],
        )  # fmt: skip
    return found


def _hidden(the: TheRun) -> int:
    """Tables of workspaces that the visitor may not see."""
    return sum(not the.who.reads(each.table.rpartition(".")[0]) for each in the.story.tables)


def _compared(the: TheRun, one: OneTable) -> Difference:
    assert one.sides is not None
    return difference(
        root(), lake(), the.job, dict(one.metadata), one.sides, limit=_ROWS, most=_BYTES,
        more=f"Read them all: forebay diff {the.job}/{the.name} --table {one.table} --full",
    )  # fmt: skip
