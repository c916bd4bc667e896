"""How names and texts stand in SQL, the same for DuckDB, Trino and Spark."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
