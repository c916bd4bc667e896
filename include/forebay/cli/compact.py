"""forebay compact"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from forebay.cli.common import (
    human_bytes,
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
    from forebay.engines.compaction import Files
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.trino import TrinoEngine
    from forebay.lake.connection import CatalogConfig
    from forebay.lake.identity import TaskTry
    from forebay.lake.rest import Rest
    from forebay.stack.layout import Stack


@click.command("compact")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--all", "every", is_flag=True, help="All tables that jobs of this repository write.")
@click.option(
    "--small", default=32, show_default=True, type=click.IntRange(1, 1024), metavar="MB",
    help="Files below this size are put together, partition by partition.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@output_option
def command(tables: tuple[str, ...], every: bool, small: int, dry_run: bool, output: str) -> None:
    """Put a table's small files together. Its rows stay what they are, and so does its history.

    It is a run of the job that writes the table, <job>/compact__<moment>: written on a branch, published at the end,
    seen by forebay blame, taken back by forebay rollback. A table in which a run has something unpublished is left alone.
    Trino does it where SQL runs on it, else DuckDB. A task of type maintain does it in a job.

    \b
    Examples:
      forebay compact --all --dry-run
      forebay compact flights.daily_delays
    """
    from forebay.engines.compaction import look
    from forebay.lake.publish import PublishConflict
    from forebay.lake.rest import Rest

    if bool(tables) == every:
        raise click.UsageError("name tables, or say --all; one of them")
    config, jobs = lake(), _jobs()
    with Rest(config) as rest:
        there = [name for name in rest.all_names() if name in jobs]
        for name in tables:
            if name not in there:
                raise ForebayError(
                    f"{name} is no table that a job of this repository writes.{suggestion(name, there, 'Tables')}"
                )
        found = [look(rest, name, small << 20) for name in (there if every else tables)]
        after: dict[str, int] = {}
        for number, each in enumerate(found):
            if not each.to_do or dry_run:
                continue
            try:
                after[each.table] = _compacted(config, rest, each, jobs[each.table], small << 20).files
            except PublishConflict as error:
                found[number] = replace(each, busy=str(error))
    if output == "json":
        print_json([asdict(each) | {"after": after.get(each.table)} for each in found])
        return
    shown = [each for each in found if each.to_do or each.busy]
    if shown:
        print_table(
            ["table", "files", "small", "size", "deletes", "now"],
            [
                [each.table, f"{each.files:,}", f"{each.small:,}", human_bytes(each.bytes), f"{each.deletes:,}",
                 each.busy or (f"{after[each.table]:,}" if each.table in after else "-")]
                for each in shown
            ],
            right=(1, 2, 3, 4),
        )  # fmt: skip
    click.echo(f"{len(found) - len(shown)} of {len(found)} tables have no small files to put together.")


def _compacted(config: CatalogConfig, rest: Rest, found: Files, job: str, small: int) -> Files:
    """Does it as a run."""
    import time
    from datetime import UTC, datetime

    from forebay.engines.compaction import compact
    from forebay.files import git_commit
    from forebay.lake.identity import TaskTry

    ours = running_stack()
    kind = "trino" if "trino" in ours.parts else "duckdb"
    with AirflowApi.of_stack(ours) as api:
        who = TaskTry(
            job, f"compact__{datetime.now(UTC).isoformat()}", task="compact", engine=kind,
            commit=git_commit(repository()), user=api.user, writes=(found.table,), began=time.time(),
        )  # fmt: skip
        progress(f"{found.table}: {found.small:,} small files, {human_bytes(found.bytes)}")
        note(api, who, "compact", [found.table])
        with _engine(config.seen_by(who), ours, who) as engine:
            return compact(engine, rest, who, found.table, small)


def _engine(config: CatalogConfig, ours: Stack, who: TaskTry) -> DuckDBEngine | TrinoEngine:
    """The one that SQL runs on."""
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.engines.trino import TrinoEngine
    from forebay.stack import trino, trino_access

    if who.engine == "duckdb":
        return DuckDBEngine(config)
    access, secret = (f"${{ENV:{name}}}" for name in trino.secrets(ours))
    server = trino_access.server(ours)
    return TrinoEngine(config, server, access_key=access, secret_key=secret, who=who, log=progress)


def _jobs() -> dict[str, str]:
    """The job of each table that one writes, also of what its checks write."""
    from forebay.project import Project

    project, found = Project(repository()), dict[str, str]()
    for name in project.workspace_names():
        jobs = project.load_workspace(name).jobs.values()
        found |= {table: job.dag_id for job in jobs for table in job.writes}
        for job in jobs:
            for table in job.keeps:
                found.setdefault(table, job.dag_id)
    return found
