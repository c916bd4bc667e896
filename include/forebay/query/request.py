"""What a person asks: one SELECT in Trino's dialect, its values, and whether they may read what it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from forebay import sqltext
from forebay.errors import ForebayError, JobSpecError, Mistake
from forebay.query.process import Engine, Job
from forebay.sqltext import Scalar

FILE = "SQL"
"""What mistakes call the text that somebody typed."""

TYPES = ("automatic", "string", "integer", "number", "boolean", "date", "datetime")
"""Of a parameter's value, as in a job's YAML; `automatic` goes by how it looks."""

MAX_LENGTH = 200_000


class NotAllowed(ForebayError):
    """The person may not read a table that the query reads."""


@dataclass(frozen=True)
class Given:
    """A parameter's value as it was typed. None is NULL."""

    text: str | None
    type: str = "automatic"


@dataclass(frozen=True)
class Asked:
    """A text that can be run once its parameters have values."""

    statement: sqltext.Statement

    @property
    def reads(self) -> tuple[str, ...]:
        return self.statement.reads

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of its `:name`, in the order they are written."""
        return tuple(dict.fromkeys(mark.name for mark in self.statement.placeholders))


def asked(text: str) -> Asked:
    """Reads a text. Raises JobSpecError with every mistake in it, each with its place."""
    if len(text) > MAX_LENGTH:
        raise JobSpecError([Mistake(FILE, 1, 1, "", f"this SQL is longer than {MAX_LENGTH:,} characters")])
    script = sqltext.parse(text, FILE)
    if script.mistakes:
        raise JobSpecError(script.mistakes)
    if len(script.statements) > 1:
        second = script.statements[1]
        message = "one SELECT at a time: select the one to run, or take the others out"
        raise JobSpecError([Mistake(FILE, second.line, second.column, "", message)])
    statement = script.statements[0]
    if statement.kind != "select":
        message = f"{statement.kind} is for jobs: here only a SELECT runs. Make this a job to write tables"
        raise JobSpecError([Mistake(FILE, statement.line, statement.column, "", message)])
    return Asked(statement)


def mistakes(text: str, engine: Engine) -> tuple[tuple[Mistake, ...], tuple[str, ...], tuple[str, ...]]:
    """Everything wrong with a text on this engine; its parameters; the tables it reads."""
    try:
        found = asked(text)
    except JobSpecError as error:
        return error.mistakes, (), ()
    wrong = tuple(sqltext.untranslatable(found.statement)) if engine == "duckdb" else ()
    return wrong, found.parameters, found.reads


def prepared(
    found: Asked,
    given: Mapping[str, Given],
    engine: Engine,
    allowed: Callable[[str], bool],
    *,
    explain: bool = False,
) -> Job:
    """The query in its engine's words. `allowed` tells whether the person may read a namespace.

    Raises NotAllowed, JobSpecError for what the engine cannot carry over, ForebayError for a value that is none.
    """
    for table in found.reads:
        if not allowed(table.rpartition(".")[0]):
            raise NotAllowed(
                f"Your role in Airflow does not let you read {table}. Ask the owner of its workspace for it."
            )
    if missing := [f":{name}" for name in found.parameters if name not in given]:
        raise ForebayError(f"Give {' and '.join(missing)} a value.")
    bound = found.statement.bind({name: value_of(name, given[name]) for name in found.parameters})
    sql = sqltext.to_duckdb(bound) if engine == "duckdb" else sqltext.to_trino(bound)
    return Job(sql, found.reads, explain)


def value_of(name: str, given: Given) -> Scalar:
    """A typed text as a value. Raises ForebayError."""
    text = given.text
    if text is None:
        return None
    kind = _looks_like(text) if given.type == "automatic" else given.type
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return Decimal(text.strip())
        if kind == "boolean":
            return {"true": True, "false": False}[text.strip().lower()]
        if kind == "date":
            return date.fromisoformat(text.strip())
        if kind == "datetime":
            return datetime.fromisoformat(text.strip())
    except (ValueError, KeyError, InvalidOperation):
        raise ForebayError(f":{name} is no {kind}: {text[:80]!r}.") from None
    if kind != "string":
        raise ForebayError(f":{name} has the unknown type {kind[:40]!r}. Types: {', '.join(TYPES)}.")
    return text


_LOOKS: Sequence[tuple[str, str]] = (
    (r"[+-]?\d{1,18}", "integer"),
    (r"[+-]?\d+\.\d+", "number"),
    (r"(?i:true|false)", "boolean"),
    (r"\d{4}-\d\d-\d\d", "date"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "datetime"),
)


def _looks_like(text: str) -> str:
    return next((kind for pattern, kind in _LOOKS if re.fullmatch(pattern, text.strip())), "string")
