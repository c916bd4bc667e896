"""Why a job does not start: every cause that is known, with what it is taken from and where to look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from forebay.errors import ForebayError, JobSpecError
from forebay.lake.branch import Json
from forebay.stack.airflow_api import AirflowApi, ApiError
from forebay.stack.runs import UnknownRunName

Level = Literal["bad", "warn", "wait", "run", "ok"]
_ORDER: Sequence[Level] = ("bad", "warn", "wait", "run", "ok")
_MOST = 25


@dataclass(frozen=True)
class Link:
    """Where to look or act: below Airflow's own address, or below the console's."""

    text: str
    path: str
    console: bool = False


@dataclass(frozen=True)
class Reason:
    """One cause. `bad` needs somebody, `warn` may, `wait` passes by itself, `run` and `ok` are no trouble."""

    kind: str
    level: Level
    what: str
    evidence: str
    """The state, figure or text it is taken from."""
    links: tuple[Link, ...] = ()
    command: str = ""
    """What mends it or shows more."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


def ordered(found: Iterable[Reason]) -> list[Reason]:
    """Problems first; what is of one kind stays in its order."""
    return sorted(found, key=lambda each: _ORDER.index(each.level))


def of_job(api: AirflowApi, root: Path, job: str) -> list[Reason]:
    """Why no run of a job starts now, problems first. Raises UnknownRunName where there is no such job."""
    dag, wrong = known(api, job), _mistakes(api, root, job)
    if dag is None or dag["is_stale"]:
        return ordered([*wrong, *platform(api), *([] if wrong else [_unread(root, job, dag)])])
    found = [*wrong, *platform(api), *paused(dag), *_warnings(api, job)]
    runs = under_way(api, job)
    found += _full(dag, runs)
    found += _schedule(api, dag, blocked=bool(found))
    found += _last(api, job)
    return ordered(found)


def known(api: AirflowApi, job: str) -> Json | None:
    """What Airflow says of the job; None where it does not know it."""
    return _or_none(api, f"/dags/{quote(job, safe='')}")


def platform(api: AirflowApi) -> list[Reason]:
    """What of Airflow itself stands still."""
    health = api.get("/monitor/health")
    found = []
    for key, name, means in (
        ("scheduler", "The scheduler", "no run and no task is started"),
        ("dag_processor", "The dag processor", "changed jobs are not read"),
        ("triggerer", "The triggerer", "tasks that wait for an answer or an event do not go on"),
    ):
        part = health.get(key) or {}
        if part.get("status") == "healthy":
            continue
        beat = part.get(f"latest_{key}_heartbeat")
        evidence = f"last heartbeat {moment(beat)}" if beat else "never seen"
        level: Level = "bad" if key == "scheduler" else "warn"
        service = key.replace("_", "-")
        found.append(
            Reason(
                "platform", level, f"{name} is silent: {means}.", evidence,
                (Link("Health", "health", console=True),), f"forebay logs {service}",
            )
        )  # fmt: skip
    return found


def paused(dag: Json) -> list[Reason]:
    """A paused job starts nothing, and what it had started stands still."""
    if not dag["is_paused"]:
        return []
    job = str(dag["dag_id"])
    return [
        Reason(
            "paused", "bad", "The job is paused: no run starts, and runs under way start no further task.",
            "Airflow: is_paused", (Link("Switch it on in Airflow", job_path(job)),),
        )
    ]  # fmt: skip


def _mistakes(api: AirflowApi, root: Path, job: str) -> list[Reason]:
    """The job's YAML cannot be used: what Airflow shows as import error, else what the file itself says."""
    from forebay.project import Project

    workspace, _, name = job.partition(".")
    file = f"{workspace}/{name}.yaml"
    text = ""
    try:
        errors = api.get("/importErrors", filename_pattern=file, limit=_MOST)["import_errors"]
        ours = [each for each in errors if str(each["filename"]).endswith((file, f"{workspace}/jobs.py"))]
        text = "\n".join(str(each["stack_trace"]) for each in ours)
    except ApiError:
        # Whoever may not see import errors still sees the file's own.
        pass
    if not text:
        try:
            Project(root).load_job(workspace, name)
        except JobSpecError as error:
            text = str(error)
        except ForebayError:
            return []
    if not text:
        return []
    what = "Its YAML has mistakes, so Airflow does not load it."
    return [
        Reason("import error", "bad", what, text[-3000:], (Link("Import errors in Airflow", "dags"),), "forebay check")
    ]  # fmt: skip


