"""forebay up"""

from __future__ import annotations

import time

import click

from forebay.cli.common import progress, stack, this_command
from forebay.stack import lifecycle


@click.command("up")
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=N",
    help="Move a port: airflow, s3 or catalog. Remembered.",
)
@click.option(
    "--free-ports", is_flag=True, help="Replace every port that is in use by a free one. Remembered."
)
def command(ports: tuple[str, ...], free_ports: bool) -> None:
    """Start the embedded stack: object store, Iceberg catalog, Airflow and its database.

    Harmless when it runs already. All state is kept below .forebay/, every port is on 127.0.0.1.

    \b
    Examples:
      forebay up
      forebay up --port airflow=8090
      forebay up --free-ports
    """
    began = time.monotonic()
    ours = stack()
    moved = {}
    for text in ports:
        name, _, number = text.partition("=")
        if not number.isdigit() or not 1024 <= int(number) <= 65535:
            raise click.BadParameter(
                f"{text!r} is not NAME=N with N from 1024 to 65535, such as airflow=8090"
            )
        moved[name] = int(number)
    started = lifecycle.up(ours, progress, ports=moved, free_ports=free_ports)
    if started:
        click.echo(f"The stack is up after {time.monotonic() - began:.0f} s.")
    else:
        click.echo("The stack is up already.")
    click.echo(f"Airflow: {ours.url('airflow')} (user admin; the password: {this_command()} password)")
