"""forebay lineage"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from forebay.cli.blame import existing
from forebay.cli.common import counted, lake, moment, output_option, print_json

if TYPE_CHECKING:
    from forebay.lake.lineage import Edge, Graph


@click.command("lineage")
@click.argument("table", metavar="NAMESPACE.TABLE")
@click.option(
    "--depth", default=10, show_default=True, type=click.IntRange(1, 100), help="Steps up and down."
)
@output_option
def command(table: str, depth: int, output: str) -> None:
    """Show what a table was made from, and what was made from it.

    It comes from what tasks were seen to read when they wrote, not from what their SQL says. Files and reads by
    programs outside of runs are not seen.

    \b
    Examples:
      forebay lineage flights.daily_delays
      forebay lineage flights.daily_delays --depth 1 --output json
    """
    from forebay.lake.history import every
    from forebay.lake.lineage import Graph, document
    from forebay.lake.rest import Rest

    graph = Graph()
    with Rest(lake()) as rest:
        existing(rest, table)
        names = rest.all_names()
        for name, metadata in every(rest, names, counted("tables looked at")):
            graph.add(name, metadata)
    if output == "json":
        print_json(document(graph, table, graph.around(table, depth)))
        return
    click.echo(click.style("made from", bold=True))
    _tree(graph, graph.up, table, lambda edge: edge.source, depth)
    click.echo(click.style("used for", bold=True))
    _tree(graph, graph.down, table, lambda edge: edge.target, depth)


def _tree(
    graph: Graph, side: Callable[[str], list[Edge]], table: str, end: Callable[[Edge], str], depth: int
) -> None:
    shown: set[str] = set()

    def walk(name: str, margin: str, step: int) -> None:
        shown.add(name)
        edges = side(name)
        for number, edge in enumerate(edges):
            branch, below = ("└ ", "  ") if number == len(edges) - 1 else ("├ ", "│ ")
            again = " (see above)" if end(edge) in shown and side(end(edge)) else ""
            doubt = "" if edge.complete else " (may have read more)"
            click.echo(
                f"{margin}{branch}{click.style(end(edge), fg='cyan')}  {edge.job}: {edge.task}, {moment(edge.at)}, "
                f"snapshot {edge.snapshot}{doubt}{again}"
            )
            if not again and step < depth:
                walk(end(edge), margin + below, step + 1)

    click.echo(table + _note(graph, table))
    walk(table, "", 1)
    if not side(table):
        click.echo("└ nothing that was seen")


def _note(graph: Graph, table: str) -> str:
    if table in graph.foreign:
        return " (other writers than runs have written it: what they read is not known)"
    return " (not all that was read for it is known)" if table in graph.incomplete else ""
