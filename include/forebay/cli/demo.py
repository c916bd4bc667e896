"""forebay demo"""

from __future__ import annotations

import os
import sys
import time
import webbrowser

import click

from forebay.cli.common import print_table, progress, sql_engine, stack, this_command
from forebay.cli.run import follow, wait_until_known
from forebay.errors import ForebayError
from forebay.machine import trino
from forebay.stack import lifecycle
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.layout import PARTS

JOB = "flights.daily_delays"
QUESTION = """
SELECT airline, sum(flights) AS flights, sum(cancelled) AS cancelled,
       round(sum(total_delay) / CAST(sum(departed) AS double), 2) AS average_delay_min
FROM flights.daily_delays
GROUP BY airline
ORDER BY flights DESC
"""


@click.command("demo")
@click.option(
    "--open/--no-open",
    "open_browser",
    default=None,
    help="Open the run in a browser; the default where there is one.",
)
@click.option(
    "--with", "parts", multiple=True, type=click.Choice(PARTS), help="Start this too, as forebay up does."
)
def command(open_browser: bool | None, parts: tuple[str, ...]) -> None:
    """Start the stack, run the flights job on real data and show the delays it published.

    Ports that are in use are replaced by free ones. The stack stays up: forebay down stops it.

    \b
    Example:
      forebay demo
    """
    began = time.monotonic()
    ours = stack()
    if lifecycle.up(ours, progress, free_ports=True, parts=parts):
        progress(f"the stack is up after {time.monotonic() - began:.0f} s")
    with AirflowApi.of_stack(ours) as api:
        progress(f"running {JOB}")
        wait_until_known(api, JOB)
        run_id = api.trigger(JOB, {})
        result = follow(api, JOB, run_id)
    if result["state"] != "success":
        raise ForebayError(
            f"the demo's job failed. Its logs are above and at {ours.url('airflow')}/dags/{JOB}/runs/{run_id}"
        )
    show_result()
    url = f"{ours.url('airflow')}/dags/{JOB}/runs/{run_id}"
    click.echo(f"\nAirflow, with this run: {url}")
    if "trino" in ours.parts:
        click.echo(
            f"Its SQL ran on Trino {trino.version()}: {ours.url('trino')}, as admin with the same password."
        )
    click.echo(
        f"Log in as admin; the password: {this_command()} password. Stop everything: {this_command()} down"
    )
    click.echo(f"Done in {time.monotonic() - began:.0f} s.")
    if open_browser or (open_browser is None and _has_screen()):
        webbrowser.open(url)


def show_result() -> None:
    """Asks the published table who flew, and how late."""
    from forebay import sqltext

    with sql_engine() as engine:
        rows = engine.query(engine.dialect(sqltext.parse(QUESTION).statements[0])).to_pylist()
    click.echo("\nDepartures from New York City in 2013, from the published table flights.daily_delays:")
    print_table(
        ["airline", "flights", "cancelled", "average delay (min)"],
        [
            [r["airline"], f"{r['flights']:,}", f"{r['cancelled']:,}", f"{r['average_delay_min']:.2f}"]
            for r in rows
        ],
        right=(1, 2, 3),
    )
    total = sum(row["flights"] for row in rows)
    click.echo(f"{total:,} flights in all.")


def _has_screen() -> bool:
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )
