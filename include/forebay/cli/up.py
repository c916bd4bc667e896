"""forebay up"""

from __future__ import annotations

import time

import click

from forebay.cli.common import progress, stack, this_command
from forebay.stack import lifecycle
from forebay.stack.layout import PARTS
from forebay.stack.trino_access import certificate


@click.command("up")
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=N",
    help="Move a port: airflow, s3, catalog, lens or trino. Remembered.",
)
@click.option(
    "--free-ports", is_flag=True, help="Replace every port that is in use by a free one. Remembered."
)
@click.option(
    "--with",
    "parts",
    multiple=True,
    type=click.Choice(PARTS),
    help="Start this too, and make it the engine of lake_sql. Remembered.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(PARTS),
    help="Stop this, and go on without it. Remembered.",
)
def command(
    ports: tuple[str, ...], free_ports: bool, parts: tuple[str, ...], without: tuple[str, ...]
) -> None:
    """Start the embedded stack: object store, Iceberg catalog, Airflow and its database.

    Harmless when it runs already. All state is kept below .forebay/, every port is on 127.0.0.1.

    With --with trino, SQL runs on Trino instead of DuckDB: the same jobs, with the engine they have in production. It
    takes a Java from 24 on and 250 MB of disk.

    \b
    Examples:
      forebay up
      forebay up --port airflow=8090
      forebay up --free-ports
      forebay up --with trino
      forebay up --without trino
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
    if both := sorted(set(parts) & set(without)):
        raise click.BadParameter(f"{both[0]} is named by --with and by --without")
    started = lifecycle.up(ours, progress, ports=moved, free_ports=free_ports, parts=parts, without=without)
    if started:
        click.echo(f"The stack is up after {time.monotonic() - began:.0f} s.")
    else:
        click.echo("The stack is up already.")
    if "trino" in ours.parts:
        click.echo(
            f"Trino: {ours.url('trino')} (user admin, the same password; certificate: {certificate(ours)})"
        )
    click.echo(f"Airflow: {ours.url('airflow')} (user admin; the password: {this_command()} password)")
