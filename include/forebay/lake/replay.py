"""A run's rows once more, on top of another snapshot: the same data files in new snapshots.

Rows that were only appended can follow anything that was. Partitions that were replaced can follow what left these
partitions alone, and files that were put together what left all files as they were.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from forebay.lake.branch import LANDED, MAIN, PARTITIONS, REPLAY, UNSURE, Json
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import STAMP

if TYPE_CHECKING:
    from pyiceberg.io import OutputFile
    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.table import Table

_COUNTED = ("added-", "deleted-", "removed-", "total-", "changed-", "manifests-", "operation")

_MANY = 8


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
    if any(_operation(each) not in ("append", "replace") for each in theirs):
        return "the other writer did more than append rows"
    if _landed(ours) & _landed(theirs):
        return "both landed the same files"
    return ""


def form_only(ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these snapshots put files together, all of whose rows were there: the new ones have as many."""
    summaries = [snapshot.get("summary") or {} for snapshot in ours]
    return bool(summaries) and all(
        _operation(each) == "replace"
        and summary.get("added-records") is not None
        and summary.get("added-records") == summary.get("deleted-records")
        for each, summary in zip(ours, summaries, strict=True)
    )


def moved_files(theirs: Sequence[Mapping[str, Any]]) -> str:
    """Why files cannot be put together after `theirs`; empty where these left all files as they were."""
    if all(_operation(each) == "append" for each in theirs):
        return ""
    return "the other writer did more than append rows"


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
    with ThreadPoolExecutor(_MANY) as pool:
        files = list(pool.map(lambda each: changed_files(table, int(each["snapshot-id"])), snapshots))
        done = list(zip(snapshots, files, strict=True))
        if any(gone for _, (_, gone) in done):
            made = _replaced(table, done, onto)
        else:
            made = _Appended(table, done, onto).written(pool)
    last = made[-1]["snapshot-id"] if made else onto
    return [{"action": "add-snapshot", "snapshot": each} for each in made], last


_Changed = tuple[Mapping[str, Any], tuple[Sequence["DataFile"], Sequence["DataFile"]]]
"""A snapshot, with the files it added and those it deleted."""


class _Appended:
    """Snapshots that add the same files again, all of them written at the same time.

    PyIceberg would write one after the other, and copy the table's metadata a dozen times for each.
    """

    def __init__(self, table: Table, done: Sequence[_Changed], onto: int | None) -> None:
        from pyiceberg.table import TableProperties

        metadata = table.metadata
        self._table, self._done = table, done
        self._version, self._locations = metadata.format_version, table.location_provider()
        self._codec: Any = metadata.properties.get(
            TableProperties.WRITE_AVRO_COMPRESSION, TableProperties.WRITE_AVRO_COMPRESSION_DEFAULT
        )
        self._before = None if onto is None else metadata.snapshot_by_id(onto)
        self._numbers = [metadata.new_snapshot_id() for _ in done]
        self._parents = [onto, *self._numbers]
        first = metadata.next_sequence_number()
        self._sequence = [first + place if self._version > 1 else first for place in range(len(done))]

    def written(self, pool: ThreadPoolExecutor) -> list[Json]:
        """Their documents, oldest first."""
        places = range(len(self._done))
        before = self._before.manifests(self._table.io) if self._before else []
        there = [each for each in before if each.has_added_files() or each.has_existing_files()]
        added = list(pool.map(self._manifest, places))
        manifests = [[each for each in added[place::-1] if each] + there for place in places]
        return self._documents(list(pool.map(self._manifest_list, places, manifests)))

    def _manifest(self, place: int) -> ManifestFile | None:
        from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus, write_manifest

        if not (files := self._done[place][1][0]):
            return None
        output, number = self._output(f"{uuid.uuid4()}-m0.avro"), self._numbers[place]
        with write_manifest(
            self._version, self._table.spec(), self._table.schema(), output, number, self._codec
        ) as writer:
            for each in files:
                entry = ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=each
                )
                writer.add(entry)
        made = writer.to_manifest_file()
        made.sequence_number = made.min_sequence_number = self._sequence[place]
        return made

    def _manifest_list(self, place: int, manifests: list[ManifestFile]) -> str:
        from pyiceberg.manifest import write_manifest_list

        number, parent = self._numbers[place], self._parents[place]
        output = self._output(f"snap-{number}-0-{uuid.uuid4()}.avro")
        with write_manifest_list(
            self._version, output, number, parent, self._sequence[place], self._codec
        ) as writer:
            writer.add_manifests(manifests)
        return str(output.location)

    def _output(self, file: str) -> OutputFile:
        return self._table.io.new_output(self._locations.new_metadata_location(file))

    def _documents(self, lists: Sequence[str]) -> list[Json]:
        from pyiceberg.table.snapshots import Operation, SnapshotSummaryCollector, Summary
        from pyiceberg.table.snapshots import update_snapshot_summaries as with_totals

        made, summary = [], self._before.summary if self._before else None
        for place, (snapshot, (files, _)) in enumerate(self._done):
            counted = SnapshotSummaryCollector()
            for each in files:
                counted.add_file(each, self._table.schema(), self._table.spec())
            told = Summary(Operation.APPEND, **counted.build(), **_kept(snapshot, self._parents[place]))
            summary = with_totals(told, summary)
            document = {
                "snapshot-id": self._numbers[place],
                "parent-snapshot-id": self._parents[place],
                "sequence-number": self._sequence[place],
                "timestamp-ms": int(time.time() * 1000),
                "manifest-list": lists[place],
                "summary": summary.model_dump(mode="json", by_alias=True),
                "schema-id": self._table.metadata.current_schema_id,
            }
            made.append({name: value for name, value in document.items() if value is not None})
        return made


