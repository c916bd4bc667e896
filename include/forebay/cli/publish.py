"""forebay publish"""

from __future__ import annotations

import click

from forebay.cli.common import lake, note, output_option, print_json, progress, repository, running_stack
from forebay.stack.airflow_api import AirflowApi


@click.command("publish")
@click.argument("run")
@click.option(
    "--force", is_flag=True, help="Publish what a failed run wrote, although its checks may not have run."
)
@output_option
def command(run: str, force: bool, output: str) -> None:
    """Publish the tables of a run that ended without publishing: all in one commit, or none.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. A run that is published
    already stays as it is; one that broke off half-way is finished. Jobs that wait for the tables start.

    \b
    Examples:
      forebay publish flights.daily_delays/latest
      forebay publish manual__2026-01-01T05 --force
    """
    from forebay.lake.rest import Rest
    from forebay.stack.acts import publish_run, published_document
    from forebay.stack.runs import find

    with AirflowApi.of_stack(running_stack()) as api, Rest(lake()) as rest:
        found = find(api, run)
        done = publish_run(
            api,
            repository(),
            rest,
            found,
            force=force,
            first=lambda tables: note(api, found.run, "publish", tables),
        )
    for table, why in done.untold.items():
        progress(f"{table} is published, but jobs that wait for it were not told: {why}")
    if output == "json":
        print_json(published_document(found.run, done))
        return
    for each in done.tables:
        how = (
            " (it was already)"
            if each.again
            else " on top of what another writer wrote"
            if each.replayed
            else ""
        )
        click.echo(f"  {each.table}: {each.words}{how}")
    click.echo(click.style(f"{found.name} is published.", fg="green"))
