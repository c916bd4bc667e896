"""How a table is laid out: partitions, sort order, comments."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from forebay.spec.base import COLUMN, PATTERN_WORDS, Closed, ColumnName, Many

Transform = Literal["identity", "year", "month", "day", "hour", "bucket", "truncate"]
WriteMode = Literal["overwrite", "overwrite_partitions", "append", "merge"]

AUDIT_COLUMNS = ("_run_id", "_loaded_at")
"""What `audit: true` adds: the run that wrote a row, and when."""

_COLUMN = COLUMN.strip("^$")
PARTITION = (
    rf"^({_COLUMN}|(year|month|day|hour)\({_COLUMN}\)|(bucket|truncate)\([1-9][0-9]{{0,5}}, ?{_COLUMN}\))$"
)
SORT = rf"^{_COLUMN}( (asc|desc))?$"
PATTERN_WORDS[PARTITION] = "a column, year(c), month(c), day(c), hour(c), bucket(16, c) or truncate(4, c)"
PATTERN_WORDS[SORT] = "a column, or a column and desc"

PartitionText = Annotated[str, StringConstraints(pattern=PARTITION, max_length=250)]
SortText = Annotated[str, StringConstraints(pattern=SORT, max_length=250)]


class PartitionField(NamedTuple):
    """One field of a partition spec; `width` is the number in bucket and truncate, else 0."""

    column: str
    transform: Transform
    width: int


class SortField(NamedTuple):
    """One column of a sort order."""

    column: str
    descending: bool


class TableLayout(Closed):
    """The layout a table gets when it is created, and the columns it gets from every run."""

    partitioned_by: Many[PartitionText] = Field(
        default=(), description="Partitions, in order: day, month(ts), bucket(16, carrier), truncate(4, zip)."
    )
    sorted_by: Many[SortText] = Field(
        default=(), description="Sort order within files: carrier, or day desc."
    )
    comment: str | None = Field(default=None, description="What the table holds.")
    column_comments: dict[ColumnName, str] = Field(
        default={}, description="What each column holds, by its name."
    )
    audit: bool = Field(
        default=False,
        description="Adds to each row the run that wrote it, _run_id, and when, _loaded_at. Rows that a merge leaves "
        "as they were keep theirs.",
    )

    @property
    def partitions(self) -> tuple[PartitionField, ...]:
        """partitioned_by, taken apart."""
        return tuple(parse_partition(text) for text in self.partitioned_by)

    @property
    def sort_order(self) -> tuple[SortField, ...]:
        """sorted_by, taken apart."""
        return tuple(SortField(text.split()[0], text.endswith(" desc")) for text in self.sorted_by)


def parse_partition(text: str) -> PartitionField:
    """'bucket(16, carrier)' as its column, transform and width; the text must match PARTITION."""
    found = re.fullmatch(r"(\w+)\((?:(\d+), ?)?(\w+)\)", text)
    if found is None:
        return PartitionField(text, "identity", 0)
    return PartitionField(found[3], found[1], int(found[2] or 0))  # type: ignore[arg-type]
