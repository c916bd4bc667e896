"""forebay backfill"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from forebay.cli.common import (
    confirmed,
    counted,
    lake,
    output_option,
    print_json,
    print_table,
    progress,
    running_stack,
)
from forebay.cli.run import find_job, parameters, wait_until_known
from forebay.errors import ForebayError
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from forebay.code import Code
    from forebay.lake.coverage import Interval
    from forebay.project import LoadedJob

_LISTED = 40
_COLOURS = {"missing": "red", "stale": "yellow", "fine": "green", "running": "cyan"}


@dataclass
class _Told:
    """What became of the intervals so far."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    backfills: list[int] = field(default_factory=list)

    def of(self, state: str) -> list[str]:
        """The runs in that state, oldest interval first (they end in any order)."""
        return sorted(str(each["run_id"]) for each in self.runs if each["state"] == state)


@click.command("backfill")
@click.argument("job", metavar="WORKSPACE.JOB")
@click.option("--from", "since", metavar="DATE", help="First day, or moment; in the schedule's time zone.")
@click.option("--to", "until", metavar="DATE", help="Last day, or moment; it belongs to the range.")
@click.option(
    "--param",
    "-p",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of every run; repeatable.",
)
@click.option("--missing", is_flag=True, help="Only intervals that are missing.")
@click.option("--stale", is_flag=True, help="Only intervals that are stale.")
@click.option("--all", "everything", is_flag=True, help="All intervals, also those that are fine.")
@click.option(
    "--max-active",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Runs at the same time; the job's max_concurrent_runs by default.",
)
@click.option("--dry-run", is_flag=True, help="Show the intervals and start nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--cancel", is_flag=True, help="End the job's backfill: what waits does not start.")
@output_option
def command(
    job: str, since: str | None, until: str | None, given: tuple[str, ...], missing: bool, stale: bool,
    everything: bool, max_active: int | None, dry_run: bool, yes: bool, cancel: bool, output: str,
) -> None:  # fmt: skip
    """Run a job for past intervals of its schedule, and see before which of them need it.

    \b
    missing  no run of the interval has published rows that are still there
    stale    published, but the job's files have changed since that Git commit
    fine     published by the job as it is now
    running  its run is at work, and is left alone

    Without --missing, --stale or --all, what is missing and what is stale is done. Each interval is a run of its
    own with a branch of its own: checked, then published. In it :logical_date and :data_interval_end are the
    interval's, and a parameter that is today or yesterday counts from its end. A run that was there is done again
    and replaces what it wrote (mode: overwrite_partitions or merge); rows are never written twice. Airflow does
    the work: Ctrl-C stops following, not the backfill.

    Exit code 0 when every interval was done, 1 when one failed.

    \b
    Examples:
      forebay backfill flights.daily_delays --from 2026-01-01 --to 2026-01-31 --dry-run
      forebay backfill flights.daily_delays --from 2026-01-01 --to 2026-01-31 --stale --max-active 4
      forebay backfill flights.daily_delays --cancel
    """
    from forebay.code import Code
    from forebay.lake.coverage import batches
    from forebay.stack.backfill import AT_ONCE, cron_of, span

    loaded = find_job(job)
    zone = ZoneInfo(cron_of(loaded).timezone)
    if not cancel and not (since and until):
        raise click.UsageError("say which intervals: --from DATE --to DATE")
    ours = running_stack()
    url = f"{ours.url('airflow')}/dags/{job}/backfills"
    with AirflowApi.of_stack(ours) as api:
        if cancel:
            _cancel(api, job, output)
            return
        asked = span(loaded, since or "", until or "", datetime.now(UTC))
        conf = parameters(loaded, given)
        _ready(api, job, url, dry_run)
        code = Code(loaded)
        found = _intervals(api, loaded, asked, code)
        if not found:
            raise ForebayError(
                f"the schedule of {job} has no time from {since} to {until}. See: forebay jobs"
            )
        states = _states(missing, stale, everything)
        todo = [each for each in found if each.state in states]
        at_once = max_active or loaded.spec.max_concurrent_runs
        report: dict[str, Any] = {
            "job": job, "from": asked.since.isoformat(), "to": asked.until.isoformat(), "commit": code.today, "dirty": code.dirty,
            "max_active": at_once, "url": url, "intervals": [_json(each, each in todo) for each in found],
        }  # fmt: skip
        if output == "text":
            _show(loaded, found, todo, states, code, at_once, zone)
        if dry_run or not todo:
            if output == "json":
                print_json({**report, "state": "planned" if todo else "nothing to do", "runs": []})
            return
        confirmed(f"Start {len(todo):,} runs of {job}?", yes)
        told = _Told()
        try:
            parts = batches(found, lambda each: each.state in states, AT_ONCE)
            _do(api, job, parts, conf, at_once, told, zone, output == "json")
        except KeyboardInterrupt:
            left = len(todo) - len(told.runs)
            click.echo(
                f"\nThe backfill goes on in Airflow: {url}\nFollow it: forebay runs {job}. End it: "
                f"forebay backfill {job} --cancel. Of {len(todo):,} intervals {left:,} have not ended"
                + (", and those of later parts wait for this command again." if len(parts) > 1 else "."),
                err=True,
            )
            raise click.Abort from None
    failed = [*told.of("failed"), *told.of("left alone")]
    if output == "json":
        print_json({**report, "state": "failed" if failed else "success",
                    "runs": told.runs, "backfills": told.backfills})  # fmt: skip
    else:
        _end(job, told)
    if failed:
        raise click.exceptions.Exit(1)


