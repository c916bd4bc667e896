"""Whether a job is what it was at a Git commit."""

from __future__ import annotations

import subprocess
from functools import cached_property
from typing import TYPE_CHECKING

from forebay.files import PYTHON_FOLDER, SPARK_FOLDER, git_commit

if TYPE_CHECKING:
    from forebay.project import LoadedJob

DIRTY = "-dirty"


class Code:
    """A job's files as they are now, beside what they were."""

    def __init__(self, job: LoadedJob) -> None:
        self.root = job.workspace.root
        self.paths = sorted(_paths(job))
        self._found: dict[str, str] = {}

    @cached_property
    def today(self) -> str:
        """The repository's commit, with -dirty where files were changed since; empty without Git."""
        return git_commit(self.root)

    @cached_property
    def dirty(self) -> bool:
        """Whether runs are stamped with changed files now, or the job's own files are not in Git at all."""
        if self.today.endswith(DIRTY):
            return True
        status = self._git("status", "--porcelain", "--", *self.paths)
        return status is not None and bool(status.strip())

    def changed_since(self, commit: str) -> str:
        """Why what ran with a commit may not be what the job is now; empty where it is, or where Git cannot tell.

        Another commit that left the job's own files alone is no change.
        """
        if commit not in self._found:
            self._found[commit] = self._changed(commit) if self.today else ""
        return self._found[commit]

    def _changed(self, commit: str) -> str:
        if not commit:
            return "its commit is not known"
        if commit.endswith(DIRTY):
            return f"it ran with changed files (on {_short(commit)})"
        if self._untracked:
            return f"{self._untracked} is not in Git"
        if commit == self.today:
            return ""
        differ = self._git("diff", "--name-only", commit, "--", *self.paths)
        if differ is None:
            return f"it ran with {_short(commit)}, which this repository does not have"
        names = differ.split()
        if not names:
            return ""
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{names[0]}{more} changed since {_short(commit)}"

    @cached_property
    def _untracked(self) -> str:
        found = self._git("ls-files", "--others", "--exclude-standard", "--", *self.paths) or ""
        return found.partition("\n")[0]

    def _git(self, *arguments: str) -> str | None:
        """What Git prints; None where it refuses."""
        command = ["git", *arguments]
        try:
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None


def _paths(job: LoadedJob) -> set[str]:
    """The job's own files, from the repository's root: its YAML, its workspace's, its SQL and its programs."""
    paths = {job.file, job.workspace.document.file}
    for task in job.spec.tasks:
        file = getattr(task, "file", None)
        if task.type == "sql" and file:
            paths.add(str(job.sql_path(file).relative_to(job.workspace.root)))
        if task.type == "spark":
            paths.add(f"{SPARK_FOLDER}/{job.workspace.name}")
        if task.type in ("spark", "python"):
            # A program may import what other workspaces share.
            paths |= {PYTHON_FOLDER, f":(exclude){PYTHON_FOLDER}/forebay", ":(exclude,glob)**/__pycache__/**"}
    return paths


def _short(commit: str) -> str:
    return commit.removesuffix(DIRTY)[:10]
