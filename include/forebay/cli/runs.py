"""forebay runs"""

from __future__ import annotations

from datetime import datetime

import click

from forebay.cli.common import (
    counted,
    lake,
    moment,
    output_option,
    print_json,
    print_table,
    repository,
    running_stack,
)
from forebay.errors import ForebayError, suggestion
from forebay.stack.airflow_api import AirflowApi


@click.command("runs")
@click.argument("job", required=False, metavar="[WORKSPACE.JOB]")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Most runs to show."
)
@output_option
def command(job: str | None, limit: int, output: str) -> None:
    """List the newest runs of a job, or of all, and how what they wrote stands.

    \b
    running          at work
    open             its tables are on its branch: it waits for approval, or ended without publishing
    failed           it failed; its branch is kept to look at
    published        everybody sees what it wrote
    partial          only some of its tables are published: forebay publish or rollback ends that
    rolled back      what it had published was taken off again
    discarded        its branch was dropped
    nothing written  it changed no table

    \b
    Examples:
      forebay runs flights.daily_delays
      forebay runs --limit 5 --output json
    """
    from forebay.lake.rest import Rest
    from forebay.stack.runs import listed

    ours = running_stack()
    with AirflowApi.of_stack(ours) as api, Rest(lake()) as rest:
        if job is not None and not api.has_dag(job):
            known = [str(dag["dag_id"]) for dag in api.get("/dags", limit=100)["dags"]]
            raise ForebayError(f"there is no job '{job}'." + suggestion(job, known, "Jobs"))
        rows = [
            {
                **each.document(),
                "url": f"{ours.url('airflow')}/dags/{each.run.run.job}/runs/{each.run.run.airflow}",
            }
            for each in listed(api, repository(), rest, job, limit, counted("tables looked at"))
        ]
    if output == "json":
        print_json(rows)
        return
    if not rows:
        click.echo("No runs yet." if job is None else f"{job} has no runs yet. Start one: forebay run {job}")
        return
    print_table(
        ["run", "state", "started", "seconds", "by", "tables"],
        [
            [
                str(row["run_id"]) if job else f"{row['job']}/{row['run_id']}",
                str(row["state"]),
                _time(row["started_at"]),
                f"{row['seconds']:.1f}" if isinstance(row["seconds"], float) else "-",
                str(row["started_by"]),
                ", ".join(row["tables"]) or "-",
            ]
            for row in rows
        ],
        right=(3,),
    )


def _time(text: object) -> str:
    return moment(datetime.fromisoformat(str(text)).timestamp()) if text else "-"
