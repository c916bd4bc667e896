"""Small files of a table made into few large ones: its rows stay what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import Branch, Json, ancestry, snapshots, stamp
from forebay.lake.commit import Conflict
from forebay.lake.connection import CatalogConfig, DeletedByValue, LakeError
from forebay.lake.publish import PublishConflict, discard, publish
from forebay.lake.tables import load, row_count
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from forebay.engines.trino import TrinoEngine
    from forebay.lake.identity import TaskTry
    from forebay.lake.rest import Rest

_FORMAT = 2
"""The newest of Iceberg's formats whose files are put together. In later ones each row has a number of its own to keep."""


@dataclass(frozen=True)
class Files:
    """What there is to do with a table."""

    table: str
    files: int = 0
    """Its data files."""
    small: int = 0
    """Those that are smaller than asked and share a partition with another such one, so that both become one."""
    bytes: int = 0
    """Of the small ones."""
    deletes: int = 0
    """Files that say which rows of others are deleted; they go, and the rows with them."""
    busy: str = ""
    """Why it is left alone for now."""

    @property
    def to_do(self) -> bool:
        return not self.busy and bool(self.small or self.deletes)


def look(rest: Rest, name: str, small: int, job: str = "") -> Files:
    """What there is to do with a table whose files should have `small` bytes. Raises LakeError where there is none.

    What earlier runs of `job` put together and did not publish is no reason to leave it alone.
    """
    metadata, table = rest.table(name), load(rest.config, name)
    if metadata is None or table is None:
        raise LakeError(f"There is no table {name} in the lake.")
    if number := sum(not _form_only(metadata, branch, job) for branch in Branch.all(metadata)):
        # A run that replaces rows could not be published over other files, however equal their rows.
        return Files(
            name, busy=f"{number} run{'s have' if number > 1 else ' has'} rows in it that are not published"
        )
    if int(metadata["format-version"]) > _FORMAT:
        return Files(name, busy=f"it is of Iceberg's format {metadata['format-version']}")
    return counted(rest.config, name, table, small)


def _form_only(metadata: Json, branch: Branch, job: str) -> bool:
    line = list(ancestry(snapshots(metadata), branch.head, branch.base))
    return bool(line) and all(
        (each.get("summary") or {}).get("operation") == "replace" and stamp(each, "job") == job
        for each in line
    )


def counted(config: CatalogConfig, name: str, table: Table, small: int) -> Files:
    """The files of a table as it stands."""
    if table.metadata.current_snapshot() is None:
        return Files(name)
    try:
        with config.reached():
            found = list(table.scan().plan_files())
    except DeletedByValue:
        return Files(name, busy="it has deletes by value, and nothing here counts its rows")
    parts = Counter(
        (each.file.spec_id, each.file.partition) for each in found if each.file.file_size_in_bytes < small
    )
    chosen = [
        each.file.file_size_in_bytes
        for each in found
        if each.file.file_size_in_bytes < small and parts[each.file.spec_id, each.file.partition] > 1
    ]
    deletes = {delete.file_path for each in found for delete in each.delete_files}
    return Files(name, len(found), len(chosen), sum(chosen), len(deletes))


def rewrite(engine: DuckDBEngine | TrinoEngine, name: str, small: int) -> Table | None:
    """Puts the table's small files together on the branch that the engine writes; the table as it is there.

    None where the engine left all files as they were. Raises LakeError where there is no table, or its rows would not be
    what they were: then the branch is not to be published.
    """
    before = load(engine.config, name)
    if before is None:
        raise LakeError(f"There is no table {name} in the lake.")
    # Now, for a commit brings the table at hand up to date.
    rows, old = row_count(before), before.metadata.current_snapshot_id
    if isinstance(engine, DuckDBEngine):
        from forebay.engines.compaction_duckdb import rewrite as on_duckdb

        engine.work(lambda: on_duckdb(engine, name, before, small))
    else:
        target = ".".join(quoted(part) for part in name.split("."))
        engine.execute([f"ALTER TABLE {target} EXECUTE optimize(file_size_threshold => '{small}B')"])
    after = load(engine.config, name)
    new = after.metadata.current_snapshot() if after is not None else None
    now = row_count(after) if after is not None else 0
    if new is None or old not in (new.snapshot_id, new.parent_snapshot_id) or now != rows:
        raise LakeError(
            f"{name} has {rows:,} rows and would have {now:,}. Nothing was changed. Was it written meanwhile? Put its "
            "files together again."
        )
    return after if new.snapshot_id != old else None


def compact(engine: DuckDBEngine | TrinoEngine, rest: Rest, who: TaskTry, name: str, small: int) -> Files:
    """Has the engine rewrite the table's small files on the branch of `who`, and publishes that; the files afterwards.

    Raises PublishConflict where main moved meanwhile: nothing is changed then, and no branch is left.
    """
    try:
        rewrite(engine, name, small)
        publish(rest, who, [name])
    except (Conflict, PublishConflict):
        discard(rest, who, [name])
        raise PublishConflict(
            f"{name} was written meanwhile, so its files stay as they are. Compact it again."
        ) from None
    except BaseException:
        discard(rest, who, [name])
        raise
    table = load(rest.config, name)
    assert table is not None
    return counted(rest.config, name, table, small)
