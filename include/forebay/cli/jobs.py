"""forebay jobs"""

from __future__ import annotations

import click

from forebay.cli.common import output_option, print_json, print_table, repository, stack
from forebay.errors import ForebayError
from forebay.stack import supervisor
from forebay.stack.airflow_api import AirflowApi


@click.command("jobs")
@click.argument("workspace", required=False)
@output_option
def command(workspace: str | None, output: str) -> None:
    """List the jobs of all workspaces, or of one: schedule, tables, and the last run where the stack is up.

    \b
    Examples:
      forebay jobs
      forebay jobs flights --output json
    """
    from forebay.project import Project

    project = Project(repository())
    names = project.workspace_names()
    if workspace is not None and workspace not in names:
        from forebay.errors import suggestion

        raise ForebayError(
            f"there is no workspace '{workspace}'." + suggestion(workspace, names, "Workspaces")
        )
    rows: list[dict[str, object]] = []
    mistakes = 0
    last = _last_runs()
    for name in [workspace] if workspace else names:
        loaded = project.load_workspace(name)
        mistakes += len(loaded.mistakes)
        for job in loaded.jobs.values():
            rows.append(
                {
                    "job": job.dag_id,
                    "schedule": describe_schedule(job.spec.schedule),
                    "writes": list(job.writes),
                    "last_run": last.get(job.dag_id),
                    "description": job.spec.description,
                }
            )
        rows.extend(
            {
                "job": f"{name}.{broken}",
                "schedule": "?",
                "writes": [],
                "last_run": None,
                "description": "has mistakes",
            }
            for broken in loaded.broken
        )
    if output == "json":
        print_json(rows)
        return
    print_table(
        ["job", "schedule", "last run", "writes"],
        [
            [str(r["job"]), str(r["schedule"]), str(r["last_run"] or "-"), ", ".join(map(str, r["writes"]))]  # type: ignore[call-overload]
            for r in rows
        ],
    )
    if mistakes:
        click.echo(f"\n{mistakes} mistakes; forebay check shows them.")


def describe_schedule(schedule: object) -> str:
    """A schedule in a few words."""
    from forebay.spec.schedule import AfterSchedule, ContinuousSchedule, CronSchedule

    match schedule:
        case CronSchedule():
            return f"{schedule.cron} {schedule.timezone}"
        case AfterSchedule():
            joint = " and " if schedule.condition == "all" else " or "
            return f"after {joint.join(schedule.after)}"
        case ContinuousSchedule():
            return "continuous"
    return "by hand"


def _last_runs() -> dict[str, str]:
    ours = stack()
    if not supervisor.running(ours):
        return {}
    found: dict[str, str] = {}
    with AirflowApi.of_stack(ours) as api:
        runs = api.get("/dags/~/dagRuns", limit=100, order_by="-run_after")["dag_runs"]
    for run in runs:
        found.setdefault(str(run["dag_id"]), f"{run['state']} {str(run['run_after'])[:16].replace('T', ' ')}")
    return found
