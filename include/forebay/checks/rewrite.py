"""Takes single rows out of a table: only the data files that hold one are written anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebay.checks.compile import FILE, ROW
from forebay.checks.evaluate import relation
from forebay.engines.columns import sql_name
from forebay.lake.connection import LakeError
from forebay.lake.tables import load
from forebay.sqlquote import literal, quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.commit import Draft


@dataclass(frozen=True)
class Rewritten:
    """Files that are written and not committed yet, in place of those at `paths`."""

    files: list[Any]
    paths: list[str]
    left: int
    """Rows that are in the old files and not in the new ones."""

    def commit(self, draft: Draft, properties: Mapping[str, str]) -> Table:
        """One commit, with `properties` in its summary. Raises Conflict when the table changed meanwhile."""
        table, _ = draft.commit(self.files, "files" if self.paths else "nothing", self.paths, properties)
        return table


def without(
    engine: DuckDBEngine,
    draft: Draft,
    gone: str,
    more: str = "",
    replaced: Mapping[str, str] | None = None,
) -> Rewritten:
    """Write anew the files of the draft's table that hold rows named in the temporary table `gone` (file, row).

    `more` is SQL for further rows of the draft's columns. With `replaced` the named rows stay, and these columns
    of theirs become an expression over `gone`, called r. Raises LakeError when the rows do not add up.
    """
    paths = [
        str(path) for (path,) in engine.connection.execute(f"SELECT DISTINCT file FROM {gone}").fetchall()
    ]
    parts, expected, left = [], 0, 0
    if paths:
        table = load(engine.config, draft.definition.name)
        assert table is not None
        inside = ", ".join(map(literal, paths))
        source = f"({relation(table, draft.definition.name, draft.base_snapshot)}) t"
        chosen = f"t.{FILE} IN ({inside})"
        left = 0 if replaced else count(engine, f"FROM {gone}")
        expected = count(engine, f"FROM {source} WHERE {chosen}") - left
        columns = _columns(draft, {field.name for field in table.schema().fields}, replaced or {})
        parts.append(
            f"SELECT {columns} FROM {source} LEFT JOIN {gone} r ON r.file = t.{FILE} AND r.row = t.{ROW} "
            f"WHERE {chosen}" + ("" if replaced else " AND r.file IS NULL")
        )
    if more:
        parts.append(more)
        expected += count(engine, f"FROM ({more})")
    files, written = engine.files(" UNION ALL ".join(parts), draft) if parts else ([], 0)
    if written != expected:
        raise LakeError(
            f"{draft.definition.name}: {expected:,} rows should have been written, and {written:,} were. Nothing "
            "was changed. Run it again; if that happens again, it is a fault of Forebay."
        )
    return Rewritten(files, paths, left)


def count(engine: DuckDBEngine, source: str) -> int:
    """The number of rows of `FROM …`."""
    engine.background.check()
    row = engine.connection.execute(f"SELECT count(*) {source}").fetchone()
    return int(row[0]) if row else 0


def _columns(draft: Draft, old: set[str], replaced: Mapping[str, str]) -> str:
    """The draft's columns out of rows `t` that may lack its new ones."""
    parts = []
    for field in draft.schema().fields:
        value = f"t.{quoted(field.name)}" if field.name in old else "NULL"
        if field.name in replaced:
            value = f"CASE WHEN r.file IS NULL THEN {value} ELSE {replaced[field.name]} END"
        parts.append(f"CAST({value} AS {sql_name(field.field_type)}) AS {quoted(field.name)}")
    return ", ".join(parts)
