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
    from forebay.lake.history import every
    from forebay.lake.rest import Rest
    from forebay.lake.state import RunsOf
    from forebay.stack.runs import last, state_of, tables_of

    ours, root = running_stack(), repository()
    with AirflowApi.of_stack(ours) as api, Rest(lake()) as rest:
        if job is not None and not api.has_dag(job):
            known = [str(dag["dag_id"]) for dag in api.get("/dags", limit=100)["dags"]]
            raise ForebayError(f"there is no job '{job}'." + suggestion(job, known, "Jobs"))
        runs = last(api, job, limit)
        tables = {name: tables_of(root, rest, name) for name in {run.run.job for run in runs}}
        names = sorted({table for found in tables.values() for table in found})
        read = {
            table: RunsOf.read(table, document)
            for table, document in every(rest, names, counted("tables looked at"))
        }
        rows = []
        for run in runs:
            shown = {
                table: words
                for table in tables[run.run.job]
                if table in read and (words := read[table].words(run.run))
            }
            every_word = set().union(*shown.values()) if shown else set()
            rows.append(
                {
                    "job": run.run.job,
                    "run_id": run.run.run,
                    "state": state_of(api, run, every_word),
                    "airflow": run.airflow,
                    "started_at": run.document.get("start_date"),
                    "seconds": run.document.get("duration"),
                    "started_by": run.document.get("triggering_user_name") or run.document.get("run_type"),
                    "branch": run.run.branch,
                    "tables": {table: sorted(words) for table, words in shown.items()},
                    "url": f"{ours.url('airflow')}/dags/{run.run.job}/runs/{run.run.airflow}",
                }
            )
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
                ", ".join(row["tables"]) or "-",  # type: ignore[arg-type]
            ]
            for row in rows
        ],
        right=(3,),
    )


def _time(text: object) -> str:
    return moment(datetime.fromisoformat(str(text)).timestamp()) if text else "-"
