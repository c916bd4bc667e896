"""Python's regular expressions in the words that RE2 (DuckDB) and Trino read the same way.

Great Expectations searches with Python's `re`. A pattern is taken apart by Python's own parser and written
anew from what all three have in common; what they lack (lookaround, references back, \\b on letters beyond
ASCII) gives None, and the rule goes to Great Expectations.
"""

from __future__ import annotations

import re
from re import _constants as c  # type: ignore[attr-defined]  # the parser has no public name since 3.11
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_MOST_REPEATS = 1000
_SPACE = r"\t-\r\x{1c}-\x{20}\x{85}\p{Z}"
# What each class matches in Python on text, inside [ ].
_CLASSES = {
    c.CATEGORY_DIGIT: r"\p{Nd}",
    c.CATEGORY_SPACE: _SPACE,
    c.CATEGORY_WORD: r"\p{L}\p{N}_",
    c.CATEGORY_NOT_DIGIT: r"\P{Nd}",
}
_NEGATED = {
    c.CATEGORY_NOT_SPACE: rf"[^{_SPACE}]",
    c.CATEGORY_NOT_WORD: r"[^\p{L}\p{N}_]",
}


class _Unlike(Exception):
    """Something the engines would read differently."""


def portable(pattern: str) -> str | None:
    """The pattern for RE2 and Trino, or None when they cannot mean what Python means by it."""
    try:
        tree = _parser.parse(pattern)
        if tree.state.flags & ~re.UNICODE.value:
            return None
        return _sequence(list(tree), last=True)
    except (_Unlike, RecursionError):
        return None


def _sequence(items: list[Any], last: bool) -> str:
    return "".join(
        _item(kind, value, last and number == len(items) - 1) for number, (kind, value) in enumerate(items)
    )


def _item(kind: Any, value: Any, last: bool) -> str:
    if kind is c.LITERAL:
        return _char(value)
    if kind is c.NOT_LITERAL:
        return f"[^{_char(value)}]"
    if kind is c.ANY:
        return r"[^\n]"
    if kind is c.IN:
        return _class(value)
    if kind in (c.MAX_REPEAT, c.MIN_REPEAT):
        low, high, inner = value
        if low > _MOST_REPEATS or (high is not c.MAXREPEAT and high > _MOST_REPEATS):
            raise _Unlike
        upper = "" if high is c.MAXREPEAT else high
        lazy = "?" if kind is c.MIN_REPEAT else ""
        return f"(?:{_sequence(list(inner), False)}){{{low},{upper}}}{lazy}"
    if kind is c.SUBPATTERN:
        _, on, off, inner = value
        if on or off:
            raise _Unlike
        return f"(?:{_sequence(list(inner), last)})"
    if kind is c.BRANCH:
        return f"(?:{'|'.join(_sequence(list(part), last) for part in value[1])})"
    if kind is c.AT:
        if value in (c.AT_BEGINNING, c.AT_BEGINNING_STRING):
            return r"\A"
        if value is c.AT_END_STRING:
            return r"\z"
        if value is c.AT_END and last:
            return r"\n?\z"  # Python's $ is also before a line break at the end
    raise _Unlike


def _class(members: list[Any]) -> str:
    if len(members) == 1 and members[0][0] is c.CATEGORY and members[0][1] in _NEGATED:
        return _NEGATED[members[0][1]]
    parts = []
    for kind, value in members:
        if kind is c.NEGATE:
            parts.append("^")
        elif kind is c.LITERAL:
            parts.append(_char(value))
        elif kind is c.RANGE:
            parts.append(f"{_char(value[0])}-{_char(value[1])}")
        elif kind is c.CATEGORY and value in _CLASSES:
            parts.append(_CLASSES[value])
        else:
            raise _Unlike
    return f"[{''.join(parts)}]"


def _char(code: int) -> str:
    char = chr(code)
    # Letters and digits as they are; anything else by its number, so that no engine sees a sign in it.
    return char if char.isascii() and char.isalnum() else f"\\x{{{code:x}}}"
