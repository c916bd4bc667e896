"""forebay init"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from forebay.cli.common import repository
from forebay.errors import ForebayError


@click.group("init")
def command() -> None:
    """Write the first files of a workspace or a job, with comments, ready to be changed."""


@command.command("workspace")
@click.argument("name")
def workspace(name: str) -> None:
    """Write dags/NAME/ with a first job, its SQL and its Spark program."""
    from forebay.starter import new_workspace

    try:
        root = repository()
    except ForebayError:
        root = Path.cwd()
    _print(new_workspace(root, name))


@command.command("job")
@click.argument("name", metavar="WORKSPACE.JOB")
def job(name: str) -> None:
    """Write a job in a workspace that exists, with its SQL and its Spark program."""
    from forebay.starter import new_job

    first, dot, second = name.partition(".")
    if not dot:
        raise click.UsageError(f"a job is written WORKSPACE.JOB, not '{name}'.")
    _print(new_job(repository(), first, second))


def _print(files: Sequence[str]) -> None:
    for file in files:
        click.echo(f"wrote {file}")
    click.echo("Next: change them, then `forebay check`.")
