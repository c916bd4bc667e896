"""Keeps each workspace's jobs in memory and reads again only what changed on disk.

The dag-processor keeps this memory; the processes it forks to parse a loader inherit it, so that a changed YAML
among a thousand costs one file. A process without the memory reads everything once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from forebay.errors import ForebayError, JobSpecError, Mistake
from forebay.project import WORKSPACE_FILE, LoadedJob, Project

Fingerprint = dict[str, tuple[int, int, int]]
"""Modification time, size and inode of each YAML file, by file name."""


@dataclass
class Watched:
    """A workspace as last read: its good jobs by name, and the mistakes of its broken files by file name."""

    files: Fingerprint
    jobs: dict[str, LoadedJob] = field(default_factory=dict)
    broken: dict[str, tuple[Mistake, ...]] = field(default_factory=dict)


Verify = Callable[[LoadedJob], None]

_workspaces: dict[Path, Watched] = {}
_verify: list[Verify] = []


def verify_with(check: Verify) -> None:
    """Has each job that is read also pass `check`, which raises JobSpecError for one that cannot be used."""
    _verify[:] = [check]


def refresh(folder: Path) -> tuple[Watched, bool]:
    """The workspace in `dags/<workspace>/` as it is now, and whether it differs from the last time."""
    files = _fingerprint(folder)
    seen = _workspaces.get(folder)
    # Without a good workspace.yaml no job is read alone: then any change means to read all of them.
    if (
        seen is None
        or seen.files.get(WORKSPACE_FILE) != files.get(WORKSPACE_FILE)
        or (WORKSPACE_FILE in seen.broken and seen.files != files)
    ):
        _workspaces[folder] = _read_all(folder, files)
        return _workspaces[folder], seen is not None
    # A broken job is looked at each time: the SQL file it misses may have come.
    names = [name for name in files if seen.files.get(name) != files[name] or name in seen.broken]
    gone = seen.files.keys() - files.keys()
    changed = bool(gone) or seen.files != files
    project = Project(folder.parent.parent)
    for name in names:
        changed |= _read_one(project, folder.name, name, seen)
    for name in gone:
        seen.jobs.pop(name.removesuffix(".yaml"), None)
        seen.broken.pop(name, None)
    seen.files = files
    return seen, changed


def broken_files(below: Path) -> list[Path]:
    """The broken YAML files last seen below a folder."""
    return [
        folder / name
        for folder, watched in _workspaces.items()
        if folder.is_relative_to(below)
        for name in watched.broken
    ]


def _read_all(folder: Path, files: Fingerprint) -> Watched:
    workspace = Project(folder.parent.parent).load_workspace(folder.name)
    watched = Watched(files, dict(workspace.jobs))
    mistakes = list(workspace.mistakes)
    for job in workspace.jobs.values():
        try:
            _verified(job)
        except JobSpecError as error:
            del watched.jobs[job.name]
            mistakes.extend(error.mistakes)
    for mistake in mistakes:
        name = Path(mistake.file).name
        watched.broken[name] = (*watched.broken.get(name, ()), mistake)
    return watched


def _read_one(project: Project, workspace: str, name: str, watched: Watched) -> bool:
    """Reads one job's file again; whether it went from broken to good or back."""
    if name == WORKSPACE_FILE or WORKSPACE_FILE in watched.broken:
        return False
    job = name.removesuffix(".yaml")
    was_broken = name in watched.broken
    try:
        watched.jobs[job] = _verified(project.load_job(workspace, job))
        watched.broken.pop(name, None)
    except JobSpecError as error:
        watched.broken[name] = error.mistakes
        watched.jobs.pop(job, None)
    except ForebayError:
        return False  # it went away between the two looks; the next one sees that
    return was_broken != (name in watched.broken)


def _verified(job: LoadedJob) -> LoadedJob:
    for check in _verify:
        check(job)
    return job


def _fingerprint(folder: Path) -> Fingerprint:
    found: Fingerprint = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".yaml", ".yml")) and not entry.name.startswith("."):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                found[entry.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
