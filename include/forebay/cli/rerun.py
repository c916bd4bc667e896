"""forebay rerun"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from forebay.cli.common import counted, lake, output_option, print_json, progress, repository, running_stack
from forebay.cli.run import follow, wait_until_known
from forebay.stack.airflow_api import AirflowApi, ApiError, Json

if TYPE_CHECKING:
    from forebay.stack.runs import KnownRun


@click.command("rerun")
@click.argument("run")
@click.option(
    "--as-of",
    is_flag=True,
    help="Read the tables as the old run did, and run the commit that it ran where jobs come from a Git bundle.",
)
@click.option(
    "--anyway", is_flag=True, help="Although the code is another one, or not all that was read is known."
)
@click.option("--no-wait", is_flag=True, help="Start the run and return at once.")
@output_option
def command(run: str, as_of: bool, anyway: bool, no_wait: bool, output: str) -> None:
    """Do a run again: a new run with the same parameters and dates, and with --as-of the same inputs and code.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. The new run is a run like
    any other, with a branch of its own. The tables it writes begin as they are today; files it lands are those
    that are there today. Without --as-of it runs with today's code. With it, a job that comes from a Git bundle
    runs with the commit of the old run; one that comes from a folder runs with what is checked out there, and
    where that is another commit it needs --anyway.

    \b
    Examples:
      forebay rerun flights.daily_delays/latest
      forebay rerun manual__2026-01-01T05 --as-of --output json
    """
    from forebay.lake.rest import Rest
    from forebay.stack.rerun import plan
    from forebay.stack.runs import find

    ours = running_stack()
    with AirflowApi.of_stack(ours) as api:
        old = find(api, run)
        started = _with_its_commit(api, old, anyway) if as_of and old.document.get("bundle_version") else None
        if started is None:
            with Rest(lake()) as rest:
                again = plan(api, repository(), rest, old, as_of=as_of, tell=counted("tables looked at"))
            again.sure(anyway=anyway)
            wait_until_known(api, old.run.job)
            started = again.document(again.start(api))
        for doubt in started["doubts"]:
            progress(doubt)
        run_id = str(started["run_id"])
        url = f"{ours.url('airflow')}/dags/{old.run.job}/runs/{run_id}"
        told = started | {"url": url}
        if output == "text":
            click.echo(f"{old.run.job} {run_id}\n{url}")
            for pin in sorted({pin for listed in (told["inputs"] or {}).values() for pin in listed}):
                click.echo(f"  reads {pin}")
            if told["commit"]:
                click.echo(f"  runs commit {told['commit']}")
        if no_wait:
            if output == "json":
                print_json(told)
            return
        try:
            result = follow(api, old.run.job, run_id, quiet=output == "json")
        except KeyboardInterrupt:
            click.echo(f"\nThe run goes on: {url}", err=True)
            raise click.Abort from None
        if output == "json":
            print_json(told | result)
        if result["state"] != "success":
            raise click.exceptions.Exit(1)


def _with_its_commit(api: AirflowApi, old: KnownRun, anyway: bool) -> Json | None:
    """What the console says of the run that it started; None where the project has no console."""
    path = f"/forebay/api/v1/runs/{quote(old.run.job, safe='')}/{quote(old.run.run, safe='')}/rerun"
    try:
        return api.request("POST", path, json={"as_of": True, "anyway": anyway}, timeout=120)
    except ApiError as error:
        # Airflow's own answer to what no page takes.
        if error.status == 405:
            return None
        raise
