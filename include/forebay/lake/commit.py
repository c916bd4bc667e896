"""Make written data files part of a table: one commit, one snapshot, repeated after a conflict."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from forebay.lake.branch import LANDED
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.store import asked
from forebay.lake.tables import TableDefinition, ensure_namespace, load, partition_spec, sort_order

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction
    from pyiceberg.types import IcebergType

ATTEMPTS = 6
Replace = Literal["nothing", "everything", "partitions", "files", "form"]
_FILES = ("files", "form")


class Conflict(LakeError):
    """Another writer changed the table meanwhile, so this work must be done again on the new state."""


class Draft:
    """A table as it will be: existing or about to be made, with new columns and wider types.

    Nothing is visible to readers before `commit`, which does all of it at once.
    """

    def __init__(
        self,
        config: CatalogConfig,
        definition: TableDefinition,
        columns: Sequence[tuple[str, IcebergType]],
        table: Table | None,
        add: Sequence[tuple[str, IcebergType]] = (),
        widen: Sequence[tuple[str, IcebergType]] = (),
    ) -> None:
        self._config, self.definition, self._columns = config, definition, tuple(columns)
        self._add, self._widen = tuple(add), tuple(widen)
        self.creates = table is None
        self._transaction = self._begin(table)
        self._base_schema = table.metadata.current_schema_id if table is not None else None
        self.base_snapshot = table.metadata.current_snapshot_id if table is not None else None

    @property
    def metadata(self) -> Any:
        return self._transaction.table_metadata

    @property
    def io(self) -> Any:
        return self._transaction._table.io

    def live(self) -> list[DataFile]:
        """The data files of the table as it is now."""
        if self._transaction.table_metadata.current_snapshot() is None:
            return []
        return [task.file for task in self._transaction._scan().plan_files()]

    def schema(self) -> Schema:
        return self._transaction.table_metadata.schema()

    def _begin(self, table: Table | None) -> Transaction:
        if table is None:
            ensure_namespace(self._config, self.definition.name)
            schema = new_schema(self._columns, self.definition)
            properties = {"format-version": "2"}
            if self.definition.comment:
                properties["comment"] = self.definition.comment
            created: Transaction = self._config.pyiceberg().create_table_transaction(
                self.definition.name,
                schema,
                partition_spec=partition_spec(schema, self.definition),
                sort_order=sort_order(schema, self.definition),
                properties=properties,
            )
            return created
        # PyIceberg's own repetition would replay an overwrite without looking at what came between.
        metadata = table.metadata
        table.metadata = metadata.model_copy(
            update={"properties": {**metadata.properties, "commit.retry.num-retries": "0"}}
        )
        transaction = table.transaction()
        if self._add or self._widen:
            comments = self.definition.column_comments
            with transaction.update_schema() as update:
                for name, kind in self._widen:
                    update.update_column(name, field_type=kind)
                for name, kind in self._add:
                    update.add_column(name, kind, doc=comments.get(name))
        return transaction

    def commit(
        self,
        files: Sequence[DataFile],
        replace: Replace = "nothing",
        paths: Iterable[str] = (),
        properties: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> tuple[Table, int]:
        """Commit the files and give the table and the number of rows the commit took out.

        `replace` says what they replace: "partitions" those the files lie in, "files" those of `paths`, "form" the same where
        the rows are the same. `keep` is a
        snapshot of this table whose files count as if they were among them: an engine has committed these itself.
        Raises Conflict where the caller must compute anew (replaced files are gone, the schema changed).
        """
        taken = 0
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(0.1 * 2**attempt, 3.0) * random.uniform(0.5, 1.5))
                if (committed := self._again(replace, properties or {})) is not None:
                    return committed, taken
            with asked(self._config.s3_endpoint):
                taken = self._stage(files, replace, set(paths), dict(properties or {}), keep)
            try:
                return self._transaction.commit_transaction(), taken
            except Exception as error:
                if not is_conflict(error):
                    said = self._config.redact(str(error))
                    raise LakeError(
                        f"{self.definition.name}: the catalog refused the commit: {said}"
                    ) from error
                last = error
        raise Conflict(
            f"{self.definition.name}: {ATTEMPTS} commits in a row met another writer. Run the task again "
            f"when the other writer is done. Last answer: {self._config.redact(str(last))}"
        ) from last

    def _stage(
        self,
        files: Sequence[DataFile],
        replace: Replace,
        paths: set[str],
        properties: dict[str, str],
        keep: int | None,
    ) -> int:
        transaction = self._transaction
        kept = self._brought_by(keep)
        gone = self._gone([*files, *kept], replace, paths)
        self._snapshot_id = None
        if not files and not gone:
            return 0
        kind = _producer(replace, bool(gone), keep, kept)
        with kind(transaction, self.io, properties) as update:
            for data_file in gone:
                update.delete_data_file(data_file)
            for data_file in files:
                update.append_data_file(data_file)
        self._snapshot_id = update.snapshot_id
        return sum(data_file.record_count for data_file in gone)

    def _brought_by(self, snapshot_id: int | None) -> list[DataFile]:
        """The data files that a snapshot added."""
        from forebay.lake.replay import changed_files

        return [] if snapshot_id is None else changed_files(self._transaction._table, snapshot_id)[0]

    def _gone(self, files: Sequence[DataFile], replace: Replace, paths: set[str]) -> list[DataFile]:
        ours = {data_file.file_path for data_file in files}
        live = [] if replace == "nothing" else [each for each in self.live() if each.file_path not in ours]
        if not live and replace not in _FILES:
            return []
        if replace == "everything":
            return live
        if replace in _FILES:
            found = [data_file for data_file in live if data_file.file_path in paths]
            if len(found) != len(paths):
                raise Conflict(f"{self.definition.name} was changed by another writer.")
            return found
        spec_id = self._transaction.table_metadata.default_spec_id
        if any(data_file.spec_id != spec_id for data_file in live):
            raise LakeError(
                f"{self.definition.name}: overwrite_partitions needs all files in today's partitioning, and "
                "older files have another. Write the table once with mode: overwrite."
            )
        partitions = {data_file.partition for data_file in files}
        return [data_file for data_file in live if data_file.partition in partitions]

    def _again(self, replace: Replace, properties: Mapping[str, str]) -> Table | None:
        """Begin anew on the table as it is now; the table itself when the last commit landed after all."""
        table = load(self._config, self.definition.name)
        if table is None and self.creates:
            self._transaction = self._begin(None)
            return None
        if table is None:
            raise LakeError(f"{self.definition.name} was dropped while it was written.")
        if self._snapshot_id is not None and table.metadata.snapshot_by_id(self._snapshot_id) is not None:
            return table
        if self.creates or table.metadata.current_schema_id != self._base_schema:
            raise Conflict(f"{self.definition.name} was created or changed by another writer.")
        if replace in _FILES and table.metadata.current_snapshot_id != self.base_snapshot:
            raise Conflict(f"{self.definition.name} was changed by another writer.")
        if LANDED in properties and self._landed_since(table) & set(json.loads(properties[LANDED])):
            raise Conflict(f"{self.definition.name}: another writer landed some of the same files.")
        self._transaction = self._begin(table)
        return None

    def _landed_since(self, table: Table) -> set[str]:
        """The files that others landed since this began."""
        landed: set[str] = set()
        snapshot = table.metadata.current_snapshot()
        while snapshot is not None and snapshot.snapshot_id != self.base_snapshot:
            landed.update(json.loads(snapshot.summary.get(LANDED) or "[]") if snapshot.summary else ())
            parent = snapshot.parent_snapshot_id
            snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None
        return landed


def new_schema(columns: Sequence[tuple[str, IcebergType]], definition: TableDefinition) -> Schema:
    """Columns and their comments as a schema with field ids from 1."""
    from pyiceberg.schema import Schema, assign_fresh_schema_ids
    from pyiceberg.types import NestedField

    comments = {name.lower(): text for name, text in definition.column_comments.items()}
    if unknown := comments.keys() - {name.lower() for name, _ in columns}:
        raise LakeError(
            f"{definition.name}: column_comments: there is no column {', '.join(sorted(unknown))}. "
            f"Columns: {', '.join(name for name, _ in columns)}."
        )
    fields = [
        NestedField(100_000 + number, name, kind, required=False, doc=comments.get(name.lower()))
        for number, (name, kind) in enumerate(columns)
    ]
    return assign_fresh_schema_ids(Schema(*fields))


def is_conflict(error: BaseException) -> bool:
    """True where trying again on the table's new state can succeed; also where it is not known what happened."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ServerError
    from requests.exceptions import ConnectionError, Timeout

    if isinstance(
        error, (CommitFailedException, CommitStateUnknownException, ServerError, ConnectionError, Timeout)
    ):
        return True
    text = str(error)
    # SeaweedFS answers 400 instead of 409 when two commits race for one sequence number.
    return "sequence number" in text or "CommitFailed" in text or ("409" in text and "onflict" in text)


