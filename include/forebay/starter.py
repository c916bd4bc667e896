"""The files `forebay init` writes: small, commented, and without mistakes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from forebay.errors import ForebayError, suggestion
from forebay.project import Project
from forebay.rules import is_name
from forebay.spec.base import NAME, PATTERN_WORDS

_WORKSPACE = {"workspace.yaml": "dags/$workspace/workspace.yaml", "jobs.py": "dags/$workspace/jobs.py"}
_JOB = {
    "job.yaml": "dags/$workspace/$job.yaml",
    "job.sql": "sql/$workspace/$job.sql",
    "job_spark.py": "spark_jobs/$workspace/$job.py",
}


def new_workspace(root: Path, name: str) -> list[str]:
    """Writes a workspace with a first job named example; the files written, from the root.

    Raises ForebayError when the name cannot be one or a file is there already: then nothing is written.
    """
    if not is_name(name) or name == "forebay":
        raise ForebayError(f"'{name}' cannot be a workspace's name: {PATTERN_WORDS[NAME]}, and not forebay.")
    return _write(root, {**_WORKSPACE, **_JOB}, workspace=name, job="example")


def new_job(root: Path, workspace: str, name: str) -> list[str]:
    """Writes a job in a workspace; otherwise like new_workspace."""
    if not is_name(name) or name == "workspace":
        raise ForebayError(f"'{name}' cannot be a job's name: {PATTERN_WORDS[NAME]}, and not workspace.")
    known = Project(root).workspace_names()
    if workspace not in known:
        create = f" `forebay init workspace {workspace}` makes it." if is_name(workspace) else ""
        raise ForebayError(f"there is no workspace '{workspace}'.{suggestion(workspace, known)}{create}")
    return _write(root, _JOB, workspace=workspace, job=name)


def _write(root: Path, files: dict[str, str], **names: str) -> list[str]:
    folder = resources.files("forebay") / "templates"
    texts = {
        Template(target).substitute(names): Template((folder / name).read_text("utf-8")).substitute(names)
        for name, target in files.items()
    }
    there = [file for file in texts if (root / file).exists()]
    if there:
        raise ForebayError(f"already there: {', '.join(there)}. Nothing was written; choose another name.")
    for file, text in texts.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        with open(root / file, "x", encoding="utf-8") as stream:
            stream.write(text)
    return list(texts)
