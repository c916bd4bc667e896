"""A statement put back into Trino's dialect, and the place in its file of what Trino complains about."""

from __future__ import annotations

from bisect import bisect_right

from sqlglot import exp

from forebay.errors import Mistake
from forebay.sqltext.allowed import CATALOG
from forebay.sqltext.casts import literal_type
from forebay.sqltext.dialect import PREFIX, TRINO, SyntaxProblem, tokenize
from forebay.sqltext.duckdb import SqlError
from forebay.sqltext.script import Statement


def to_trino(statement: Statement | exp.Expr) -> str:
    """Trino SQL of a statement, in one line, every table written namespace.table of the session's catalog.

    It is written from the syntax tree: what was looked at is what runs. Raises SqlError for a `:name` without value.
    """
    if isinstance(statement, Statement) and statement.placeholders:
        file = statement.lines.file
        raise SqlError(
            Mistake(file, mark.line, mark.column, "", f":{mark.name} has no value yet")
            for mark in statement.placeholders
        )
    tree = (statement.tree if isinstance(statement, Statement) else statement).copy()
    for node in tree.walk():
        if isinstance(node, exp.Anonymous):
            node.set("this", str(node.this).removeprefix(PREFIX))
        elif isinstance(node, exp.Table) and node.catalog == CATALOG:
            node.set("catalog", None)
        elif isinstance(node, exp.Cast) and (exact := literal_type(node)) is not None:
            # The tree calls DECIMAL '1.50' a cast, and a cast to DECIMAL alone has no decimals in Trino.
            node.set("to", exact)
    return str(tree.sql(dialect=TRINO, comments=False))


def located(statement: Statement, sql: str, line: int, column: int) -> tuple[int, int]:
    """Line and column in the statement's file for a place (from 1) in the SQL that `to_trino` made of it.

    The word there is looked for in the file: the third `n` of the one is the third of the other. Where that cannot
    be told, it is the statement's first word.
    """
    begin = (statement.line, statement.column)
    starts = [0, *(index + 1 for index, char in enumerate(sql) if char == "\n")]
    if not 1 <= line <= len(starts):
        return begin
    try:
        made = tokenize(sql)
    except SyntaxProblem:
        return begin
    here = bisect_right([token.start for token in made], starts[line - 1] + column - 1) - 1
    if here < 0:
        return begin
    word = made[here].text.upper()
    same = [number for number, token in enumerate(made) if token.text.upper() == word]
    written = [token for token in statement.tokens if token.text.upper() == word]
    if len(same) != len(written):
        return begin
    return statement.lines.place(written[same.index(here)].start)