def _replaced(table: Table, done: Sequence[_Changed], onto: int | None) -> list[Json]:
    """Snapshots that replace the same files, one after the other: which manifests stay depends on the one before."""
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _FastAppendFiles, _OverwriteFiles

    from forebay.lake.rewriting import RewriteFiles

    before = None if onto is None else table.metadata.snapshot_by_id(onto)
    update: dict[str, Any] = {"current_snapshot_id": onto, "refs": _refs(onto)}
    # History is left out: PyIceberg copies all of the metadata a dozen times for each snapshot.
    update |= {"snapshots": [before] if before else [], "snapshot_log": [], "metadata_log": []}
    table.metadata = table.metadata.model_copy(update=update)
    transaction, last = table.transaction(), onto
    for snapshot, (new, gone) in done:
        producer: Any = _OverwriteFiles if gone else _FastAppendFiles
        if _operation(snapshot) == "replace":
            producer = RewriteFiles
            if len({sum(each.record_count for each in files) for files in (new, gone)}) > 1:
                raise LakeError(
                    f"{'.'.join(table.name())}: files that were put together lack rows. Nothing was published."
                )
        operation = Operation.OVERWRITE if gone else Operation.APPEND
        with producer(operation, transaction, table.io, snapshot_properties=_kept(snapshot, last)) as files:
            for data_file in gone:
                files.delete_data_file(data_file)
            for data_file in new:
                files.append_data_file(data_file)
        last = int(files.snapshot_id)
    return [
        each.snapshot.model_dump(mode="json", by_alias=True, exclude_none=True)
        for each in transaction._updates
        if each.action == "add-snapshot"
    ]


def _kept(snapshot: Mapping[str, Any], parent: int | None) -> dict[str, str]:
    """What a repeated snapshot's summary says as before, and what it stands on now."""
    kept = {
        str(key): str(value)
        for key, value in (snapshot.get("summary") or {}).items()
        if not str(key).startswith(_COUNTED)
    }
    kept[f"{STAMP}base"] = "" if parent is None else str(parent)
    kept[f"{STAMP}replay-of"] = str(snapshot["snapshot-id"])
    return kept


def changed_files(table: Table, snapshot_id: int) -> tuple[list[DataFile], list[DataFile]]:
    """The data files that a snapshot added, and those it deleted."""
    from pyiceberg.manifest import DataFileContent, ManifestEntryStatus

    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    entries = [
        entry
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        if entry.snapshot_id == snapshot_id and entry.data_file.content == DataFileContent.DATA
    ]
    added, gone = (
        [entry.data_file for entry in entries if entry.status == status]
        for status in (ManifestEntryStatus.ADDED, ManifestEntryStatus.DELETED)
    )
    return added, gone


def _operation(snapshot: Mapping[str, Any]) -> str:
    return str((snapshot.get("summary") or {}).get("operation"))


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
