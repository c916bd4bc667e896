"""Runs by the names people give them, with the tables they are about."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from forebay.errors import ForebayError, JobSpecError, suggestion
from forebay.lake.branch import Json
from forebay.lake.history import every
from forebay.lake.identity import Run
from forebay.lake.rest import Rest
from forebay.lake.state import UNDER_WAY, OnTable, RunsOf, State, state
from forebay.operators.transaction import XCOM, written_by
from forebay.stack.airflow_api import PAGE, AirflowApi, ApiError

APPROVE = "approve"
GONE = "gone"
"""The state of a run that Airflow knows nothing of any more."""

_LISTED = 12


@dataclass(frozen=True)
class KnownRun:
    """A run and what Airflow says of it."""

    run: Run
    airflow: str
    """Airflow's state; `gone` where it has forgotten the run."""
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What names it in every command."""
        return f"{self.run.job}/{self.run.run}"

    @property
    def ended(self) -> bool:
        return self.airflow not in UNDER_WAY

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> KnownRun:
        return cls(
            Run.named(str(document["dag_id"]), str(document["dag_run_id"]), document.get("conf")),
            str(document["state"]),
            document,
        )


class UnknownRunName(ForebayError):
    """No run is called like that, or several are."""


def find(api: AirflowApi, text: str) -> KnownRun:
    """The run of an id, of its unambiguous beginning or end, of <job>/<id>, or of <job>/latest."""
    head, slash, tail = text.partition("/")
    if text == "latest" or (not slash and api.has_dag(text)):
        job = text if text != "latest" else "<workspace>.<job>"
        raise UnknownRunName(f"'{text}' alone names no run. Name the job and the run: {job}/latest")
    if slash and tail and "." in head and (api.has_dag(head) or not _matches(api, None, text)):
        return _of_job(api, head, tail)
    return _one(_matches(api, None, text), text, None)


def _of_job(api: AirflowApi, job: str, word: str) -> KnownRun:
    if not api.has_dag(job):
        known = [str(dag["dag_id"]) for dag in api.get("/dags", limit=PAGE, order_by="dag_id")["dags"]]
        if word == "latest" or any(each.startswith(f"{job.partition('.')[0]}.") for each in known):
            raise UnknownRunName(f"there is no job '{job}'." + suggestion(job, known, "Jobs"))
        return KnownRun(Run(job, word), GONE, {})
    if word == "latest":
        runs = api.get(f"/dags/{job}/dagRuns", limit=1, order_by="-run_after")["dag_runs"]
        if not runs:
            raise UnknownRunName(f"{job} has no runs yet. Start one: forebay run {job}")
        return KnownRun.of(runs[0])
    found = _matches(api, job, word)
    if not found and "__" in word:
        # Airflow may have forgotten a run whose rows are still in the lake.
        return KnownRun(Run(job, word), GONE, {})
    return _one(found, word, job)


def _matches(api: AirflowApi, job: str | None, word: str) -> list[KnownRun]:
    dag = quote(job, safe="") if job else "~"
    word, _, mark = word.partition("#")
    # The pattern is ILIKE's, in which _ and % stand for others; `|` means or.
    page = api.get(
        f"/dags/{dag}/dagRuns", limit=PAGE, order_by="-run_after", run_id_pattern=word.replace("|", "_")
    )["dag_runs"]
    found = [KnownRun.of(each) for each in page]
    if mark:
        # What a backfill did before the last one: what Airflow says of the run id is about the last one.
        found = [
            each
            if each.run.run.endswith(f"#{mark}")
            else KnownRun(Run(each.run.job, f"{each.run.airflow}#{mark}"), GONE, {})
            for each in found
        ]
    exact = [each for each in found if each.run.airflow == word]
    return exact or [
        each for each in found if each.run.airflow.startswith(word) or each.run.airflow.endswith(word)
    ]


def _one(found: list[KnownRun], word: str, job: str | None) -> KnownRun:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownRunName(
            f"no run{f' of {job}' if job else ''} is called '{word}', nor does one begin or end like that. "
            f"See: forebay runs {job or '[WORKSPACE.JOB]'}"
        )
    listed = "".join(f"\n  {each.name}  {each.airflow}" for each in found[:_LISTED])
    more = f"\n  and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise UnknownRunName(f"'{word}' is the name of {len(found)} runs. Say which one:{listed}{more}")


def last(api: AirflowApi, job: str | None, limit: int, *, state: str = "") -> list[KnownRun]:
    """The newest runs of a job or of all jobs; with `state` those that Airflow gives this state."""
    only = {"state": state} if state else {}
    path = f"/dags/{quote(job, safe='') if job else '~'}/dagRuns"
    found = api.pages(path, "dag_runs", size=min(PAGE, limit), order_by="-run_after", **only)
    # Without a dot it is no job, but what Airflow runs for Forebay itself.
    ours = (KnownRun.of(each) for each in found if job or "." in str(each["dag_id"]))
    return list(itertools.islice(ours, limit))


@dataclass(frozen=True)
class Words:
    """What the writing tasks of a run left for publishing: the try of each that counts, and the tables written."""

    tries: Mapping[str, int]
    wrote: tuple[str, ...]
    commits: frozenset[str] = frozenset()
    """Git commits of the code that the tasks ran."""
    began: Mapping[str, float] = field(default_factory=dict)
    """When the try of each task that counts began, in seconds since 1970."""


def words(api: AirflowApi, run: Run) -> Words:
    """From the tasks' XComs; a task that did not succeed left none."""
    base = f"/dags/{run.job}/dagRuns/{quote(run.airflow, safe='')}"
    found: list[Json] = []
    try:
        entries = list(api.pages(f"{base}/taskInstances/~/xcomEntries", "xcom_entries", xcom_key=XCOM))
    except ApiError as error:
        if "HTTP 404" in str(error):
            return Words({}, ())
        raise
    for entry in entries:
        path = f"{base}/taskInstances/{entry['task_id']}/xcomEntries/{XCOM}"
        value = api.get(path, map_index=entry["map_index"], deserialize=True).get("value")
        if isinstance(value, dict):
            found.append(value)
    return Words(
        {str(word["task"]): int(word["try"]) for word in found},
        written_by(found),
        frozenset(str(word.get("commit") or "") for word in found),
        {str(word["task"]): float(word.get("began", 0)) for word in found},
    )


