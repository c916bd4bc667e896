"""Finds tables by words in their names, columns and comments."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forebay.lake.index import Entry


@dataclass(frozen=True, slots=True)
class Hit:
    """A table that a search found, and where."""

    entry: Entry
    where: str
    """`name`, `column` or `comment`."""
    what: str
    """The column, or the comment."""


@dataclass(frozen=True, slots=True)
class Text:
    """What there is to find of one table, in lower case."""

    name: str
    named: str
    """Its name and its columns'."""
    everything: str

    @classmethod
    def of(cls, entry: Entry) -> Text:
        columns = [column.name for column in entry.columns]
        comments = [column.comment for column in entry.columns if column.comment]
        named = "\n".join((entry.table, *columns)).lower()
        return cls(entry.table.lower(), named, "\n".join((named, entry.comment.lower(), *comments)).lower())


def find(
    entries: Mapping[str, Entry],
    texts: Iterable[tuple[str, Text]],
    words: str,
    allowed: Callable[[str], bool],
    limit: int,
) -> tuple[list[Hit], int]:
    """The first tables with all the words, those with them in their names first; and how many there are."""
    parts = words.lower().split()
    if not parts:
        return [], 0
    seen: dict[str, bool] = {}
    found: list[tuple[int, bool, int, str]] = []
    start = parts[-1].rpartition(".")[2]
    for table, text in texts:
        if not all(part in text.everything for part in parts):
            continue
        namespace, _, name = table.rpartition(".")
        if namespace not in seen:
            seen[namespace] = allowed(namespace)
        if not seen[namespace]:
            continue
        rank = 0 if _all(parts, text.name) else 1 if _all(parts, text.named) else 2
        found.append((rank, not name.lower().startswith(start), len(name), table))
    return [_hit(entries[table], parts) for *_, table in heapq.nsmallest(limit, found)], len(found)


def _all(parts: Sequence[str], text: str) -> bool:
    return all(part in text for part in parts)


def _hit(entry: Entry, parts: list[str]) -> Hit:
    if _all(parts, entry.table.lower()):
        return Hit(entry, "name", "")
    table = entry.table.lower()
    for column in entry.columns:
        if _all(parts, f"{table} {column.name.lower()}"):
            return Hit(entry, "column", column.name)
    for column in entry.columns:
        if _all(parts, f"{table} {column.name} {column.comment}".lower()):
            return Hit(entry, "column", f"{column.name}: {column.comment}")
    if not entry.comment or not _all(parts, f"{table} {entry.comment.lower()}"):
        several = [c.name for c in entry.columns if any(part in c.name.lower() for part in parts)]
        if several:
            return Hit(entry, "column", ", ".join(several[:4]))
    return Hit(entry, "comment", entry.comment)
