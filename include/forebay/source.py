"""Reads a YAML file as plain data and remembers the line and column of every key and value.

YAML is data here: no tags, no merge keys, no duplicate keys; size, depth and alias expansion are bounded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from forebay.errors import JobSpecError, Mistake
from forebay.plaindata import MAX_MISTAKES, Builder, Step, dotted

__all__ = ["MAX_MISTAKES", "Document", "Step", "dotted", "parse_document", "read_document"]

MAX_BYTES = 1_000_000
Place = tuple[int, int]

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file: its text, its plain data, and where each key and value of it stands.

    `mistakes` are those the reading could step over (duplicate keys, tags).
    """

    file: str
    text: str
    data: dict[str, Any]
    mistakes: tuple[Mistake, ...]
    # Per container (by id, kept alive by `data`): key or index -> (mark of the key, mark of the value).
    marks: dict[int, dict[Step, tuple[Any, Any]]]

    def place(self, path: Sequence[Step], key: bool = False) -> Place:
        """Line and column (from 1) of the value at `path`, or of its key; of its parent if it is absent."""
        here: Any = self.data
        mark = None
        for step in path:
            found = self.marks.get(id(here), {}).get(step) if isinstance(here, dict | list) else None
            if found is None:
                break
            mark = found[0] if key else found[1]
            here = here[step]
        return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)

    def mistake(self, path: Sequence[Step], message: str, key: bool = False) -> Mistake:
        """A mistake at the value (or the key) at `path`."""
        line, column = self.place(path, key)
        return Mistake(self.file, line, column, dotted(path), message)


def read_document(path: Path | str, root: Path | str) -> Document:
    """The YAML file at `path`; messages name it relative to `root`.

    Raises JobSpecError when it cannot be read as one mapping, OSError when the file cannot be opened.
    """
    file = os.path.relpath(path, root)
    with open(path, "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
        size = os.fstat(stream.fileno()).st_size
    if len(content) > MAX_BYTES:
        raise _refusal(file, (1, 1), f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read. "
                       "Move data or long SQL into files of their own.")  # fmt: skip
    return parse_document(content, file)


def parse_document(content: bytes, file: str) -> Document:
    """The same for the bytes of a file; `file` is the name messages use."""
    if content.startswith(_BYTE_ORDER_MARKS):
        raise _refusal(
            file, (1, 1), "the file begins with a byte order mark. Save it as UTF-8 without byte order mark."
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = (before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1)
        message = f"byte 0x{content[error.start]:02x} is not valid UTF-8. Save the file as UTF-8."
        raise _refusal(file, place, message) from error
    builder = Builder(file)
    try:
        data = builder.build(text)
    except yaml.reader.ReaderError as error:
        before = content[: error.position]
        place = (before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1)
        message = (
            "a control character cannot stand in YAML. Remove it, or write it as an escape in double quotes."
        )
        raise _refusal(file, place, message) from error
    except yaml.MarkedYAMLError as error:
        raise JobSpecError([*builder.mistakes, _syntax_mistake(file, text, error)]) from error
    return Document(file, text, data, tuple(builder.mistakes), builder.marks)


def _refusal(file: str, place: Place, message: str, where: str = "") -> JobSpecError:
    return JobSpecError([Mistake(file, *place, where, message)])


def _syntax_mistake(file: str, text: str, error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    row = lines[line] if line < len(lines) else ""
    indent = row[: len(row) - len(row.lstrip())]
    if "\t" in indent:
        return Mistake(
            file, line + 1, indent.index("\t") + 1, "", "a tab indents this line. Indent with spaces."
        )
    problem = error.problem or "cannot be read as YAML"
    if "undefined alias" in problem:
        problem = "an alias names an anchor that is not defined above it"
    hint = next((hint for key, hint in _HINTS.items() if key in problem), "")
    context = ""
    if error.context and error.context_mark and error.context_mark.line != line:
        context = f" {error.context} that starts on line {error.context_mark.line + 1}"
    return Mistake(file, line + 1, column + 1, "", f"not valid YAML: {problem}{context}.{hint}")


_HINTS = {
    "mapping values are not allowed": " Quote a text that contains ': ', and check the indentation.",
    "could not find expected ':'": " A key needs a ':' and a space after it.",
    "did not find expected key": " Check the indentation, quotes and commas around here.",
    "expected <block end>": " Check the indentation around here.",
    "did not find expected '-' indicator": " Check the indentation around here.",
    "unexpected end of stream": " A quote or bracket is not closed.",
    "cannot start any token": " Quote a text that begins with a special character such as @, ` or %.",
    "did not find expected ',' or": " A bracket is not closed, or a comma is missing.",
}
