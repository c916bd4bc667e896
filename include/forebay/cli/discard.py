"""forebay discard"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from forebay.cli.common import confirmed, lake, note, output_option, print_json, repository, running_stack
from forebay.errors import ForebayError
from forebay.stack.airflow_api import AirflowApi, ApiError

if TYPE_CHECKING:
    from forebay.lake.identity import Run
    from forebay.lake.rest import Rest


@click.command("discard")
@click.argument("run", required=False, metavar="[RUN | WORKSPACE.JOB]")
@click.option(
    "--older-than", "older", metavar="AGE", help="Drop the branches of all ended runs older than 7d or 12h."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def command(run: str | None, older: str | None, yes: bool, output: str) -> None:
    """Drop the branch of a run, and with it what the run wrote and did not publish.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. With --older-than it is a
    job, or nothing for all jobs. What is published stays: forebay rollback takes that back.

    \b
    Examples:
      forebay discard flights.daily_delays/latest
      forebay discard --older-than 7d flights.daily_delays --yes
    """
    from forebay.lake.rest import Rest

    if (run is None) and (older is None):
        raise click.UsageError("name a run, or say --older-than 7d")
    ours = running_stack()
    with AirflowApi.of_stack(ours) as api, Rest(lake()) as rest:
        if older is not None:
            _sweep(api, rest, run, older, yes, output)
        else:
            assert run is not None
            _discard(api, rest, run, yes, output)


def _discard(api: AirflowApi, rest: Rest, text: str, yes: bool, output: str) -> None:
    from forebay.lake.publish import discard
    from forebay.stack.acts import to_discard
    from forebay.stack.runs import find

    run = find(api, text)
    opened = to_discard(repository(), rest, run)
    confirmed(f"Drop what {run.name} wrote to {', '.join(opened)}?", yes)
    note(api, run.run, "discard", opened)
    dropped = discard(rest, run.run, opened)
    if output == "json":
        print_json({"job": run.run.job, "run_id": run.run.run, "state": "discarded", "tables": dropped})
        return
    for table in dropped:
        click.echo(f"  {table}: branch dropped")
    click.echo(click.style(f"{run.name} is discarded.", fg="green"))


def _sweep(api: AirflowApi, rest: Rest, job: str | None, older: str, yes: bool, output: str) -> None:
    from forebay.lake.history import sweep
    from forebay.lake.state import UNDER_WAY
    from forebay.project import Project
    from forebay.stack.runs import tables_of

    root, age = repository(), _age(older)
    if job is not None and not api.has_dag(job):
        raise ForebayError(f"with --older-than name a job, not '{job}'. See: forebay jobs")
    project = Project(root)
    jobs = (
        [job]
        if job
        else [f"{w}.{n}" for w in project.workspace_names() for n in project.job_names(w) if n != "workspace"]
    )
    tables = sorted({table for each in jobs for table in tables_of(root, rest, each)})

    def at_work(run: Run) -> bool:
        try:
            return str(api.run(run.job, run.run)["state"]) in UNDER_WAY
        except ApiError as error:
            if "HTTP 404" in str(error):
                return False
            raise

    confirmed(
        f"Drop the branches in {len(tables)} tables of ended runs whose last rows are older than {older}?",
        yes,
    )

    def first(run: Run, table: str) -> None:
        note(api, run, "discard", [table])

    dropped = sweep(rest, tables, age, datetime.now(UTC), at_work, first)
    if output == "json":
        print_json([{"table": table, "run_id": name} for table, name in dropped])
        return
    for table, name in dropped:
        click.echo(f"  {table}: branch of {name} dropped")
    click.echo(f"{len(dropped)} branches dropped.")


def _age(text: str) -> timedelta:
    from pydantic_core import PydanticCustomError

    from forebay.spec.base import parse_duration

    try:
        return parse_duration(text)
    except PydanticCustomError as error:
        raise click.BadParameter(f"{text}: {error.message()}", param_hint="--older-than") from None
