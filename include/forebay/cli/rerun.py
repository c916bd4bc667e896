"""forebay rerun"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import counted, lake, output_option, print_json, progress, repository, running_stack
from forebay.cli.run import follow, wait_until_known
from forebay.errors import ForebayError
from forebay.files import git_commit
from forebay.lake.identity import AGAIN
from forebay.operators.rerun import BACKFILL, CONF
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from forebay.lake.readings import Readings
    from forebay.lake.rest import Rest
    from forebay.stack.runs import KnownRun

_DATES = {
    "started": "start_date",
    "logical_date": "logical_date",
    "data_interval_start": "data_interval_start",
    "data_interval_end": "data_interval_end",
}


@click.command("rerun")
@click.argument("run")
@click.option("--as-of", is_flag=True, help="Read the tables as the old run did, at the same snapshots.")
@click.option(
    "--anyway", is_flag=True, help="Although the code is another one, or not all that was read is known."
)
@click.option("--no-wait", is_flag=True, help="Start the run and return at once.")
@output_option
def command(run: str, as_of: bool, anyway: bool, no_wait: bool, output: str) -> None:
    """Do a run again: a new run with the same parameters and dates, and with --as-of the same inputs.

    RUN is a run id, its beginning or end, WORKSPACE.JOB/RUN, or WORKSPACE.JOB/latest. The new run is a run like
    any other, with a branch of its own. The tables it writes begin as they are today; files it lands are those
    that are there today. It runs with today's code: when the old one had another commit, that is said, and
    --as-of needs --anyway.

    \b
    Examples:
      forebay rerun flights.daily_delays/latest
      forebay rerun manual__2026-01-01T05 --as-of --output json
    """
    from forebay.lake.rest import Rest
    from forebay.stack.runs import GONE, find

    ours = running_stack()
    with AirflowApi.of_stack(ours) as api, Rest(lake()) as rest:
        old = find(api, run)
        if old.airflow == GONE:
            raise ForebayError(f"Airflow has forgotten {old.name}, so its parameters are not known. Start the job: "
                               f"forebay run {old.run.job}")  # fmt: skip
        conf = {name: value for name, value in (old.document.get("conf") or {}).items() if name != AGAIN}
        before: dict[str, Any] = conf.pop(CONF, None) or {}
        dates = {name: old.document.get(field) for name, field in _DATES.items()} | (
            before.get("dates") or {}
        )
        if old.document.get("run_type") == BACKFILL:
            dates["started"] = dates.get("data_interval_end") or dates.get("logical_date")
        again: dict[str, Any] = {
            "of": old.run.run,
            "dates": {name: text for name, text in dates.items() if text},
        }
        readings = _readings(rest, old)
        commits = sorted(readings.commits)
        doubts = _other_code(api, old, commits)
        if as_of:
            again["inputs"] = _inputs(rest, old, readings, before)
            if not readings.complete:
                doubts.append("Not all that it read is known: the lens was restarted while it ran.")
            if doubts and not anyway:
                raise ForebayError(" ".join(doubts) + " To run it all the same: --anyway")
        for doubt in doubts:
            progress(doubt)
        wait_until_known(api, old.run.job)
        kept = (
            f"{sum(map(len, again.get('inputs', {}).values()))} inputs as it read them"
            if as_of
            else "today's tables"
        )
        body = {
            "logical_date": None,
            "conf": {**conf, CONF: again},
            "note": f"Again what {old.run.run} did, on {kept}.",
        }
        run_id = str(api.request("POST", f"/api/v2/dags/{old.run.job}/dagRuns", json=body)["dag_run_id"])
        url = f"{ours.url('airflow')}/dags/{old.run.job}/runs/{run_id}"
        told = {
            "rerun_of": old.run.run,
            "as_of": as_of,
            "inputs": again.get("inputs"),
            "commits": commits,
            "url": url,
        }
        if output == "text":
            click.echo(f"{old.run.job} {run_id}\n{url}")
            for pin in sorted({pin for listed in again.get("inputs", {}).values() for pin in listed}):
                click.echo(f"  reads {pin}")
        if no_wait:
            if output == "json":
                print_json({"job": old.run.job, "run_id": run_id, "state": "queued", **told})
            return
        try:
            result = follow(api, old.run.job, run_id, quiet=output == "json")
        except KeyboardInterrupt:
            click.echo(f"\nThe run goes on: {url}", err=True)
            raise click.Abort from None
        if output == "json":
            print_json({**result, **told})
        if result["state"] != "success":
            raise click.exceptions.Exit(1)


def _readings(rest: Rest, run: KnownRun) -> Readings:
    from forebay.lake.readings import Readings
    from forebay.stack.runs import tables_of, touched

    found = Readings(run.run, tables_of(repository(), rest, run.run.job))
    for table, metadata, _ in touched(repository(), rest, run.run, counted("tables looked at")):
        found.add(table, metadata)
    return found


def _other_code(api: AirflowApi, old: KnownRun, commits: list[str]) -> list[str]:
    """What is to say about the code: Airflow starts new runs on the newest version only."""
    version = old.document.get("bundle_version")
    today = (
        str(api.get(f"/dags/{old.run.job}").get("bundle_version") or "")
        if version
        else git_commit(repository())
    )
    had = [str(version)] if version else commits
    if not had:
        return []
    if had == [today] and not today.endswith("-dirty"):
        return []
    shown = ", ".join(had)
    if any(each.endswith("-dirty") for each in had) or today.endswith("-dirty"):
        return [
            f"{old.name} ran with commit {shown}, and this is {today or 'no commit'}: files were changed besides."
        ]
    mend = "Set the bundle's branch back to that one" if version else "Check that one out"
    return [f"{old.name} ran with commit {shown}, and this is {today or 'no commit'}. {mend} to have it."]


def _inputs(rest: Rest, old: KnownRun, readings: Readings, before: dict[str, Any]) -> dict[str, list[str]]:
    """What each task read, after a look whether it is still there."""
    from forebay.lake.branch import snapshots

    inputs: dict[str, list[str]] = {**(before.get("inputs") or {}), **readings.inputs}
    if not readings.found:
        raise ForebayError(
            f"{old.name} left no snapshots, so what it read is not known. Without --as-of it runs on today's tables."
        )
    wanted = {pin for listed in inputs.values() for pin in listed}
    documents = rest.tables(sorted({pin.rpartition("@")[0] for pin in wanted}))
    gone = []
    for pin in sorted(wanted):
        table, _, number = pin.rpartition("@")
        if table not in documents or (number and int(number) not in snapshots(documents[table])):
            gone.append(pin)
    if gone:
        raise ForebayError(
            f"{old.name} cannot be done again as it was: {', '.join(gone)} "
            f"{'is' if len(gone) == 1 else 'are'} not there any more. keep_inputs in workspace.yaml says how long "
            "inputs are kept. Without --as-of it runs on today's tables."
        )
    return inputs
