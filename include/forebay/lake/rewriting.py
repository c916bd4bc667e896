"""A snapshot that says the same rows in other files. It has PyIceberg at its top: load it where one is made."""

from __future__ import annotations

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _OverwriteFiles
from pyiceberg.typedef import EMPTY_DICT


class RewriteFiles(_OverwriteFiles):
    """Data files that take the place of others: operation `replace`, as Trino's optimize says.

    Files of deletes that were about the replaced ones alone go, too. PyIceberg has no such update.
    """

    _spent: set[DataFile]
    """Files of deletes that nothing needs; known before manifests are written, which PyIceberg does in threads."""
    _dropped: set[DataFile]
    """Those of them that left."""

    def _deleted_entries(self) -> list[ManifestEntry]:
        stay: set[DataFile] = set()
        self._spent = set()
        for task in self._transaction._scan().plan_files():
            gone = task.file in self._deleted_data_files
            (self._spent if gone else stay).update(task.delete_files)
        self._spent -= stay
        return super()._deleted_entries()

    def _existing_manifests(self) -> list[ManifestFile]:
        kept, self._dropped = [], set()
        for manifest in super()._existing_manifests():
            if manifest.content == ManifestContent.DELETES:
                there = {entry.data_file for entry in manifest.fetch_manifest_entry(self._io)}
                # One with others in it stays whole: deletes of rows in files that are gone do nothing.
                if there <= self._spent:
                    self._dropped |= there
                    continue
            kept.append(manifest)
        return kept

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        data = self._deleted_data_files
        self._deleted_data_files = data | self._dropped
        try:
            told = super()._summary(snapshot_properties)
        finally:
            self._deleted_data_files = data
        # PyIceberg counts for other operations only.
        return Summary(Operation.REPLACE, **told.additional_properties)
