"""forebay quarantine"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import (
    lake,
    note,
    output_option,
    print_json,
    print_table,
    progress,
    repository,
    running_stack,
)
from forebay.errors import ForebayError, suggestion
from forebay.stack.airflow_api import AirflowApi

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.checks.replay import Replay
    from forebay.checks.rules import Rule
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.connection import CatalogConfig
    from forebay.project import LoadedJob


@click.group("quarantine")
def command() -> None:
    """Rows that checks refused: list them, and put those back that pass today's rules.

    \b
    Examples:
      forebay quarantine list
      forebay quarantine list flights.daily_delays
      forebay quarantine replay flights.daily_delays --dry-run

    The rows themselves are in the table <table>__quarantine: forebay sql reads it like any other.
    """


@command.command("list")
@click.argument("table", required=False)
@output_option
def list_(table: str | None, output: str) -> None:
    """Show how many rows are in quarantine: by table, or of one table by the rules that refused them.

    \b
    Examples:
      forebay quarantine list
      forebay quarantine list flights.daily_delays --output json
    """
    from forebay.checks.rules import QUARANTINE
    from forebay.lake.tables import list_tables

    config = lake()
    known = [name.removesuffix(QUARANTINE) for name in list_tables(config) if name.endswith(QUARANTINE)]
    if table is not None and (table := table.removesuffix(QUARANTINE)) not in known:
        raise ForebayError(f"{table} has no quarantine.{suggestion(table, known, 'Tables with one')}")
    names = known if table is None else [table]
    found = [row for name in names for row in _groups(config, name, by_rule=table is not None)]
    if output == "json":
        print_json(found)
    elif not found:
        click.echo("No rows are in quarantine.")
    else:
        head = ["rules"] if table is not None else ["table"]
        print_table(
            [*head, "rows", "runs", "first", "last"],
            [
                [str(row[head[0]]), f"{row['rows']:,}", f"{row['runs']:,}", row["first"], row["last"]]
                for row in found
            ],
            right=(1, 2),
        )


def _groups(config: CatalogConfig, table: str, *, by_rule: bool) -> list[dict[str, Any]]:
    from forebay.checks.rules import QUARANTINE
    from forebay.engines.duckdb import DuckDBEngine, lake_name
    from forebay.lake.tables import load

    held = load(config, f"{table}{QUARANTINE}")
    if held is None or held.metadata.current_snapshot_id is None:
        return []
    rule = "_rule" if by_rule else "''"
    with DuckDBEngine(config) as engine:
        rows = engine.query(
            f"SELECT {rule} AS rules, count(*) AS n, count(DISTINCT _run) AS runs, min(_quarantined_at) AS first, "
            f"max(_quarantined_at) AS last FROM {lake_name(f'{table}{QUARANTINE}')} GROUP BY 1 ORDER BY 2 DESC, 1"
        ).to_pylist()
    return [
        {
            "table": table,
            **({"rules": row["rules"] or "(on its way back)"} if by_rule else {}),
            "rows": row["n"],
            "runs": row["runs"],
            "first": f"{row['first']:%Y-%m-%d %H:%M:%S}",
            "last": f"{row['last']:%Y-%m-%d %H:%M:%S}",
        }
        for row in rows
    ]


@command.command("replay")
@click.argument("table")
@click.option(
    "--param", "-p", "given", multiple=True, metavar="NAME=VALUE",
    help="A parameter of the job, where its rules need one; repeatable.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@output_option
def replay(table: str, given: tuple[str, ...], dry_run: bool, output: str) -> None:
    """Look again at the rows in a table's quarantine, with today's rules of the job that writes the table.

    Rows that pass go back: they are merged where the job merges into the table, appended otherwise. The others
    stay, with the rules that refuse them now. It may be repeated at any time, also after it was stopped. It is a run
    of the job for forebay blame and forebay rollback: <job>/replay__<moment>.

    \b
    Examples:
      forebay quarantine replay flights.daily_delays --dry-run
      forebay quarantine replay flights.daily_delays
    """
    from forebay import sqltext
    from forebay.checks.replay import replay as again
    from forebay.checks.rules import QUARANTINE
    from forebay.engines.duckdb import DuckDBEngine

    table = table.removesuffix(QUARANTINE)
    job = _job_of(table)
    rules, merge_key = _rules(job, table)
    values = _values(job, given)
    if output == "text":
        progress(f"rules of {job.dag_id} ({job.file})")

    def work(engine: DuckDBEngine) -> Replay:
        return again(engine, table, rules, values, merge_key=merge_key, dry_run=dry_run)

    config, name = lake(), ""
    if dry_run:
        with DuckDBEngine(config, macros=sqltext.MACROS) as engine:
            done = work(engine)
    else:
        done, name = _as_a_run(config, job, (table, f"{table}{QUARANTINE}"), work)
    if output == "json":
        print_json(vars(done) | {"run": name or None})
        return
    kept = sum(done.kept.values())
    word = "would go" if dry_run else "went"
    if done.finished:
        click.echo(f"{done.finished:,} rows of a replay that had not ended went back to {table}.")
    click.echo(f"{done.returned:,} rows {word} back to {table}, {kept:,} stay in quarantine.")
    if done.kept:
        print_table(
            ["rules", "rows"], [[rule, f"{count:,}"] for rule, count in done.kept.items()], right=(1,)
        )
    if name:
        click.echo(f"Take it back with: forebay rollback {name}")


def _as_a_run(
    config: CatalogConfig, job: LoadedJob, tables: tuple[str, ...], work: Callable[[DuckDBEngine], Replay]
) -> tuple[Replay, str]:
    """Does the work on a branch of its own and publishes both tables at once; its run's name where rows moved."""
    import time
    from datetime import UTC, datetime

    from forebay import sqltext
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.files import git_commit
    from forebay.lake.identity import TaskTry
    from forebay.lake.publish import PublishConflict, discard, publish
    from forebay.lake.rest import Rest
    from forebay.stack.acts import tell

    with AirflowApi.of_stack(running_stack()) as api, Rest(config) as rest:
        who = TaskTry(
            job.dag_id, f"replay__{datetime.now(UTC).isoformat()}", task="replay", engine="duckdb",
            commit=git_commit(repository()), user=api.user, writes=tables, exclusive=tables, began=time.time(),
        )  # fmt: skip
        note(api, who, "replay", tables)
        try:
            with DuckDBEngine(config.seen_by(who), macros=sqltext.MACROS) as engine:
                done = work(engine)
        except BaseException:
            discard(rest, who, tables)
            raise
        try:
            published = publish(rest, who, tables)
        except PublishConflict:
            discard(rest, who, tables)
            raise
        for table, why in tell(api, who, published)[1].items():
            progress(f"{table}: the jobs that wait for it were not told: {why}")
        return done, f"{who.job}/{who.run}" if published else ""


