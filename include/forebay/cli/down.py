"""forebay down"""

from __future__ import annotations

import click

from forebay.cli.common import stack
from forebay.stack import lifecycle


@click.command("down")
def command() -> None:
    """Stop the embedded stack; data, runs and settings stay.

    \b
    Example:
      forebay down
    """
    stopped = lifecycle.down(stack())
    click.echo("The stack is down." if stopped else "The stack was not running.")
