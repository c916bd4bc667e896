"""What is declared against what exists: jobs in Git and dags in Airflow, tables in YAML and tables in the lake."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from forebay.checks.results import TABLE as CHECK_RESULTS
from forebay.checks.rules import QUARANTINE
from forebay.lake.index import Entry
from forebay.project import Workspace
from forebay_ui.declared import DeclaredTable, tables


@dataclass(frozen=True)
class Drift:
    """One difference between what is declared and what is there."""

    state: Literal["bad", "warn"]
    kind: Literal["job", "table", "connection", "workspace"]
    name: str
    declared: str
    found: str
    remedy: str = ""
    """A command that shows more or mends it, or what to do."""


@dataclass(frozen=True)
class KnownDag:
    """A job as Airflow knows it."""

    dag_id: str
    paused: bool
    stale: bool
    broken: bool
    tasks_at_once: int
    runs_at_once: int | None
    next_run: float | None


def drift(
    found: Workspace,
    dags: Mapping[str, KnownDag],
    entries: Mapping[str, Entry] | None,
    connections: Mapping[str, bool],
    ran: Container[str],
) -> list[Drift]:
    """Every difference, those that stop work first.

    `entries` is None where the lake could not be read. A table is missed only where its job has run well.
    """
    listed = [*_jobs(found, dags), *_connections(connections)]
    if entries is not None:
        listed += _tables(found, entries, ran)
    return sorted(listed, key=lambda each: (each.state != "bad", each.kind, each.name))


def _jobs(found: Workspace, dags: Mapping[str, KnownDag]) -> Iterator[Drift]:
    if found.file is None:
        yield Drift(
            "bad", "workspace", found.name, "workspace.yaml", "it has mistakes, so none of its jobs runs",
            "forebay check",
        )  # fmt: skip
    for name in found.broken:
        said = next((each.message for each in found.mistakes if each.file.endswith(f"/{name}.yaml")), "")
        yield Drift(
            "bad", "job", f"{found.name}.{name}", "a YAML file", f"it has mistakes: {said}" if said else "it cannot be read",
            "forebay check",
        )  # fmt: skip
    for job in found.jobs.values():
        dag = dags.get(job.dag_id)
        if dag is None or dag.stale:
            yield Drift(
                "bad", "job", job.dag_id, job.file, "Airflow does not know it", "forebay logs dag-processor"
            )
            continue
        if dag.broken:
            yield Drift(
                "bad", "job", job.dag_id, job.file, "Airflow could not load its latest text",
                "forebay logs dag-processor",
            )  # fmt: skip
        limit = found.spec.limits.max_concurrent_tasks if found.spec else dag.tasks_at_once
        for what, wanted, there in (
            ("runs at the same time", job.spec.max_concurrent_runs, dag.runs_at_once),
            ("tasks at the same time", limit, dag.tasks_at_once),
        ):
            if there is not None and wanted != there:
                yield Drift(
                    "warn", "job", job.dag_id, f"{wanted} {what}", f"Airflow allows {there}",
                    "Airflow has not read the file's latest text: forebay logs dag-processor",
                )  # fmt: skip
    ours = {job.dag_id for job in found.jobs.values()} | {f"{found.name}.{name}" for name in found.broken}
    for dag_id, dag in dags.items():
        if dag_id not in ours and not dag.stale:
            yield Drift("warn", "job", dag_id, "nothing", "a dag in Airflow without a YAML file", "")


def _connections(connections: Mapping[str, bool]) -> Iterator[Drift]:
    for conn_id, there in connections.items():
        if not there:
            yield Drift(
                "bad", "connection", conn_id, "named by the workspace or its jobs", "nobody has made it",
                "make it in Airflow, under Admin, Connections",
            )  # fmt: skip


def _tables(found: Workspace, entries: Mapping[str, Entry], ran: Container[str]) -> Iterator[Drift]:
    declared = {each.name: each for each in tables(found)}
    for name, each in declared.items():
        entry = entries.get(name)
        if entry is None:
            if each.job in ran:
                yield Drift(
                    "warn", "table", name, f"written by {each.job}", "not there", f"forebay run {each.job}"
                )
        else:
            yield from _differs(each, entry)
    if found.file is None or found.broken:
        # What a broken job writes is not known, so that nothing can be called without a job.
        return
    for name, entry in entries.items():
        namespace, _, table = name.rpartition(".")
        made_by_checks = table == CHECK_RESULTS or name.removesuffix(QUARANTINE) in declared
        if name not in declared and not made_by_checks and found.file.owns(namespace):
            wrote = (
                f"last written by {entry.last.job}" if entry.last and entry.last.job else "written by others"
            )
            yield Drift("warn", "table", name, "nothing: no job writes it", wrote, "")


def _differs(declared: DeclaredTable, entry: Entry) -> Iterator[Drift]:
    name, said = declared.name, declared.layout
    if entry.last is not None and not entry.last.kept_rows and entry.last.job != declared.job:
        by = entry.last.job or "another writer than a run"
        yield Drift(
            "warn",
            "table",
            name,
            f"written by {declared.job}",
            f"last written by {by}",
            f"forebay blame {name}",
        )
    if said is None:
        return
    if said.partitioned_by and declared.partitioning != entry.partitioning:
        yield Drift(
            "warn", "table", name, f"partitioned by {', '.join(declared.partitioning)}",
            f"partitioned by {', '.join(entry.partitioning) or 'nothing'}", "a layout is given when a table is created",
        )  # fmt: skip
    if said.comment is not None and said.comment.strip() != entry.comment.strip():
        yield Drift(
            "warn", "table", name, f"comment: {said.comment}", f"comment: {entry.comment or 'none'}", ""
        )
    comments = {column.name: column.comment for column in entry.columns}
    for column, comment in said.column_comments.items():
        if comments.get(column, "").strip() != comment.strip():
            there = (
                f"its comment is: {comments[column] or 'none'}"
                if column in comments
                else "there is no such column"
            )
            yield Drift("warn", "table", name, f"column {column}: {comment}", there, "")