def _producer(
    replace: Replace, removes: bool, keep: int | None = None, kept: Sequence[DataFile] = ()
) -> Callable[..., Any]:
    from pyiceberg.table.snapshots import Operation, Summary
    from pyiceberg.table.update.snapshot import _FastAppendFiles, _MergeAppendFiles, _OverwriteFiles

    from forebay.lake.rewriting import RewriteFiles

    class ReplaceAll(_OverwriteFiles):
        """A full overwrite: delete files go too, which the library would carry along for ever."""

        def _existing_manifests(self) -> list[Any]:
            current = self._transaction.table_metadata.current_snapshot()
            if keep is None or current is None:
                return []
            return [each for each in current.manifests(self._io) if each.added_snapshot_id == keep]

        def _summary(self, snapshot_properties: dict[str, str] = {}) -> Summary:  # noqa: B006
            summary = super()._summary(snapshot_properties)
            there = [*self._added_data_files, *kept]
            records = sum(data_file.record_count for data_file in there)
            size = sum(data_file.file_size_in_bytes for data_file in there)
            for name, value in (
                ("total-records", records),
                ("total-data-files", len(there)),
                ("total-files-size", size),
                ("total-delete-files", 0),
                ("total-position-deletes", 0),
                ("total-equality-deletes", 0),
            ):
                summary[name] = str(value)
            return summary

    def build(transaction: Any, io: Any, properties: dict[str, str]) -> Any:
        if not removes:
            many = transaction.table_metadata.current_snapshot() is not None
            append = _MergeAppendFiles if many else _FastAppendFiles
            return append(Operation.APPEND, transaction, io, snapshot_properties=properties)
        chosen = {"everything": ReplaceAll, "form": RewriteFiles}.get(replace, _OverwriteFiles)
        return chosen(Operation.OVERWRITE, transaction, io, snapshot_properties=properties)

    return build
