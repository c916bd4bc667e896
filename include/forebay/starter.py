"""The files `forebay init` writes: small, commented, without mistakes, and ready to run."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from forebay.errors import ForebayError, suggestion
from forebay.project import Project
from forebay.rules import is_name, workspace_name_problem
from forebay.schema import schema_text
from forebay.spec.base import NAME, PATTERN_WORDS

_TEMPLATES = Path(__file__).parent / "templates"
# Where each template goes. Those of a job are in a folder that is named like the type of its task:
# the command offers a type because it has a folder.
_TARGETS = {
    "workspace.yaml": "dags/$workspace/workspace.yaml",
    "jobs.py": "dags/$workspace/jobs.py",
    "job.yaml": "dags/$workspace/$job.yaml",
    "job.sql": "sql/$workspace/$job.sql",
    "spark_job.py": "spark_jobs/$workspace/$job.py",
    "functions.py": "include/$workspace/$job.py",
    "landing.csv": "landing/$workspace/$job/first.csv",
}
_SCHEMAS = "docs/schema"
_COMMENT = re.compile(r"^( *[^# ].*?) +(# .*)$", re.MULTILINE)


def new_workspace(root: Path, name: str) -> list[str]:
    """Writes a workspace with a first job named example; the files written, from the root.

    Raises ForebayError when the name cannot be one or a file is there already: then nothing is written.
    """
    if problem := workspace_name_problem(name):
        raise ForebayError(f"'{name}' cannot be a workspace's name: {problem}.")
    templates = [_TEMPLATES / "workspace.yaml", _TEMPLATES / "jobs.py", *_of_job("sql")]
    written = _write(root, templates, workspace=name, job="example")
    return written + _write_schemas(root)


def new_job(root: Path, workspace: str, name: str, type_name: str = "sql") -> list[str]:
    """Writes a job of one task, of a type with a folder in templates/; otherwise like new_workspace."""
    if not is_name(name) or name == "workspace":
        raise ForebayError(f"'{name}' cannot be a job's name: {PATTERN_WORDS[NAME]}, and not workspace.")
    known = Project(root).workspace_names()
    if workspace not in known:
        create = f" `forebay init workspace {workspace}` makes it." if is_name(workspace) else ""
        raise ForebayError(f"there is no workspace '{workspace}'.{suggestion(workspace, known)}{create}")
    return _write(root, _of_job(type_name), workspace=workspace, job=name)


def _of_job(type_name: str) -> list[Path]:
    """A job's templates: first its YAML, then what the YAML names."""
    return sorted((_TEMPLATES / type_name).glob("*.*"), key=lambda path: path.suffix != ".yaml")


def _write(root: Path, templates: list[Path], **names: str) -> list[str]:
    texts = {}
    for template in templates:
        text = Template(template.read_text("utf-8")).substitute(names)
        file = Template(_TARGETS[template.name]).substitute(names)
        texts[file] = _aligned(text) if file.endswith(".yaml") else text
    there = [file for file in texts if (root / file).exists()]
    if there:
        raise ForebayError(f"already there: {', '.join(there)}. Nothing was written; choose another name.")
    for file, text in texts.items():
        _write_file(root / file, text)
    return list(texts)


def _write_schemas(root: Path) -> list[str]:
    """The schemas by which an editor completes and checks the YAML, where there are none yet."""
    written = []
    for name in ("workspace", "job"):
        file = f"{_SCHEMAS}/{name}.schema.json"
        if not (root / file).exists():
            _write_file(root / file, schema_text(name))
            written.append(file)
    return written


def _write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "x", encoding="utf-8") as stream:
        stream.write(text)


def _aligned(text: str) -> str:
    """YAML with the comments behind its values in one column: names differ in length."""
    width = max((len(found[1]) for found in _COMMENT.finditer(text)), default=0)
    return _COMMENT.sub(lambda found: f"{found[1]:<{width}}  {found[2]}", text)
