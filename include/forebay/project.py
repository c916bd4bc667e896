"""Finds and loads workspaces and jobs: from a folder of YAML files to specs, or to the mistakes in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from forebay import rules
from forebay.errors import ForebayError, JobSpecError, Mistake, suggestion
from forebay.files import PYTHON_FOLDER, SPARK_FOLDER, SQL_FOLDER, WorkspaceFiles
from forebay.source import MAX_MISTAKES, Document, Step, read_document
from forebay.spec.base import NAME, PATTERN_WORDS
from forebay.spec.job import JobSpec
from forebay.spec.mistakes import validate
from forebay.spec.partial import readable_part
from forebay.spec.workspace import Limits, WorkspaceSpec

WORKSPACE_FILE = "workspace.yaml"


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A workspace without its jobs: its name and what workspace.yaml says.

    One that is not `complete` has a workspace.yaml with mistakes: its spec allows everything in its place.
    """

    name: str
    spec: WorkspaceSpec
    root: Path
    document: Document
    complete: bool = True

    def owns(self, namespace: str) -> bool:
        """Whether its jobs may write this namespace: its name, one that begins with it, or one it lists."""
        own = namespace == self.name or namespace.startswith(f"{self.name}_")
        return own or namespace in self.spec.namespaces or not self.complete


def claim(namespace: str, workspace: str, listed: Collection[str] = ()) -> int:
    """How strong a workspace's claim on a namespace is; 0 is none. The strongest owns it, of equals the first by name.

    Its own name comes first, then what its workspace.yaml lists, then a name that begins with the workspace's and _:
    where both `sales` and `sales_eu` are workspaces, `sales_eu_raw` is the second's, unless somebody lists it.
    """
    if namespace == workspace:
        return 2000
    if namespace in listed:
        return 1000
    return len(workspace) if namespace.startswith(f"{workspace}_") else 0


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job; where it has mistakes, the paths of its `wrong` parts, which its spec may leave out."""

    workspace: WorkspaceFile
    name: str
    spec: JobSpec
    path: Path
    text: str
    document: Document
    wrong: frozenset[tuple[Step, ...]] = frozenset()

    def intact(self, *path: Step) -> bool:
        """Whether the spec says at `path` what was meant: neither the part there nor one around it is wrong."""
        return not self.wrong or all(path[:length] not in self.wrong for length in range(len(path) + 1))

    @property
    def dag_id(self) -> str:
        """The job's full name."""
        return f"{self.workspace.name}.{self.name}"

    @property
    def file(self) -> str:
        """The YAML's path from the repository's root."""
        return self.document.file

    @property
    def writes(self) -> tuple[str, ...]:
        """Every table the job writes, once."""
        return tuple(dict.fromkeys(table for task in self.spec.tasks for table in task.writes))

    @property
    def rewrites(self) -> tuple[str, ...]:
        """Every table whose files the job writes anew and whose rows it leaves, once."""
        return tuple(dict.fromkeys(table for task in self.spec.tasks for table in task.rewrites))

    @property
    def keeps(self) -> tuple[str, ...]:
        """Every table that its tasks write beside those that runs publish, once."""
        return tuple(dict.fromkeys(table for task in self.spec.tasks for table in task.keeps(self.workspace)))

    def sql_path(self, name: str) -> Path:
        """The file of a sql task."""
        return self.workspace.root / SQL_FOLDER / self.workspace.name / name

    def spark_path(self, name: str) -> Path:
        """The program of a spark task."""
        return self.workspace.root / SPARK_FOLDER / self.workspace.name / name

    def python_path(self, name: str) -> Path:
        """A module file of a python task."""
        return self.workspace.root / PYTHON_FOLDER / self.workspace.name / name


