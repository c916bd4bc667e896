"""mode: merge. Rows with a known key are updated, others inserted; only files that change are rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forebay.engines.columns import Plan, sql_name
from forebay.engines.results import TableResult
from forebay.lake.branch import PARTITIONS, REPLAY
from forebay.lake.commit import Draft
from forebay.lake.connection import LakeError
from forebay.spec.table import AUDIT_COLUMNS
from forebay.sqlquote import literal, quoted

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile

    from forebay.engines.duckdb import DuckDBEngine

# What is new depends on which keys were there, also where nothing but new keys came.
_BY_KEY = {REPLAY: "no"}
SOURCE, MATCHED = "temp.forebay_source", "temp.forebay_matched"


def run(engine: DuckDBEngine, select: str, columns: Plan, draft: Draft, key: Sequence[str]) -> TableResult:
    """Merge a SELECT into the draft's table.

    Rules: a key column must not be NULL, and a key occurs once in the SELECT; errors name the key.
    Rows equal to what the table holds are left alone, so a repeated run commits nothing.
    DuckDB's own MERGE is not used: it writes delete files and no row counts, and cannot write
    every partitioning.
    """
    from forebay.engines.duckdb import lake_name, result_of

    connection, table = engine.connection, draft.definition.name
    given = {name.lower(): name for name, _, source in columns.columns if source is not None}
    if unknown := [name for name in key if name.lower() not in given]:
        raise LakeError(
            f"{table}: merge_key: the SELECT has no column {', '.join(map(repr, unknown))}. "
            f"Columns: {', '.join(given.values())}."
        )
    keys = [given[name.lower()] for name in key]
    source = columns.select(f"({select}\n)", only_given=True)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE forebay_source AS {source}")
    engine.background.check()
    _check_keys(engine, table, keys)
    every = [name for name, _, _ in columns.columns]
    types = {name: sql_name(kind) for name, kind, _ in columns.columns}
    fresh = ", ".join(
        (f"s.{quoted(name)}" if name.lower() in given else f"CAST(NULL AS {types[name]})")
        + f" AS {quoted(name)}"
        for name in every
    )
    if draft.base_snapshot is None:
        files, written = engine.files(f"SELECT {fresh} FROM {SOURCE} s", draft)
        properties = {REPLAY: PARTITIONS} if _by_partition(draft, files, set(), keys) else _BY_KEY
        committed, _ = draft.commit(files, properties=properties)
        return result_of(committed, draft, "merge", inserted=written)

    target = f"{lake_name(table)} t AT (VERSION => {draft.base_snapshot})"
    added = {name for name, _ in columns.add}
    joined = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in keys)
    # Which run wrote a row is no difference of its own.
    stamped = AUDIT_COLUMNS if draft.definition.audit is not None else ()
    compared = [name for name in given.values() if name not in keys and name.lower() not in stamped]
    changed = " OR ".join(
        f"s.{quoted(name)} IS NOT NULL"
        if name in added
        else f"t.{quoted(name)} IS DISTINCT FROM s.{quoted(name)}"
        for name in compared
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE forebay_matched AS SELECT t.filename AS file, s.rowid AS source, "
        f"({changed or 'false'}) AS changed FROM {target} JOIN {SOURCE} s ON {joined}"
    )
    engine.background.check()
    row = connection.execute(f"SELECT count(*) FROM {MATCHED} WHERE changed").fetchone()
    updated = int(row[0]) if row else 0
    row = connection.execute(
        f"SELECT count(*) FROM {SOURCE} s WHERE NOT EXISTS (FROM {MATCHED} m WHERE m.source = s.rowid)"
    ).fetchone()
    inserted = int(row[0]) if row else 0
    paths = [
        str(path)
        for (path,) in connection.execute(f"SELECT DISTINCT file FROM {MATCHED} WHERE changed").fetchall()
    ]
    if not inserted and not updated:
        # New columns and wider types still become the table's.
        committed, _ = draft.commit([])
        return result_of(committed, draft, "merge")

    def kept(name: str) -> str:
        old = f"CAST(NULL AS {types[name]})" if name in added else f"CAST(t.{quoted(name)} AS {types[name]})"
        if name.lower() not in given or name in keys:
            return f"{old} AS {quoted(name)}"
        if name.lower() in stamped:
            stays = f"s.rowid IS NULL OR NOT ({changed or 'false'})"
            return f"CASE WHEN {stays} THEN {old} ELSE s.{quoted(name)} END AS {quoted(name)}"
        return f"CASE WHEN s.rowid IS NULL THEN {old} ELSE s.{quoted(name)} END AS {quoted(name)}"

    rows = f"SELECT {fresh} FROM {SOURCE} s WHERE NOT EXISTS (FROM {MATCHED} m WHERE m.source = s.rowid)"
    if paths:
        inside = ", ".join(map(literal, paths))
        rows = (
            f"SELECT {', '.join(kept(name) for name in every)} FROM {target} "
            f"LEFT JOIN {SOURCE} s ON {joined} WHERE t.filename IN ({inside}) UNION ALL {rows}"
        )
    files, _ = engine.files(rows, draft)
    same = f"SELECT DISTINCT file FROM {MATCHED} WHERE NOT changed"
    left = {str(path) for (path,) in connection.execute(same).fetchall()}
    properties = {REPLAY: PARTITIONS} if _by_partition(draft, files, left, keys) else _BY_KEY
    committed, _ = draft.commit(files, "files" if paths else "nothing", paths, properties)
    return result_of(committed, draft, "merge", inserted=inserted, updated=updated)


def _by_partition(draft: Draft, files: Sequence[DataFile], left: set[str], keys: Sequence[str]) -> bool:
    """Whether all that was looked at lies in the partitions that new files are in.

    A key that holds the partition's columns is nowhere else; `left` are files with rows found equal and left alone.
    """
    spec, schema = draft.metadata.spec(), draft.schema()
    columns = {(schema.find_column_name(field.source_id) or "").lower() for field in spec.fields}
    if not columns or not columns <= {key.lower() for key in keys}:
        return False
    written = {data_file.partition for data_file in files}
    live = draft.live() if left else ()
    looked = {(one.spec_id, one.partition) for one in live if one.file_path in left}
    return all(number == spec.spec_id and partition in written for number, partition in looked)


def _check_keys(engine: DuckDBEngine, table: str, keys: Sequence[str]) -> None:
    names = ", ".join(quoted(name) for name in keys)
    missing = " OR ".join(f"{quoted(name)} IS NULL" for name in keys)
    row = engine.connection.execute(f"SELECT count(*) FROM {SOURCE} WHERE {missing}").fetchone()
    if row and row[0]:
        raise LakeError(
            f"{table}: {row[0]:,} rows of the SELECT have no value in the merge key ({', '.join(keys)}). "
            "NULL equals nothing, so they would be inserted anew each time: filter them or use COALESCE."
        )
    row = engine.connection.execute(
        f"SELECT count(*), {names} FROM {SOURCE} GROUP BY {names} HAVING count(*) > 1 "
        f"ORDER BY {names} LIMIT 1"
    ).fetchone()
    if row:
        named = ", ".join(f"{name} = {value}" for name, value in zip(keys, row[1:], strict=True))
        raise LakeError(
            f"{table}: the merge key {named} occurs {row[0]:,} times in the SELECT, so it is not clear which "
            "row counts. Aggregate the SELECT to one row a key, or add a column to merge_key."
        )
