"""What became of the tables that statements or programs wrote: found from the snapshots they left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from forebay.engines.results import NO_TABLE, NOT_WRITTEN, TableResult
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import load, row_count


class Executes(Protocol):
    """An engine that runs statements."""

    config: CatalogConfig

    def execute(self, statements: Sequence[str]) -> list[int | None]: ...


def script(
    engine: Executes, statements: Sequence[str], writes: Sequence[str]
) -> tuple[list[int | None], list[TableResult]]:
    """Runs statements in turn: the rows that each changed, where the engine says so, and what became of `writes`."""
    started = time.monotonic()
    before = snapshots(engine.config, writes)
    changed = engine.execute(statements)
    return changed, changes(engine.config, before, "statements", started)


def snapshots(config: CatalogConfig, tables: Sequence[str]) -> dict[str, int | None]:
    """The current snapshot of each table, None where there is none."""
    found = {name: load(config, name) for name in tables}
    return {
        name: table.metadata.current_snapshot_id if table is not None else None
        for name, table in found.items()
    }


def changes(
    config: CatalogConfig, before: dict[str, int | None], mode: str, started: float
) -> list[TableResult]:
    """What happened to tables since `before`, from the snapshots made since."""
    results = []
    for name, start in before.items():
        seconds = round(time.monotonic() - started, 3)
        table = load(config, name)
        if table is None:
            results.append(TableResult(name, mode, 0, seconds=seconds, note=NO_TABLE))
            continue
        names = ("added-records", "deleted-records", "added-position-deletes", "removed-position-deletes")
        counts = dict.fromkeys(names, 0)
        current = table.metadata.current_snapshot()
        snapshot = current
        while snapshot is not None and snapshot.snapshot_id != start:
            for key in counts:
                counts[key] += int(snapshot.summary.get(key) or 0) if snapshot.summary else 0
            parent = snapshot.parent_snapshot_id
            snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None
        changed = current is not None and current.snapshot_id != start
        results.append(
            TableResult(
                table=name,
                mode=mode,
                rows=row_count(table),
                inserted=counts["added-records"],
                # Rows may leave with their file, or by a delete file beside it.
                deleted=counts["deleted-records"]
                + counts["added-position-deletes"]
                - counts["removed-position-deletes"],
                snapshot_id=current.snapshot_id if current is not None else None,
                seconds=seconds,
                note="" if changed else NOT_WRITTEN,
            )
        )
    return results
