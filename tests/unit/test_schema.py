"""The committed JSON Schemas are those of the models, and accept what the models accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from forebay.cli.schema import command
from forebay.schema import SchemaName, json_schema, schema_text
from forebay.source import parse_document
from forebay.tasks import TASK_TYPES

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("dags/*/*.yaml"), *ROOT.glob("tests/cases/good/dags/*/*.yaml")]


@pytest.mark.parametrize("name", ["job", "workspace"])
def test_committed_schema_is_current(name: SchemaName) -> None:
    committed = ROOT / f"docs/schema/{name}.schema.json"
    message = f"run: forebay schema {name} > docs/schema/{name}.schema.json"
    assert committed.read_text(encoding="utf-8") == schema_text(name), message
    Draft202012Validator.check_schema(json_schema(name))
    assert CliRunner().invoke(command, [name]).output == schema_text(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_examples_fit_the_schema(path: Path) -> None:
    name: SchemaName = "workspace" if path.name == "workspace.yaml" else "job"
    errors = Draft202012Validator(json_schema(name)).iter_errors(
        parse_document(path.read_bytes(), path.name).data
    )
    assert [error.message for error in errors] == []


@pytest.mark.parametrize("name", TASK_TYPES)
def test_task_examples_fit_the_schema(name: str) -> None:
    task = parse_document(TASK_TYPES[name].example.encode(), name).data
    assert Draft202012Validator(json_schema("job")).is_valid({"tasks": [task]})


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"tasks": []},
        {"tasks": [{"key": "a", "type": "nothing"}]},
        {"tasks": [{"key": "a", "type": "spark", "application": "x.py", "sql": "SELECT 1"}]},
        {"tasks": [{"key": "a", "type": "sql"}]},
        {"tasks": [{"key": "A", "type": "spark", "application": "x.py"}]},
        {"tasks": [{"key": "a", "type": "spark", "application": "x.py"}], "schedule": {}},
    ],
)
def test_schema_refuses_what_check_refuses(job: dict[str, Any]) -> None:
    assert not Draft202012Validator(json_schema("job")).is_valid(job)


@pytest.mark.parametrize(
    "schedule", [None, "none", "continuous", "0 5 * * *", {"after": ["a.b"]}, {"cron": "@daily"}]
)
def test_schema_knows_every_form_of_a_schedule(schedule: object) -> None:
    job = {"schedule": schedule, "tasks": [{"key": "a", "type": "spark", "application": "x.py"}]}
    assert Draft202012Validator(json_schema("job")).is_valid(job)
