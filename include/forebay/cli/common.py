"""What several commands share: where the repository is, the output option, tables of text."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forebay.errors import ForebayError
from forebay.stack.layout import Stack

if TYPE_CHECKING:
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.trino import TrinoEngine
    from forebay.lake.connection import CatalogConfig
    from forebay.lake.identity import Run
    from forebay.stack.airflow_api import AirflowApi

F = TypeVar("F", bound=Callable[..., Any])


def repository() -> Path:
    """The repository around the current folder: FOREBAY_ROOT, or the nearest folder upward that holds `dags/`."""
    from forebay.project import find_root

    return find_root(os.environ.get("FOREBAY_ROOT") or Path.cwd())


def stack() -> Stack:
    """The embedded stack of this repository."""
    return Stack.of(repository())


def running_stack() -> Stack:
    """The embedded stack, or an error when it is down."""
    from forebay.stack import supervisor

    ours = stack()
    if not supervisor.running(ours):
        raise ForebayError("the stack is not running. Start it: forebay up")
    return ours


def lake() -> CatalogConfig:
    """The catalog of the running stack."""
    from forebay.lake.connection import CatalogConfig
    from forebay.stack.connections import connections

    catalog = next(c for c in connections(running_stack()) if c["connection_id"] == "lake_catalog")
    return CatalogConfig.from_connection(
        str(catalog["host"]),
        str(catalog["login"]),
        str(catalog["password"]),
        json.loads(str(catalog["extra"])),
    )


def sql_engine() -> DuckDBEngine | TrinoEngine:
    """The engine that runs SQL in the running stack, on what everybody sees."""
    from forebay import sqltext
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.trino import TrinoEngine
    from forebay.stack import trino_access

    config, ours = lake(), running_stack()
    if "trino" in ours.parts:
        return TrinoEngine(config.published(), trino_access.server(ours), catalog="lake")
    return DuckDBEngine(config, macros=sqltext.MACROS)


def this_command() -> str:
    """How a person calls forebay from here: by its name where that is on PATH, else by its path."""
    found = shutil.which("forebay")
    ours = Path(sys.executable).with_name("forebay")
    if found and Path(found).resolve() == ours.resolve():
        return "forebay"
    return os.path.relpath(ours) if ours.is_relative_to(Path.cwd()) else str(ours)


def output_option(function: F) -> F:
    """Adds `--output text|json`."""
    choice = click.Choice(["text", "json"])
    return click.option(
        "--output", "-o", type=choice, default="text", show_default=True, help="Form of the result."
    )(function)


def print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2, default=str))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Prints rows as aligned columns; `right` names the columns aligned to the right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    for number, row in enumerate((headers, *rows)):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def progress(message: str) -> None:
    """One line about what goes on, on standard error so that results stay clean."""
    click.echo(click.style("· ", fg="cyan") + message, err=True)


def note(api: AirflowApi, run: Run, act: str, tables: Sequence[str]) -> None:
    """Writes what is about to be done into Airflow's audit log; says so where that cannot be, and goes on.

    The commands hold the lake's own keys: nothing could keep them from working without the note.
    """
    from forebay.stack.acts import noted

    if why := noted(api, run, act, tables):
        progress(f"not in Airflow's audit log: {why}")


def human_bytes(count: int) -> str:
    """A size in KB or MB."""
    if not count:
        return "-"
    return f"{count / 1024:,.0f} KB" if count < 1 << 20 else f"{count / (1 << 20):,.0f} MB"


def moment(seconds: float | None) -> str:
    """A moment in this machine's time zone."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"


def counted(what: str) -> Callable[[int, int], None]:
    """Tells on standard error how far a search is, once it has taken two seconds."""
    began = last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - began > 2 and now - last > 1:
            last = now
            progress(f"{what}: {done:,} of {of:,}")

    return tell


def confirmed(question: str, yes: bool) -> None:
    """Asks before something that cannot be taken back; without a person to ask, `--yes` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ForebayError(f"{question} Nobody is here to answer: say --yes if that is what you want.")
    click.confirm(question, abort=True, err=True)
