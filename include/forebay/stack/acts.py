"""What people do with a run that has ended: publish, discard, roll back. Commands and console call these alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from forebay.errors import ForebayError
from forebay.lake.built_on import Lake, Plan, plan
from forebay.lake.history import every
from forebay.lake.identity import Run
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.reversal import Published
from forebay.lake.state import UNDER_WAY
from forebay.stack.airflow_api import AirflowApi, ApiError
from forebay.stack.runs import KnownRun, touched, waits_for_approval, words


@dataclass(frozen=True)
class NowPublished:
    """What publishing a run came to."""

    tables: list[Published]
    told: list[str]
    """Tables of whose change the jobs that wait for it have heard."""
    untold: dict[str, str]
    """Tables that are published although nobody was told, and why."""


def may_publish(api: AirflowApi, run: KnownRun, *, force: bool) -> None:
    """Raises ForebayError for a run that publishes itself, and for a failed one without `force`."""
    if not run.ended:
        if waits_for_approval(api, run):
            raise ForebayError(
                f"{run.name} waits for approval. Approve it in Airflow, under Required Actions: the run then "
                "publishes itself"
            )
        raise ForebayError(f"{run.name} is still {run.airflow}. It publishes itself when its tasks are done.")
    if run.airflow == "failed" and not force:
        failed, never = broken(api, run)
        after = f"; {', '.join(never)} never ran, so checks among them did not either" if never else ""
        raise ForebayError(
            f"{run.name} failed in {', '.join(failed) or 'no task'}{after}. Clear what failed in Airflow and the run "
            f"goes on, or look at what it wrote (forebay diff {run.name}) and publish it all the same with --force."
        )


def broken(api: AirflowApi, run: KnownRun) -> tuple[list[str], list[str]]:
    """The tasks of a run that failed, and those that never ran."""
    tasks = api.task_instances(run.run.job, run.run.airflow)
    return (
        [str(task["task_id"]) for task in tasks if task["state"] == "failed"],
        [str(task["task_id"]) for task in tasks if task["state"] in ("upstream_failed", None)],
    )


def noted(api: AirflowApi, run: Run, act: str, tables: Sequence[str]) -> str:
    """Has the console write into Airflow's audit log what a command is about to do; or why it could not."""
    path = f"/forebay/api/v1/runs/{quote(run.job, safe='')}/{quote(run.run, safe='')}/note"
    try:
        api.request("POST", path, json={"act": act, "tables": sorted(tables)[:1000]})
    except ApiError as error:
        # Airflow's own answer to what no page takes: the console is not part of this project.
        return "" if error.status == 405 else str(error)
    return ""


def publish_run(
    api: AirflowApi,
    root: Path,
    rest: Rest,
    run: KnownRun,
    *,
    force: bool,
    first: Callable[[list[str]], None] = lambda tables: None,
) -> NowPublished:
    """Publishes what a run left on its branches, all tables or none, and tells the jobs that wait for them.

    `first` is called with the tables that are open once it is clear that they may be published.
    """
    shown = {table: what for table, _, what in touched(root, rest, run.run)}
    opened = [table for table, what in shown.items() if "open" in what]
    if not opened and not any("published" in what for what in shown.values()):
        back = any("rolled back" in what for what in shown.values())
        raise ForebayError(
            f"{run.name} {'was rolled back' if back else 'has no branch'}: there is nothing to publish. "
            f"See: forebay runs {run.run.job}"
        )
    if opened:
        may_publish(api, run, force=force)
        first(opened)
    left = words(api, run.run) if run.document else None
    said = (left.tries, left.wrote, left.began) if left else ()
    done = publish(rest, run.run, sorted(shown), *said)
    told, untold = tell(api, run.run, [each for each in done if not each.again])
    return NowPublished(done, told, untold)


def tell(api: AirflowApi, run: Run, published: Sequence[Published]) -> tuple[list[str], dict[str, str]]:
    """An event on the asset of each table, as the task `publish` leaves; what is not told stops nothing."""
    told, untold = [], {}
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
                "run": run.run,
            }
            api.request("POST", "/api/v2/assets/events", json={"asset_id": asset["id"], "extra": extra})
            told.append(each.table)
        except ApiError as error:
            untold[each.table] = str(error)
    return told, untold


def to_discard(root: Path, rest: Rest, run: KnownRun) -> list[str]:
    """The tables whose branches discarding a run drops. Raises ForebayError where it may not be discarded."""
    shown = {table: what for table, _, what in touched(root, rest, run.run)}
    opened = sorted(table for table, what in shown.items() if "open" in what)
    _has_ended(run)
    if published := sorted(table for table, what in shown.items() if "published" in what):
        raise ForebayError(
            f"{run.name} has published {', '.join(published)}. Discarding is for what nobody sees yet; take it back "
            f"with forebay rollback {run.name}"
        )
    if not opened:
        raise ForebayError(
            f"{run.name} has no branch: there is nothing to discard. See: forebay runs {run.run.job}"
        )
    return opened


def lake_reader(
    api: AirflowApi, rest: Rest, tell: Callable[[int, int], None] = lambda done, of: None
) -> Callable[[], Lake]:
    """Looks at all tables anew each time, and at the runs that are at work."""

    def read() -> Lake:
        names = rest.all_names()
        return Lake(every(rest, names, tell), _at_work(api))

    return read


def to_roll_back(root: Path, rest: Rest, run: KnownRun, read: Callable[[], Lake]) -> Plan:
    """What rolling a run back comes to; without tables where it was rolled back before. Raises ForebayError."""
    _has_ended(run)
    wanted = plan(read(), run.run)
    if not wanted.tables:
        shown: set[str] = set()
        for _, _, found in touched(root, rest, run.run):
            shown.update(found)
        if "rolled back" not in shown:
            hint = (
                f"Its branch is dropped by forebay discard {run.name}"
                if "open" in shown
                else "Its tables were written anew since, by later runs"
                if "published" in shown
                else "It published nothing"
            )
            raise ForebayError(f"{run.name} is not published, so there is nothing to roll back. {hint}.")
    return wanted


def _has_ended(run: KnownRun) -> None:
    if not run.ended:
        raise ForebayError(
            f"{run.name} is still {run.airflow}. Wait for it, or mark it as failed in Airflow first."
        )


def _at_work(api: AirflowApi) -> list[Run]:
    # Both states in one question: a run that starts between two would be in neither answer.
    found = api.pages("/dags/~/dagRuns", "dag_runs", state=sorted(UNDER_WAY), order_by="id")
    return [KnownRun.of(each).run for each in found]


def published_document(run: Run, done: NowPublished) -> dict[str, Any]:
    """As `forebay publish --output json` prints it."""
    return {
        "job": run.job,
        "run_id": run.run,
        "state": "published",
        "tables": {
            each.table: {
                "snapshot_id": None if each.snapshot_id is None else str(each.snapshot_id),
                "added": each.added,
                "removed": each.removed,
                "replayed": each.replayed,
                "again": each.again,
            }
            for each in done.tables
        },
        "events": done.told,
    }


def plan_document(found: Plan, run: Run, state: str) -> dict[str, Any]:
    """As `forebay rollback --output json` prints it."""
    return {
        "job": run.job,
        "run_id": run.run,
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
