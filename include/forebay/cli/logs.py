"""forebay logs"""

from __future__ import annotations

import time

import click

from forebay.cli.common import stack
from forebay.errors import ForebayError, suggestion
from forebay.stack import health
from forebay.stack.services import names as service_names


@click.command("logs")
@click.argument("service", required=False)
@click.option(
    "--lines", "-n", default=40, show_default=True, type=click.IntRange(0), help="How many lines to show."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines as they come.")
def command(service: str | None, lines: int, follow: bool) -> None:
    """Show the end of a service's log, or of all of them.

    \b
    Examples:
      forebay logs scheduler
      forebay logs -n 200 store
      forebay logs -f api-server
    """
    ours = stack()
    names = (*service_names(ours), "supervisor")
    if service is None:
        if follow:
            raise click.UsageError("--follow needs the name of one service")
        for name in names:
            click.echo(click.style(f"==> {name}", bold=True))
            click.echo(health.log_tail(ours, name, lines))
        return
    if service not in names:
        raise ForebayError(f"unknown service '{service}'." + suggestion(service, names))
    click.echo(health.log_tail(ours, service, lines))
    if follow:
        path = ours.logs / f"{service}.log"
        position = path.stat().st_size if path.exists() else 0
        while True:
            if path.exists():
                if path.stat().st_size < position:  # the log was rotated
                    position = 0
                with path.open(errors="replace") as file:
                    file.seek(position)
                    click.echo(file.read(), nl=False)
                    position = file.tell()
            time.sleep(0.5)
