"""forebay rollback"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from forebay.cli.common import (
    confirmed,
    counted,
    lake,
    note,
    output_option,
    print_json,
    repository,
    running_stack,
)
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from forebay.lake.built_on import Plan
    from forebay.stack.runs import KnownRun


@click.command("rollback")
@click.argument("run")
@click.option("--cascade", is_flag=True, help="Take along what later runs built on it; shows the plan first.")
@click.option("--yes", is_flag=True, help="Do not ask before a cascade.")
@output_option
@click.pass_context
def command(context: click.Context, run: str, cascade: bool, yes: bool, output: str) -> None:
    """Take a published run off again: all its tables go back to what they were before it, in one commit.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. When later runs wrote the
    same tables, or read them for others, they are listed and nothing is done (exit code 1). --cascade shows all
    that would go and does it after --yes, or after you said so.

    \b
    Examples:
      forebay rollback flights.daily_delays/latest
      forebay rollback manual__2026-01-01T05 --cascade          # the plan, then a question
      forebay rollback manual__2026-01-01T05 --cascade --yes
    """
    from forebay.lake.rest import Rest
    from forebay.lake.rollback import BuiltOn, roll_back
    from forebay.stack.acts import lake_reader, plan_document, to_roll_back
    from forebay.stack.runs import find

    with AirflowApi.of_stack(running_stack()) as api, Rest(lake()) as rest:
        found = find(api, run)
        read = lake_reader(api, rest, counted("tables searched"))
        wanted = to_roll_back(repository(), rest, found, read)
        if not wanted.tables:
            _before(found, output)
            return
        if wanted.dependents and not cascade:
            if output == "json":
                print_json(plan_document(wanted, found.run, "refused"))
                context.exit(1)
            raise BuiltOn(wanted)
        if wanted.dependents:
            if output == "text":
                _show(wanted, found)
            elif not yes:
                print_json(plan_document(wanted, found.run, "planned"))
                return
            if not yes and not sys.stdin.isatty():
                click.echo("Nothing was done. To do it: --cascade --yes")
                return
            confirmed(f"Roll all of this back with {found.name}?", yes)
        note(api, found.run, "rollback", [each.table for each in wanted.tables])
        done = roll_back(rest, read, wanted, cascade=cascade)
    if output == "json":
        print_json(plan_document(done, found.run, "rolled back"))
        return
    if not wanted.dependents:
        _show(done, found)
    click.echo(click.style(f"{found.name} is rolled back.", fg="green"))


def _before(run: KnownRun, output: str) -> None:
    if output == "json":
        print_json({"job": run.run.job, "run_id": run.run.run, "state": "rolled back", "tables": []})
    else:
        click.echo(f"{run.name} was rolled back before.")


def _show(found: Plan, run: KnownRun) -> None:
    for each in found.dependents:
        click.echo(f"  {click.style('with it', fg='yellow')} {each}")
    for table in found.tables:
        to = "no rows" if table.base is None else f"snapshot {table.base}"
        others = f", {table.others} of them other writers'" if table.others else ""
        note = f"; {table.note}" if table.note else ""
        click.echo(
            f"  {table.table}: back to {to}, {table.snapshots} snapshot{'' if table.snapshots == 1 else 's'} taken out{others}{note}"
        )
    for table_name, branches in found.branches.items():
        click.echo(f"  {table_name}: {len(branches)} unpublished branches are dropped")
    for doubt in found.doubts:
        click.echo(f"  {click.style('may have read it', fg='yellow')} {doubt}: not all that it read is known")
