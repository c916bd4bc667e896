"""How the process of a query talks to the one that started it: a kind, a length, and so many bytes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["ready", "columns", "data", "progress", "end", "failed"]

_LETTERS: dict[Kind, bytes] = {
    "ready": b"R", "columns": b"C", "data": b"D", "progress": b"P", "end": b"E", "failed": b"F",
}  # fmt: skip
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_HEAD = struct.Struct(">cI")
MAX_LENGTH = 32_000_000
"""Bytes of one message. Whoever reads them holds a message whole, so none is larger."""


class BrokenFrame(Exception):
    """Bytes that are no message, or one that is too large."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `data` holds bytes of the result in its format, the others a JSON document."""

    kind: Kind
    payload: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


def encode(kind: Kind, payload: bytes) -> bytes:
    return _HEAD.pack(_LETTERS[kind], len(payload)) + payload


class Decoder:
    """Bytes as they come in, frames as they are whole. Raises BrokenFrame for what cannot be one."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._held += data
        found, at = [], 0
        while len(self._held) - at >= _HEAD.size:
            letter, length = _HEAD.unpack_from(self._held, at)
            if letter not in _KINDS or length > MAX_LENGTH:
                raise BrokenFrame
            end = at + _HEAD.size + length
            if len(self._held) < end:
                break
            found.append(Frame(_KINDS[letter], bytes(memoryview(self._held)[at + _HEAD.size : end])))
            at = end
        del self._held[:at]
        return found
