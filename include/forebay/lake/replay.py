"""Appended rows once more, on top of another snapshot: the same data files in new snapshots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.lake.branch import LANDED, MAIN, REPLAY, Json
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import STAMP

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

_COUNTED = ("added-", "deleted-", "removed-", "total-", "changed-", "manifests-", "operation")


def obstacle(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> str:
    """Why `ours` cannot be repeated after `theirs`; empty where it can.

    Both sides must only have added rows (or rewritten files without changing rows), ours must not say that
    they depend on what was there, and no file was landed by both.
    """
    for snapshot in ours:
        summary = snapshot.get("summary") or {}
        if summary.get("operation") != "append" or summary.get(REPLAY) == "no":
            return "this run did more than append rows"
    if any((each.get("summary") or {}).get("operation") not in ("append", "replace") for each in theirs):
        return "the other writer did more than append rows"
    if _landed(ours) & _landed(theirs):
        return "both landed the same files"
    return ""


def replayed(
    config: CatalogConfig, name: str, snapshots: Sequence[Mapping[str, Any]], onto: int | None
) -> tuple[list[Json], int | None]:
    """`add-snapshot` updates that repeat appended snapshots (oldest first) after `onto`, and the last one's id."""
    table = config.pyiceberg().load_table(name)
    updates: list[Json] = []
    metadata = table.metadata.model_copy(update={"current_snapshot_id": onto, "refs": _refs(onto)})
    table.metadata = metadata
    with_transaction = table.transaction()
    last = onto
    for snapshot in snapshots:
        last = _append(with_transaction, table, snapshot, last)
    for update in with_transaction._updates:
        if update.action == "add-snapshot":
            updates.append(update.model_dump(mode="json", by_alias=True, exclude_none=True))
    return updates, last


def _append(transaction: Any, table: Table, snapshot: Mapping[str, Any], parent: int | None) -> int:
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _FastAppendFiles

    old = int(snapshot["snapshot-id"])
    kept = {
        str(key): str(value)
        for key, value in (snapshot.get("summary") or {}).items()
        if not str(key).startswith(_COUNTED)
    }
    kept[f"{STAMP}base"] = "" if parent is None else str(parent)
    kept[f"{STAMP}replay-of"] = str(old)
    with _FastAppendFiles(Operation.APPEND, transaction, table.io, snapshot_properties=kept) as update:
        for data_file in added_files(table, old):
            update.append_data_file(data_file)
    return int(update.snapshot_id)


def added_files(table: Table, snapshot_id: int) -> list[DataFile]:
    """The data files that a snapshot added."""
    from pyiceberg.manifest import ManifestEntryStatus

    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot_id
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
