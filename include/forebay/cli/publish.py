"""forebay publish"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli.common import lake, output_option, print_json, progress, repository, running_stack
from forebay.errors import ForebayError
from forebay.stack.airflow_api import AirflowApi, ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.lake.publish import Published
    from forebay.stack.runs import KnownRun


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
    from forebay.lake.publish import publish
    from forebay.lake.rest import Rest
    from forebay.stack.runs import find, touched, words

    ours, root = running_stack(), repository()
    with AirflowApi.of_stack(ours) as api, Rest(lake()) as rest:
        found = find(api, run)
        shown = {table: what for table, _, what in touched(root, rest, found.run)}
        opened = [table for table, what in shown.items() if "open" in what]
        if not opened and not any("published" in what for what in shown.values()):
            happened = (
                "was rolled back"
                if any("rolled back" in what for what in shown.values())
                else "has no branch"
            )
            raise ForebayError(
                f"{found.name} {happened}: there is nothing to publish. See: forebay runs {found.run.job}"
            )
        if opened:
            _may(api, found, force)
        left = words(api, found.run) if found.document else None
        done = publish(
            rest,
            found.run,
            sorted(shown),
            left.tries if left else {},
            left.wrote if left else [],
        )
        new = [each for each in done if not each.again]
        started = _tell(api, found, new)
    if output == "json":
        print_json(
            {
                "job": found.run.job,
                "run_id": found.run.run,
                "state": "published",
                "tables": {
                    each.table: {
                        "snapshot_id": None if each.snapshot_id is None else str(each.snapshot_id),
                        "added": each.added,
                        "removed": each.removed,
                        "replayed": each.replayed,
                        "again": each.again,
                    }
                    for each in done
                },
                "events": started,
            }
        )
        return
    for each in done:
        how = (
            " (it was already)"
            if each.again
            else " on top of what another writer wrote"
            if each.replayed
            else ""
        )
        click.echo(f"  {each.table}: {each.added:,} rows added, {each.removed:,} removed{how}")
    click.echo(click.style(f"{found.name} is published.", fg="green"))


def _may(api: AirflowApi, run: KnownRun, force: bool) -> None:
    from forebay.stack.runs import waits_for_approval

    if not run.ended:
        if waits_for_approval(api, run):
            raise ForebayError(
                f"{run.name} waits for approval. Approve it in Airflow, under Required Actions: the run then "
                "publishes itself"
            )
        raise ForebayError(f"{run.name} is still {run.airflow}. It publishes itself when its tasks are done.")
    if run.airflow == "failed" and not force:
        tasks = api.task_instances(run.run.job, run.run.airflow)
        failed = [str(task["task_id"]) for task in tasks if task["state"] == "failed"]
        never = [str(task["task_id"]) for task in tasks if task["state"] in ("upstream_failed", None)]
        after = f"; {', '.join(never)} never ran, so checks among them did not either" if never else ""
        raise ForebayError(
            f"{run.name} failed in {', '.join(failed) or 'no task'}{after}. Clear what failed in Airflow and the run "
            f"goes on, or look at what it wrote (forebay diff {run.name}) and publish it all the same with --force."
        )


def _tell(api: AirflowApi, run: KnownRun, published: Sequence[Published]) -> list[str]:
    """An event on the asset of each table, as the task `publish` leaves; what is not told stops nothing."""
    told = []
    for each in published:
        try:
            assets = api.get("/assets", name_pattern=each.table, limit=100)["assets"]
            asset = next((one for one in assets if one["name"] == each.table), None)
            if asset is None:
                continue
            extra = {
                "snapshot_id": str(each.snapshot_id),
                "added": each.added,
                "removed": each.removed,
                "run": run.run.run,
            }
            api.request("POST", "/api/v2/assets/events", json={"asset_id": asset["id"], "extra": extra})
            told.append(each.table)
        except ApiError as error:
            progress(f"{each.table} is published, but jobs that wait for it were not told: {error}")
    return told
