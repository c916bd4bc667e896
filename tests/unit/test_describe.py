"""A table's document in words, and finding tables by words."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.lake.describe import describe, size_of, type_text
from forebay.lake.index import Entry, View
from forebay.lake.lineage import Graph

FIELDS: list[dict[str, Any]] = [
    {"id": 1, "name": "carrier", "type": "string", "required": True, "doc": "Two-letter code"},
    {"id": 2, "name": "day", "type": "date", "required": False},
    {
        "id": 3,
        "name": "place",
        "type": {"type": "struct", "fields": [{"id": 4, "name": "zip", "type": "int", "required": False}]},
        "required": False,
    },
]


def document(**changes: Any) -> dict[str, Any]:
    summary = {
        "operation": "append",
        "total-records": "30",
        "total-files-size": "4096",
        "total-data-files": "2",
    }
    values: dict[str, Any] = {
        "format-version": 2,
        "location": "s3://lake/x",
        "current-schema-id": 1,
        "schemas": [{"schema-id": 0, "fields": []}, {"schema-id": 1, "fields": FIELDS}],
        "default-spec-id": 2,
        "partition-specs": [
            {"spec-id": 2, "fields": [
                {"source-id": 2, "field-id": 1000, "transform": "month", "name": "m"},
                {"source-id": 1, "field-id": 1001, "transform": "bucket[16]", "name": "b"},
                {"source-id": 1, "field-id": 1002, "transform": "void", "name": "gone"},
            ]}
        ],
        "default-sort-order-id": 1,
        "sort-orders": [
            {"order-id": 1, "fields": [{"source-id": 4, "transform": "identity", "direction": "desc", "null-order": "nulls-last"}]}
        ],
        "properties": {"comment": "Delays per day", "forebay.published": "{}", "write.format.default": "parquet"},
        "refs": {"main": {"type": "branch", "snapshot-id": 8}, "kept": {"type": "tag", "snapshot-id": 7}},
        "snapshots": [
            {"snapshot-id": 7, "timestamp-ms": 1000, "summary": {**summary, "total-records": "10"}},
            {"snapshot-id": 8, "parent-snapshot-id": 7, "timestamp-ms": 2000, "summary": summary},
        ],
    }  # fmt: skip
    return {**values, **changes}


def test_a_table_in_words() -> None:
    about = describe("flights.delays", document())
    assert [(c.name, c.type, c.comment, c.required, c.role) for c in about.columns] == [
        ("carrier", "string", "Two-letter code", True, "partition by bucket[16]"),
        ("day", "date", "", False, "partition by month"),
        ("place", "struct<zip: int>", "", False, ""),
    ]
    assert about.partitioning == ("month(day)", "bucket(carrier, 16)")
    assert about.sort_order == ("place.zip desc, nulls last",)
    assert about.comment == "Delays per day"
    assert dict(about.properties) == {"write.format.default": "parquet"}
    assert (about.snapshot, about.changed) == (8, 2.0)
    assert (about.size.rows, about.size.bytes, about.size.files, about.size.delete_files) == (
        30,
        4096,
        2,
        None,
    )
    assert [(each.name, each.kind, each.snapshot) for each in about.references] == [("kept", "tag", 7)]
    assert about.growth == ((1.0, 10, 4096), (2.0, 30, 4096))


def test_a_table_without_rows() -> None:
    about = describe("flights.delays", document(refs={}, snapshots=[]))
    assert (about.snapshot, about.changed, about.growth) == (None, None, ())
    assert about.size == size_of(None)
    assert about.size.rows == 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("decimal(10, 2)", "decimal(10, 2)"),
        ({"type": "list", "element": "int"}, "list<int>"),
        (
            {"type": "map", "key": "string", "value": {"type": "list", "element": "date"}},
            "map<string, list<date>>",
        ),
    ],
)
def test_types_as_people_write_them(kind: Any, text: str) -> None:
    assert type_text(kind) == text


def view(*tables: str) -> View:
    entries = {table: Entry.of(table, document()) for table in tables}
    return View.of(entries, ("flights", "sales"), Graph(), 1.0)


def test_search_puts_names_first_and_shows_nothing_that_is_not_allowed() -> None:
    found = view("flights.delays", "flights.delays_day", "sales.day", "sales.carrier_delays")
    hits, total = found.search("DELAYS", lambda namespace: True)
    assert [hit.entry.table for hit in hits] == [
        "flights.delays", "flights.delays_day", "sales.carrier_delays", "sales.day",
    ]  # fmt: skip
    assert [hit.where for hit in hits] == ["name", "name", "name", "comment"]
    assert total == 4
    hits, total = found.search("delays", lambda namespace: namespace == "sales", limit=1)
    assert ([hit.entry.table for hit in hits], total) == (["sales.carrier_delays"], 2)
    hits, _ = found.search("sales two-letter", lambda namespace: True)
    assert {(hit.entry.table, hit.where, hit.what) for hit in hits} == {
        ("sales.day", "column", "carrier: Two-letter code"),
        ("sales.carrier_delays", "column", "carrier: Two-letter code"),
    }
    assert found.search("   ", lambda namespace: True) == ([], 0)
    assert found.search("no such", lambda namespace: True) == ([], 0)
