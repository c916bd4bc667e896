"""How far a query is in Trino: its splits, rows and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Progress:
    """What Trino counts of a query, as it last said."""

    state: str = ""
    done: int = 0
    splits: int = 0
    """All of them, of which `done` are done; Trino finds more as it goes."""
    rows: int = 0
    """Rows read, as are `bytes`; `written` are bytes, too."""
    bytes: int = 0
    written: int = 0

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Progress:
        """From the stats of one of Trino's answers."""
        named = ("completedSplits", "totalSplits", "processedRows", "processedBytes", "physicalWrittenBytes")
        return cls(str(stats.get("state", "")).lower(), *(int(stats.get(name) or 0) for name in named))

    @classmethod
    def kept(cls, value: object) -> Progress | None:
        """From what a task's state keeps, which anybody may have put there who may change tasks."""
        if not isinstance(value, Mapping):
            return None
        state, *counts = (value.get(field.name) for field in fields(cls))
        whole = [count for count in counts if type(count) is int and count >= 0]
        return cls(str(state), *whole) if len(whole) == len(counts) else None

    @property
    def figures(self) -> str:
        """In words, without the state."""
        parts = [f"{self.done:,} of {self.splits:,} splits"] if self.splits else []
        parts.append(f"{self.rows:,} rows, {_size(self.bytes)} read")
        if self.written:
            parts.append(f"{_size(self.written)} written")
        return ", ".join(parts)

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.state, self.figures)))


def _size(count: int) -> str:
    number = float(count)
    for unit in ("B", "KB", "MB"):
        if number < 1024:
            return f"{number:,.0f} {unit}"
        number /= 1024
    return f"{number:,.1f} GB"
