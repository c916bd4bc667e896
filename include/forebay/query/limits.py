"""How much one query of a person may take: rows, bytes, seconds, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forebay.errors import ForebayError

SETTING = "worksheet"
"""Where the SQL connection's extra keeps its own limits."""


_COUNTS = ("rows", "bytes", "seconds", "threads", "at_once")


@dataclass(frozen=True)
class Limits:
    """The caps of one query. `at_once` is how many of them run at a time on one server."""

    rows: int = 1_000_000
    bytes: int = 1_000_000_000
    seconds: int = 300
    memory: str = "1GB"
    spill: str = "4GB"
    threads: int = 2
    at_once: int = 4

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> Limits:
        """From an Airflow connection's extra: `{"worksheet": {"seconds": 60}}`; memory and threads as for its jobs.

        Raises ForebayError for a name or a value that is none.
        """
        made = replace(
            cls(),
            memory=str(extra.get("memory_limit") or cls.memory),
            threads=int(extra.get("threads") or cls.threads),
        )
        given = extra.get(SETTING) or {}
        if not isinstance(given, Mapping):
            raise ForebayError(f"the SQL connection's extra: {SETTING} is no mapping of limits.")
        found: dict[str, Any] = {}
        for name, value in given.items():
            is_size = name in ("memory", "spill") and isinstance(value, str)
            if not is_size and not (name in _COUNTS and _is_count(value)):
                raise ForebayError(
                    f"the SQL connection's extra: {SETTING}.{name} is not a limit, or its value is none. Limits: rows, "
                    "bytes, seconds, threads, at_once (whole numbers from 1), memory and spill (such as 1GB)."
                )
            found[name] = value
        return replace(made, **found)

    def at_most(self, rows: int | None) -> Limits:
        """The same with fewer rows, where somebody asks for fewer."""
        return self if rows is None else replace(self, rows=max(1, min(self.rows, rows)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
