"""What differs between two snapshots of a table: columns, files, rows.

This file must not have `from __future__ import annotations` (see auth.py).
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from forebay.lake.branch import MAIN, ancestry, ref, snapshots
from forebay.lake.diff import between
from forebay.lake.history import Made
from forebay.stack.compare import Difference, difference
from forebay_ui.auth import Visiting
from forebay_ui.lake import lake
from forebay_ui.owners import root
from forebay_ui.tables import Table, The, attempt, note, number_of, show

router, api = APIRouter(), APIRouter()

_LISTED = 200
_ROWS = 10
_BYTES = 64 << 20
"""How much of the files a page reads; the command reads more."""

Keys = Annotated[
    str, Query(max_length=500, description="Columns that say which row is which, with commas between them.")
]


@router.get("/{namespace}/{table}/diff", response_class=HTMLResponse, name="table_diff")
def compare(
    request: Request,
    who: Visiting,
    the: The,
    before: Annotated[str, Query(alias="from", max_length=40)] = "",
    after: Annotated[str, Query(alias="to", max_length=40)] = "",
    key: Keys = "",
) -> HTMLResponse:
    made = choices(the)
    new = number_of("to", after) or the.about.snapshot
    old = number_of("from", before)
    if old is None and before == "" and new is not None:
        old = Made.of(the.snapshot(new)).parent
        old = old if old in snapshots(the.metadata) else None
    found = attempt(lambda: _between(who, the, old, new, key)) if new is not None else None
    return show(
        request, who, the, "diff", "table_diff.html", choices=made, old=old, new=new, key=key, found=found,
    )  # fmt: skip


@api.get("/catalog/{namespace}/{table}/diff")
def compare_snapshots(
    who: Visiting,
    the: The,
    to: Annotated[int, Query(ge=0, le=2**63 - 1, description="The newer snapshot's id.")],
    before: Annotated[
        int | None,
        Query(alias="from", ge=0, le=2**63 - 1, description="The older one's; without it an empty table."),
    ] = None,
    key: Keys = "",
) -> dict[str, Any]:
    """What differs between two snapshots: columns, files, rows, and some of the rows."""
    return _between(who, the, before, to, key).document()


def choices(the: Table) -> list[Made]:
    """The snapshots there are, newest first."""
    found = [Made.of(each) for each in snapshots(the.metadata).values()]
    return sorted(found, key=lambda made: -made.at)[:_LISTED]


def on_main(the: Table) -> list[Made]:
    """Main's snapshots, newest first."""
    return [Made.of(each) for each in ancestry(snapshots(the.metadata), ref(the.metadata, MAIN))]


def _between(who: Visiting, the: Table, old: int | None, new: int, key: str) -> Difference:
    for number in (old, new):
        if number is not None:
            the.snapshot(number)
    note(who, "compare", the, **{"from": old, "to": new})
    columns = [name.strip() for name in key.split(",") if name.strip()]
    both = between(the.name, the.metadata, old, new)
    try:
        return difference(
            root(), lake(), the.job, the.metadata, both, key=columns, limit=_ROWS, most=_BYTES,
            more="Choose two that are nearer to each other",
        )  # fmt: skip
    except (KeyError, StopIteration):
        raise HTTPException(
            422, "One of the snapshots has columns that the table's document has lost."
        ) from None
