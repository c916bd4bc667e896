"""What a run changed in one table, as `forebay diff` and the console show it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError
from forebay.lake.branch import Json
from forebay.lake.connection import CatalogConfig
from forebay.lake.diff import Files, Sides, files, shape_changes

if TYPE_CHECKING:
    from forebay.lake.sample import Row, Sample


@dataclass(frozen=True)
class Difference:
    """One table's files, columns and rows, on both sides of a run."""

    both: Sides
    said: list[str]
    """What changed in columns, layout and properties."""
    files: Files
    rows: Sample

    def document(self) -> dict[str, Any]:
        """As JSON has it; ids are text, since JavaScript would round them."""
        both, rows = self.both, self.rows
        return {
            "table": both.table,
            "state": both.state,
            "from_snapshot_id": None if both.old is None else str(both.old),
            "to_snapshot_id": None if both.new is None else str(both.new),
            "files": {"added": self.files.added, "removed": self.files.removed},
            "rows_in_files": {"added": self.files.rows_added, "removed": self.files.rows_removed},
            "changes": self.said,
            "key": list(rows.key),
            "rows": {
                "added": rows.added_count,
                "removed": rows.removed_count,
                "changed": rows.changed_count,
            },
            "sample": {
                "added": [plain(row) for row in rows.added],
                "removed": [plain(row) for row in rows.removed],
                "changed": [
                    {
                        "key": plain(name),
                        "columns": {column: [value(v) for v in pair] for column, pair in values.items()},
                    }
                    for name, values in rows.changed
                ],
            },
            "note": rows.note,
        }


def difference(
    root: Path,
    config: CatalogConfig,
    job: str,
    metadata: Json,
    both: Sides,
    *,
    key: Sequence[str] = (),
    limit: int = 10,
    full: bool = False,
    most: int | None = None,
    more: str = "Read them all with --full",
    big: Callable[[Files], None] = lambda found: None,
) -> Difference:
    """Compares both sides; rows by `key`, else by the `merge_key` of the job's YAML.

    At most `most` bytes of files are read, and `more` says how to read all. `big` hears what is going to be read.
    """
    from forebay.lake.sample import MOST_BYTES, sample

    key = key or _merge_key(root, job, both.table)
    with config.reached():
        table = config.pyiceberg().load_table(both.table)
        differ = files(table, both)
    big(differ)
    with config.reached():
        rows = sample(
            table, both, differ, key,
            limit=limit, full=full, more=more, most_bytes=MOST_BYTES if most is None else most,
        )  # fmt: skip
    return Difference(both, [config.redact(text) for text in shape_changes(metadata, both)], differ, rows)


def _merge_key(root: Path, job: str, table: str) -> tuple[str, ...]:
    from forebay.project import Project

    workspace, _, name = job.partition(".")
    try:
        tasks = Project(root).load_job(workspace, name).spec.tasks
    except ForebayError:
        return ()
    keys = (getattr(task, "merge_key", ()) for task in tasks if table in task.writes)
    return next((tuple(key) for key in keys if key), ())


def plain(row: Row) -> Row:
    """A row as JSON has it."""
    return {name: value(each) for name, each in row.items()}


def value(found: Any) -> Any:
    """A value as JSON has it; what it has not becomes text."""
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, float) and (found != found or found in (float("inf"), float("-inf"))):
        return str(found)
    if isinstance(found, dict):
        return {str(name): value(each) for name, each in found.items()}
    if isinstance(found, list | tuple):
        return [value(each) for each in found]
    return found if found is None or isinstance(found, bool | int | float | str) else str(found)
