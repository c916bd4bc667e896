"""forebay restart"""

from __future__ import annotations

import click

from forebay.cli.common import progress, stack
from forebay.stack import lifecycle


@click.command("restart")
@click.argument("services", nargs=-1)
def command(services: tuple[str, ...]) -> None:
    """Restart SERVICES, or the whole stack.

    \b
    Examples:
      forebay restart
      forebay restart scheduler dag-processor
    """
    lifecycle.restart(stack(), services, progress)
    click.echo("Restarted and healthy.")
