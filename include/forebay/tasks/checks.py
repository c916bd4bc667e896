"""Checks a table's rows against rules; refused rows can go into quarantine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from forebay.checks.names import RULES, WITHOUT_WHERE, Short, gx_expectations, snake
from forebay.checks.rules import QUARANTINE
from forebay.errors import suggestion
from forebay.spec.base import (
    PATTERN_WORDS,
    Closed,
    ColumnName,
    Many,
    Number,
    Scalar,
    ShortForm,
    Some,
    TableName,
    Text,
)
from forebay.spec.task import BaseTask, LostTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project, WorkspaceFile

LABEL = r"^[^,\x00-\x1f]+$"
PATTERN_WORDS[LABEL] = "a text without a comma or line break"
RuleName = Literal[
    "not_null", "null", "unique", "between", "in", "not_in", "matches", "not_matches", "length",
    "references", "sql", "row_count", "column_exists", "columns", "type",
    "min", "max", "mean", "median", "stddev", "sum", "distinct",
]  # fmt: skip
_COMMON = frozenset(("name", "rule", "expectation", "arguments", "severity", "mostly", "where"))
_OURS = {
    "row_condition": "is written as where here, in SQL",
    "condition_parser": "is written as where here, in SQL",
    "result_format": "is not chosen here: the task's log and check_results say what was found",
    "catch_exceptions": "is not chosen here",
}


class Reference(Closed):
    """A column of another table, in which every value must occur."""

    table: TableName = Field(description="The other table, as namespace.table.")
    column: ColumnName = Field(description="Its column.")


class Expectation(Closed):
    """One rule: a short name with its keys, or any expectation of Great Expectations with its arguments."""

    name: Annotated[str, StringConstraints(pattern=LABEL, max_length=100)] | None = Field(
        default=None, description="What the rule is called in logs, results and quarantine; no comma."
    )
    rule: RuleName | None = Field(default=None, description="Short name of the rule; see the list of rules.")
    expectation: Text | None = Field(
        default=None,
        description="In place of rule: a GX expectation, such as expect_column_values_to_be_json_parseable. "
        "Its arguments stand beside it.",
    )
    column: ColumnName | None = Field(default=None, description="The column it is about.")
    columns: Many[ColumnName] = Field(default=(), description="Several columns, for unique and columns.")
    min: Scalar = Field(default=None, description="Smallest value allowed; a date or time as text.")
    max: Scalar = Field(default=None, description="Largest value allowed; a date or time as text.")
    strict_min: bool = Field(default=False, description="Whether min itself is refused.")
    strict_max: bool = Field(default=False, description="Whether max itself is refused.")
    values: Many[Scalar] = Field(default=(), description="The list, for in and not_in.")
    pattern: Text | None = Field(
        default=None,
        description="Regular expression (Python's), found anywhere in the text; ^…$ for the whole text.",
    )
    to: Reference | None = Field(default=None, description="Where the values must occur, for references.")
    sql: Text | None = Field(
        default=None,
        description="Condition in Trino's SQL, for rule: sql; :name stands for a value of the run.",
    )
    type: Text | None = Field(default=None, description="Type of the column, as Trino writes it.")
    exact: bool = Field(default=True, description="Whether other columns are refused, for columns.")
    severity: Literal["fail", "warn", "quarantine"] = Field(
        default="fail",
        description="What a refusal does: fail the task, warn in its log, or quarantine (the refused rows move "
        "to <table>__quarantine).",
    )
    mostly: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="Share of the rows that must be good, 0 to 1; all of them as default."
    )
    where: Text | None = Field(
        default=None, description="Only rows for which this SQL condition holds; :name stands for a value."
    )
    arguments: dict[str, Any] = Field(
        default={}, description="Arguments of a GX expectation; they may also stand beside it."
    )

    @property
    def row_level(self) -> bool:
        """Whether it says of each row alone that it is refused."""
        if self.rule is not None:
            return RULES[self.rule].row_level
        known = gx_expectations().get(snake(self.expectation or ""))
        return known is None or known.row_level

    def problems(self) -> Iterator[Problem]:
        """Everything its keys say wrong to each other; paths are below the rule."""
        if (self.rule is None) == (self.expectation is None):
            yield (), "needs exactly one of rule (a short name) and expectation (a name of GX)"
            return
        yield from self._short(self.rule, RULES[self.rule]) if self.rule is not None else self._gx()
        what = self.rule or snake(self.expectation or "")
        if self.severity == "quarantine" and not self.row_level:
            yield (
                ("severity",),
                f"{what} refuses no single rows, so there is nothing to move. Use fail or warn",
            )
        if self.mostly is not None and not self.row_level:
            yield ("mostly",), f"{what} refuses no single rows, so it has no share of good ones. Remove it"
        if self.where is not None and self.rule in WITHOUT_WHERE:
            yield ("where",), f"{what} is about the table's columns, not about rows. Remove it"

    def _short(self, name: str, short: Short) -> Iterator[Problem]:
        given = self.model_fields_set - _COMMON
        takes = f"It takes {', '.join(short.keys)}"
        for key in sorted(given - short.keys.keys()):
            yield (key,), f"rule {name} takes no {key}. {takes}"
        if "arguments" in self.model_fields_set:
            yield ("arguments",), f"is for a GX expectation; rule {name} takes its keys. {takes}"
        given &= {key for key in given if getattr(self, key) not in (None, ())}
        for key in short.required:
            if key not in given:
                yield (), f"rule {name} needs {key}: {_about(key)}"
        if short.either and given.isdisjoint(short.either):
            yield (), f"rule {name} needs {' or '.join(short.either)}"
        if name == "unique" and {"column", "columns"} <= given:
            yield ("column",), "rule unique takes column or columns, not both"
        try:
            if self.min is not None and self.max is not None and self.min > self.max:  # type: ignore[operator]
                yield ("min",), f"is above max ({self.max}), so no value could be right"
        except TypeError:
            yield ("min",), f"is of another kind than max ({self.max})"
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except (re.error, RecursionError, OverflowError) as error:
                yield ("pattern",), f"is no regular expression: {error}"

    def _gx(self) -> Iterator[Problem]:
        name = snake(self.expectation or "")
        known = gx_expectations()
        if name not in known:
            near = suggestion(name, known, "")
            yield (
                ("expectation",),
                (f"Great Expectations has no '{name[:100]}'.{near} A short name is written as rule:"),
            )
            return
        found = known[name]
        if found.note:
            yield ("expectation",), found.note
            return
        ours = self.model_fields_set - _COMMON
        arguments = {*self.arguments, *ours}
        for key in sorted(arguments - set(found.arguments)):
            about = (
                _OURS.get(key) or f"is no argument of {name}.{suggestion(key, found.arguments, 'It takes')}"
            )
            yield ((key,) if key in ours else ("arguments", key)), about
        missing = [key for key in found.required if key not in arguments]
        if missing:
            yield (), f"{name} needs {', '.join(missing)}"


def _about(key: str) -> str:
    text = Expectation.model_fields[key].description or ""
    return text[:1].lower() + text[1:].rstrip(".").split(";")[0]


def _beside(value: object) -> object:
    """The arguments of a GX expectation may stand beside its name; here they are one mapping."""
    if not isinstance(value, dict) or "expectation" not in value or "rule" in value:
        return value
    own = {key: each for key, each in value.items() if key in Expectation.model_fields}
    beside = {key: each for key, each in value.items() if key not in Expectation.model_fields}
    given = own.get("arguments", {})
    if beside and isinstance(given, dict):
        own["arguments"] = {**given, **beside}
    return own


_ANY_GX = ShortForm({"type": "object", "required": ["expectation"], "properties": {"expectation": {"type": "string"}}})  # fmt: skip
Rules = Some[Annotated[Expectation, BeforeValidator(_beside), _ANY_GX]]


class Task(BaseTask):
    """Checks a table against rules; refused rows fail the task, are warned of, or go into quarantine.

    What was found is in the task's log and, row by row, in the table <namespace>.check_results.
    """

    example: ClassVar[str] = """\
