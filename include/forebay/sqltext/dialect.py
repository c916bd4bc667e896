"""Reading Trino SQL into a syntax tree without losing which function was written.

sqlglot renames functions while it parses, by rules of its own; some of them change what a query returns.
Every function call is therefore read as an unknown function (its name carries PREFIX while sqlglot sees it),
and `functions.py` alone decides what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
# The parser reads what follows one of these a second time when the first reading fails, and so at each level of nesting:
# a JOIN as one whose ON comes after further joins, a type's name with a bracket as a type.
_JOINS = frozenset((TokenType.JOIN, TokenType.STRAIGHT_JOIN))
_MATCHES = frozenset((TokenType.ON, TokenType.USING))
_AFTER_JOINS = frozenset(
    (
        *(TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.COMMA),
        *(TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT),
    )
)
_SIDES = frozenset((TokenType.LEFT, TokenType.RIGHT, TokenType.FULL, TokenType.INNER, TokenType.OUTER))
_NAMES_OF_TYPES = frozenset(TRINO.parser_class.TYPE_TOKENS)
_READINGS, _SPARE = 8, 100_000
"""How often the parser may have to read each word of a statement, and so many words more."""


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


@dataclass(slots=True)
class _Level:
    """What is open between two brackets, or in the statement itself."""

    is_type: bool = False
    joins: list[Token] = field(default_factory=list)
    """Those whose ON or USING has not come yet."""


def bound(tokens: list[Token]) -> None:
    """Raises SyntaxProblem for a JOIN without ON, and for what the parser would read over and over.

    To be called before the parser: what it takes for such a text doubles with each join and each bracket.
    """
    levels, doubled, read = [_Level()], 0, 0
    before: Token | None = None
    for index, token in enumerate(tokens):
        kind, level = token.token_type, levels[-1]
        named = before is not None and before.token_type in (TokenType.DOT, TokenType.COLON)
        if kind in _OPEN:
            level = _Level(before is not None and before.token_type in _NAMES_OF_TYPES)
            levels.append(level)
            doubled += level.is_type
        elif kind in _CLOSE and len(levels) > 1:
            _joined(level)
            doubled -= level.is_type
            levels.pop()
        elif kind in _JOINS and not named and not _needs_no_match(tokens, index):
            level.joins.append(token)
            doubled += 1
        elif kind in _MATCHES and level.joins:
            level.joins.pop()
            doubled -= 1
        elif kind in _AFTER_JOINS:
            _joined(level)
        read += 1 << min(doubled, 30)
        if read > _READINGS * len(tokens) + _SPARE:
            _joined(level)
            raise SyntaxProblem(token.start, "joins, types or arrays are nested too deeply here")
        before = token
    _joined(levels[0])


def _joined(level: _Level) -> None:
    if level.joins:
        message = (
            "this JOIN has neither ON nor USING after its table: say which rows match, or write CROSS JOIN"
        )
        raise SyntaxProblem(level.joins[-1].start, message)


def _needs_no_match(tokens: list[Token], index: int) -> bool:
    """Whether the JOIN is a CROSS or a NATURAL one."""
    words = [token.token_type for token in tokens[max(0, index - 3) : index]]
    while words and words[-1] in _SIDES:
        words.pop()
    return bool(words) and words[-1] in (TokenType.CROSS, TokenType.NATURAL)


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
    bound(tokens)
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
