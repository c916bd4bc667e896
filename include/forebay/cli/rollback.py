"""forebay rollback"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import confirmed, counted, lake, output_option, print_json, repository, running_stack
from forebay.errors import ForebayError
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from forebay.lake.built_on import Lake, Plan
    from forebay.lake.rest import Rest
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
    from forebay.lake.built_on import Lake, plan
    from forebay.lake.history import every
    from forebay.lake.rest import Rest
    from forebay.lake.rollback import BuiltOn, roll_back
    from forebay.stack.runs import find

    with AirflowApi.of_stack(running_stack()) as api, Rest(lake()) as rest:
        found = find(api, run)
        if not found.ended:
            raise ForebayError(
                f"{found.name} is still {found.airflow}. Wait for it, or mark it as failed in Airflow first."
            )

        def read() -> Lake:
            names = [name for namespace in rest.namespaces() for name in rest.names(namespace)]
            return Lake(every(rest, names, counted("tables searched")), _at_work(api))

        wanted = plan(read(), found.run)
        if not wanted.tables:
            _nothing(rest, found, output)
            return
        if wanted.dependents and not cascade:
            if output == "json":
                print_json(_plain(wanted, found, "refused"))
                context.exit(1)
            raise BuiltOn(wanted)
        if wanted.dependents:
            if output == "text":
                _show(wanted, found)
            elif not yes:
                print_json(_plain(wanted, found, "planned"))
                return
            if not yes and not sys.stdin.isatty():
                click.echo("Nothing was done. To do it: --cascade --yes")
                return
            confirmed(f"Roll all of this back with {found.name}?", yes)
        done = roll_back(rest, read, wanted, cascade=cascade)
    if output == "json":
        print_json(_plain(done, found, "rolled back"))
        return
    if not wanted.dependents:
        _show(done, found)
    click.echo(click.style(f"{found.name} is rolled back.", fg="green"))


def _nothing(rest: Rest, run: KnownRun, output: str) -> None:
    """The run has nothing on main: it was rolled back before, or was never there."""
    from forebay.stack.runs import touched

    shown: set[str] = set()
    for _, _, words in touched(repository(), rest, run.run):
        shown.update(words)
    if "rolled back" not in shown:
        hint = (
            f"Its branch is dropped by forebay discard {run.name}"
            if "open" in shown
            else "It published nothing"
        )
        raise ForebayError(f"{run.name} is not published, so there is nothing to roll back. {hint}.")
    if output == "json":
        print_json({"job": run.run.job, "run_id": run.run.run, "state": "rolled back", "tables": []})
    else:
        click.echo(f"{run.name} was rolled back before.")


def _at_work(api: AirflowApi) -> list[Any]:
    from forebay.stack.runs import KnownRun

    pages = (
        api.get("/dags/~/dagRuns", limit=100, state=state)["dag_runs"] for state in ("running", "queued")
    )
    return [KnownRun.of(each).run for page in pages for each in page]


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


def _plain(found: Plan, run: KnownRun, state: str) -> dict[str, Any]:
    return {
        "job": run.run.job,
        "run_id": run.run.run,
        "state": state,
        "tables": [
            {
                "table": table.table,
                "from_snapshot_id": None if table.head is None else str(table.head),
                "to_snapshot_id": None if table.base is None else str(table.base),
                "runs": [f"{each.job}/{each.run}" for each in table.runs],
                "snapshots": table.snapshots,
                "other_writers": table.others,
                "note": table.note,
            }
            for table in found.tables
        ],
        "branches_dropped": {
            table: [branch.name for branch in each] for table, each in found.branches.items()
        },
        "built_on": [
            {
                "name": each.name,
                "job": each.run.job if each.run else None,
                "run_id": each.run.run if each.run else None,
                "table": each.table,
                "why": each.why,
                "at": each.at,
                "published": each.published,
            }
            for each in found.dependents
        ],
        "may_have_read": list(found.doubts),
        "running": list(found.running),
    }
