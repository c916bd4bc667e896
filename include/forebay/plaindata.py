"""Builds plain data from libyaml's events, and refuses a hostile text before it costs time or memory.

Scalars follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `yes`, `no`, `on`,
`off` and dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from forebay.errors import JobSpecError, Mistake

MAX_DEPTH = 50
MAX_NODES = 10_000
MAX_MISTAKES = 20

Step = str | int

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"),
    "+.inf": float("inf"), "+.Inf": float("inf"), "+.INF": float("inf"),
    "-.inf": float("-inf"), "-.Inf": float("-inf"), "-.INF": float("-inf"),
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip


def dotted(path: Sequence[Step]) -> str:
    """A path as people write it: tasks[1].type."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{_short(step)}" if text else _short(step)
    return text


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


class _Open:
    """A mapping or list whose end has not been seen yet."""

    __slots__ = ("anchor", "data", "key", "key_mark", "marks", "nodes")

    def __init__(self, data: dict[str, Any] | list[Any], anchor: str | None, nodes: int) -> None:
        self.data = data
        self.marks: dict[Step, tuple[Any, Any]] = {}
        self.anchor = anchor
        self.key: str | None = None
        self.key_mark: Any = None
        self.nodes = nodes


class Builder:
    """Builds data from events with a stack of its own: nesting never becomes recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.marks: dict[int, dict[Step, tuple[Any, Any]]] = {}
        self.stack: list[_Open] = []
        self.nodes = 0
        # anchor -> (value, nodes it counts for when repeated, depth below itself)
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.deepest: list[int] = []

    def build(self, text: str) -> dict[str, Any]:
        done = False
        root: Any = None
        for event in _events(text):
            kind = type(event)
            if kind is yaml.ScalarEvent:
                if event.tag is not None:
                    self._tag(event)
                value = event.value
                if event.implicit[0] and not event.style:
                    value = self._plain(value, event.start_mark)
                self._add(value, event, 1)
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1, 0)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                root = self._close()
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                if done:
                    self._stop(event.start_mark, "a second document begins here. One file is one document: "
                               "remove '---', or make another file.")  # fmt: skip
                done = True
        if not done:
            message = "the file is empty. `forebay init job WORKSPACE.JOB` writes one to start from."
            raise JobSpecError([Mistake(self.file, 1, 1, "", message)])
        return root  # type: ignore[no-any-return]

    def _add(self, value: Any, event: Any, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            more = " once its aliases are written out" if self.anchors else ""
            self._stop(
                event.start_mark, f"the file holds more than {MAX_NODES:,} values{more}. Make it smaller."
            )
        if not self.stack:
            found = (
                "a list" if isinstance(value, list) else "a single value" if value is not None else "nothing"
            )
            if not isinstance(value, dict):
                self._stop(
                    event.start_mark, f"the file must be a mapping of 'key: value' lines; this is {found}."
                )
            return
        top = self.stack[-1]
        if isinstance(top.data, list):
            top.marks[len(top.data)] = (event.start_mark, event.start_mark)
            top.data.append(value)
        elif top.key_mark is None:
            self._key(top, event)
        else:
            if top.key is not None:
                top.marks[top.key] = (top.key_mark, event.start_mark)
                top.data[top.key] = value
            top.key = top.key_mark = None

    def _key(self, top: _Open, event: Any) -> None:
        top.key_mark = event.start_mark
        if type(event) is not yaml.ScalarEvent:
            self._stop(event.start_mark, "a key must be plain text, not a list, a mapping or an alias.")
        key: str = event.value
        if key == "<<" and not event.style:
            self._note(event.start_mark, "merge keys ('<<') are not read. Write the keys out.")
        elif not key:
            self._note(event.start_mark, "a key is empty. Write its name before the ':'.")
        elif key in top.marks:
            first = top.marks[key][0].line + 1
            self._note(
                event.start_mark, f"the key '{_short(key)}' is already on line {first}. Remove one of them."
            )
        else:
            top.key = key

    def _open(self, event: Any, data: dict[str, Any] | list[Any]) -> None:
        if event.tag is not None:
            self._tag(event)
        if len(self.stack) >= MAX_DEPTH:
            self._stop(event.start_mark, f"more than {MAX_DEPTH} levels of nesting. Make the file flatter.")
        self._add(data, event, 1)
        self.stack.append(_Open(data, event.anchor, self.nodes))
        self.deepest.append(0)
        if event.anchor:
            self.anchors.pop(event.anchor, None)

    def _close(self) -> Any:
        top = self.stack.pop()
        below = self.deepest.pop() + 1
        if self.deepest:
            self.deepest[-1] = max(self.deepest[-1], below)
        self.marks[id(top.data)] = top.marks
        if top.anchor:
            self.anchors[top.anchor] = (top.data, self.nodes - top.nodes + 1, below)
        return top.data

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self._stop(
                event.start_mark, f"the alias '*{_short(event.anchor)}' names no anchor that ends above it."
            )
        value, nodes, depth = self.anchors[event.anchor]
        if len(self.stack) + depth > MAX_DEPTH:
            self._stop(event.start_mark, f"more than {MAX_DEPTH} levels of nesting. Make the file flatter.")
        if self.deepest:
            self.deepest[-1] = max(self.deepest[-1], depth)
        self._add(value, event, nodes)

    def _plain(self, text: str, mark: Any) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if not (text[0] in "-+." or text[0].isdigit()):
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            if len(text) > 30:
                self._note(mark, "this number has too many digits. Put quotes around it if it is text.")
                return 0
            return float(text)
        if text.startswith(("0x", "0o")) and len(text) <= 20:
            try:
                return int(text, 0)
            except ValueError:
                return text
        return text

    def _tag(self, event: Any) -> None:
        self._note(
            event.start_mark, f"tags ('{_short(event.tag)}') are not read: YAML is data here. Remove the tag."
        )

    def _note(self, mark: Any, message: str) -> None:
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, self._where(), message))
        if len(self.mistakes) >= MAX_MISTAKES:
            raise JobSpecError(self.mistakes)

    def _stop(self, mark: Any, message: str) -> None:
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, self._where(), message))
        raise JobSpecError(self.mistakes)

    def _where(self) -> str:
        path: list[Step] = []
        for level in self.stack[:6]:
            if isinstance(level.data, list):
                # A container is added before it is opened, so while one is open it is the last of its list.
                path.append(max(len(level.data) - 1, 0) if level is not self.stack[-1] else len(level.data))
            elif level.key is not None:
                path.append(level.key)
            elif level is not self.stack[-1] and level.marks:
                path.append(str(list(level.marks)[-1]))
        return dotted(path)


def _events(text: str) -> Iterator[Any]:
    parser = yaml.CSafeLoader(text)
    try:
        while True:
            event = parser.get_event()
            if event is None or type(event) is yaml.StreamEndEvent:
                return
            yield event
    finally:
        parser.dispose()
