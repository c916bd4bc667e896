"""A SELECT into a table, by Trino: the four modes, with tables and layout made as everywhere in Forebay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import TYPE_CHECKING

from forebay.engines.audit import refuse_taken
from forebay.engines.columns import Plan, plan
from forebay.engines.results import TableResult
from forebay.engines.trino_types import Signature, cast, iceberg_type
from forebay.lake.branch import PARTITIONS, REPLAY
from forebay.lake.commit import Draft, new_schema
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import (
    TableDefinition,
    ensure_namespace,
    load,
    partition_spec,
    row_count,
    sort_order,
)
from forebay.lake.unpublished import explained
from forebay.spec.table import AUDIT_COLUMNS
from forebay.sqlquote import literal, quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from forebay.engines.trino import TrinoEngine


def write(
    engine: TrinoEngine, select: str, definition: TableDefinition, mode: str, key: Sequence[str]
) -> TableResult:
    """Put the SELECT's rows into the table."""
    started = time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        looked = beside.submit(_seen, engine.config, definition.name)
        given = engine.columns(select)
        there, rows_there = looked.result()
    if definition.audit is not None:
        refuse_taken([name for name, _ in given], definition)
        select, given = _audited(select, given, definition)
    with explained(engine.config, definition, there):
        columns = plan(
            definition.name, there.schema() if there is not None else None, given, type_of=iceberg_type
        )
        engine.background.check()
        table = prepared(engine.config, definition, columns, there)
        if mode == "overwrite_partitions" and table.spec().is_unpartitioned():
            raise LakeError(
                f"{definition.name} has no partitions, so mode: overwrite_partitions has nothing to "
                "go by. Use overwrite or merge, or set partitioned_by before the table is created."
            )
    resumed = engine.resumed
    before = rows_there if resumed is None else resumed.before
    created = there is None if resumed is None else resumed.created
    types = dict(given)
    if mode == "merge":
        written = engine.bring(_merge(definition, columns, types, select, key), before, created).count or 0
        table = _loaded(engine.config, definition.name)
        rows = row_count(table)
        # Trino counts both together, and a merge takes no row away.
        inserted, updated = rows - before, written - (rows - before)
    else:
        query = engine.bring(_insert(definition, columns, types, select), before, created)
        inserted, updated = query.count or 0, 0
        table = _loaded(engine.config, definition.name)
        if mode in ("overwrite", "overwrite_partitions"):
            table = _drop_older(engine.config, definition, columns, table, query.query, mode)
        rows = row_count(table)
    return TableResult(
        table=definition.name, mode=mode, rows=rows, inserted=inserted, updated=updated,
        deleted=before + inserted - rows,
        snapshot_id=table.metadata.current_snapshot_id, seconds=round(time.monotonic() - started, 3),
        created=created,
    )  # fmt: skip


def _seen(config: CatalogConfig, name: str) -> tuple[Table | None, int]:
    """The table and its rows. A tenth of a second, while Trino makes the catalog and says what the SELECT gives."""
    found = load(config, name)
    return found, 0 if found is None else row_count(found)


def _loaded(config: CatalogConfig, name: str) -> Table:
    found = load(config, name)
    if found is None:
        raise LakeError(f"{name} was dropped while it was written.")
    return found


def prepared(config: CatalogConfig, definition: TableDefinition, columns: Plan, table: Table | None) -> Table:
    """The table with the columns it is to have; made, without rows, where there is none."""
    if table is None:
        ensure_namespace(config, definition.name)
        schema = new_schema([(name, kind) for name, kind, _ in columns.columns], definition)
        properties = {"format-version": "2"}
        if definition.comment:
            properties["comment"] = definition.comment
        made: Table = config.pyiceberg().create_table(
            definition.name,
            schema,
            partition_spec=partition_spec(schema, definition),
            sort_order=sort_order(schema, definition),
            properties=properties,
        )
        return made
    if columns.add or columns.widen:
        with table.update_schema() as update:
            for name, kind in columns.widen:
                update.update_column(name, field_type=kind)
            for name, kind in columns.add:
                update.add_column(name, kind, doc=definition.column_comments.get(name))
    return table


def _target(definition: TableDefinition) -> str:
    return ".".join(quoted(part) for part in definition.name.split("."))


def _selected(columns: Plan, types: dict[str, Signature], select: str) -> tuple[list[str], str]:
    """Names of the table's columns that the SELECT fills, and the SELECT that gives them in their types."""
    filled = [(name, kind, source) for name, kind, source in columns.columns if source is not None]
    casts = [
        f"{cast(quoted(source), types[source], kind)} AS {quoted(name)}" for name, kind, source in filled
    ]
    return [name for name, _, _ in filled], f"SELECT {', '.join(casts)} FROM (\n{select}\n)"