key: trust
type: checks
table: sales.totals
expect:
  - {column: carrier, rule: not_null}
  - {column: flights, rule: between, min: 1, max: 5000}
  - {rule: row_count, min: 1, severity: warn}
"""

    type: Literal["checks"] = Field(description="Check a table.")
    table: TableName = Field(description="The table, as namespace.table.")
    expect: Rules = Field(description="The rules.")

    @property
    def quarantine(self) -> str | None:
        """The table refused rows go to; None when no rule asks for it."""
        moves = any(each.severity == "quarantine" for each in self.expect)
        return f"{self.table}{QUARANTINE}" if moves else None

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.table, self.quarantine) if self.quarantine else ()

    def keeps(self, workspace: WorkspaceFile) -> tuple[str, ...]:
        from forebay.checks.results import TABLE

        namespace = self.table.partition(".")[0]
        own = namespace if workspace.owns(namespace) else workspace.name
        return f"{own}.{TABLE}", f"{self.table}{QUARANTINE}"

    @property
    def reads(self) -> tuple[str, ...]:
        others = (each.to.table for each in self.expect if each.to is not None)
        return tuple(dict.fromkeys((self.table, *others)))

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        for index, each in enumerate(self.expect):
            for path, message in each.problems():
                # Arguments that stand beside the expectation have no `arguments` in the text.
                if path[:1] == ("arguments",) and "arguments" not in self._written(job, index):
                    path = path[1:]
                yield ("expect", index, *path), message
        others = [task for task in job.spec.tasks if task is not self]
        lost = not job.intact("tasks") or any(isinstance(task, LostTask) for task in others)
        if lost or any(self.table in task.writes for task in others):
            return
        for index, each in enumerate(self.expect):
            if each.severity == "quarantine" and each.row_level:
                yield (
                    ("expect", index, "severity"),
                    (
                        f"rows are taken out of a table by the job that writes it, and no other task here writes "
                        f"{self.table}. Use fail or warn, or check it in the job that writes it"
                    ),
                )

    def _written(self, job: LoadedJob, index: int) -> dict[str, Any]:
        """The rule as the YAML has it."""
        for task in job.document.data.get("tasks", ()):
            if isinstance(task, dict) and task.get("key") == self.key:
                rules = task.get("expect")
                if isinstance(rules, list) and index < len(rules) and isinstance(rules[index], dict):
                    return dict(rules[index])
        return {}

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.checks import build

        return build(self, job)
