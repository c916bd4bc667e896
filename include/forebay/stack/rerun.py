"""Doing a run again: what its new run is given, as far as the old one tells. Command and console call this alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from forebay.errors import ForebayError
from forebay.files import git_commit
from forebay.lake.branch import snapshots
from forebay.lake.identity import AGAIN
from forebay.lake.readings import Readings
from forebay.lake.rest import Rest
from forebay.operators.rerun import BACKFILL, CONF
from forebay.stack.airflow_api import AirflowApi, Json
from forebay.stack.runs import GONE, KnownRun, tables_of, touched

_DATES = {
    "started": "start_date",
    "logical_date": "logical_date",
    "data_interval_start": "data_interval_start",
    "data_interval_end": "data_interval_end",
}
ANYWAY = " To run it all the same: --anyway"


@dataclass(frozen=True)
class Again:
    """A run that is to be done again, and what the new one is given."""

    old: KnownRun
    conf: Json
    inputs: dict[str, list[str]] | None
    """By task the tables as the old one read them, as table@snapshot; None for the tables as they are."""
    commits: list[str]
    """Those that the old run's snapshots name."""
    commit: str
    """The commit of a versioned bundle that the new run is to run; empty for the newest code."""
    doubts: list[str]
    """What stands against it."""

    @property
    def note(self) -> str:
        count = sum(map(len, (self.inputs or {}).values()))
        kept = "today's tables" if self.inputs is None else f"{count} inputs as it read them"
        code = f", with commit {self.commit}" if self.commit else ""
        return f"Again what {self.old.run.run} did, on {kept}{code}."

    def sure(self, *, anyway: bool) -> None:
        """Raises ForebayError where it would not be done as it was and that is not what somebody wants."""
        if self.inputs is not None and self.doubts and not anyway:
            raise ForebayError(" ".join(self.doubts) + ANYWAY)

    def start(self, api: AirflowApi) -> str:
        """Starts the run on the newest code, which is all that Airflow's own API does; its id."""
        body = {"logical_date": None, "conf": self.conf, "note": self.note}
        path = f"/api/v2/dags/{quote(self.old.run.job, safe='')}/dagRuns"
        return str(api.request("POST", path, json=body)["dag_run_id"])

    def document(self, run_id: str) -> Json:
        """As `forebay rerun --no-wait --output json` prints it."""
        return {
            "job": self.old.run.job,
            "run_id": run_id,
            "state": "queued",
            "rerun_of": self.old.run.run,
            "as_of": self.inputs is not None,
            "inputs": self.inputs,
            "commits": self.commits,
            "commit": self.commit or None,
            "doubts": self.doubts,
        }


def plan(
    api: AirflowApi,
    root: Path,
    rest: Rest,
    old: KnownRun,
    *,
    as_of: bool,
    old_code: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
    shown: Callable[[str], str] = str,
) -> Again:
    """What doing a run again comes to. `old_code`: whoever asks can start a versioned bundle's old commit.

    `shown` is how a table@snapshot may be named in an error. Raises ForebayError where it cannot be done.
    """
    if old.airflow == GONE:
        raise ForebayError(f"Airflow has forgotten {old.name}, so its parameters are not known. Start the job: "
                           f"forebay run {old.run.job}")  # fmt: skip
    conf = {name: value for name, value in (old.document.get("conf") or {}).items() if name != AGAIN}
    before: dict[str, Any] = conf.pop(CONF, None) or {}
    dates = {name: old.document.get(field) for name, field in _DATES.items()} | (before.get("dates") or {})
    if old.document.get("run_type") == BACKFILL:
        dates["started"] = dates.get("data_interval_end") or dates.get("logical_date")
    again: dict[str, Any] = {
        "of": old.run.run,
        "dates": {name: text for name, text in dates.items() if text},
    }
    readings = Readings(old.run, tables_of(root, rest, old.run.job))
    for table, metadata, _ in touched(root, rest, old.run, tell):
        readings.add(table, metadata)
    commits = sorted(readings.commits)
    version = str(old.document.get("bundle_version") or "")
    commit = version if as_of and old_code else ""
    doubts = other_commits(old, commits, commit) if commit else _other_code(api, root, old, commits, version)
    inputs = None
    if as_of:
        again["inputs"] = inputs = _inputs(rest, old, readings, before, shown)
        if not readings.complete:
            doubts.append("Not all that it read is known: the lens was restarted while it ran.")
    return Again(old, {**conf, CONF: again}, inputs, commits, commit, doubts)


def other_commits(old: KnownRun, commits: list[str], commit: str) -> list[str]:
    """What is to say where a run is to be done again with one commit although it had several."""
    if others := [each for each in commits if each != commit]:
        return [
            f"{old.name} wrote with commit {', '.join(others)} too: tasks of it were cleared to run on newer code. "
            f"It would run with {commit} alone."
        ]
    return []


def _other_code(api: AirflowApi, root: Path, old: KnownRun, commits: list[str], version: str) -> list[str]:
    """What is to say about the newest code."""
    today = (
        str(api.get(f"/dags/{quote(old.run.job, safe='')}").get("bundle_version") or "")
        if version
        else git_commit(root)
    )
    had = [version] if version else commits
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


def _inputs(
    rest: Rest, old: KnownRun, readings: Readings, before: dict[str, Any], shown: Callable[[str], str]
) -> dict[str, list[str]]:
    """What each task read, after a look whether it is still there."""
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
            f"{old.name} cannot be done again as it was: {', '.join(dict.fromkeys(map(shown, gone)))} "
            f"{'is' if len(gone) == 1 else 'are'} not there any more. keep_inputs in workspace.yaml says how long "
            "inputs are kept. Without --as-of it runs on today's tables."
        )
    return inputs