def _insert(definition: TableDefinition, columns: Plan, types: dict[str, Signature], select: str) -> str:
    names, rows = _selected(columns, types, select)
    return f"INSERT INTO {_target(definition)} ({', '.join(map(quoted, names))}) {rows}"


def _merge(
    definition: TableDefinition, columns: Plan, types: dict[str, Signature], select: str, key: Sequence[str]
) -> str:
    """MERGE that updates rows which differ and inserts new ones, and fails where a key is unclear."""
    names, rows = _selected(columns, types, select)
    known = {name.lower(): name for name in names}
    if unknown := [name for name in key if name.lower() not in known]:
        raise LakeError(
            f"{definition.name}: merge_key: the SELECT has no column {', '.join(map(repr, unknown))}. "
            f"Columns: {', '.join(names)}."
        )
    keys = [known[name.lower()] for name in key]
    listed = ", ".join(map(quoted, keys))
    counted = f"SELECT *, count(*) OVER (PARTITION BY {listed}) AS forebay_times FROM ({rows})"
    shown = ", ', ', ".join(f"{literal(f'{name} = ')}, CAST({quoted(name)} AS varchar)" for name in keys)
    nothing = " OR ".join(f"{quoted(name)} IS NULL" for name in keys)
    null = (
        f"{definition.name}: rows of the SELECT have no value in the merge key ({', '.join(keys)}). NULL equals nothing, "
        "so they would be inserted anew each time: filter them or use COALESCE."
    )
    twice = (
        f"concat({literal(f'{definition.name}: the merge key ')}, {shown}, ' occurs ', CAST(forebay_times AS varchar), "
        + literal(
            " times in the SELECT, so it is not clear which row counts. Aggregate the SELECT to one row a key, or add "
            "a column to merge_key."
        )
        + ")"
    )
    # In the source itself: a check beforehand would run the SELECT twice, and might see other rows.
    source = (
        f"SELECT * FROM ({counted}) WHERE CASE WHEN {nothing} THEN CAST(fail({literal(null)}) AS boolean) "
        f"WHEN forebay_times > 1 THEN CAST(fail({twice}) AS boolean) ELSE true END"
    )
    joined = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in keys)
    stamped = AUDIT_COLUMNS if definition.audit is not None else ()
    compared = [name for name in names if name not in keys and name.lower() not in stamped]
    changed = " OR ".join(f"t.{quoted(name)} IS DISTINCT FROM s.{quoted(name)}" for name in compared)
    # The key stays as it is.
    taken_over = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in names if name not in keys)
    update = f"WHEN MATCHED AND ({changed}) THEN UPDATE SET {taken_over} " if changed else ""
    return (
        f"MERGE INTO {_target(definition)} t USING ({source}) s ON {joined} {update}"
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(map(quoted, names))}) "
        f"VALUES ({', '.join(f's.{quoted(name)}' for name in names)})"
    )


def _audited(
    select: str, given: list[tuple[str, Signature]], definition: TableDefinition
) -> tuple[str, list[tuple[str, Signature]]]:
    assert definition.audit is not None
    run, moment = AUDIT_COLUMNS
    types: list[tuple[str, Signature]] = [
        (run, {"rawType": "varchar"}),
        (moment, {"rawType": "timestamp with time zone"}),
    ]
    at = definition.audit.at.astimezone(UTC)
    values = (
        f"{literal(definition.audit.run)} AS {run}, TIMESTAMP '{at:%Y-%m-%d %H:%M:%S.%f} UTC' AS {moment}"
    )
    return f"SELECT *, {values} FROM (\n{select}\n)", [*given, *types]


def _drop_older(
    config: CatalogConfig, definition: TableDefinition, columns: Plan, table: Table, query: str, mode: str
) -> Table:
    """Takes out what was there before `query` inserted its rows: everything, or the partitions it wrote."""
    brought = [
        snapshot.snapshot_id
        for snapshot in table.metadata.snapshots
        if snapshot.summary and snapshot.summary.additional_properties.get("trino_query_id") == query
    ]
    draft = Draft(config, definition, [(name, kind) for name, kind, _ in columns.columns], table)
    everything = mode == "overwrite"
    left, _ = draft.commit(
        [], "everything" if everything else "partitions", keep=brought[-1] if brought else None,
        properties={REPLAY: "no" if everything else PARTITIONS},
    )  # fmt: skip
    return left
