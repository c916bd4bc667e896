"""Some of the rows that differ between two states of a table, and how many there are.

Only files that the two states do not share are read: a file on both sides holds the same rows on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.lake.connection import LakeError
from forebay.lake.diff import Files, Sides
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from pyiceberg.table import FileScanTask, Table

MOST_BYTES, MOST_ROWS = 256 << 20, 2_000_000
"""How much of the files is read without being asked for all of it."""

# A whole row is named like its table, so these must be no column's name.
_NOW, _WAS = '"the new row"', '"the old row"'

Row = dict[str, Any]


@dataclass
class Sample:
    """Rows that were added, removed and changed; a count is None where it was not worked out."""

    key: tuple[str, ...] = ()
    """The columns that say which row is which; empty where rows are compared whole."""
    added_count: int | None = None
    removed_count: int | None = None
    changed_count: int | None = None
    added: list[Row] = field(default_factory=list)
    removed: list[Row] = field(default_factory=list)
    changed: list[tuple[Row, dict[str, tuple[Any, Any]]]] = field(default_factory=list)
    """The key of each row, and of each column that changed the old and the new value."""
    note: str = ""


def sample(
    table: Table,
    both: Sides,
    found: Files,
    key: Sequence[str] = (),
    *,
    limit: int = 10,
    full: bool = False,
    more: str = "Read them all with --full",
    most_bytes: int = MOST_BYTES,
) -> Sample:
    """At most `limit` rows of each kind. With `full`, however much must be read for it; else at most so many bytes, and `more` says how."""
    if found.equality_deletes:
        return Sample(
            note="rows are not shown: the table has deletes by value, which only Spark and Trino read"
        )
    rows = sum(task.file.record_count for task in (*found.old, *found.new))
    note = ""
    if not full and (found.bytes > most_bytes or rows > MOST_ROWS):
        size = (
            f"{len(found.old) + len(found.new):,} files with {rows:,} rows differ ({found.bytes >> 20:,} MB)"
        )
        if found.old or any(task.delete_files for task in found.new):
            return Sample(note=f"rows are not shown: {size}. {more}")
        note = f"{size}; the rows shown are of the first. {more}"
        found = Files(new=found.new[:1])
    names = _named(table, both, key)
    old, new = (_read(table, both, tasks) for tasks in (found.old, found.new))
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false", "memory_limit": "1GB"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("old", old)
        connection.register("new", new)
        made = _by_key(connection, names, limit) if names else _whole(connection, limit)
    if note:
        made.added_count = None
    made.note = "; ".join(filter(None, (made.note, note)))
    return made


def _named(table: Table, both: Sides, key: Sequence[str]) -> tuple[str, ...]:
    schema = table.metadata.schema_by_id(both.new_shape.schema)
    assert schema is not None
    columns = {name.lower(): name for name in schema.column_names if "." not in name}
    if missing := [name for name in key if name.lower() not in columns]:
        raise LakeError(
            f"{both.table} has no column {', '.join(missing)}. It has: {', '.join(columns.values())}"
        )
    return tuple(columns[name.lower()] for name in key)


def _read(table: Table, both: Sides, tasks: list[FileScanTask]) -> pa.Table:
    """Rows of both sides with the columns of the new one, matched as Iceberg does: by their ids."""
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    metadata = table.metadata.model_copy(update={"current_schema_id": both.new_shape.schema})
    schema = metadata.schema()
    ordered = sorted(tasks, key=lambda task: task.file.file_path)
    return ArrowScan(metadata, table.io, schema, AlwaysTrue()).to_table(ordered)


def _by_key(connection: DuckDBPyConnection, key: tuple[str, ...], limit: int) -> Sample:
    names = [quoted(name) for name in key]
    listed = ", ".join(names)
    for side in ("old", "new"):
        query = f"SELECT 1 FROM {side} GROUP BY {listed} HAVING count(*) > 1 LIMIT 1"
        if connection.execute(query).fetchone():
            made = _whole(connection, limit)
            made.note = f"rows are compared whole, for {', '.join(key)} is not unique"
            return made
    on = " AND ".join(f"{_WAS}.{name} IS NOT DISTINCT FROM {_NOW}.{name}" for name in names)
    order = ", ".join(f"{_NOW}.{name}" for name in names)
    made = Sample(key)
    came = f"FROM new {_NOW} ANTI JOIN old {_WAS} ON {on}"
    made.added, made.added_count = _rows(connection, came, f"{_NOW}.*", order, limit)
    went = f"FROM old {_NOW} ANTI JOIN new {_WAS} ON {on}"
    made.removed, made.removed_count = _rows(connection, went, f"{_NOW}.*", order, limit)
    both = f"FROM new {_NOW} JOIN old {_WAS} ON {on} WHERE {_NOW} IS DISTINCT FROM {_WAS}"
    pairs, made.changed_count = _rows(connection, both, f"{_NOW} AS now, {_WAS} AS was", order, limit)
    for pair in pairs:
        now, was = pair["now"], pair["was"]
        changed = {name: (was[name], now[name]) for name in now if not _same(was[name], now[name])}
        made.changed.append(({name: now[name] for name in key}, changed))
    return made


def _whole(connection: DuckDBPyConnection, limit: int) -> Sample:
    made = Sample()
    added = "FROM (FROM new EXCEPT ALL FROM old)"
    removed = "FROM (FROM old EXCEPT ALL FROM new)"
    made.added, made.added_count = _rows(connection, added, "*", "ALL", limit)
    made.removed, made.removed_count = _rows(connection, removed, "*", "ALL", limit)
    return made


def _rows(
    connection: DuckDBPyConnection, source: str, columns: str, order: str, limit: int
) -> tuple[list[Row], int]:
    counted = connection.execute(f"SELECT count(*) {source}").fetchone()
    found = connection.execute(f"SELECT {columns} {source} ORDER BY {order} LIMIT {int(limit)}")
    rows: list[Mapping[str, Any]] = found.to_arrow_table().to_pylist()
    return [dict(row) for row in rows], int(counted[0]) if counted else 0


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)