def _unread(root: Path, job: str, dag: Json | None) -> Reason:
    from forebay.project import Project

    workspace, _, name = job.partition(".")
    if Project(root).has_job(workspace, name):
        return Reason(
            "not read", "warn", "Airflow has not read the job yet: it takes a moment after a change.",
            f"dags/{workspace}/{name}.yaml is there" + (", and Airflow's copy is stale" if dag else ""),
            (), "forebay logs dag-processor",
        )  # fmt: skip
    if dag is None:
        raise UnknownRunName(f"there is no job '{job}'. See: forebay jobs")
    return Reason(
        "gone", "bad", "The job's YAML is gone, so it starts no more. Its runs and tables stay.",
        f"there is no dags/{workspace}/{name}.yaml; last read {moment(dag['last_parsed_time'])}",
    )  # fmt: skip


def _warnings(api: AirflowApi, job: str) -> list[Reason]:
    try:
        found = api.get("/dagWarnings", dag_id=job, limit=_MOST)["dag_warnings"]
    except ApiError:
        return []
    return [
        Reason("warning", "bad", "Airflow warns of the job, and starts no task of it until that is mended.",
               str(each["message"]), (Link("Pools", "pools"),))
        for each in found
    ]  # fmt: skip


def under_way(api: AirflowApi, job: str) -> list[Json]:
    """The job's runs that are queued or at work, oldest first."""
    path = f"/dags/{quote(job, safe='')}/dagRuns"
    found = [
        run for state in ("running", "queued") for run in api.get(path, state=state, limit=_MOST)["dag_runs"]
    ]
    return sorted(found, key=lambda run: str(run["run_after"]))


def _full(dag: Json, runs: Sequence[Json]) -> list[Reason]:
    """As many runs as may be are at work already."""
    job, most = str(dag["dag_id"]), dag["max_active_runs"]
    working = [run for run in runs if run["state"] == "running"]
    if not runs:
        return []
    links = tuple(run_link(job, str(run["dag_run_id"])) for run in working[:5])
    if most and len(working) >= most:
        return [full(job, most, working)]
    what = f"{len(runs)} run{'s are' if len(runs) > 1 else ' is'} under way."
    return [Reason("under way", "run", what, f"{len(working)} of at most {most} at work", links)]


def full(job: str, most: int, working: Sequence[Json]) -> Reason:
    """max_concurrent_runs is reached."""
    evidence = "at work: " + ", ".join(
        f"{run['dag_run_id']} since {moment(run['start_date'])}" for run in working[:5]
    )
    return Reason(
        "max concurrent runs", "wait",
        f"{len(working)} of at most {most} runs at once {'are' if most > 1 else 'is'} at work: the next waits for one to end.",
        f"max_concurrent_runs {most}; {evidence}", tuple(run_link(job, str(run["dag_run_id"])) for run in working[:5]),
    )  # fmt: skip


