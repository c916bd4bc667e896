"""Small files of a table made into few large ones, by Trino, as a run of its own: its rows stay what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.lake.branch import Branch
from forebay.lake.connection import CatalogConfig, DeletedByValue, LakeError
from forebay.lake.publish import PublishConflict, discard, publish
from forebay.lake.tables import load, row_count
from forebay.sqlquote import quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from forebay.engines.trino import TrinoEngine
    from forebay.lake.identity import TaskTry
    from forebay.lake.rest import Rest


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


def look(rest: Rest, name: str, small: int) -> Files:
    """What there is to do with a table whose files should have `small` bytes. Raises LakeError where there is none."""
    metadata, table = rest.table(name), load(rest.config, name)
    if metadata is None or table is None:
        raise LakeError(f"There is no table {name} in the lake.")
    if number := len(Branch.all(metadata)):
        # A run that replaces rows could not be published over other files, however equal their rows.
        return Files(
            name, busy=f"{number} run{'s have' if number > 1 else ' has'} rows in it that are not published"
        )
    return _counted(rest.config, name, table, small)


def _counted(config: CatalogConfig, name: str, table: Table, small: int) -> Files:
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


def compact(engine: TrinoEngine, rest: Rest, who: TaskTry, name: str, small: int) -> Files:
    """Has Trino rewrite the table's small files on the branch of `who`, and publishes that; the files afterwards.

    Raises PublishConflict where main moved meanwhile: nothing is changed then, and no branch is left.
    """
    target = ".".join(quoted(part) for part in name.split("."))
    try:
        before = _rows(rest, name)
        engine.execute([f"ALTER TABLE {target} EXECUTE optimize(file_size_threshold => '{small}B')"])
        rewritten = load(engine.config, name)
        if rewritten is None or (after := row_count(rewritten)) != before:
            raise LakeError(
                f"{name} has {before:,} rows and would have {after if rewritten else 0:,}. Nothing was changed. Was it "
                "written meanwhile? Compact it again."
            )
        publish(rest, who, [name])
    except PublishConflict:
        discard(rest, who, [name])
        raise PublishConflict(
            f"{name} was written meanwhile, so its files stay as they are. Compact it again."
        ) from None
    except BaseException:
        discard(rest, who, [name])
        raise
    table = load(rest.config, name)
    assert table is not None
    return _counted(rest.config, name, table, small)


def _rows(rest: Rest, name: str) -> int:
    table = load(rest.config, name)
    return 0 if table is None else row_count(table)
