"""forebay diff"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from forebay.cli.common import counted, lake, output_option, print_json, progress, repository, running_stack
from forebay.errors import ForebayError
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from forebay.lake.branch import Json
    from forebay.lake.diff import Files, Sides
    from forebay.lake.sample import Row, Sample

_WIDTH = 200


@click.command("diff")
@click.argument("run")
@click.option("--table", "only", metavar="NAMESPACE.TABLE", help="Only this table.")
@click.option(
    "--key",
    multiple=True,
    metavar="COLUMN",
    help="Columns that say which row is which; repeatable. By default merge_key.",
)
@click.option(
    "--main", "against_main", is_flag=True, help="Compare with main as it is now, not as it was at first."
)
@click.option(
    "--limit", default=10, show_default=True, type=click.IntRange(0, 1000), help="Most rows of each kind."
)
@click.option("--full", is_flag=True, help="Read all files that differ, however big they are.")
@output_option
def command(
    run: str, only: str | None, key: tuple[str, ...], against_main: bool, limit: int, full: bool, output: str
) -> None:
    """Show what a run changed: rows, files, columns, and some of the rows, per table.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. Of a run that is not
    published its branch is compared with where it began, of one that is, what it published with what was before.

    \b
    Examples:
      forebay diff flights.daily_delays/latest
      forebay diff manual__2026-01-01T05 --table flights.daily_delays --key carrier --key flight_date
    """
    from forebay.lake.diff import sides
    from forebay.lake.rest import Rest
    from forebay.stack.compare import difference
    from forebay.stack.runs import find, touched

    root, config = repository(), lake()
    with AirflowApi.of_stack(running_stack()) as api, Rest(config) as rest:
        found = find(api, run)
        compared: list[tuple[Json, Sides]] = []
        shown = False
        for table, metadata, _ in touched(root, rest, found.run, counted("tables looked at")):
            shown = True
            both = sides(table, metadata, found.run, against_main=against_main)
            if both is not None and only in (None, table):
                compared.append((metadata, both))
    if not compared:
        if shown and only is not None:
            raise ForebayError(f"{found.name} did not change {only}.")
        happened = "was discarded" if shown else "wrote no table"
        raise ForebayError(
            f"{found.name} {happened}: there is nothing to compare. See: forebay runs {found.run.job}"
        )
    tables = []
    for metadata, both in compared:
        made = difference(
            root, config, found.run.job, metadata, both, key=key, limit=limit, full=full,
            big=partial(_announce, both),
        )  # fmt: skip
        tables.append(made.document())
        if output == "text":
            _show(both, made.said, made.files, made.rows)
    if output == "json":
        print_json(
            {"job": found.run.job, "run_id": found.run.run, "airflow": found.airflow, "tables": tables}
        )


def _announce(both: Sides, differ: Files) -> None:
    if differ.bytes > 16 << 20:
        progress(
            f"{both.table}: {len(differ.old) + len(differ.new):,} files differ, {differ.bytes >> 20:,} MB"
        )


def _show(both: Sides, said: list[str], differ: Files, rows: Sample) -> None:
    click.echo(
        f"{click.style(both.table, bold=True)}  {both.state}, snapshot {both.old or 'none'} → {both.new or 'none'}"
    )
    click.echo(
        f"  files: {differ.added:,} added, {differ.removed:,} removed; rows in them: +{differ.rows_added:,} "
        f"-{differ.rows_removed:,}"
    )
    for text in said:
        click.echo(f"  {_cut(text)}")
    counts = [
        f"{count:,} {word}"
        for word, count in (
            ("added", rows.added_count), ("removed", rows.removed_count), ("changed", rows.changed_count),
        )
        if count is not None
    ]  # fmt: skip
    if counts:
        by = f" by {', '.join(rows.key)}" if rows.key else ""
        click.echo(f"  rows{by}: {', '.join(counts)}")
    for row in rows.added:
        click.echo(click.style(f"    + {_line(row)}", fg="green"))
    for row in rows.removed:
        click.echo(click.style(f"    - {_line(row)}", fg="red"))
    for name, values in rows.changed:
        changes = ", ".join(f"{column} {_text(was)} → {_text(now)}" for column, (was, now) in values.items())
        click.echo(click.style(f"    ~ {_cut(f'{_line(name)}: {changes}')}", fg="yellow"))
    if rows.note:
        click.echo(f"  {rows.note}")


def _line(row: Row) -> str:
    return _cut(", ".join(f"{name}={_text(value)}" for name, value in row.items()))


def _cut(text: str) -> str:
    safe = "".join(char if char.isprintable() else "·" for char in text)
    return safe if len(safe) <= _WIDTH else f"{safe[: _WIDTH - 1]}…"


def _text(value: object) -> str:
    from forebay.stack.compare import value as plain

    return "NULL" if value is None else str(plain(value))