def _schedule(api: AirflowApi, dag: Json, *, blocked: bool) -> list[Reason]:
    job, summary = str(dag["dag_id"]), str(dag["timetable_summary"] or "")
    if not summary:
        what = "It has no schedule: it runs when somebody starts it, or another job does."
        return [Reason("schedule", "ok", what, "no schedule in its YAML", (), f"forebay run {job}")]
    try:
        document = api.request("GET", f"/ui/next_run_assets/{quote(job, safe='')}")
    except ApiError as error:
        return [Reason("schedule", "warn", "What it waits for cannot be asked.", str(error))]
    if document["events"]:
        return _tables(api, dag, document)
    due = dag["next_dagrun_run_after"]
    if not due:
        what = "It runs again as soon as its last run has ended."
        return [Reason("schedule", "wait", what, summary)] if "continuous" in summary.lower() else []
    evidence = f"{dag['timetable_description'] or summary} ({summary})"
    late = (datetime.now(UTC) - datetime.fromisoformat(str(due))).total_seconds()
    if late < 30:
        return [Reason("schedule", "wait", f"Its next run is due at {moment(due)}.", evidence)]
    what = f"A run was due at {moment(due)} and has not begun" + (": see above." if blocked else ".")
    return [Reason("schedule", "warn", what, evidence, (), "" if blocked else "forebay logs scheduler")]


def _tables(api: AirflowApi, dag: Json, document: Json) -> list[Reason]:
    """Which of the tables it waits for were updated since its last run, and which were not."""
    every = "all" in (document.get("asset_expression") or {})
    there = [each for each in document["events"] if each["last_update"]]
    missing = [each for each in document["events"] if not each["last_update"]]
    word = "all" if every else "one"
    found = []
    for each in missing:
        table = str(each["name"])
        writers, last = _written_by(api, table)
        evidence = (
            f"last updated {moment(last)}, before this job's last run"
            if last
            else "never updated since Airflow knows it"
        )
        evidence += (
            f"; written by {', '.join(writers)}" if writers else "; no job that Airflow knows writes it"
        )
        links = [
            Link(
                table,
                f"catalog/{quote(table.rpartition('.')[0], safe='')}/{quote(table.rpartition('.')[2], safe='')}",
                True,
            )
        ]
        links += [
            Link(f"Why does {writer} not run?", f"jobs/{quote(writer, safe='')}", True)
            for writer in writers[:3]
        ]
        level: Level = "wait" if writers else "warn"
        what = f"It waits for {table} to be updated."
        if not every and len(missing) > 1:
            what = f"It waits for {table} or another of its {len(document['events'])} tables to be updated."
        found.append(Reason("waiting for a table", level, what, evidence, tuple(links)))
    if there:
        names = ", ".join(f"{each['name']} at {moment(each['last_update'])}" for each in there)
        what = f"{len(there)} of its {len(document['events'])} tables were updated; it needs {word}."
        if not missing or not every:
            what = "What it waits for was updated: the scheduler starts a run next."
        found.append(Reason("schedule", "ok" if missing else "wait", what, names))
    return found  # fmt: skip


def _written_by(api: AirflowApi, table: str) -> tuple[list[str], object]:
    assets = api.get("/assets", name_pattern=table, limit=100)["assets"]
    asset: Mapping[str, Any] = next((each for each in assets if each["name"] == table), {})
    writers = sorted({str(each["dag_id"]) for each in asset.get("producing_tasks") or ()})
    return writers, (asset.get("last_asset_event") or {}).get("timestamp")


def _last(api: AirflowApi, job: str) -> list[Reason]:
    runs = api.get(f"/dags/{quote(job, safe='')}/dagRuns", order_by="-run_after", limit=1)["dag_runs"]
    if not runs:
        return [Reason("last run", "ok", "It has never run.", "Airflow knows no run of it")]
    last, name = runs[0], str(runs[0]["dag_run_id"])
    if last["state"] != "failed":
        return []
    what = f"Its last run failed at {moment(last['end_date'])}. That does not keep the next from starting."
    return [Reason("last run", "warn", what, name, (run_link(job, name),))]


def _or_none(api: AirflowApi, path: str) -> Json | None:
    try:
        return api.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def job_path(job: str) -> str:
    return f"dags/{quote(job, safe='')}"


def run_link(job: str, run: str) -> Link:
    return Link(run, f"runs/{quote(job, safe='')}/{quote(run, safe='')}", console=True)


def moment(text: object) -> str:
    """A moment of Airflow's to the second, in UTC."""
    if not text:
        return "an unknown time"
    return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
