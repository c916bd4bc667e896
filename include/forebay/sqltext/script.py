"""Reading a SQL text: its statements, what each reads and writes, and everything that is wrong with it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.tokenizer_core import Token

from forebay.errors import Mistake
from forebay.sqltext.allowed import Problem, inspect, refused_word
from forebay.sqltext.dialect import Placeholder, SyntaxProblem, chunks, parse_chunk, prepare, tokenize
from forebay.sqltext.values import Value, bind

MAX_LENGTH = 1_000_000


class Lines:
    """Where an offset in a text lies in its file; SQL inside YAML begins further down and to the right."""

    def __init__(self, text: str, file: str, line_offset: int, column_offset: int) -> None:
        self.file = file
        self._starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
        self._line = line_offset
        self._column = column_offset

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        row = bisect_right(self._starts, offset) - 1
        return row + 1 + self._line, offset - self._starts[row] + 1 + self._column

    def mistake(self, offset: int, message: str) -> Mistake:
        line, column = self.place(offset)
        return Mistake(self.file, line, column, "", message)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `kind` is select, insert, update, delete, merge, create table as, create table,
    drop table, truncate or alter table; `reads` and `writes` name tables as namespace.table."""

    kind: str
    tree: exp.Expr
    line: int
    column: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    placeholders: tuple[Placeholder, ...]
    lines: Lines
    offset: int
    tokens: tuple[Token, ...] = ()
    """Its words, as they stand in the text."""

    def bind(self, values: Mapping[str, Value]) -> Statement:
        """The same statement with its values in place of `:name`. Raises ForebayError for one without."""
        return replace(self, tree=bind(self.tree, values), placeholders=())


@dataclass(frozen=True, slots=True)
class Script:
    """What a text says (`statements`) and what is wrong with it (`mistakes`); use it only without."""

    statements: tuple[Statement, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every table any statement reads, each once."""
        return tuple(dict.fromkeys(name for statement in self.statements for name in statement.reads))

    @property
    def writes(self) -> tuple[str, ...]:
        """Every table any statement writes, each once."""
        return tuple(dict.fromkeys(name for statement in self.statements for name in statement.writes))

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        """Every `:name`, at each place it is written."""
        return tuple(mark for statement in self.statements for mark in statement.placeholders)


def parse(text: str, file: str = "", line_offset: int = 0, column_offset: int = 0) -> Script:
    """Reads SQL in Trino's dialect. Never raises for a bad text: look at `mistakes`.

    For SQL inside YAML, `line_offset` is the number of lines above it and `column_offset` its indentation.
    """
    lines = Lines(text, file, line_offset, column_offset)
    if len(text) > MAX_LENGTH:
        return Script((), (lines.mistake(0, f"this SQL is longer than {MAX_LENGTH:,} characters"),))
    nul = text.find("\x00")
    if nul >= 0:
        return Script((), (lines.mistake(nul, "SQL cannot hold a NUL character"),))
    try:
        tokens = tokenize(text)
    except SyntaxProblem as problem:
        return Script((), (lines.mistake(problem.offset, problem.message),))
    statements: list[Statement] = []
    mistakes: list[Mistake] = []
    for chunk in chunks(tokens):
        try:
            statements.append(_statement(chunk, text, lines, mistakes))
        except SyntaxProblem as problem:
            mistakes.append(lines.mistake(problem.offset, problem.message))
        except RecursionError:
            mistakes.append(lines.mistake(chunk[0].start, "this statement is nested too deeply"))
    if not statements and not mistakes:
        mistakes.append(lines.mistake(0, "there is no statement in this SQL"))
    return Script(tuple(statements), tuple(sorted(set(mistakes))))


def _statement(chunk: list[Token], text: str, lines: Lines, mistakes: list[Mistake]) -> Statement:
    start = chunk[0].start
    if (refusal := refused_word(chunk[0].text)) is not None:
        raise SyntaxProblem(start, refusal)
    tokens, names = prepare(chunk)
    tree = parse_chunk(tokens, text)
    problems: list[Problem] = []
    found = inspect(tree, start, problems)
    mistakes += (lines.mistake(problem.offset, problem.message) for problem in problems)
    line, column = lines.place(start)
    marks = tuple(Placeholder(name.text, *lines.place(name.start - 1)) for name in names)
    return Statement(
        found.kind, tree, line, column, found.reads, found.writes, marks, lines, start, tuple(chunk)
    )
