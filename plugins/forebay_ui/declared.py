"""What the workspaces' files declare, read again when a file has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forebay.project import LoadedJob, Project, Workspace
from forebay.spec.base import Closed
from forebay.spec.schedule import AfterSchedule, ContinuousSchedule, CronSchedule
from forebay.spec.table import TableLayout
from forebay.spec.workspace import WorkspaceSpec

_KNOWN: dict[str, tuple[object, Workspace]] = {}
_MOST = 200


@dataclass(frozen=True)
class DeclaredTable:
    """A table as its job's YAML describes it."""

    name: str
    job: str
    layout: TableLayout | None

    @property
    def partitioning(self) -> tuple[str, ...]:
        """As `describe` writes it."""
        return tuple(
            each.column
            if each.transform == "identity"
            else f"{each.transform}({each.column}{f', {each.width}' if each.width else ''})"
            for each in (self.layout.partitions if self.layout else ())
        )


def workspace(root: Path, name: str) -> Workspace:
    """A workspace with all its jobs, broken ones too."""
    signature = _signature(root / "dags" / name)
    known = _KNOWN.get(f"{root}\n{name}")
    if known is not None and known[0] == signature:
        return known[1]
    found = Project(root).load_workspace(name)
    if len(_KNOWN) >= _MOST:
        _KNOWN.clear()
    _KNOWN[f"{root}\n{name}"] = (signature, found)
    return found


def tables(found: Workspace) -> Iterator[DeclaredTable]:
    """Every table that a job of the workspace writes."""
    for job in found.jobs.values():
        seen: set[str] = set()
        for task in job.spec.tasks:
            for table in task.writes:
                if table not in seen:
                    seen.add(table)
                    layout = task if isinstance(task, TableLayout) and len(task.writes) == 1 else None
                    yield DeclaredTable(table, job.dag_id, layout)


def connections(found: Workspace) -> dict[str, list[str]]:
    """The connections the workspace names, and for what: its own by their use, others by the jobs that name them."""
    named: dict[str, list[str]] = {}
    if found.spec is not None:
        for use, conn_id in _fields(found.spec):
            named.setdefault(conn_id, []).append(use)
        for conn_id in found.spec.connections.allowed:
            named.setdefault(conn_id, [])
    for job in found.jobs.values():
        for task in job.spec.tasks:
            if task.conn_id is not None:
                named.setdefault(task.conn_id, []).append(f"{job.name}.{task.key}")
    return named


def schedule(job: LoadedJob) -> str:
    """When a job starts, in a few words."""
    match job.spec.schedule:
        case None:
            return "by hand"
        case CronSchedule() as cron:
            return cron.cron if cron.timezone == "UTC" else f"{cron.cron} ({cron.timezone})"
        case AfterSchedule() as after:
            return f"after {(', ' if after.condition == 'all' else ' or ').join(after.after)}"
        case ContinuousSchedule():
            return "continuous"
    return ""


def _fields(spec: WorkspaceSpec) -> Iterator[tuple[str, str]]:
    uses: Closed = spec.connections
    for use in type(uses).model_fields:
        value = getattr(uses, use)
        if isinstance(value, str):
            yield use, value


def _signature(folder: Path) -> object:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (e.name, (s := e.stat()).st_mtime_ns, s.st_size, s.st_ino) for e in entries if e.is_file()
            )
    except OSError:
        return None
