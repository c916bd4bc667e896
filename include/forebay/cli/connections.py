"""forebay connections"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from forebay.cli.common import moment, output_option, print_json, print_table, running_stack
from forebay.connections.model import Report, Step
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from forebay.stack.airflow_api import AirflowApi

_MARKS = {
    "ok": ("✓", "green"),
    "warn": ("!", "yellow"),
    "bad": ("✗", "red"),
    "skipped": ("-", "bright_black"),
}
_API = "/forebay/api/v1/connections"


@click.group("connections")
def command() -> None:
    """Show Airflow's connections, check them step by step, print configuration for engines.

    \b
    Examples:
      forebay connections list
      forebay connections check
      forebay connections open lake_catalog --engine Spark
    """


@command.command("list")
@output_option
def list_command(output: str) -> None:
    """List the connections with their last results; also those that jobs name but nobody made.

    \b
    Examples:
      forebay connections list
      forebay connections list --output json
    """
    with _api() as api:
        found = api.request("GET", _API)["connections"]
    if output == "json":
        print_json(found)
        return
    print_table(
        ["connection", "type", "leads to", "jobs", "state", "checked", "by"],
        [
            [
                each["connection_id"],
                each["conn_type"] or "-",
                each["leads_to"] or "-",
                str(len(each["jobs"])),
                "missing" if each["origin"] == "missing" else (each["last"] or {}).get("word", "not checked yet"),
                moment((each["last"] or {}).get("at")),
                (each["last"] or {}).get("by", "-"),
            ]
            for each in found
        ],
        right=(3,),
    )  # fmt: skip


@command.command("check")
@click.argument("connections", nargs=-1, metavar="[ID]...")
@click.option(
    "--timeout",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.5, 30),
    help="Seconds that one check may take.",
)
@click.option(
    "--from",
    "side",
    default="both",
    show_default=True,
    type=click.Choice(["worker", "server", "both"]),
    help="Where they run: where tasks run, on the API server, or on both to compare.",
)
@output_option
def check_command(connections: tuple[str, ...], timeout: float, side: str, output: str) -> None:
    """Check connections, all by default: which step fails, why, and what mends it.

    The checks run at the same time. Exit code 0 when all of them work, 1 otherwise.

    \b
    Examples:
      forebay connections check
      forebay connections check lake_catalog lake_s3
      forebay connections check --from server --timeout 2 --output json
    """
    reports = []
    with _api() as api:
        lines = api.lines(
            "POST",
            f"{_API}/check",
            params={"connection": list(connections), "timeout": timeout, "from": side},
        )
        for report in _reports(lines):
            reports.append(report)
            if output == "text":
                _show(report)
    if output == "json":
        print_json([report.document() for report in reports])
    elif not reports:
        raise ForebayError("Airflow has no connections.")
    if any(report.state == "bad" for report in reports):
        raise click.exceptions.Exit(1)


@command.command("open")
@click.argument("connection", default="lake_catalog", metavar="[ID]")
@click.option("--engine", help="Only for this engine: DuckDB, PyIceberg, Spark, Trino or Flink.")
@click.option(
    "--store", default="", help="The connection of the object store, where the catalog's names none."
)
@output_option
def open_command(connection: str, engine: str | None, store: str, output: str) -> None:
    """Print ready configuration of a catalog for DuckDB, PyIceberg, Spark, Trino and Flink. It holds no secret.

    \b
    Examples:
      forebay connections open
      forebay connections open lake_catalog --engine Trino
    """
    from urllib.parse import quote

    with _api() as api:
        found = api.request("GET", f"{_API}/{quote(connection, safe='')}/open", params={"store": store})[
            "openings"
        ]
    if engine is not None:
        known = [each["engine"] for each in found]
        found = [each for each in found if each["engine"].lower() == engine.lower()]
        if not found:
            raise ForebayError(f"there is nothing for '{engine}'. Engines: {', '.join(known)}.")
    if output == "json":
        print_json(found)
        return
    for each in found:
        if engine is None:
            place = f", {each['file']}" if each["file"] else ""
            click.echo(click.style(f"# {each['engine']}{place}", bold=True))
        click.echo(each["text"])
        if engine is None:
            click.echo()


def _api() -> AirflowApi:
    from forebay.stack.airflow_api import AirflowApi

    return AirflowApi.of_stack(running_stack())


def _reports(lines: Iterator[str]) -> Iterator[Report]:
    for line in lines:
        found = json.loads(line).get("report")
        if found:
            yield Report.from_document(found)


def _show(report: Report) -> None:
    mark, colour = _MARKS[report.state]
    took = f"{report.seconds * 1000:.0f} ms" if report.seconds < 1 else f"{report.seconds:.1f} s"
    click.echo(
        f"{click.style(mark, fg=colour)} {click.style(report.conn_id, bold=True)} ({report.conn_type}), {took}"
        f"{f', from the {report.where}' if report.where else ''}"
    )
    for step in report.steps:
        _step(step)
    if report.facts:
        click.echo(click.style("    " + ", ".join(f"{k}: {v}" for k, v in report.facts.items()), dim=True))


def _step(step: Step) -> None:
    mark, colour = _MARKS[step.state]
    took = f"{step.seconds * 1000:>6.0f} ms" if step.seconds is not None else " " * 9
    found = f": {step.found}" if step.found else ""
    click.echo(f"  {click.style(mark, fg=colour)} {took}  {step.title}{found}")
    if step.hint:
        click.echo(f"      → {step.hint}")
