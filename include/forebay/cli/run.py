"""forebay run"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import output_option, print_json, repository, running_stack
from forebay.engines.results import MAINTAIN, put_together
from forebay.errors import ForebayError, suggestion
from forebay.operators.transaction import REPORT
from forebay.stack.airflow_api import AirflowApi, ApiError, Json

if TYPE_CHECKING:
    from forebay.project import LoadedJob

_MARKS = {
    "success": ("✓", "green"),
    "failed": ("✗", "red"),
    "upstream_failed": ("-", "yellow"),
    "skipped": ("-", "yellow"),
}
_ENDED = (*_MARKS, "removed")
_VERDICTS = ("passed", "failed", "warned", "quarantined")
_LOG_LINES = 25


@click.command("run")
@click.argument("job", metavar="WORKSPACE.JOB")
@click.option(
    "--param", "-p", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the job; repeatable."
)
@click.option("--no-wait", is_flag=True, help="Start the run and return at once.")
@output_option
def command(job: str, given: tuple[str, ...], no_wait: bool, output: str) -> None:
    """Run a job now and follow it task by task.

    Exit code 0 when the run succeeded, 1 when it failed. Ctrl-C stops following, not the run.

    \b
    Examples:
      forebay run flights.daily_delays
      forebay run flights.daily_delays --param year=2013 --output json
    """
    loaded = find_job(job)
    values = parameters(loaded, given)
    ours = running_stack()
    with AirflowApi.of_stack(ours) as api:
        wait_until_known(api, job)
        run_id = api.trigger(job, values)
        url = f"{ours.url('airflow')}/dags/{job}/runs/{run_id}"
        if output == "text":
            click.echo(f"{job} {run_id}\n{url}")
        if no_wait:
            if output == "json":
                print_json({"job": job, "run_id": run_id, "state": "queued", "url": url})
            return
        try:
            result = follow(api, job, run_id, quiet=output == "json")
        except KeyboardInterrupt:
            click.echo(f"\nThe run goes on: {url}", err=True)
            raise click.Abort from None
        result["url"] = url
        if output == "json":
            print_json(result)
        if result["state"] != "success":
            raise click.exceptions.Exit(1)


def find_job(job: str) -> LoadedJob:
    """The job of a full name, or an error that names near ones or the job's mistakes."""
    from forebay.project import Project

    project = Project(repository())
    workspace, _, name = job.partition(".")
    known = [f"{w}.{n}" for w in project.workspace_names() for n in project.job_names(w) if n != "workspace"]
    if job not in known:
        raise ForebayError(f"there is no job '{job}'." + suggestion(job, known, "Jobs"))
    return project.load_job(workspace, name)


def parameters(job: LoadedJob, given: tuple[str, ...]) -> dict[str, object]:
    """NAME=VALUE texts as typed values; every wrong one is named at once."""
    from forebay.spec.parameters import ParameterError

    values: dict[str, object] = {}
    wrong = []
    for text in given:
        name, equals, value = text.partition("=")
        parameter = job.spec.parameters.get(name)
        if not equals:
            wrong.append(f"'{text}' is not NAME=VALUE")
        elif parameter is None:
            wrong.append(
                f"{job.dag_id} has no parameter '{name}'." + suggestion(name, job.spec.parameters, "It has")
            )
        else:
            try:
                values[name] = parameter.from_text(value)
            except ParameterError as error:
                wrong.append(f"parameter '{name}' {error}")
    missing = [name for name, p in job.spec.parameters.items() if p.required and name not in values]
    wrong.extend(
        f"parameter '{name}' has no default: give it with --param {name}=…" for name in missing if not wrong
    )
    if wrong:
        raise ForebayError("\n       ".join(wrong))
    return values


