"""Finds tables by words in their names, columns and comments."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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


_Places = dict[str, tuple[str, ...]]
"""Text in lower case → the tables that have it."""


@dataclass(frozen=True)
class Vocabulary:
    """Every text that tables have, once: ten thousand tables share most of their columns' names and comments."""

    names: _Places = field(default_factory=dict)
    columns: _Places = field(default_factory=dict)
    comments: _Places = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Vocabulary:
        return cls().renewed((), entries)

    def renewed(self, gone: Iterable[Entry], came: Iterable[Entry]) -> Vocabulary:
        """Another one, without the texts of some and with those of others; who holds this one sees no change."""
        less, more = _texts(gone), _texts(came)
        places = (
            _replaced(*each)
            for each in zip((self.names, self.columns, self.comments), less, more, strict=True)
        )
        return Vocabulary(*places)  # fmt: skip

    def tables(self, words: Iterable[str]) -> tuple[set[str], ...]:
        """Tables with all words in their name; in that or their columns' names; in those or comments."""
        levels: list[set[str]] | None = None
        for word in words:
            found: set[str] = set()
            each = []
            for places in (self.names, self.columns, self.comments):
                found = found.union(*(tables for text, tables in places.items() if word in text))
                each.append(found)
            levels = each if levels is None else [a & b for a, b in zip(levels, each, strict=True)]
        return tuple(levels or (set(), set(), set()))


def _texts(entries: Iterable[Entry]) -> tuple[dict[str, list[str]], ...]:
    """Names, columns' names and comments, each with its tables, every table once."""
    found: tuple[dict[str, list[str]], ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
    for entry in entries:
        comments = {column.comment.lower() for column in entry.columns} | {entry.comment.lower()}
        columns = {column.name.lower() for column in entry.columns}
        for places, texts in zip(found, ({entry.table.lower()}, columns, comments - {""}), strict=True):
            for text in texts:
                places[text].append(entry.table)
    return found


def _replaced(before: _Places, less: Mapping[str, list[str]], more: Mapping[str, list[str]]) -> _Places:
    after = dict(before)
    for text in less.keys() | more.keys():
        out, into = less.get(text, ()), more.get(text, ())
        if out == into:
            continue
        without = set(out)
        tables = (*(table for table in before.get(text, ()) if table not in without), *into)
        if tables:
            after[text] = tables
        else:
            del after[text]
    return after


def find(
    entries: Mapping[str, Entry], vocabulary: Vocabulary, words: str, allowed: Callable[[str], bool], limit: int
) -> tuple[list[Hit], int]:  # fmt: skip
    """The first tables with all the words, those with them in their names first; and how many there are."""
    parts = words.lower().split()
    levels = vocabulary.tables(parts)
    may = {namespace: allowed(namespace) for namespace in {table.rpartition(".")[0] for table in levels[-1]}}
    if not all(may.values()):
        levels = tuple({table for table in level if may[table.rpartition(".")[0]]} for level in levels)
    start = parts[-1].rpartition(".")[2] if parts else ""

    def order(table: str) -> tuple[bool, int, str]:
        name = table.rpartition(".")[2]
        return not name.lower().startswith(start), len(name), table

    best: list[str] = []
    known: set[str] = set()
    for level in levels:
        best += heapq.nsmallest(limit - len(best), level - known, key=order)
        known = level
    return [_hit(entries[table], parts) for table in best], len(levels[-1])


def _all(parts: Iterable[str], text: str) -> bool:
    return all(part in text for part in parts)


def _hit(entry: Entry, parts: list[str]) -> Hit:
    table = entry.table.lower()
    if _all(parts, table):
        return Hit(entry, "name", "")
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
