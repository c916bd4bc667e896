"""A query made a job: the YAML and the SQL file to commit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from forebay.check import check
from forebay.errors import ForebayError, JobSpecError
from forebay.project import WORKSPACE_FILE, Project
from forebay.query.request import Given, asked, value_of
from forebay.rules import is_name
from forebay.spec.base import NAME, PATTERN_WORDS

MAX_NAME = 60

_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"), (int, "integer"), (Decimal, "number"), (datetime, "datetime"), (date, "date"), (str, "string"),
)  # fmt: skip


def files(
    root: Path,
    workspace: str,
    job: str,
    table: str,
    sql: str,
    given: Mapping[str, Given],
    schedule: str = "",
) -> dict[str, str]:
    """The texts of the job's files by their paths in the repository, as `forebay check` accepts them.

    Raises ForebayError where the job is there already, and JobSpecError with what `forebay check` says of it.
    """
    if not is_name(job) or len(job) > MAX_NAME or f"{job}.yaml" == WORKSPACE_FILE:
        # It becomes a part of paths.
        raise ForebayError(
            f"A job cannot be called '{job[:MAX_NAME]}': its name is {PATTERN_WORDS[NAME]}, {MAX_NAME} characters at most, "
            "and not 'workspace'."
        )
    project = Project(root)
    if workspace not in project.workspace_names():
        raise ForebayError(f"There is no workspace '{workspace}' in the repository's dags folder.")
    if project.has_job(workspace, job):
        raise ForebayError(f"dags/{workspace}/{job}.yaml is there already: choose another name.")
    parameters = asked(sql).parameters
    made = {
        f"dags/{workspace}/{job}.yaml": _yaml(
            job, table, schedule, {name: given.get(name) for name in parameters}
        ),
        f"sql/{workspace}/{job}.sql": sql.strip().rstrip(";").rstrip() + "\n",
    }
    if mistakes := _mistakes(project, workspace, made):
        raise JobSpecError(mistakes)
    return made


def _yaml(job: str, table: str, schedule: str, values: Mapping[str, Given | None]) -> str:
    lines = [
        "description: From a query of the SQL page.",
        f"schedule: {_text(schedule) if schedule else 'none'}",
    ]
    if values:
        lines += ["parameters:", *(f"  {name}: {_parameter(name, given)}" for name, given in values.items())]
    lines += [
        "tasks:", f"  - key: {job}", "    type: sql", f"    file: {job}.sql", f"    table: {_text(table)}",
        "    mode: overwrite",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _parameter(name: str, given: Given | None) -> str:
    if given is None or given.text is None:
        return "{type: string}"
    value = value_of(name, given)
    kind = next(word for cls, word in _TYPES if isinstance(value, cls))
    default = str(value).lower() if kind == "boolean" else str(value)
    return f"{{type: {kind}, default: {default if kind in ('boolean', 'integer', 'number') else _text(default)}}}"


def _text(value: str) -> str:
    # A JSON string is one in YAML too.
    return json.dumps(value, ensure_ascii=False)


def _mistakes(project: Project, workspace: str, made: Mapping[str, str]) -> list:  # type: ignore[type-arg]
    """What `forebay check` says of the job in its workspace, other jobs left out."""
    with tempfile.TemporaryDirectory(prefix="forebay-job-") as folder:
        for path, text in made.items():
            place = Path(folder, path).resolve()
            if not place.is_relative_to(Path(folder).resolve()):
                raise ForebayError(f"{path} would lie outside the repository.")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for name in (WORKSPACE_FILE, "jobs.py"):
            there = project.dags / workspace / name
            if there.is_file():
                (Path(folder) / "dags" / workspace / name).write_bytes(there.read_bytes())
        return list(check(Path(folder)))
