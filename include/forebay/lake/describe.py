"""What a table is, read from its metadata document alone: columns, layout, size, refs, growth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from forebay.lake.branch import MAIN, Branch, Json, Shape, ancestry, ref, snapshots, whole
from forebay.lake.identity import STAMP

_GROWTH = 60


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table's current schema."""

    name: str
    type: str
    comment: str
    required: bool
    role: str
    """How it lays the table out, such as `partition` or `partition by day`; empty for most."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A branch or a tag; `run_of` names the job where it is a run's branch."""

    name: str
    kind: str
    snapshot: int
    of_run: bool


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is in a snapshot, as its writer counted; None where it did not."""

    rows: int | None
    bytes: int | None
    files: int | None
    delete_files: int | None
    position_deletes: int | None
    equality_deletes: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """A table's document in the words of a page."""

    name: str
    comment: str
    location: str
    format_version: int
    columns: tuple[Column, ...]
    partitioning: tuple[str, ...]
    sort_order: tuple[str, ...]
    properties: Mapping[str, str]
    """Without those that Forebay keeps for itself."""
    snapshot: int | None
    changed: float | None
    """When main's snapshot was made, in seconds since 1970."""
    size: Size
    references: tuple[Reference, ...]
    growth: tuple[tuple[float, int, int | None], ...]
    """When, rows and bytes after each of main's last snapshots, oldest first."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a list shows of a table, as it is on main."""

    comment: str
    columns: tuple[Column, ...]
    partitioning: tuple[str, ...]
    current: Json | None
    """Main's snapshot; None for a table without rows."""
    changed: float | None
    """When it was made, in seconds since 1970."""
    size: Size


def outline(metadata: Mapping[str, Any]) -> Outline:
    """The least of a description: a list asks for ten thousand of them."""
    known, head = snapshots(metadata), ref(metadata, MAIN)
    current = known.get(head) if head is not None else None
    shape = Shape.of(metadata)
    fields = _schema(metadata, shape.schema).get("fields") or []
    parts = _entries(metadata, "partition-specs", "spec-id", shape.spec)
    return Outline(
        comment=str((metadata.get("properties") or {}).get("comment") or ""),
        columns=_columns(fields, parts),
        partitioning=_transforms(parts, fields),
        current=current,
        changed=None if current is None else int(current["timestamp-ms"]) / 1000,
        size=size_of(current),
    )


def describe(name: str, metadata: Mapping[str, Any]) -> Description:
    """The table as it is on main."""
    about, shape = outline(metadata), Shape.of(metadata)
    fields = _schema(metadata, shape.schema).get("fields") or []
    order = _entries(metadata, "sort-orders", "order-id", shape.order)
    properties = {str(key): str(value) for key, value in (metadata.get("properties") or {}).items()}
    known, head = snapshots(metadata), ref(metadata, MAIN)
    return Description(
        name=name,
        comment=about.comment,
        location=str(metadata.get("location") or ""),
        format_version=int(metadata.get("format-version") or 0),
        columns=about.columns,
        partitioning=about.partitioning,
        sort_order=tuple(
            f"{transform} {each.get('direction', 'asc')}, {each.get('null-order', '').replace('-', ' ')}"
            for each, transform in zip(order, _transforms(order, fields), strict=True)
        ),
        properties={
            key: value
            for key, value in sorted(properties.items())
            if not key.startswith(STAMP) and key != "comment"
        },
        snapshot=head,
        changed=about.changed,
        size=about.size,
        references=_references(metadata),
        growth=_growth(known, head),
    )


def size_of(snapshot: Mapping[str, Any] | None) -> Size:
    """What a snapshot's summary says of the whole table; no snapshot is no rows."""
    if snapshot is None:
        return Size(0, 0, 0, 0, 0, 0)
    summary = snapshot.get("summary") or {}

    def total(key: str) -> int | None:
        number = whole(summary.get(f"total-{key}"))
        return number if number is not None and number >= 0 else None

    return Size(
        total("records"), total("files-size"), total("data-files"), total("delete-files"),
        total("position-deletes"), total("equality-deletes"),
    )  # fmt: skip


