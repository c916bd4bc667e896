"""The page about workspace.yaml and the job's YAML, made from the models that read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forebay.checks.names import RULES
from forebay.spec import base
from forebay.spec.base import PATTERN_WORDS, duration_text
from forebay.spec.job import JobSpec
from forebay.spec.notifications import (
    Deadline,
    EmailNotification,
    Notifications,
    NotifierNotification,
    TaskNotifications,
)
from forebay.spec.parameters import Parameter
from forebay.spec.schedule import AfterSchedule, CronSchedule
from forebay.spec.table import PARTITION, SORT
from forebay.spec.task import BaseTask, ForEach
from forebay.spec.text import RUN_VALUES
from forebay.spec.workspace import Connections, Limits, WorkspaceSpec
from forebay.tasks import TASK_TYPES
from forebay.tasks.checks import LABEL, Expectation, Reference
from forebay.tasks.ingest import TYPE_NAME, CsvOptions, IngestOptions
from forebay.tasks.run_job import JOB

KINDS = {
    base.NAME: "name",
    base.KEY: "key",
    base.TABLE: "table",
    base.COLUMN: "column",
    base.CONNECTION: "connection id",
    base.FUNCTION: "dotted name",
    base.FILE: "file name",
    base.SIZE: "size",
    PARTITION: "partition",
    SORT: "sort column",
    JOB: "job",
    LABEL: "text without a comma",
}
SECTIONS: dict[type[BaseModel], str] = {
    Connections: "connections",
    Limits: "limits",
    CronSchedule: "schedule at times",
    AfterSchedule: "schedule after tables",
    Parameter: "parameters",
    Deadline: "deadline",
    Notifications: "notifications of a run",
    TaskNotifications: "notifications of a task",
    EmailNotification: "notification by e-mail",
    NotifierNotification: "notification by a notifier",
    ForEach: "for_each",
    IngestOptions: "options of ingest",
    CsvOptions: "options of CSV files",
    Expectation: "rules of a check",
    Reference: "column of another table",
}
"""The heading of each model that is part of another."""

_HEAD = """# The YAML files

A workspace is a folder `dags/<workspace>/` with `workspace.yaml`, `jobs.py` and one YAML file per job.
A job's name is its file's name; in Airflow it is the dag `<workspace>.<job>`.

An editor checks and completes both files when their first line is
`# yaml-language-server: $schema=../../docs/schema/job.schema.json` (or `workspace.schema.json`);
`forebay schema job` prints the same schema.

YAML is data here: no tags, no anchors that grow, no merge keys, no variables, no duplicate keys. `yes`, `no`, `on`
and `off` are texts. An unknown key is a mistake.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD, _kinds(), "## workspace.yaml\n", _table(WorkspaceSpec)]
    parts += ["## A job\n", _table(JobSpec), "## Every task\n", _table(BaseTask)]
    for name, task in TASK_TYPES.items():
        about = (task.__doc__ or "").strip().replace("\n    ", "\n")
        parts.append(f"## Tasks of type {name}\n\n{about}\n\n```yaml\n{task.example.rstrip()}\n```\n")
        parts.append(_table(task, without=set(BaseTask.model_fields)))
    for model, title in SECTIONS.items():
        about = (model.__doc__ or "").strip()
        parts.append(f"## {title}\n\n{_escaped(about)}\n\n{_table(model)}")
        if model is Expectation:
            parts.append(_rules())
    return "\n".join(parts)


def _kinds() -> str:
    rows = ["## Kinds of value\n", "| kind | what it is |", "|---|---|"]
    rows += [f"| {kind} | {_escaped(PATTERN_WORDS[pattern])} |" for pattern, kind in KINDS.items()]
    rows.append("| duration | 30s, 5m, 2h, 1d, 1h30m, or whole seconds; 1 second to 366 days |")
    rows.append("| value | a single text, number, true or false |")
    names = ", ".join(f"`{name}`" for name in RUN_VALUES)
    rows.append(
        "\nValues of a run stand as `:name` in SQL, where they are typed literals, and as `{name}` in the texts whose "
        f"description says so (`{{{{` and `}}}}` are the braces themselves). They are the job's parameters, {names}, "
        "and `item` in a task with for_each.\n"
    )
    return "\n".join(rows)


def _rules() -> str:
    """The short names of rules, what each takes, and its name in Great Expectations."""
    rows = ["| rule | what holds | keys | in Great Expectations |", "|---|---|---|---|"]
    for name, short in RULES.items():
        keys = ", ".join(f"`{key}`" for key in short.keys)
        about = short.about + ("" if short.row_level else " (of the whole table)")
        rows.append(f"| `{name}` | {_escaped(about)} | {keys} | {f'`{short.gx}`' if short.gx else ''} |")
    return "\n".join(rows) + "\n"


def _table(model: type[BaseModel], without: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    schema = model.model_json_schema(by_alias=True)
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in without - {"type"}:
            continue
        key = field.alias or name
        words = _words(schema["properties"][key], schema.get("$defs", {}))
        rows.append(f"| `{key}` | {words} | {_default(field)} | {_escaped(field.description or '')} |")
    return "\n".join(rows) + "\n"


def _words(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return _reference(schema["$ref"].rpartition("/")[2], definitions)
    if schema.get("examples") == base.DURATION_SCHEMA["examples"]:
        return "duration"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            words = [_words(one, definitions) for one in schema[union]]
            return " or ".join(dict.fromkeys(word for word in words if word != "null"))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_words(schema['items'], definitions)}"
    if kind == "object":
        patterns = schema.get("patternProperties", {})
        values = next(iter(patterns.values()), schema.get("additionalProperties"))
        key = KINDS.get(next(iter(patterns), ""), "text")
        return f"mapping of {key} to {_words(values, definitions)}" if isinstance(values, dict) else "mapping"
    if isinstance(kind, list):
        return "value"
    if kind in ("integer", "number"):
        low, high = schema.get("minimum"), schema.get("maximum")
        word = "whole number" if kind == "integer" else "number"
        if low is None and high is None:
            return word
        return f"{word}, {low} to {high}" if high is not None else f"{word} from {low}"
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "null":
        return "null"
    if schema.get("pattern") == TYPE_NAME:
        return "type of Trino"
    return KINDS.get(schema.get("pattern", ""), "text") if kind == "string" else "anything"


def _reference(name: str, definitions: dict[str, Any]) -> str:
    title = next((title for model, title in SECTIONS.items() if model.__name__ == name), None)
    if title:
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    if name.endswith("Task") or name == "Task":
        return "task"
    return _words(definitions[name], definitions) if name in definitions else "anything"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    if isinstance(value, timedelta):
        return f"`{duration_text(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or isinstance(value, BaseModel) or value in ((), {}, ""):
        return ""
    return f"`{value}`"


def _escaped(text: str) -> str:
    for char in "|*<":
        text = text.replace(char, f"\\{char}")
    return text.replace("\n", " ")
