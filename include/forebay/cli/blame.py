"""forebay blame"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import lake, moment, output_option, print_json, print_table
from forebay.errors import ForebayError, suggestion

if TYPE_CHECKING:
    from forebay.lake.branch import Json
    from forebay.lake.history import Event
    from forebay.lake.rest import Rest


@click.command("blame")
@click.argument("table", metavar="NAMESPACE.TABLE")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="Most changes to show."
)
@output_option
def command(table: str, limit: int, output: str) -> None:
    """Print who changed a table, when, how, and from which inputs; newest first.

    A change that no run made is shown as one of another writer. Changes marked with - were taken out again.

    \b
    Examples:
      forebay blame flights.daily_delays
      forebay blame flights.daily_delays --limit 1 --output json
    """
    from forebay.lake.history import blame
    from forebay.lake.rest import Rest

    with Rest(lake()) as rest:
        events = blame(existing(rest, table))
    if output == "json":
        print_json([_plain(event) for event in events[:limit]])
        return
    if not events:
        click.echo(f"{table} has no rows yet: nothing was published to it.")
        return
    headers = ["when", "change", "rows", "run", "task", "commit", "user", "engine", "read"]
    print_table(headers, [_row(event) for event in events[:limit]])
    if len(events) > limit:
        click.echo(
            click.style(f"{len(events) - limit} older changes: --limit {len(events)}", dim=True), err=True
        )


def existing(rest: Rest, table: str) -> Json:
    """The table's document, or an error that names tables like it."""
    found = rest.table(table) if table.count(".") == 1 else None
    if found is None:
        namespace = table.rpartition(".")[0]
        known = rest.names(namespace) if namespace in rest.namespaces() else rest.namespaces()
        raise ForebayError(f"there is no table '{table}'." + suggestion(table, known, "There are"))
    return found


def _row(event: Event) -> list[str]:
    made = event.made
    change = f"{'' if event.on_main else '- '}{event.operation}"
    if made is None:
        to = "empty" if event.snapshot is None else f"snapshot {event.snapshot}"
        return [moment(event.at), f"{change} to {to}", "", event.note, "", "", "", "", ""]
    rows = f"+{_count(made.added)} -{_count(made.removed)}"
    if not made.run:
        return [moment(event.at), change, rows, "another writer", "", "", "", made.engine or "?", ""]
    inputs = ", ".join(each.table for each in made.inputs) + ("" if made.complete else " and maybe more")
    return [
        moment(event.at),
        change + (" (replayed)" if made.replay_of else ""),
        rows,
        f"{made.job}/{made.run}",
        f"{made.task}/{made.number}",
        _short(made.commit),
        made.user,
        made.engine,
        inputs,
    ]


def _plain(event: Event) -> dict[str, Any]:
    made = event.made
    plain: dict[str, Any] = {
        "at": event.at,
        "operation": event.operation,
        "snapshot_id": None if event.snapshot is None else str(event.snapshot),
        "on_main": event.on_main,
        "note": event.note,
    }
    if made is not None:
        plain.update(
            made_at=made.at, added=made.added, removed=made.removed, by_run=bool(made.run), job=made.job,
            run_id=made.run, task=made.task, **{"try": made.number}, commit=made.commit, user=made.user,
            engine=made.engine, inputs=[str(each) for each in made.inputs], inputs_complete=made.complete,
            replay_of=None if made.replay_of is None else str(made.replay_of),
        )  # fmt: skip
    return plain


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _short(commit: str) -> str:
    return commit[:8] + ("+" if commit.endswith("-dirty") else "")