def wait_until_known(api: AirflowApi, dag_id: str, seconds: float = 30) -> None:
    """Waits until Airflow has read a new job; an import error of its file is shown."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            api.get(f"/dags/{dag_id}")
            return
        except ApiError as error:
            if "HTTP 404" not in str(error):
                raise
        if time.monotonic() > deadline:
            errors = api.get("/importErrors")["import_errors"]
            shown = "\n".join(str(e["stack_trace"])[-2000:] for e in errors)
            raise ForebayError(
                f"Airflow does not know {dag_id} after {seconds:.0f} s. {shown or 'See: forebay logs dag-processor'}"
            )
        time.sleep(0.3)


def follow(api: AirflowApi, dag_id: str, run_id: str, *, quiet: bool = False) -> dict[str, Any]:
    """Shows each task as it ends until the run has; returns state, tasks and the tables written."""
    shown: set[tuple[str, int]] = set()
    tables: dict[str, Any] = {}
    published: dict[str, Any] = {}
    tasks: dict[tuple[str, int], Json] = {}
    started = time.monotonic()
    tty = sys.stderr.isatty() and not quiet
    run: Json = {}
    for current, instances in api.follow(dag_id, run_id):
        run = current
        for task in sorted(instances, key=lambda t: str(t["end_date"] or "~")):
            key = (str(task["task_id"]), int(task["map_index"]))
            tasks[key] = task
            if task["state"] not in _ENDED or key in shown:
                continue
            shown.add(key)
            value = _returned(api, dag_id, run_id, task)
            written = _mapping(value.get("tables"))
            published = _mapping(value.get("published"))
            tables.update(written)
            if not quiet:
                _clear(tty)
                _print_task(api, dag_id, run_id, task, written, published, _mapping(value.get("checks")))
        if tty and run["state"] not in ("success", "failed"):
            running = [str(t["task_id"]) for t in instances if t["state"] == "running"]
            click.echo(
                f"\r\033[K  … {', '.join(running) or 'waiting'} ({time.monotonic() - started:.0f} s)",
                nl=False,
                err=True,
            )
    _clear(tty)
    if not quiet:
        seconds = float(run.get("duration") or time.monotonic() - started)
        colour = "green" if run["state"] == "success" else "red"
        click.echo(click.style(f"{run['state']} after {seconds:.1f} s", fg=colour, bold=True))
    return {
        "job": dag_id,
        "run_id": run_id,
        "state": run["state"],
        "seconds": run.get("duration"),
        "tasks": [
            {
                "key": key,
                "map_index": index,
                "state": t["state"],
                "tries": t["try_number"],
                "seconds": t["duration"],
            }
            for (key, index), t in sorted(tasks.items())
        ],
        "tables": tables,
        "published": published,
    }


def _returned(api: AirflowApi, dag_id: str, run_id: str, task: Json) -> dict[str, Any]:
    # What a team's own function returns may look like anything.
    if task["state"] != "success" or task.get("operator_name") not in REPORT:
        return {}
    return _mapping(api.xcom(dag_id, run_id, str(task["task_id"]), int(task["map_index"])))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _print_task(
    api: AirflowApi,
    dag_id: str,
    run_id: str,
    task: Json,
    written: dict[str, Any],
    published: dict[str, Any],
    checks: dict[str, Any],
) -> None:
    mark, colour = _MARKS.get(str(task["state"]), ("?", "white"))
    name = str(task["task_id"]) + (f"[{task['map_index']}]" if task["map_index"] >= 0 else "")
    seconds = f"{task['duration']:6.1f} s" if task["duration"] else "        "
    rows = "; ".join(
        f"{table}: {put_together(figures)}"
        if figures.get("mode") == MAINTAIN
        else f"{table}: {figures.get('inserted', 0) + figures.get('updated', 0):,} rows written, {figures['rows']:,} in all"
        for table, figures in written.items()
    )
    if checks:
        counts = ", ".join(f"{checks[word]:,} {word}" for word in _VERDICTS if checks.get(word))
        rows = "; ".join(filter(None, (f"{checks.get('table')}: {counts}", rows)))
    if published:
        rows = ", ".join(sorted(published))
    ended = "" if task["state"] in ("success", "failed") else f" {task['state']}"
    click.echo(f"  {click.style(mark, fg=colour)} {name:<24}{seconds}  {rows}{ended}".rstrip())
    if task["state"] == "failed":
        lines = api.log(dag_id, run_id, str(task["task_id"]), int(task["try_number"]), int(task["map_index"]))
        last = [line for text in lines for line in text.splitlines()][-_LOG_LINES:]
        if task["start_date"] is None:
            last.append("It did not begin: its process could not be started. See why: forebay logs scheduler")
        for line in last:
            click.echo(click.style(f"      │ {line}", fg="red"))


def _clear(tty: bool) -> None:
    if tty:
        click.echo("\r\033[K", nl=False, err=True)
