"""forebay init"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from forebay.cli.common import repository
from forebay.errors import ForebayError

TYPES = sorted(path.parent.name for path in Path(__file__).parents[1].glob("templates/*/job.yaml"))


@click.group("init")
def command() -> None:
    """Write the first files of a workspace or a job, ready to run and to be changed."""


@command.command("workspace")
@click.argument("name")
def workspace(name: str) -> None:
    """Write dags/NAME/ with a first job named example and its SQL."""
    from forebay.starter import new_workspace

    try:
        root = repository()
    except ForebayError:
        root = Path.cwd()
    _print(new_workspace(root, name), f"{name}.example")


@command.command("job")
@click.argument("name", metavar="WORKSPACE.JOB")
@click.option(
    "--type",
    "type_name",
    type=click.Choice(TYPES),
    default="sql",
    show_default=True,
    help="Type of its task; the SQL, program or file it needs is written too.",
)
def job(name: str, type_name: str) -> None:
    """Write a job that runs as it is, in a workspace that exists."""
    from forebay.starter import new_job

    first, dot, second = name.partition(".")
    if not dot:
        raise click.UsageError(f"a job is written WORKSPACE.JOB, not '{name}'.")
    _print(new_job(repository(), first, second, type_name), name)


def _print(files: Sequence[str], name: str) -> None:
    for file in files:
        click.echo(f"wrote {file}")
    click.echo(f"Next: change them, `forebay check`, then `forebay run {name}`.")
