"""Reading Trino SQL into a syntax tree without losing which function was written.

sqlglot renames functions while it parses, by rules of its own; some of them change what a query returns.
Every function call is therefore read as an unknown function (its name carries PREFIX while sqlglot sees it),
and `functions.py` alone decides what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from forebay.sqltext.words import words

PREFIX = "forebay_fn_"
TRINO = Dialect.get_or_raise("trino")
DUCKDB = Dialect.get_or_raise("duckdb")

# Functions with a grammar of their own (cast(x AS t), extract(year FROM x)): the parser must see these names.
_GRAMMAR = words("CAST TRY_CAST EXTRACT TRIM POSITION SUBSTRING IF ANY ALL SOME")
_KNOWN = frozenset(TRINO.parser_class.FUNCTIONS) | frozenset(TRINO.parser_class.FUNCTION_PARSERS)
_NAME_TOKENS = frozenset(
    (
        *(TokenType.VAR, TokenType.IDENTIFIER, TokenType.LEFT, TokenType.RIGHT, TokenType.DATE),
        *(TokenType.FILTER, TokenType.FORMAT, TokenType.REPLACE, TokenType.TRUNCATE, TokenType.MERGE),
        *(TokenType.FIRST, TokenType.SEQUENCE, TokenType.UUID),
    )
)
# Bounded before the parser sees it: its time grows out of hand with nesting.
MAX_DEPTH = 100
_OPEN = frozenset((TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE))
_CLOSE = frozenset((TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END))
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A `:name` in the text."""

    name: str
    line: int
    column: int


class SyntaxProblem(Exception):
    """A text that is not SQL: the offset in the text where that shows, and why."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


def tokenize(text: str) -> list[Token]:
    """The words of a text. Raises SyntaxProblem for a string, name or comment that is never closed."""
    try:
        tokens = TRINO.tokenize(text)
    except TokenError as error:
        raise SyntaxProblem(*_unclosed(text, error)) from error
    return tokens


def chunks(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """The words of each statement; empty statements are left out."""
    chunk: list[Token] = []
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if chunk:
                yield chunk
            chunk = []
        else:
            chunk.append(token)
    if chunk:
        yield chunk


def prepare(tokens: list[Token]) -> tuple[list[Token], list[Token]]:
    """Hides function names from the parser, frees `:name` from reserved words; gives (tokens, names)."""
    out: list[Token] = []
    names: list[Token] = []
    last = len(tokens) - 1
    before: Token | None = None
    depth = links = 0
    for index, token in enumerate(tokens):
        kind = token.token_type
        if kind in _OPEN:
            chained = before is not None and before.token_type is TokenType.R_BRACKET
            depth += 1
            links = links + 1 if chained else 0
            if depth > MAX_DEPTH or links > MAX_DEPTH:
                raise SyntaxProblem(token.start, f"this is nested more than {MAX_DEPTH} deep")
        elif kind in _CLOSE:
            depth -= 1
        if before is not None and before.token_type is TokenType.COLON:
            if token.start == before.end + 1 and _WORD.match(token.text) and kind is not TokenType.STRING:
                names.append(token)
                if kind is not TokenType.VAR:
                    token = _like(token, token.text)
        elif index < last and tokens[index + 1].token_type is TokenType.L_PAREN and kind in _NAME_TOKENS:
            upper = token.text.upper()
            if upper in _KNOWN and upper not in _GRAMMAR and not _no_call(kind, before):
                token = _like(token, PREFIX + token.text)
        out.append(token)
        before = token
    return out, names


def _no_call(kind: TokenType, before: Token | None) -> bool:
    if before is None:
        return kind is TokenType.MERGE or kind is TokenType.TRUNCATE
    if before.token_type is TokenType.DOT:
        return True
    return kind is TokenType.FILTER and before.token_type is TokenType.R_PAREN


def _like(token: Token, text: str) -> Token:
    return Token(TokenType.VAR, text, token.line, token.col, token.start, token.end)


def parse_chunk(tokens: list[Token], text: str) -> exp.Expr:
    """The syntax tree of one statement. Raises SyntaxProblem."""
    parser = TRINO.parser(error_level=ErrorLevel.IMMEDIATE)
    try:
        trees = [tree for tree in parser.parse(tokens, text) if tree is not None]
    except ParseError as error:
        raise _problem(error, tokens, text) from error
    except RecursionError as error:
        raise SyntaxProblem(tokens[0].start, "this statement is nested too deeply") from error
    if len(trees) != 1:
        raise SyntaxProblem(tokens[0].start, "this is not one statement")
    return trees[0]


def _problem(error: ParseError, tokens: list[Token], text: str) -> SyntaxProblem:
    detail = error.errors[0] if error.errors else {}
    line, col = detail.get("line"), detail.get("col")
    found = next((token for token in tokens if token.line == line and token.col == col), tokens[-1])
    near = text[found.start : found.end + 1][:40]
    description = str(detail.get("description") or "cannot be read").rstrip(".")
    description = description.replace(PREFIX, "")
    if description == "Invalid expression / Unexpected token":
        return SyntaxProblem(found.start, f"syntax error at '{near}'")
    if found is tokens[-1]:
        return SyntaxProblem(found.start, f"syntax error: the statement ends too early, after '{near}'")
    description = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", description)
    return SyntaxProblem(
        found.start, f"syntax error near '{near}': {description[:1].lower()}{description[1:]}"
    )


def _unclosed(text: str, error: TokenError) -> tuple[int, str]:
    """Where the string, quoted name or comment begins that has no end, by Trino's own lexical rules."""
    offset = 0
    for match in _LEXEME.finditer(text):
        offset = match.start()
        opener = match.group()
        if opener in ("'", '"', "/*"):
            what = {"'": "string", '"': "quoted name", "/*": "comment"}[opener]
            return offset, f"this {what} is never closed"
    return max(0, min(error.start or 0, len(text) - 1)), "cannot be read as SQL"


_LEXEME = re.compile(r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|'|"|/\*""", re.DOTALL)
