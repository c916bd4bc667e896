"""A run's rows once more, on top of another snapshot: the same data files in new snapshots.

Rows that were only appended can follow anything that was. Partitions that were replaced can follow what left these
partitions alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.lake.branch import LANDED, MAIN, PARTITIONS, REPLAY, UNSURE, Json
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import STAMP

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile, ManifestEntryStatus
    from pyiceberg.table import Table

_COUNTED = ("added-", "deleted-", "removed-", "total-", "changed-", "manifests-", "operation")


def obstacle(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    """Why `ours` cannot be repeated after `theirs`; empty where it can.

    Both sides must only have added rows (or rewritten files without changing rows), ours must not say that
    they depend on what was there, and no file was landed by both.
    """
    for snapshot in ours:
        summary = snapshot.get("summary") or {}
        if summary.get(REPLAY) == UNSURE:
            return "the rows that this run added may depend on what the table held"
        if summary.get("operation") != "append" or summary.get(REPLAY) in ("no", PARTITIONS):
            return "this run did more than append rows"
    if any((each.get("summary") or {}).get("operation") not in ("append", "replace") for each in theirs):
        return "the other writer did more than append rows"
    if _landed(ours) & _landed(theirs):
        return "both landed the same files"
    return ""


def by_partition(ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each of these snapshots either appended rows or replaced whole partitions, and looked at no others."""
    summaries = [snapshot.get("summary") or {} for snapshot in ours]
    return any(summary.get(REPLAY) == PARTITIONS for summary in summaries) and all(
        summary.get(REPLAY) == PARTITIONS
        or (summary.get("operation") == "append" and summary.get(REPLAY) not in ("no", UNSURE))
        for summary in summaries
    )


def overlap(
    config: CatalogConfig,
    name: str,
    ours: Sequence[Mapping[str, Any]],
    theirs: Sequence[Mapping[str, Any]],
) -> str:
    """Why partitions that `ours` replaced cannot be replaced after `theirs`; empty where they can.

    Both sides must have left each other's partitions alone, in today's columns and partitioning.
    """
    table = config.pyiceberg().load_table(name)
    if _landed(ours) & _landed(theirs):
        return "both landed the same files"
    if any(each.get("schema-id") != table.metadata.current_schema_id for each in ours):
        return "its columns changed"
    mine, others = (_Touched.by(table, snapshots) for snapshots in (ours, theirs))
    if not mine.known:
        return "what this run did to its partitions is not fully known"
    if not others.known:
        return "the other writer did more than replace partitions"
    if mine.specs | others.specs != {table.metadata.default_spec_id}:
        return "files are in another partitioning"
    if common := mine.partitions & others.partitions:
        return f"both wrote the same {len(common):,} partitions"
    return ""


class _Touched:
    """The partitions in which snapshots added or deleted files."""

    def __init__(self) -> None:
        self.partitions: set[Any] = set()
        self.specs: set[int] = set()
        self.known = True

    @classmethod
    def by(cls, table: Table, snapshots: Sequence[Mapping[str, Any]]) -> _Touched:
        found = cls()
        for each in snapshots:
            found._add(table, int(each["snapshot-id"]), each.get("summary") or {})
        return found

    def _add(self, table: Table, snapshot_id: int, summary: Mapping[str, Any]) -> None:
        from pyiceberg.manifest import ManifestContent, ManifestEntryStatus

        snapshot = table.metadata.snapshot_by_id(snapshot_id)
        assert snapshot is not None
        counts = {ManifestEntryStatus.ADDED: 0, ManifestEntryStatus.DELETED: 0}
        for manifest in snapshot.manifests(table.io):
            if manifest.added_snapshot_id != snapshot_id:
                continue
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
                if entry.status not in counts or entry.snapshot_id != snapshot_id:
                    continue
                counts[entry.status] += 1
                self.partitions.add(entry.data_file.partition)
                self.specs.add(manifest.partition_spec_id)
                # A delete file may reach rows that its own partition does not tell.
                self.known &= manifest.content == ManifestContent.DATA
        # A writer that dropped files without naming them would look as if it had touched nothing.
        self.known &= counts[ManifestEntryStatus.ADDED] >= int(summary.get("added-data-files") or 0)
        self.known &= counts[ManifestEntryStatus.DELETED] >= int(summary.get("deleted-data-files") or 0)


def replayed(
    config: CatalogConfig, name: str, snapshots: Sequence[Mapping[str, Any]], onto: int | None
) -> tuple[list[Json], int | None]:
    """`add-snapshot` updates that repeat snapshots (oldest first) after `onto`, and the last one's id."""
    table = config.pyiceberg().load_table(name)
    updates: list[Json] = []
    metadata = table.metadata.model_copy(update={"current_snapshot_id": onto, "refs": _refs(onto)})
    table.metadata = metadata
    with_transaction = table.transaction()
    last = onto
    for snapshot in snapshots:
        last = _repeat(with_transaction, table, snapshot, last)
    for update in with_transaction._updates:
        if update.action == "add-snapshot":
            updates.append(update.model_dump(mode="json", by_alias=True, exclude_none=True))
    return updates, last


def _repeat(transaction: Any, table: Table, snapshot: Mapping[str, Any], parent: int | None) -> int:
    from pyiceberg.manifest import ManifestEntryStatus
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _FastAppendFiles, _OverwriteFiles

    old = int(snapshot["snapshot-id"])
    kept = {
        str(key): str(value)
        for key, value in (snapshot.get("summary") or {}).items()
        if not str(key).startswith(_COUNTED)
    }
    kept[f"{STAMP}base"] = "" if parent is None else str(parent)
    kept[f"{STAMP}replay-of"] = str(old)
    gone = changed_files(table, old, ManifestEntryStatus.DELETED)
    producer: Any = _OverwriteFiles if gone else _FastAppendFiles
    operation = Operation.OVERWRITE if gone else Operation.APPEND
    with producer(operation, transaction, table.io, snapshot_properties=kept) as update:
        for data_file in gone:
            update.delete_data_file(data_file)
        for data_file in changed_files(table, old, ManifestEntryStatus.ADDED):
            update.append_data_file(data_file)
    return int(update.snapshot_id)


def changed_files(table: Table, snapshot_id: int, status: ManifestEntryStatus) -> list[DataFile]:
    """The data files that a snapshot added, or deleted."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        if entry.status == status and entry.snapshot_id == snapshot_id
    ]


def _refs(onto: int | None) -> dict[str, Any]:
    from pyiceberg.table.refs import SnapshotRef

    if onto is None:
        return {}
    return {MAIN: SnapshotRef.model_validate({"snapshot-id": onto, "type": "branch"})}


def _landed(snapshots: Sequence[Mapping[str, Any]]) -> set[str]:
    landed: set[str] = set()
    for snapshot in snapshots:
        if text := (snapshot.get("summary") or {}).get(LANDED):
            landed.update(json.loads(text))
    return landed
