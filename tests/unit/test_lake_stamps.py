"""What others wrote where Forebay keeps its own records is nothing, and breaks nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.lake.branch import (
    PUBLISHED_PROPERTY,
    RESHAPED_PROPERTY,
    ROLLED_BACK_PROPERTY,
    Branch,
    Shape,
    moment,
    records,
    whole,
)
from forebay.lake.describe import describe
from forebay.lake.diff import sides
from forebay.lake.history import Made, blame, on_main, roll_backs
from forebay.lake.identity import Run
from forebay.lake.index import entry
from forebay.lake.lineage import Graph
from forebay.lake.state import RunsOf

RUN = Run("lab.job", "r")
FORKED = Branch("run", 1, None, Shape(0, 0, 0), Shape(0, 0, 0), "make/1", {"a": "b"}, ("c",))
GARBAGE = [
    *("", "x", "null", "1", "[]", "[1]", "{}", '"x"', "[" * 3000, '{"base": 1}', "NaN"),
    json.dumps({**json.loads(FORKED.text()), "base": "1"}),
    json.dumps({**json.loads(FORKED.text()), "shape": {"schema": "x"}}),
    json.dumps({**json.loads(FORKED.text()), "properties": 3}),
    json.dumps([{"job": "lab.job", "run": "r", "head": 1, "base": None, "to": None, "at": "yesterday"}]),
    json.dumps([{"job": "lab.job", "run": "r", "head": 1, "from": 1, "to": 2}]),
    json.dumps({"job": 1, "run": [], "head": "1", "base": {}, "branch": None, "branch_head": "2"}),
]  # fmt: skip


def table(properties: dict[str, str], **stamps: str) -> dict[str, Any]:
    summary = {"operation": "append", "added-records": "1", "total-records": "1"}
    summary |= {f"forebay.{name}": text for name, text in stamps.items()}
    return {
        "format-version": 2, "table-uuid": "u", "location": "s3://lake/t", "current-schema-id": 0,
        "schemas": [{"schema-id": 0, "type": "struct", "fields": []}], "partition-specs": [], "sort-orders": [],
        "snapshots": [{"snapshot-id": 1, "timestamp-ms": 10**18, "summary": summary}], "current-snapshot-id": 1,
        "refs": {"main": {"type": "branch", "snapshot-id": 1}}, "properties": properties,
    }  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[:30] or "empty")
@pytest.mark.parametrize(
    "name", ["forebay.branch.run", PUBLISHED_PROPERTY, RESHAPED_PROPERTY, ROLLED_BACK_PROPERTY]
)
def test_a_property_that_is_no_record_is_none(name: str, text: str) -> None:
    document = table({name: text}, job="lab.job", run="other")
    assert entry("lab.t", document).rows == 1
    assert Branch.all(document) == []
    assert roll_backs(document) == []
    assert on_main(document, RUN) is None
    assert len(blame(document)) == 1
    assert RunsOf.read("lab.t", document).words(RUN) == set()
    assert sides("lab.t", document, RUN) is None
    describe("lab.t", document)


def test_records_of_ours_are_read() -> None:
    document = table({FORKED.key: FORKED.text()})
    assert Branch.all(document) == [FORKED]
    shape = {"schema": 0, "spec": 0, "order": 0}
    kept = {"job": "lab.job", "run": "r", "head": 1, "from": shape, "to": shape}
    document = table({RESHAPED_PROPERTY: json.dumps([kept, "?"])})
    assert records(document, RESHAPED_PROPERTY) == [kept]


@pytest.mark.parametrize("text", ["²", "x", "", "-", "1e3", "１", "9" * 5000, "lab.s@²,lab.s@x,@"])
def test_a_stamp_that_is_no_number_is_none(text: str) -> None:
    stamps = {"try": text, "replay-of": text, "inputs": text, "base": text, "keep": text}
    document = table({}, job="lab.job", run="r", **stamps)
    summary = document["snapshots"][0]["summary"]
    for name in ("added-records", "deleted-records", "total-records", "total-files-size", "added-files-size"):
        summary[name] = text
    made = Made.of(document["snapshots"][0])
    assert (made.number, made.replay_of, made.added) == (0, None, None)
    assert entry("lab.t", document).rows is None
    on_main(document, RUN)
    Graph().add("lab.t", document)
    blame(document)


def test_whole_numbers_are_read() -> None:
    assert [whole(text) for text in ("0", "-5", 7, str(2**63 - 1), None)] == [0, -5, 7, 2**63 - 1, None]


def test_a_document_that_is_none_has_an_entry_with_its_name() -> None:
    assert entry("lab.t", {"schemas": "x", "snapshots": 3}).table == "lab.t"


def test_a_moment_may_be_none() -> None:
    assert moment(0) == "1970-01-01 00:00:00 UTC"
    assert {moment(at) for at in (1e18, float("nan"), float("inf"), -1e18)} == {"at no known time"}
