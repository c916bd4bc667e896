"""One table as its pages show it: read from the catalog for this request, once its visitor may see it.

This file must not have `from __future__ import annotations` (see auth.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse

from forebay.errors import ForebayError
from forebay.lake.branch import Json, snapshots
from forebay.lake.describe import Description, describe
from forebay.lake.history import Event, blame
from forebay.lake.rest import Rest
from forebay.rules import is_name
from forebay.sqlquote import quoted
from forebay_ui import audit
from forebay_ui.auth import Visitor, of_namespace
from forebay_ui.html import render
from forebay_ui.lake import index, lake
from forebay_ui.queries import workspaces

_PATIENCE = 10.0
_PLAIN = re.compile("[a-z_][a-z0-9_]*")
PARTS = {
    "": "Overview", "sample": "Sample", "history": "History", "files": "Files", "checks": "Checks", "lineage": "Lineage",
    "diff": "Compare", "open": "Open from…",
}  # fmt: skip

Sees = Depends(of_namespace("GET"))
Changes = Depends(of_namespace("PUT"))


@dataclass(frozen=True)
class Table:
    """One table, read from the catalog for this request."""

    name: str
    metadata: Json
    about: Description
    events: list[Event]

    @property
    def namespace(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def job(self) -> str:
        """The job that wrote it last; empty where no run did."""
        return next((each.made.job for each in self.events if each.made and each.made.job), "")

    def snapshot(self, number: int) -> Json:
        """One of its snapshots, on main or not; 404 where it has none such."""
        found = snapshots(self.metadata).get(number)
        if found is None:
            raise HTTPException(
                404, f"{self.name} has no snapshot {number}. It may have been cleaned up: see its history."
            )
        return found


def table_of(namespace: str, table: str, _: Annotated[None, Sees]) -> Table:
    """The table in the path, once the visitor is known to be allowed to see it."""
    name = f"{namespace}.{table}"
    with Rest(lake(), timeout=_PATIENCE) as rest:
        metadata = rest.table(name) if "." not in table else None
    if metadata is None:
        raise HTTPException(404, f"There is no table '{name}'.")
    return Table(name, metadata, describe(name, metadata), blame(metadata))


The = Annotated[Table, Depends(table_of)]


def show(
    request: Request, who: Visitor, the: Table, part: str, template: str, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page of a table; all of them share the head and the bar."""
    view = index().view(wait=0.5)
    owner = who.owners.of(the.namespace)
    return render(
        request, template, status=status, who=who, places=request.app.state.places, view=view, title=the.name, the=the,
        about=the.about, events=the.events, part=part, parts_of=list(PARTS.items()), namespace=the.namespace,
        table=the.name.rpartition(".")[2], workspace=owner, owner=who.owners.files.get(owner),
        may_change=who.may("PUT", owner), may_query=bool(workspaces(who)), select=_select(the.name),
        up=[e for e in view.graph.up(the.name) if who.reads(e.source.rpartition(".")[0])],
        down=[e for e in view.graph.down(the.name) if who.reads(e.target.rpartition(".")[0])],
        reads=lambda table: who.reads(table.rpartition(".")[0]),
        **context,
    )  # fmt: skip


def _select(name: str) -> str:
    """A first query of the table."""

    parts = (each if _PLAIN.fullmatch(each) else quoted(each) for each in name.split("."))
    return f"SELECT *\nFROM {'.'.join(parts)}\nLIMIT 100"


def note(who: Visitor, event: str, the: Table, **details: Any) -> None:
    """A row of the audit log about a table."""
    owner = who.owners.of(the.namespace)
    job = the.job if _is_job(the.job, owner) else ""
    audit.record(who, event, workspace=owner, job=job, table=the.name, **details)


def _is_job(name: str, workspace: str) -> bool:
    """Whether it is a job of the workspace: whoever commits to the catalog itself stamps what they like.

    The row would be shown to those who see that job, and to nobody else.
    """
    own, _, job = name.partition(".")
    return own == workspace and is_name(job) and DagModel.get_dagmodel(name) is not None


def number_of(name: str, text: str) -> int | None:
    """A snapshot's id from an address, where browsers send an empty one too."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise HTTPException(422, f"{name}: a snapshot's id is a number.")
    return int(text)


def attempt(work: Callable[[], Any]) -> Any:
    """What needs more than the catalog, or the sentence why it is not there: the rest of the page is shown anyway."""
    try:
        return work()
    except ForebayError as error:
        return str(error)