def _job_of(table: str) -> LoadedJob:
    """The job that checks the table and writes it."""
    from forebay.project import Project
    from forebay.tasks.checks import Task

    project = Project(repository())
    found, checked = [], set()
    for workspace in project.workspace_names():
        for job in project.load_workspace(workspace).jobs.values():
            tables = {task.table for task in job.spec.tasks if isinstance(task, Task)}
            checked |= tables
            if table in tables:
                found.append(job)
    # The job that writes it; another may check it too.
    found.sort(key=lambda job: table not in job.writes)
    if not found:
        near = suggestion(table, checked, "Checked tables")
        raise ForebayError(
            f"no job that can be loaded has a checks task for {table}, so there are no rules to go by.{near}"
        )
    return found[0]


def _rules(job: LoadedJob, table: str) -> tuple[list[Rule], list[str]]:
    """The rules of the job's checks of the table, and the key its rows are merged on."""
    from forebay.checks.rules import rules_of
    from forebay.tasks.checks import Task
    from forebay.tasks.sql import Task as Sql

    checks = [task for task in job.spec.tasks if isinstance(task, Task) and task.table == table]
    merged = [
        task for task in job.spec.tasks if isinstance(task, Sql) and task.table == table and task.merge_key
    ]
    return (
        rules_of(each for task in checks for each in task.expect),
        list(merged[0].merge_key) if merged else [],
    )


def _values(job: LoadedJob, given: tuple[str, ...]) -> dict[str, Any]:
    """What `:name` stands for: the job's parameters, and for a run's own values the moment of the replay."""
    from datetime import UTC, datetime

    from forebay.cli.run import parameters
    from forebay.spec.text import RUN_VALUES

    now = datetime.now(UTC)
    values: dict[str, Any] = dict.fromkeys(RUN_VALUES, now) | {"run_id": "replay"}
    typed = parameters(job, given)
    for name, parameter in job.spec.parameters.items():
        values[name] = parameter.resolve(typed.get(name, parameter.default), now.date())
    return values
