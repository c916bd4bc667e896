"""forebay check"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from forebay.cli.common import output_option, print_json, repository
from forebay.errors import ForebayError, Mistake

WIDTH = 120


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@output_option
@click.pass_context
def command(context: click.Context, paths: tuple[Path, ...], output: str) -> None:
    """Check every workspace, job, SQL file and program without running anything.

    With PATHS only the mistakes in those files or folders are shown.
    Exit code 0: all is well, 1: there are mistakes.
    """
    from forebay.check import report
    from forebay.project import find_root

    root = find_root(paths[0]) if paths else repository()
    below = []
    for path in paths:
        inside = os.path.relpath(os.path.realpath(path), root)
        if inside.startswith(".."):
            raise ForebayError(f"{path} is outside the repository {root}.")
        below.append(inside)
    found = report(root).below(below)
    if output == "json":
        mistakes = [asdict(mistake) for mistake in found.mistakes]
        print_json({"workspaces": found.workspaces, "jobs": found.jobs, "mistakes": mistakes})
    else:
        for mistake in found.mistakes:
            _print(mistake, root)
        files = len({mistake.file for mistake in found.mistakes})
        looked = f"{_count(found.jobs, 'job')} in {_count(found.workspaces, 'workspace')}"
        result = (
            f"{_count(len(found.mistakes), 'mistake')} in {_count(files, 'file')}" if files else "no mistakes"
        )
        click.echo(click.style(f"{looked} checked: {result}.", fg="red" if files else "green"))
    context.exit(1 if found.mistakes else 0)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print(mistake: Mistake, root: Path) -> None:
    place = f"{mistake.file}:{mistake.line}:{mistake.column}:"
    click.echo(click.style(place, bold=True) + str(mistake)[len(place) :])
    row = _row(root / mistake.file, mistake.line)
    if row.strip() and mistake.column <= min(len(row), WIDTH) + 1:
        margin = f"{mistake.line:>6} | "
        click.echo(click.style(margin, fg="cyan") + row[:WIDTH])
        click.echo(" " * (len(margin) - 2) + "| " + " " * (mistake.column - 1) + click.style("^", fg="red"))


def _row(path: Path, line: int) -> str:
    """A line of a file, safe for a terminal; empty when it cannot be shown."""
    # A link may lead outside the repository: its text is none of ours.
    if path.is_symlink():
        return ""
    try:
        with open(path, "rb") as stream:
            rows = stream.read(1_000_000).decode(errors="replace").splitlines()
    except OSError:
        return ""
    row = rows[line - 1] if line <= len(rows) else ""
    return "".join(char if char.isprintable() else " " if char == "\t" else "·" for char in row)