def _states(missing: bool, stale: bool, everything: bool) -> set[str]:
    chosen = {"missing": missing or everything, "stale": stale or everything, "fine": everything}
    return {state for state, wanted in chosen.items() if wanted} or {"missing", "stale"}


def _ready(api: AirflowApi, job: str, url: str, dry_run: bool) -> None:
    """Raises ForebayError where Airflow would not start a backfill now; one that is done is closed."""
    from forebay.stack.backfill import active, close

    wait_until_known(api, job)
    if dry_run:
        return
    if api.get(f"/dags/{job}")["is_paused"]:
        raise ForebayError(
            f"{job} is paused in Airflow, so no run of it would start. Switch it on there first."
        )
    # Airflow closes a backfill some time after its last run has ended, and starts no other before.
    if (other := active(api, job)) is not None:
        left = api.get(f"/dags/{job}/dagRuns", state=["queued", "running"], run_type=["backfill"], limit=1)[
            "total_entries"
        ]
        if left:
            raise ForebayError(
                f"a backfill of {job} is at work, with {left:,} runs to go. Wait for it ({url}), or end it: "
                f"forebay backfill {job} --cancel"
            )
        close(api, int(other["id"]))


def _cancel(api: AirflowApi, job: str, output: str) -> None:
    from forebay.stack.backfill import active, close

    wait_until_known(api, job)
    found = active(api, job)
    if found is None:
        raise ForebayError(f"no backfill of {job} is at work.")
    close(api, int(found["id"]))
    if output == "json":
        print_json({"job": job, "backfill": found["id"], "state": "cancelled"})
    else:
        click.echo(
            f"Backfill {found['id']} of {job} is ended: runs that waited will not start, those at work go on. "
            f"See: forebay runs {job}"
        )


def _intervals(api: AirflowApi, loaded: LoadedJob, asked: Any, code: Code) -> list[Interval]:
    from forebay.lake.coverage import OnMain
    from forebay.lake.rest import Rest
    from forebay.stack.backfill import intervals

    main = OnMain(loaded.dag_id)
    with Rest(lake()) as rest:
        for document in rest.tables(loaded.writes).values():
            main.add(document)
    return intervals(api, loaded, asked, main, code, counted("intervals looked at"))


def _show(
    loaded: LoadedJob, found: Sequence[Interval], todo: Sequence[Interval], states: set[str], code: Code,
    at_once: int, zone: tzinfo,
) -> None:  # fmt: skip
    """What is there, what will be done, and what to know before it begins."""
    rows = [
        [
            _name(first, zone) + (f" … {_name(last, zone)} ({count:,})" if count > 1 else ""),
            first.state,
            first.reason,
        ]
        for first, last, count in _grouped(found, len(found) > _LISTED)
    ]
    print_table(["interval", "state", "why"], rows)
    counts: Counter[str] = Counter(each.state for each in found)
    click.echo("\n" + ", ".join(f"{counts[state]:,} {state}" for state in _COLOURS if counts[state]))
    for note in _notes(loaded, code, at_once):
        progress(note)
    what = " and ".join(state for state in _COLOURS if state in states)
    if todo:
        click.echo(f"To do: {len(todo):,} ({what}), {at_once} at a time.")
    else:
        more = "" if "fine" in states else " --all does them again."
        click.echo(f"Nothing to do: no interval is {what.replace(' and ', ' or ')}.{more}")


