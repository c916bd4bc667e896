"""What a task reports about a table it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

NOT_WRITTEN = "not written by this task"
NO_TABLE = "the table does not exist"
MAINTAIN = "maintain"
"""The mode of what puts files together."""


@dataclass(frozen=True)
class TableResult:
    """Rows of one table after a task, and what the task did to them."""

    table: str
    mode: str
    rows: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    snapshot_id: int | None = None
    seconds: float = 0.0
    created: bool = False
    note: str = ""
    files: tuple[int, int] | None = None
    """How many there were and are, where a task puts files together; else None."""

    @property
    def changed(self) -> bool:
        """Whether the task made a snapshot of the table."""
        if self.mode in ("statements", "spark", MAINTAIN):
            # Not every engine counts the rows of a statement, and where files are put together none changes.
            return self.snapshot_id is not None and self.note != NOT_WRITTEN
        return self.snapshot_id is not None and bool(self.inserted or self.updated or self.deleted)

    def xcom(self) -> dict[str, Any]:
        """As a small dictionary."""
        return {
            # Airflow gives a tuple back as something else.
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key != "table" and (value or (key in ("rows", "inserted") and self.mode != MAINTAIN))
        }

    def __str__(self) -> str:
        """flights.daily: 5,840 rows (merge: 12 updated, 30 inserted), snapshot 123, 0.4 s"""
        if self.mode == MAINTAIN:
            return f"{self.table}: {put_together(self.xcom())}"
        counts = [
            f"{count:,} {word}"
            for word, count in (
                ("updated", self.updated),
                ("inserted", self.inserted),
                ("deleted", self.deleted),
            )
            if count
        ]
        parts = [
            f"{self.table}: {self.rows:,} rows ({self.mode}: {', '.join(counts) or 'nothing changed'})",
            "created" if self.created else "",
            f"snapshot {self.snapshot_id}" if self.snapshot_id else "no snapshot",
            f"{self.seconds:.1f} s",
            self.note,
        ]
        return ", ".join(part for part in parts if part)


def put_together(figures: Mapping[str, Any]) -> str:
    """What became of a table's files, from `xcom`: 31 files became 2, 5,840 rows as before"""
    before, after = figures.get("files") or (0, 0)
    if figures.get("snapshot_id"):
        return f"{before:,} files became {after:,}, {figures.get('rows', 0):,} rows as before"
    return f"{figures.get('note')}" + (f", {after:,} file{'s' * (after > 1)}" if after else "")
