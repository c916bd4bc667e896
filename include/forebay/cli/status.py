"""forebay status"""

from __future__ import annotations

import click

from forebay.cli.common import human_bytes, output_option, print_json, print_table, stack
from forebay.stack import health


@click.command("status")
@output_option
def command(output: str) -> None:
    """Show each service of the stack: state, health, port and memory.

    Exit code 0 when all are healthy, 1 otherwise.

    \b
    Examples:
      forebay status
      forebay status --output json
    """
    ours = stack()
    services = health.status(ours)
    well = all(service.state == "up" for service in services)
    if output == "json":
        print_json({"healthy": well, "url": ours.url("airflow"), "services": [s.as_dict() for s in services]})
    else:
        rows = [
            [s.name, s.state, str(s.port or "-"), str(s.pid or "-"), human_bytes(s.memory), s.health]
            for s in services
        ]
        print_table(["service", "state", "port", "pid", "memory", "health"], rows, right=(2, 3, 4))
        total = sum(s.memory for s in services)
        if total:
            click.echo(f"\n{human_bytes(total)} in all. Airflow: {ours.url('airflow')}")
        elif not well:
            click.echo("\nThe stack is not running. Start it: forebay up")
    if not well:
        raise click.exceptions.Exit(1)