def _grouped(found: Sequence[Interval], together: bool) -> Iterator[tuple[Interval, Interval, int]]:
    """Neighbours that stand alike as one line: its first, its last, how many."""
    start = 0
    for index, each in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else None
        alike = following and (following.state, following.reason) == (each.state, each.reason)
        if not (together and alike):
            yield found[start], each, index - start + 1
            start = index + 1


def _notes(loaded: LoadedJob, code: Code, at_once: int) -> Iterator[str]:
    if not code.today:
        yield "There is no Git repository here, so it cannot be told what is stale."
    elif code.dirty:
        yield (
            "Files are changed that are not committed. Git cannot tell later what a run of them ran, so it counts as "
            "stale: commit first."
        )
    if loaded.spec.publish == "after_approval":
        yield "publish: after_approval: each run waits until somebody approves it in Airflow."
    for task in loaded.spec.tasks:
        mode = getattr(task, "mode", None) if getattr(task, "table", None) else None
        named = ", ".join(task.writes)
        if mode == "overwrite":
            yield f"{named} is written with mode: overwrite: each interval replaces the whole table, the last one stays."
        elif mode == "append":
            yield f"{named} is appended to: an interval that is published is refused, as its rows would be there twice."
        if at_once > 1 and named and task.type != "ingest" and mode in ("overwrite", None):
            yield f"{named} is not replaced by partition: runs at the same time can conflict. --max-active 1 avoids it."


def _do(
    api: AirflowApi, job: str, parts: Sequence[Any], conf: dict[str, object], at_once: int, told: _Told,
    zone: tzinfo, quiet: bool,
) -> None:  # fmt: skip
    from forebay.lake.identity import Run
    from forebay.stack.backfill import close, follow, start

    mark = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    total, tty = sum(len(part.intervals) for part in parts), sys.stderr.isatty() and not quiet
    for part in parts:
        number = start(api, job, part, conf, mark, at_once)
        told.backfills.append(number)
        for ended, running in follow(api, job, part, mark):
            for interval, run in ended:
                state = str(run["state"]) if run else "left alone"
                name = Run.named(job, str(run["dag_run_id"]), run.get("conf")).run if run else interval.run
                seconds = run.get("duration") if run else None
                told.runs.append(
                    {
                        "logical_date": interval.logical_date.isoformat(),
                        "run_id": name,
                        "state": state,
                        "seconds": seconds,
                    }
                )
                if not quiet:
                    _line(interval, name, state, seconds, zone, tty)
            if tty and len(told.runs) < total:
                click.echo(
                    f"\r\033[K  … {len(told.runs):,} of {total:,}, {running} running", nl=False, err=True
                )
        close(api, number)


def _line(interval: Interval, name: str, state: str, seconds: float | None, zone: tzinfo, tty: bool) -> None:
    mark, colour = {"success": ("✓", "green"), "failed": ("✗", "red")}.get(state, ("-", "yellow"))
    if tty:
        click.echo("\r\033[K", nl=False, err=True)
    took = f"{seconds:6.1f} s" if seconds else "        "
    more = "" if state == "success" else f"  {state}"
    click.echo(f"  {click.style(mark, fg=colour)} {_name(interval, zone)}  {took}  {name}{more}")


def _end(job: str, told: _Told) -> None:
    failed, left, done = told.of("failed"), told.of("left alone"), told.of("success")
    click.echo(click.style(f"{len(done):,} of {len(told.runs):,} intervals done", bold=True,
                           fg="red" if failed or left else "green"))  # fmt: skip
    if left:
        click.echo(
            f"{len(left):,} were left alone, as another run of them had begun. See: forebay runs {job}"
        )
    if failed:
        click.echo(f"{len(failed):,} failed, and nothing of them was published:")
        for name in failed[:12]:
            click.echo(f"  {job}/{name}")
        click.echo(
            f"Look at what one made (forebay diff {job}/{failed[0]}), mend the cause, and give this command again: it "
            "does what is missing or stale."
        )


def _name(interval: Interval, zone: tzinfo) -> str:
    return f"{interval.logical_date.astimezone(zone):%Y-%m-%d %H:%M}"


def _json(interval: Interval, todo: bool) -> dict[str, Any]:
    return {
        "logical_date": interval.logical_date.isoformat(),
        "data_interval_start": interval.start.isoformat(), "data_interval_end": interval.end.isoformat(), "state": interval.state, "reason": interval.reason,
        "run_id": interval.run or None, "airflow": interval.airflow or None, "to_do": todo,
    }  # fmt: skip