def waits_for_approval(api: AirflowApi, run: KnownRun) -> bool:
    """Whether the run has done its work and a person is asked."""
    if run.airflow != "running":
        return False
    tasks = api.task_instances(run.run.job, run.run.airflow)
    return any(
        task["task_id"] == APPROVE and task["state"] in ("deferred", "awaiting_input") for task in tasks
    )


def tables_of(root: Path, rest: Rest, job: str) -> list[str]:
    """The tables a job writes as its YAML says; those of its workspace where the YAML is gone or broken."""
    declared = _declared(root, job)
    return sorted(declared) if declared is not None else workspace_tables(root, rest, job.partition(".")[0])


def workspace_tables(root: Path, rest: Rest, workspace: str) -> list[str]:
    """Every table in the namespaces a workspace may write."""
    from forebay.project import Project

    try:
        named = Project(root).load_workspace_file(workspace).spec.namespaces
    except JobSpecError:
        named = ()
    owned = (
        name
        for name in rest.namespaces()
        if name == workspace or name.startswith(f"{workspace}_") or name in named
    )
    return [table for namespace in owned for table in rest.names(namespace)]


def touched(
    root: Path, rest: Rest, run: Run, tell: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[tuple[str, Json, set[OnTable]]]:
    """Every table that shows something of a run, whatever the YAML says today."""
    names = {*(_declared(root, run.job) or ()), *workspace_tables(root, rest, run.workspace)}
    for table, metadata in every(rest, sorted(names), tell):
        if found := RunsOf.read(table, metadata).words(run):
            yield table, metadata, found


def state_of(api: AirflowApi, run: KnownRun, shown: set[OnTable]) -> State:
    """How one run stands."""
    waits = "open" in shown and not run.ended and waits_for_approval(api, run)
    wrote = not shown and run.ended and run.airflow != GONE and bool(words(api, run.run).wrote)
    return state(run.airflow, shown, waits=waits, wrote=wrote)


@dataclass(frozen=True)
class Listed:
    """One run in a list, and how what it wrote stands."""

    run: KnownRun
    state: State
    tables: Mapping[str, list[OnTable]]

    def document(self) -> Json:
        """As `forebay runs --output json` prints it."""
        known = self.run.document
        return {
            "job": self.run.run.job,
            "run_id": self.run.run.run,
            "state": self.state,
            "airflow": self.run.airflow,
            "started_at": known.get("start_date"),
            "seconds": known.get("duration"),
            "started_by": known.get("triggering_user_name") or known.get("run_type"),
            "branch": self.run.run.branch,
            "tables": dict(self.tables),
        }


def listed(
    api: AirflowApi,
    root: Path,
    rest: Rest,
    job: str | None,
    limit: int,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[Listed]:
    """The newest runs of a job or of all jobs, and how each stands; every table is read once."""
    runs = last(api, job, limit)
    tables = {name: tables_of(root, rest, name) for name in {run.run.job for run in runs}}
    names = sorted({table for found in tables.values() for table in found})
    read = {table: RunsOf.read(table, document) for table, document in every(rest, names, tell)}
    found = []
    for run in runs:
        shown = {
            table: words_of
            for table in tables[run.run.job]
            if table in read and (words_of := read[table].words(run.run))
        }
        whole: set[OnTable] = set().union(*shown.values()) if shown else set()
        found.append(
            Listed(run, state_of(api, run, whole), {name: sorted(each) for name, each in shown.items()})
        )
    return found


def _declared(root: Path, job: str) -> set[str] | None:
    from forebay.project import Project

    workspace, _, name = job.partition(".")
    try:
        found = Project(root).load_job(workspace, name)
        return {*found.writes, *found.rewrites}
    except ForebayError:
        return None
