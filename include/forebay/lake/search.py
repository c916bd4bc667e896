"""Finds tables by words in their names, columns and comments."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
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

    namespace: str
    """As it is written."""
    name: str
    named: str
    """Its name and its columns'."""
    everything: str

    @classmethod
    def of(cls, entry: Entry) -> Text:
        columns = [column.name for column in entry.columns]
        comments = [column.comment for column in entry.columns if column.comment]
        named = "\n".join((entry.table, *columns)).lower()
        return cls(
            entry.namespace,
            entry.table.lower(),
            named,
            "\n".join((named, entry.comment.lower(), *comments)).lower(),
        )


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
    found = _with(parts, list(texts), _EVERYTHING)
    may = {namespace: allowed(namespace) for namespace in {text.namespace for _, text in found}}
    found = [each for each in found if may[each[1].namespace]]
    start = parts[-1].rpartition(".")[2]

    def order(each: tuple[str, Text]) -> tuple[bool, int, str]:
        name = each[0].rpartition(".")[2]
        return not name.lower().startswith(start), len(name), each[0]

    best: list[str] = []
    left = found
    for place in (_NAME, _NAMED, _EVERYTHING):
        here = _with(parts, left, place)
        best += [table for table, _ in heapq.nsmallest(limit - len(best), here, key=order)]
        if len(best) == limit:
            break
        known = {table for table, _ in here}
        left = [each for each in left if each[0] not in known]
    return [_hit(entries[table], parts) for table in best], len(found)


_NAME, _NAMED, _EVERYTHING = map(attrgetter, ("name", "named", "everything"))


def _with(
    parts: Sequence[str], texts: list[tuple[str, Text]], place: Callable[[Text], str]
) -> list[tuple[str, Text]]:
    """Those that have all the words there. Word by word: a loop within the loop takes three times as long."""
    for part in parts:
        texts = [each for each in texts if part in place(each[1])]
    return texts


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
