"""Everything that can be known about all jobs of a repository without running them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from forebay.check import across, conditions, programs, sql
from forebay.errors import Mistake
from forebay.garbage import not_collected
from forebay.project import Project, Workspace


@dataclass(frozen=True, slots=True)
class Report:
    """What a check looked at and what it found, sorted by file and position."""

    workspaces: int
    jobs: int
    mistakes: tuple[Mistake, ...]

    def below(self, folders: Iterable[str]) -> Report:
        """The same report with only the mistakes in these files or folders, given relative to the root."""
        wanted = [folder.rstrip("/") for folder in folders]
        if not wanted or "." in wanted:
            return self
        kept = (m for m in self.mistakes if any(m.file == w or m.file.startswith(f"{w}/") for w in wanted))
        return Report(self.workspaces, self.jobs, tuple(kept))


def check(root: Path | str) -> list[Mistake]:
    """Every mistake in the workspaces, jobs, SQL and programs below `root`, sorted by file and position."""
    return list(report(root).mistakes)


def report(root: Path | str) -> Report:
    """The same, with how many workspaces and jobs were looked at."""
    # Thousands of syntax trees are made and dropped: looking for cycles among them takes a third of the time.
    with not_collected():
        return _report(root)


def _report(root: Path | str) -> Report:
    project = Project(root)
    workspaces = [project.load_workspace(name) for name in project.workspace_names()]
    mistakes = {mistake for workspace in workspaces for mistake in workspace.mistakes}
    jobs = [job for each in workspaces for _, job in sorted((each.jobs | each.faulty).items())]
    unread = any(len(workspace.broken) > len(workspace.faulty) for workspace in workspaces)
    mistakes.update(across.mistakes(jobs, [each.file for each in workspaces if each.file], unread))
    mistakes.update(sql.mistakes(jobs))
    mistakes.update(conditions.mistakes(jobs))
    mistakes.update(programs.mistakes(jobs))
    mistakes.update(_loaders(project, workspaces))
    count = sum(len(workspace.jobs) + len(workspace.broken) for workspace in workspaces)
    return Report(len(workspaces), count, tuple(sorted(mistakes)))


def _loaders(project: Project, workspaces: Iterable[Workspace]) -> Iterable[Mistake]:
    for workspace in workspaces:
        if not (project.dags / workspace.name / "jobs.py").exists():
            message = "is missing: Airflow finds the jobs through it. Copy jobs.py of another workspace"
            yield Mistake(f"dags/{workspace.name}/jobs.py", 1, 1, "", message)