@dataclass(frozen=True, slots=True)
class Workspace:
    """A loaded workspace: its good jobs by name, and the mistakes of the others.

    `broken` names every job that cannot run; `faulty` holds those of them that can be read, as far as they can.
    """

    file: WorkspaceFile | None
    name: str
    jobs: dict[str, LoadedJob]
    mistakes: tuple[Mistake, ...]
    broken: tuple[str, ...]
    faulty: dict[str, LoadedJob]

    @property
    def spec(self) -> WorkspaceSpec | None:
        """What workspace.yaml says; None when it has a mistake."""
        return self.file.spec if self.file else None


class Project:
    """A repository with a dags/ folder. Remembers the files it has listed: make a new one to see changes."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(os.path.realpath(root))
        self._files: dict[str, WorkspaceFiles] = {}

    @property
    def dags(self) -> Path:
        """The folder of all workspaces."""
        return self.root / "dags"

    def workspace_names(self) -> list[str]:
        """Every folder of dags/ that holds YAML or a loader, sorted."""
        if not self.dags.is_dir():
            return []
        with os.scandir(self.dags) as entries:
            folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "_")))
        return [name for name in folders if _is_workspace(self.dags / name)]

    def job_names(self, workspace: str) -> list[str]:
        """The names of a workspace's YAML files, good or broken, sorted."""
        return [name[:-5] for name in _yaml_files(self.dags / workspace) if name.endswith(".yaml")]

    def has_job(self, workspace: str, job: str) -> bool:
        """Whether a YAML file of this job exists."""
        return f"{job}.yaml" != WORKSPACE_FILE and (self.dags / workspace / f"{job}.yaml").is_file()

    def files(self, workspace: str) -> WorkspaceFiles:
        """The SQL, Spark and Python files of a workspace."""
        if workspace not in self._files:
            self._files[workspace] = WorkspaceFiles(self.root, workspace)
        return self._files[workspace]

    def load_workspace_file(self, name: str) -> WorkspaceFile:
        """workspace.yaml of a workspace; raises JobSpecError."""
        path = self.dags / name / WORKSPACE_FILE
        file = os.path.relpath(path, self.root)
        if problem := rules.workspace_name_problem(name):
            message = f"a workspace cannot be called '{name}': {problem}. Rename the folder"
            raise JobSpecError([Mistake(file, 1, 1, "", message)])
        document = self._read(
            path, "a workspace needs one. `forebay init workspace NAME` writes one to start from"
        )
        spec, mistakes = validate(WorkspaceSpec, document)
        if spec is None:
            raise JobSpecError(mistakes)
        return WorkspaceFile(name, spec, self.root, document)

    def load_workspace(self, name: str) -> Workspace:
        """All jobs of a workspace: a broken one never hides its siblings, nor workspace.yaml the jobs' mistakes."""
        jobs: dict[str, LoadedJob] = {}
        faulty: dict[str, LoadedJob] = {}
        broken: list[str] = []
        mistakes: list[Mistake] = []
        try:
            workspace = self.load_workspace_file(name)
        except JobSpecError as error:
            workspace = self._stand_in(name)
            mistakes.extend(error.mistakes)
        for file_name in _yaml_files(self.dags / name):
            job_name = file_name.rpartition(".")[0]
            try:
                job, found = self._load(workspace, file_name)
            except JobSpecError as error:
                mistakes.extend(error.mistakes)
                broken.append(job_name)
                continue
            if found or not workspace.complete:
                mistakes.extend(found)
                broken.append(job_name)
                faulty[job_name] = job
            else:
                jobs[job_name] = job
        file = workspace if workspace.complete else None
        return Workspace(file, name, jobs, tuple(mistakes), tuple(broken), faulty)

    def _stand_in(self, name: str) -> WorkspaceFile:
        """A workspace that allows everything, so that its jobs can be read although workspace.yaml cannot."""
        spec = WorkspaceSpec(owner="nobody", limits=Limits(max_concurrent_runs=1000))
        document = Document(os.path.join("dags", name, WORKSPACE_FILE), "", {}, (), {})
        return WorkspaceFile(name, spec, self.root, document, complete=False)

    def load_job(self, workspace: str, job: str) -> LoadedJob:
        """One job and nothing else; raises JobSpecError, or ForebayError when there is no such job."""
        if not self.has_job(workspace, job):
            known = (f"{name}.{each}" for name in self.workspace_names() for each in self.job_names(name))
            raise ForebayError(f"there is no job {workspace}.{job}.{suggestion(f'{workspace}.{job}', known)}")
        loaded, mistakes = self._load(self.load_workspace_file(workspace), f"{job}.yaml")
        if mistakes:
            raise JobSpecError(mistakes)
        return loaded

    def _load(self, workspace: WorkspaceFile, file_name: str) -> tuple[LoadedJob, list[Mistake]]:
        """A job as far as it can be read, and its mistakes; raises JobSpecError when nothing of it can."""
        path = self.dags / workspace.name / file_name
        name, _, ending = file_name.rpartition(".")
        file = os.path.relpath(path, self.root)
        if ending != "yaml":
            raise JobSpecError([Mistake(file, 1, 1, "", f"is not read. Rename it to {name}.yaml")])
        if not rules.is_name(name):
            message = f"a job is named like its file: {PATTERN_WORDS[NAME]}. Rename the file"
            raise JobSpecError([Mistake(file, 1, 1, "", message)])
        document = self._read(path, "")
        spec, mistakes = validate(JobSpec, document)
        wrong: set[tuple[Step, ...]] = set()
        if spec is None:
            if len(mistakes) > MAX_MISTAKES:
                raise JobSpecError(mistakes)
            spec, wrong = readable_part(document)
        job = LoadedJob(workspace, name, spec, path, document.text, document, frozenset(wrong))
        problems = rules.job_problems(job, self)
        if not problems:
            return job, mistakes
        # What is wrong already is not wrong twice.
        places = {(mistake.line, mistake.column) for mistake in mistakes}
        found = (document.mistake(where, message) for where, message in problems)
        mistakes += (mistake for mistake in found if (mistake.line, mistake.column) not in places)
        return replace(job, wrong=frozenset(wrong.union(where for where, _ in problems))), sorted(mistakes)

    def _read(self, path: Path, missing: str) -> Document:
        file = os.path.relpath(path, self.root)
        if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(path.parent):
            raise JobSpecError(
                [Mistake(file, 1, 1, "", "is a link that leads outside its folder. Put the file itself here")]
            )
        try:
            return read_document(path, self.root)
        except FileNotFoundError as error:
            raise JobSpecError([Mistake(file, 1, 1, "", f"is missing: {missing}")]) from error
        except OSError as error:
            raise JobSpecError([Mistake(file, 1, 1, "", f"cannot be read: {error.strerror}")]) from error


def find_root(start: Path | str) -> Path:
    """The nearest folder at or above `start` with a dags/ folder; ForebayError when there is none."""
    here = Path(os.path.realpath(start))
    for folder in (here, *here.parents):
        if (folder / "dags").is_dir():
            return folder
    raise ForebayError(f"no folder with dags/ at or above {start}. Go to your repository, or start one with "
                       "`forebay init workspace NAME`.")  # fmt: skip


def load_job(path: Path | str) -> LoadedJob:
    """The job of one YAML file, dags/<workspace>/<job>.yaml; raises JobSpecError."""
    file = Path(os.path.abspath(path))
    project = Project(file.parent.parent.parent)
    return project.load_job(file.parent.name, file.stem)


def _yaml_files(folder: Path) -> Sequence[str]:
    """The job files of a workspace's folder, sorted; .yml too, because they deserve a message."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith((".yaml", ".yml"))]
    except OSError:
        return []
    return sorted(name for name in names if name != WORKSPACE_FILE and not name.startswith("."))


def _is_workspace(folder: Path) -> bool:
    return bool(_yaml_files(folder)) or (folder / WORKSPACE_FILE).exists() or (folder / "jobs.py").exists()
