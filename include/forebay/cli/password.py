"""forebay password"""

from __future__ import annotations

import click

from forebay.cli.common import stack
from forebay.errors import ForebayError


@click.command("password")
def command() -> None:
    """Print the password of the user `admin` of Airflow and Trino, made at the stack's first start.

    \b
    Example:
      forebay password
    """
    ours = stack()
    if not (ours.state / "secrets.json").exists():
        raise ForebayError("there is no stack yet, so no password. Start it: forebay up")
    click.echo(ours.secrets["admin_password"])
