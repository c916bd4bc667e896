"""What a run changed in a table: files, rows, columns, and some of the rows themselves.

Counts come from manifests, of which only those that differ between the two snapshots are read: writers' own
totals are often missing (DuckDB's) and count a row twice that a run wrote twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.lake.branch import MAIN, RESHAPED_PROPERTY, Branch, Json, Shape, records, ref, snapshots
from forebay.lake.history import on_main, rolled_back
from forebay.lake.identity import Run
from forebay.lake.reversal import published

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table


@dataclass(frozen=True)
class Sides:
    """Two states of a table; a snapshot is None where the table has no rows, a shape where it was not there."""

    table: str
    old: int | None
    new: int | None
    old_shape: Shape | None
    new_shape: Shape
    state: str
    """Where the new one is: `open`, `published` or `rolled back`; empty for two that somebody chose."""
    properties: Mapping[str, str] = field(default_factory=dict)
    removed_properties: tuple[str, ...] = ()


@dataclass
class Files:
    """The data files that only one side has, with the deletes that apply to them."""

    old: list[FileScanTask] = field(default_factory=list)
    new: list[FileScanTask] = field(default_factory=list)
    added: int = 0
    removed: int = 0
    rows_added: int = 0
    rows_removed: int = 0
    """Rows of the files that went, and rows marked as deleted in files that stayed."""
    equality_deletes: bool = False
    """Deletes by value: how many rows they are about is not known."""

    @property
    def bytes(self) -> int:
        return sum(task.file.file_size_in_bytes for task in (*self.old, *self.new))


def sides(table: str, metadata: Mapping[str, Any], run: Run, *, against_main: bool = False) -> Sides | None:
    """What to compare for a run: its open branch with its base, else what it published; None where it has neither.

    With `against_main` an open branch is compared with today's main.
    """
    branch = Branch.find(metadata, run.branch)
    if branch is not None:
        shape = branch.shape or Shape.of(metadata)
        old, old_shape = branch.base, None if branch.created_by else branch.main_shape
        if against_main:
            old = ref(metadata, MAIN)
            old_shape = Shape.of(metadata) if old is not None or not branch.created_by else None
        return Sides(table, old, branch.head, old_shape, shape, "open", branch.properties, branch.removed)
    if (stay := on_main(metadata, run)) is not None:
        return _past(table, metadata, run, stay.base, stay.head, "published")
    if (record := rolled_back(metadata, run)) is not None:
        return _past(table, metadata, run, record["base"], record["head"], "rolled back")
    if (before := published(table, dict(metadata), run)) is not None:
        # Others have written the table anew since.
        return _past(table, metadata, run, before.base, before.snapshot_id, "published")
    return None


def between(table: str, metadata: Mapping[str, Any], old: int | None, new: int) -> Sides:
    """Two snapshots of a table, whoever made them; of their shapes only the columns are known."""
    after = _at(metadata, new)
    return Sides(table, old, new, None if old is None else _at(metadata, old), after, "")


def _past(
    table: str, metadata: Mapping[str, Any], run: Run, old: int | None, new: int | None, state: str
) -> Sides:
    kept = records(metadata, RESHAPED_PROPERTY)
    mine = [each for each in kept if (each["job"], each["run"]) == (run.job, run.run)]
    after = _at(metadata, new)
    if mine:
        set_to = {
            name: value for each in reversed(mine) for name, (_, value) in each.get("properties", {}).items()
        }
        return Sides(
            table, old, new, Shape(**mine[-1]["from"]), Shape(**mine[0]["to"]), state,
            {name: value for name, value in set_to.items() if value is not None},
            tuple(name for name, value in set_to.items() if value is None),
        )  # fmt: skip
    return Sides(table, old, new, None if old is None else _at(metadata, old, after), after, state)


def _at(metadata: Mapping[str, Any], snapshot: int | None, like: Shape | None = None) -> Shape:
    """The shape at a snapshot, as far as snapshots know: their columns."""
    shape = like or Shape.of(metadata)
    known = snapshots(metadata).get(snapshot or 0) or {}
    schema = known.get("schema-id", shape.schema)
    return Shape(int(schema), shape.spec, shape.order)


def shape_changes(metadata: Mapping[str, Any], both: Sides) -> list[str]:
    """What changed in columns, partitioning, sort order and properties, each in a few words."""
    new = both.new_shape
    after = _fields(metadata, new.schema)
    if both.old_shape is None:
        return ["made with " + ", ".join(f"{each['name']} {_type(each)}" for each in after.values())]
    old = both.old_shape
    before = _fields(metadata, old.schema)
    said = [f"column {each['name']} {_type(each)} added" for key, each in after.items() if key not in before]
    said += [f"column {each['name']} dropped" for key, each in before.items() if key not in after]
    for key in before.keys() & after.keys():
        was, now = before[key], after[key]
        if was["name"] != now["name"]:
            said.append(f"column {was['name']} renamed to {now['name']}")
        if _type(was) != _type(now):
            said.append(f"column {now['name']}: {_type(was)} became {_type(now)}")
        if was.get("required") != now.get("required"):
            said.append(
                f"column {now['name']} {'must have a value' if now.get('required') else 'may be NULL'}"
            )
        if was.get("doc") != now.get("doc"):
            said.append(f"column {now['name']}: another comment")
    for what, listed, number, one, other in (
        ("partitioned by", "partition-specs", "spec-id", old.spec, new.spec),
        ("sorted by", "sort-orders", "order-id", old.order, new.order),
    ):
        was_text, now_text = _terms(metadata, listed, number, one), _terms(metadata, listed, number, other)
        if was_text != now_text:
            said.append(f"{what} {now_text or 'nothing'}, was {was_text or 'nothing'}")
    said += [
        f"property {name} set to {value}"
        for name, value in both.properties.items()
        if name != "schema.name-mapping.default"  # Iceberg's own note of the columns.
    ]
    return said + [f"property {name} removed" for name in both.removed_properties]


def files(table: Table, both: Sides) -> Files:
    """Which files the two sides do not share."""
    from pyiceberg.manifest import ManifestContent

    old, new = (_manifests(table, number) for number in (both.old, both.new))
    if any(each.content == ManifestContent.DELETES for each in (*old.values(), *new.values())):
        return _with_deletes(table, both)
    found = Files()
    found.old = _entries(table, [old[path] for path in old.keys() - new.keys()])
    found.new = _entries(table, [new[path] for path in new.keys() - old.keys()])
    # A manifest written anew lists files that were there before as well.
    shared = {task.file.file_path for task in found.old} & {task.file.file_path for task in found.new}
    found.old = [task for task in found.old if task.file.file_path not in shared]
    found.new = [task for task in found.new if task.file.file_path not in shared]
    return _counted(found)


def _counted(found: Files) -> Files:
    from pyiceberg.manifest import DataFileContent

    old, new = _paths(task.file for task in found.old), _paths(task.file for task in found.new)
    found.added, found.removed = len(new.keys() - old.keys()), len(old.keys() - new.keys())
    found.rows_added = sum(new[path].record_count for path in new.keys() - old.keys())
    found.rows_removed = sum(old[path].record_count for path in old.keys() - new.keys())
    before = _paths(each for task in found.old for each in task.delete_files)
    after = _paths(each for task in found.new for each in task.delete_files)
    deletes = [after[path] for path in after.keys() - before.keys()]
    found.equality_deletes = any(each.content == DataFileContent.EQUALITY_DELETES for each in deletes)
    found.rows_removed += sum(each.record_count for each in deletes)
    # Where deletes were written anew, those that were there before are no news.
    kept = before.keys() - after.keys() - old.keys()
    gone = old.keys() - new.keys()
    for task in found.old:
        if task.file.file_path not in gone:
            found.rows_removed -= sum(d.record_count for d in task.delete_files if d.file_path in kept)
            kept -= {d.file_path for d in task.delete_files}
    return found


def _with_deletes(table: Table, both: Sides) -> Files:
    def tasks(number: int | None) -> dict[tuple[str, frozenset[str]], FileScanTask]:
        if number is None:
            return {}
        return {
            (task.file.file_path, frozenset(each.file_path for each in task.delete_files)): task
            for task in table.scan(snapshot_id=number).plan_files()
        }

    old, new = tasks(both.old), tasks(both.new)
    return _counted(
        Files([old[key] for key in old.keys() - new.keys()], [new[key] for key in new.keys() - old.keys()])
    )


def _manifests(table: Table, number: int | None) -> dict[str, Any]:
    snapshot = table.metadata.snapshot_by_id(number) if number is not None else None
    return {each.manifest_path: each for each in snapshot.manifests(table.io)} if snapshot else {}


def _entries(table: Table, manifests: Sequence[Any]) -> list[FileScanTask]:
    from pyiceberg.table import FileScanTask

    return [
        FileScanTask(entry.data_file)
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


def _paths(listed: Iterable[DataFile]) -> dict[str, DataFile]:
    return {each.file_path: each for each in listed}


def _fields(metadata: Mapping[str, Any], schema: int) -> dict[int, Json]:
    found = next(each for each in metadata["schemas"] if each["schema-id"] == schema)
    return {int(each["id"]): each for each in found["fields"]}


def _type(column: Mapping[str, Any]) -> str:
    kind = column["type"]
    return kind if isinstance(kind, str) else json.dumps(kind, separators=(",", ":"))


def _terms(metadata: Mapping[str, Any], listed: str, number: str, wanted: int) -> str:
    """A partition spec or sort order as people write it."""
    found = next((each for each in metadata.get(listed) or () if each[number] == wanted), None)
    names = {
        int(column["id"]): str(column["name"])
        for schema in metadata["schemas"]
        for column in schema["fields"]
    }
    terms = []
    for each in (found or {}).get("fields") or ():
        transform, _, size = str(each["transform"]).partition("[")
        source = names.get(int(each["source-id"]), "?")
        inside = f"{size.rstrip(']')}, {source}" if size else source
        term = source if transform == "identity" else f"{transform}({inside})"
        terms.append(f"{term} {each['direction']}" if "direction" in each else term)
    return ", ".join(terms)
