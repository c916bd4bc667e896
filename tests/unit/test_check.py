"""The check command: its forms of output, its exit codes, and the places inside YAML it points at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.check import check, report
from forebay.check.sql import source_of
from forebay.cli.check import command
from forebay.project import Project

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "dags/sales"
    folder.mkdir(parents=True)
    (folder / "workspace.yaml").write_text("owner: sales-team\n")
    (folder / "jobs.py").write_text("")
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text("tasks: [{key: a, type: nothing}]\n")
    return tmp_path


def test_the_examples_are_without_mistakes() -> None:
    assert check(REPOSITORY) == []


def test_json_and_paths(root: Path) -> None:
    result = CliRunner().invoke(command, [str(root / "dags/sales/b.yaml"), "--output", "json"])
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["jobs"] == 2
    assert [(each["file"], each["line"], each["column"], each["where"]) for each in found["mistakes"]] == [
        ("dags/sales/b.yaml", 1, 24, "tasks[0].type")
    ]


def test_exit_codes(root: Path) -> None:
    assert CliRunner().invoke(command, [str(root)]).exit_code == 1
    assert CliRunner().invoke(command, [str(root / "nothing")]).exit_code == 2
    for name in ("a", "b"):
        (root / f"dags/sales/{name}.yaml").unlink()
    result = CliRunner().invoke(command, [str(root)])
    assert result.exit_code == 0
    assert result.output == "0 jobs in 1 workspace checked: no mistakes.\n"


@pytest.mark.parametrize(
    ("yaml", "line", "column"),
    [
        ("sql: SELECT x FROM", 5, 10),
        ("sql: 'SELECT x FROM'", 5, 11),
        ("sql: |\n      SELECT x FROM", 6, 7),
        ("sql: |\n\n        SELECT x\n        FROM", 6, 9),
    ],
)
def test_sql_inside_yaml_begins_at_its_own_place(root: Path, yaml: str, line: int, column: int) -> None:
    text = f"tasks:\n  - key: a\n    type: sql\n    table: sales.a\n    {yaml}\n"
    (root / "dags/sales/a.yaml").write_text(text)
    source = source_of(Project(root).load_job("sales", "a"), 0)
    assert (source.line_offset + 1, source.column_offset + 1) == (line, column)


def test_a_terminal_is_not_commanded_by_a_file(root: Path) -> None:
    (root / "dags/sales/a.yaml").write_text('"\\e[2Jx": "\u009b31m"\n')
    output = CliRunner().invoke(command, [str(root)]).output
    assert all(char.isprintable() or char == "\n" for char in output)


def test_report_counts_broken_jobs_too(root: Path) -> None:
    found = report(root)
    assert (found.workspaces, found.jobs, len(found.mistakes)) == (1, 2, 2)
