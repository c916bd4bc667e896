"""What several commands share: where the repository is, the output option, tables of text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from forebay.errors import ForebayError
from forebay.stack.layout import Stack

F = TypeVar("F", bound=Callable[..., Any])


def repository() -> Path:
    """The repository around the current folder: FOREBAY_ROOT, or the nearest folder upward that holds `dags/`."""
    if os.environ.get("FOREBAY_ROOT"):
        return Path(os.environ["FOREBAY_ROOT"]).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "dags").is_dir():
            return folder
    raise ForebayError(f"no dags/ folder in {here} or above it. Run forebay inside your repository.")


def stack() -> Stack:
    """The embedded stack of this repository."""
    return Stack.of(repository())


def output_option(function: F) -> F:
    """Adds `--output text|json`."""
    choice = click.Choice(["text", "json"])
    return click.option("--output", "-o", type=choice, default="text", show_default=True, help="Form of the result.")(function)


def print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2, default=str))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Prints rows as aligned columns; `right` names the columns aligned to the right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    for number, row in enumerate((headers, *rows)):
        cells = [cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def progress(message: str) -> None:
    """One line about what goes on, on standard error so that results stay clean."""
    click.echo(click.style("· ", fg="cyan") + message, err=True)


def human_bytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB" if count else "-"
