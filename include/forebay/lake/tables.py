"""Tables by name: what a YAML says about one, create it, and what its metadata tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from forebay.lake.connection import CatalogConfig, LakeError

if TYPE_CHECKING:
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.sorting import SortOrder

_PARTITION = re.compile(
    r"\s*(?:(?P<unary>year|month|day|hour)\s*\(\s*(?P<column>\w+)\s*\)"
    r"|(?P<sized>bucket|truncate)\s*\(\s*(?P<size>\d+)\s*,\s*(?P<of>\w+)\s*\)|(?P<identity>\w+))\s*",
    re.IGNORECASE,
)
_SORT = re.compile(
    r"\s*(?P<column>\w+)(?:\s+(?P<order>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Audit:
    """What rows say about how they came: `audit: true`."""

    run: str
    """The run's name in the lake."""
    at: datetime


@dataclass(frozen=True)
class TableDefinition:
    """What a task says about the table it writes; used when the table is created, `audit` whenever it is written."""

    name: str
    partitioned_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    comment: str = ""
    column_comments: dict[str, str] = field(default_factory=dict)
    audit: Audit | None = None


@dataclass(frozen=True)
class TableFigures:
    """What a table's metadata says without reading data."""

    name: str
    rows: int
    data_files: int
    bytes: int
    snapshot_id: int | None
    snapshots: int
    updated_at: float | None
    """Seconds since 1970 of the current snapshot."""


def load(config: CatalogConfig, name: str) -> Table | None:
    """The table, or None when it does not exist."""
    from pyiceberg.exceptions import NoSuchTableError

    try:
        with config.reached():
            found: Table = config.pyiceberg().load_table(name)
        return found
    except NoSuchTableError:
        return None


def ensure_namespace(config: CatalogConfig, name: str) -> None:
    """Make the namespace of a table name if it is missing."""
    config.pyiceberg().create_namespace_if_not_exists(name.rpartition(".")[0])


def partition_spec(schema: Schema, definition: TableDefinition) -> PartitionSpec:
    """`partitioned_by` as Iceberg's partition spec over the columns of `schema`."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import parse_transform

    fields = []
    for number, text in enumerate(definition.partitioned_by):
        if not (match := _PARTITION.fullmatch(text)):
            raise LakeError(
                f"{definition.name}: partitioned_by: cannot read {text!r}. Write a column, year(c), "
                "month(c), day(c), hour(c), bucket(16, c) or truncate(4, c)."
            )
        column = match["column"] or match["of"] or match["identity"]
        kind = (match["unary"] or match["sized"] or "identity").lower()
        transform = parse_transform(f"{kind}[{match['size']}]" if match["size"] else kind)
        source = _column(schema, definition, "partitioned_by", column)
        if not transform.can_transform(source.field_type):
            raise LakeError(
                f"{definition.name}: partitioned_by: {text!r} does not work on a {source.field_type} column."
            )
        suffix = {"identity": "", "truncate": "_trunc"}.get(kind, f"_{kind}")
        fields.append(PartitionField(source.field_id, 1000 + number, transform, f"{source.name}{suffix}"))
    return PartitionSpec(*fields)


def sort_order(schema: Schema, definition: TableDefinition) -> SortOrder:
    """`sorted_by` as Iceberg's sort order over the columns of `schema`."""
    from pyiceberg.table.sorting import (
        UNSORTED_SORT_ORDER,
        NullOrder,
        SortDirection,
        SortField,
        SortOrder,
    )
    from pyiceberg.transforms import IdentityTransform

    fields = []
    for text in definition.sorted_by:
        if not (match := _SORT.fullmatch(text)):
            raise LakeError(
                f"{definition.name}: sorted_by: cannot read {text!r}. Write a column, then asc or desc."
            )
        source = _column(schema, definition, "sorted_by", match["column"])
        descending = (match["order"] or "asc").lower() == "desc"
        first = (match["nulls"] or ("last" if descending else "first")).lower() == "first"
        fields.append(
            SortField(
                source_id=source.field_id,
                transform=IdentityTransform(),
                direction=SortDirection.DESC if descending else SortDirection.ASC,
                null_order=NullOrder.NULLS_FIRST if first else NullOrder.NULLS_LAST,
            )
        )
    return SortOrder(*fields) if fields else UNSORTED_SORT_ORDER


def list_namespaces(config: CatalogConfig) -> list[str]:
    """All namespaces, sorted."""
    return sorted(".".join(parts) for parts in config.pyiceberg().list_namespaces())


def list_tables(config: CatalogConfig, namespace: str | None = None) -> list[str]:
    """`namespace.table` of one namespace or of all, sorted."""
    catalog = config.pyiceberg()
    names = [namespace] if namespace else list_namespaces(config)
    return sorted(".".join(table) for name in names for table in catalog.list_tables(name))


def figures(config: CatalogConfig, name: str) -> TableFigures:
    """Row count and snapshot of one table, from metadata alone where no delete files exist."""
    table = load(config, name)
    if table is None:
        raise LakeError(f"There is no table {name} in the lake.")
    return table_figures(table, name)


def table_figures(table: Table, name: str) -> TableFigures:
    """The same of a table at hand."""
    snapshot = table.metadata.current_snapshot()
    if snapshot is None:
        return TableFigures(name, 0, 0, 0, None, 0, None)
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    return TableFigures(
        name=name,
        rows=row_count(table),
        data_files=sum(_live_files(table)),
        bytes=int(summary.get("total-files-size", 0)),
        snapshot_id=snapshot.snapshot_id,
        snapshots=len(table.metadata.snapshots),
        updated_at=snapshot.timestamp_ms / 1000,
    )


def row_count(table: Table) -> int:
    """Rows of the current snapshot. Reads the manifest list only, and delete files where a table has them.

    The snapshot summary is not used: DuckDB leaves its totals out, and every later writer then does too.
    """
    from pyiceberg.manifest import ManifestContent

    snapshot = table.metadata.current_snapshot()
    if snapshot is None:
        return 0
    manifests = snapshot.manifests(table.io)
    rows = 0
    for manifest in manifests:
        if manifest.content == ManifestContent.DELETES:
            return table.scan().count()
        rows += (manifest.added_rows_count or 0) + (manifest.existing_rows_count or 0)
    return rows


def _live_files(table: Table) -> Iterator[int]:
    from pyiceberg.manifest import ManifestContent

    snapshot = table.metadata.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        if manifest.content == ManifestContent.DATA:
            yield (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)


def _column(schema: Schema, definition: TableDefinition, where: str, name: str):  # type: ignore[no-untyped-def]
    for candidate in schema.fields:
        if candidate.name.lower() == name.lower():
            return candidate
    raise LakeError(
        f"{definition.name}: {where}: there is no column {name!r}. "
        f"Columns: {', '.join(candidate.name for candidate in schema.fields)}."
    )