def type_text(kind: Any) -> str:
    """An Iceberg type as a person writes it."""
    # Most are, and asking for a Mapping takes longer than all else.
    if isinstance(kind, str):
        return kind
    if not isinstance(kind, Mapping):
        return str(kind)
    match kind.get("type"):
        case "struct":
            inner = ", ".join(
                f"{each['name']}: {type_text(each['type'])}" for each in kind.get("fields") or ()
            )
            return f"struct<{inner}>"
        case "list":
            return f"list<{type_text(kind.get('element'))}>"
        case "map":
            return f"map<{type_text(kind.get('key'))}, {type_text(kind.get('value'))}>"
        case other:
            return str(other)


_column = lru_cache(maxsize=1 << 16)(Column)
"""The tables of a lake share most of their columns; making one takes longer than finding it, and all are kept."""


def _columns(fields: list[Json], parts: list[Json]) -> tuple[Column, ...]:
    roles: dict[int, str] = {}
    for part in parts:
        transform = str(part.get("transform"))
        roles[int(part["source-id"])] = (
            "partition" if transform == "identity" else f"partition by {transform}"
        )
    return tuple(
        _column(
            str(field["name"]),
            type_text(field["type"]),
            str(field.get("doc") or ""),
            bool(field.get("required")),
            roles.get(int(field["id"]), ""),
        )
        for field in fields
    )


def _schema(metadata: Mapping[str, Any], number: int) -> Json:
    found = [each for each in metadata.get("schemas") or () if int(each.get("schema-id", 0)) == number]
    schema: Json = found[0] if found else metadata.get("schema") or {}
    return schema


def _entries(metadata: Mapping[str, Any], lists: str, key: str, number: int) -> list[Json]:
    for each in metadata.get(lists) or ():
        if int(each.get(key, -1)) == number:
            return [entry for entry in each.get("fields") or () if entry.get("transform") != "void"]
    return []


def _walk(fields: list[Json], before: str = "") -> Iterator[tuple[Json, str]]:
    for field in fields:
        path = f"{before}{field['name']}"
        yield field, path
        kind = field.get("type")
        if not isinstance(kind, str) and isinstance(kind, Mapping) and kind.get("type") == "struct":
            yield from _walk(list(kind.get("fields") or ()), f"{path}.")


def _transforms(entries: list[Json], fields: list[Json]) -> tuple[str, ...]:
    names = {int(field["id"]): path for field, path in _walk(fields)} if entries else {}
    return tuple(_transform(each, names) for each in entries)


def _transform(entry: Mapping[str, Any], names: Mapping[int, str]) -> str:
    column = names.get(int(entry.get("source-id", -1)), "?")
    transform = str(entry.get("transform") or "identity")
    if transform == "identity":
        return column
    kind, bracket, width = transform.partition("[")
    return f"{kind}({column}{', ' + width.rstrip(']') if bracket else ''})"


def _references(metadata: Mapping[str, Any]) -> tuple[Reference, ...]:
    runs = {branch.name for branch in Branch.all(metadata)}
    refs = (metadata.get("refs") or {}).items()
    return tuple(
        Reference(name, str(value.get("type")), int(value["snapshot-id"]), name in runs)
        for name, value in sorted(refs)
        if name != MAIN
    )


def _growth(known: Mapping[int, Json], head: int | None) -> tuple[tuple[float, int, int | None], ...]:
    points = []
    for snapshot in ancestry(known, head):
        size = size_of(snapshot)
        if size.rows is not None:
            points.append((int(snapshot["timestamp-ms"]) / 1000, size.rows, size.bytes))
        if len(points) == _GROWTH:
            break
    return tuple(reversed(points))
