"""Which connections the jobs name, so that one that nobody made is seen before a run fails on it."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.project import LoadedJob, Project

# What a task of a type uses when it names no conn_id itself.
_USES = {"sql": "sql", "checks": "sql", "spark": "spark", "ingest": "files", "maintain": "sql"}


@dataclass(frozen=True, order=True)
class Use:
    """A job that names a connection, or a workspace that allows its jobs to (`job` is empty)."""

    workspace: str
    job: str
    what: str


def named(project: Project) -> dict[str, list[Use]]:
    """Every connection that jobs or workspaces name, with who does."""
    found: dict[str, set[Use]] = {}
    for name in project.workspace_names():
        workspace = project.load_workspace(name)
        if workspace.spec is not None:
            for conn_id in workspace.spec.connections.allowed:
                found.setdefault(conn_id, set()).add(Use(name, "", "allowed"))
        for job in workspace.jobs.values():
            for conn_id, what in _of(job):
                found.setdefault(conn_id, set()).add(Use(name, job.dag_id, what))
    return {conn_id: sorted(uses) for conn_id, uses in found.items()}


def _of(job: LoadedJob) -> set[tuple[str, str]]:
    named = job.workspace.spec.connections
    found = set()
    for task in job.spec.tasks:
        kind = _USES.get(task.type)
        if kind is not None:
            found.add((task.conn_id or str(getattr(named, kind)), kind))
        if task.type == "ingest":
            found.add((named.sql, "sql"))
        if task.writes or task.rewrites:
            found.add((named.catalog, "catalog"))
    return found
