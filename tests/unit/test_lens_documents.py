"""What the lens makes of documents of the REST specification: a table shown to a run, a commit sent to its branch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.lake.branch import Branch, Shape, ref, show
from forebay.lake.identity import TaskTry
from forebay.lens.commit import Asked, rewrite
from forebay.lens.refused import Refused

WHO = TaskTry(
    job="lab.job", run="r", task="make", number=2, engine="spark", commit="abc", user="me", writes=("lab.t",), began=1.0
)  # fmt: skip
OTHER = TaskTry(job="lab.job", run="other", task="make", writes=("lab.t",))
N = {"id": 1, "name": "n", "type": "int", "required": False}
B = {"id": 2, "name": "b", "type": "string", "required": False}
FORKED = Branch(WHO.branch, 1, 3, Shape(0, 0, 0), Shape(0, 0, 0))


def schema(number: int, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"schema-id": number, "type": "struct", "fields": list(fields)}


def snapshot(number: int, parent: int | None = None) -> dict[str, Any]:
    made = {
        "snapshot-id": number,
        "sequence-number": number,
        "timestamp-ms": 1000 * number,
        "manifest-list": f"m{number}",
    }
    return {**made, **({"parent-snapshot-id": parent} if parent else {}), "summary": {"operation": "append"}}


def table(*branches: Branch, main: int | None = 2) -> dict[str, Any]:
    """1 and 2 are main's, 3 is on the branch that began at 1, 4 on another run's, 5 was rolled back."""
    heads = {"main": main} | {branch.name: branch.head for branch in branches}
    refs = {name: {"snapshot-id": at, "type": "branch"} for name, at in heads.items() if at is not None}
    found = {
        "format-version": 2, "table-uuid": "u", "location": "s3://lake/t", "last-sequence-number": 5, "last-column-id": 2,
        "current-schema-id": 0, "default-spec-id": 0, "default-sort-order-id": 0,
        "schemas": [schema(0, N), schema(1, N, B)], "partition-specs": [{"spec-id": 0, "fields": []}],
        "sort-orders": [{"order-id": 0, "fields": []}],
        "snapshots": [snapshot(1), snapshot(2, 1), snapshot(3, 1), snapshot(4, 1), snapshot(5, 2)],
        "snapshot-log": [{"snapshot-id": n, "timestamp-ms": 1000 * n} for n in (1, 5, 2)],
        "metadata-log": [{"timestamp-ms": 1000 * n, "metadata-file": f"v{n}"} for n in range(1, 5)],
        "statistics": [{"snapshot-id": n, "statistics-path": f"s{n}"} for n in (2, 3, 4)],
        "refs": {**refs, "kept": {"snapshot-id": 1, "type": "tag"}},
        "properties": {"owner": "lab", **{branch.key: branch.text() for branch in branches}},
    }  # fmt: skip
    return found if main is None else {**found, "current-snapshot-id": main}


def of_other(head: int | None = 4) -> Branch:
    return Branch(OTHER.branch, 1, head, Shape(0, 0, 0), Shape(0, 0, 0))


def numbers(document: dict[str, Any], part: str) -> list[int]:
    return [each["snapshot-id"] for each in document[part]]


def test_a_run_is_shown_its_branch_as_main_and_no_other() -> None:
    changed = Branch(
        WHO.branch, 1, 3, Shape(1, 0, 0), Shape(0, 0, 0), properties={"note": "mine"}, removed=("owner",)
    )
    given = table(changed, of_other())
    before = json.dumps(given)
    shown = show(given, WHO.branch)
    assert json.dumps(given) == before, "the document that the lens keeps stays as it is"
    assert (ref(shown, "main"), shown["current-snapshot-id"], shown["current-schema-id"]) == (3, 3, 1)
    assert sorted(shown["refs"]) == ["kept", "main"]
    assert numbers(shown, "snapshots") == [1, 3]
    assert numbers(shown, "snapshot-log") == [1, 3]
    assert numbers(shown, "statistics") == [3]
    assert shown["metadata-log"] == []
    assert shown["properties"]["note"] == "mine"
    assert not {name for name in shown["properties"] if name == "owner" or name.startswith("forebay.")}
    # Others take sequence numbers too, so its clients repeat a commit more often.
    assert int(shown["properties"]["commit.retry.num-retries"]) > 4


def test_others_are_shown_main_with_what_was_rolled_back_of_it() -> None:
    shown = show(table(FORKED, of_other()), "")
    assert sorted(shown["refs"]) == ["kept", "main"]
    assert numbers(shown, "snapshots") == [1, 2, 5]
    assert numbers(shown, "snapshot-log") == [1, 5, 2]
    assert numbers(shown, "statistics") == [2]
    assert len(shown["metadata-log"]) == 4
    assert shown["properties"] == {"owner": "lab"}
    # A run without a branch of its own sees the same.
    run = show(table(of_other()), WHO.branch)
    assert (ref(run, "main"), numbers(run, "snapshots")) == (2, [1, 2, 5])


def test_a_table_is_empty_until_it_is_published() -> None:
    made = Branch(WHO.branch, None, 3, created_by="make/1")
    for shown in (show(table(made, main=None), ""), show(table(made, main=None), OTHER.branch)):
        assert shown["snapshots"] == shown["snapshot-log"] == []
        assert shown["refs"] == {}
        assert "current-snapshot-id" not in shown
    assert ref(show(table(made, main=None), WHO.branch), "main") == 3


def sent(
    document: dict[str, Any],
    *updates: dict[str, Any],
    requires: tuple[dict[str, Any], ...] = (),
    **known: Any,
) -> dict[str, Any]:
    commit = {
        "identifier": {"namespace": ["lab"], "name": "t"},
        "requirements": list(requires),
        "updates": list(updates),
    }
    return rewrite(commit, Asked(WHO, "lab.t", document, **known))


def at(name: str, number: int | None) -> dict[str, Any]:
    return {"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": number}


def to(name: str, number: int) -> dict[str, Any]:
    return {"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": number}


def add(number: int, parent: int | None, sequence: int) -> dict[str, Any]:
    return {"action": "add-snapshot", "snapshot": {**snapshot(number, parent), "sequence-number": sequence}}


def kept(found: dict[str, Any]) -> Branch:
    (text,) = (each["updates"] for each in found["updates"] if each["action"] == "set-properties")
    branch = Branch.find({"properties": text, "refs": {}}, WHO.branch)
    assert branch is not None
    return branch


def test_the_first_commit_forks_the_branch_where_the_client_stood() -> None:
    found = sent(
        table(), add(9, 1, 6), to("main", 9), requires=({"type": "assert-table-uuid", "uuid": "u"}, at("main", 1)),
        inputs={"lab.source": 7, "lab.empty": None},
    )  # fmt: skip
    assert found["identifier"] == {"namespace": ["lab"], "name": "t"}
    assert found["requirements"] == [{"type": "assert-table-uuid", "uuid": "u"}, at(WHO.branch, None)]
    assert [each["action"] for each in found["updates"]] == [
        "add-snapshot",
        "set-snapshot-ref",
        "set-properties",
    ]
    assert found["updates"][1] == to(WHO.branch, 9)
    assert kept(found).base == 1
    summary = found["updates"][0]["snapshot"]["summary"]
    assert summary == {
        "operation": "append", "forebay.workspace": "lab", "forebay.job": "lab.job", "forebay.run": "r",
        "forebay.task": "make", "forebay.try": "2", "forebay.commit": "abc", "forebay.user": "me",
        "forebay.engine": "spark", "forebay.base": "1", "forebay.inputs": "lab.empty@,lab.source@7",
        "forebay.began": "1.000000",
    }  # fmt: skip


def test_a_later_commit_asserts_the_branchs_head() -> None:
    found = sent(table(FORKED), add(9, 3, 6), to("main", 9), requires=(at("main", 3),))
    assert found["requirements"] == [at(WHO.branch, 3)]
    assert found["updates"][1:] == [to(WHO.branch, 9)]
    with pytest.raises(Refused, match="at 3 on the run's branch") as refused:
        sent(table(FORKED), add(9, 1, 6), to("main", 9), requires=(at("main", 1),))
    assert (refused.value.status, refused.value.kind) == (409, "CommitFailedException")


@pytest.mark.parametrize(("version", "chosen", "given"), [(2, 5, 6), (2, 7, 7), (3, 5, 5)])
def test_a_sequence_number_that_another_branch_took_is_counted_on(
    version: int, chosen: int, given: int
) -> None:
    document = {**table(FORKED), "format-version": version}
    found = sent(document, add(9, 3, chosen), to("main", 9))
    assert found["updates"][0]["snapshot"]["sequence-number"] == given


def test_create_or_replace_empties_the_branch_only() -> None:
    gone = {"action": "remove-snapshot-ref", "ref-name": "main"}
    found = sent(table(FORKED), gone, add(9, None, 6), to("main", 9))
    assert found["updates"][0] == {**gone, "ref-name": WHO.branch}
    first = sent(table(), gone, add(9, None, 6), to("main", 9), looked=True, first_seen=2)
    # There is no ref to remove yet.
    assert [each["action"] for each in first["updates"]] == [
        "add-snapshot",
        "set-snapshot-ref",
        "set-properties",
    ]
    assert first["requirements"] == [at(WHO.branch, None)]
    assert kept(first).base == 2


def test_a_new_schema_is_added_and_current_on_the_branch_only() -> None:
    new = schema(7, N, {**B, "name": "c"})
    found = sent(
        table(FORKED),
        {"action": "add-schema", "schema": new, "last-column-id": 2},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": {"spec-id": 5, "fields": [{"source-id": 2, "name": "c"}]}},
        {"action": "set-default-spec", "spec-id": -1},
        requires=({"type": "assert-current-schema-id", "current-schema-id": 0},),
    )
    # The catalog looks the partition's column up in the current schema, so it is that for a moment.
    assert [(each["action"], each.get("schema-id")) for each in found["updates"][:4]] == [
        ("add-schema", None), ("set-current-schema", 2), ("add-spec", None), ("set-current-schema", 0),
    ]  # fmt: skip
    assert (found["updates"][0]["schema"]["schema-id"], found["updates"][2]["spec"]["spec-id"]) == (2, 1)
    assert [each["ref"] for each in found["requirements"]] == [WHO.branch], "the branch is still what it was"
    # One that is there already is used again.
    same = sent(
        table(FORKED),
        {"action": "add-schema", "schema": schema(9, N, B)},
        {"action": "set-current-schema", "schema-id": -1},
    )
    assert [each["action"] for each in same["updates"]] == ["set-properties"]
    assert kept(same).shape == Shape(1, 0, 0)
    with pytest.raises(Refused, match="current-schema-id is 0, not 1"):
        sent(table(FORKED), requires=({"type": "assert-current-schema-id", "current-schema-id": 1},))


def test_properties_are_the_branchs() -> None:
    found = sent(
        table(FORKED),
        {"action": "set-properties", "updates": {"note": "x"}},
        {"action": "remove-properties", "removals": ["owner"]},
    )
    assert (kept(found).properties, kept(found).removed) == ({"note": "x"}, ("owner",))
    with pytest.raises(Refused, match="kept by the lens"):
        sent(table(FORKED), {"action": "set-properties", "updates": {FORKED.key: "{}"}})


def test_statistics_pass() -> None:
    statistics = {"action": "set-statistics", "snapshot-id": 3, "statistics": {"snapshot-id": 3}}
    assert sent(table(FORKED), statistics)["updates"] == [statistics]


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (to("other", 3), "its own branch only"),
        ({"action": "remove-snapshot-ref", "ref-name": "kept"}, "its own branch only"),
        ({"action": "remove-snapshots", "snapshot-ids": [1]}, "for everybody"),
        ({"action": "upgrade-format-version", "format-version": 3}, "for everybody"),
        ({"action": "set-location", "location": "s3://elsewhere"}, "for everybody"),
        ({"action": "assign-uuid", "uuid": "v"}, "for everybody"),
        ({"action": "something-new"}, "for everybody"),
    ],
)
def test_what_would_change_the_table_for_everybody_is_refused(update: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        sent(table(FORKED), update)
    assert refused.value.status == 403


def test_what_changes_nothing_is_left_out() -> None:
    again = (
        {"action": "set-location", "location": "s3://lake/t"},
        {"action": "upgrade-format-version", "format-version": 2},
    )
    assert sent(table(FORKED), *again)["updates"] == []


def test_a_table_of_another_branch_is_not_to_be_asserted_or_written() -> None:
    with pytest.raises(Refused, match="its own branch only"):
        sent(table(FORKED, of_other()), requires=(at(OTHER.branch, 4),))
    with pytest.raises(Refused, match=r"does not declare that it writes lab\.u"):
        rewrite({}, Asked(WHO, "lab.u", table()))
    with pytest.raises(Refused, match="only shows the branch"):
        rewrite({}, Asked(TaskTry("lab.job", "r"), "lab.t", table()))


def test_a_table_that_is_made() -> None:
    found = sent(
        None, {"action": "assign-uuid", "uuid": "u"}, {"action": "add-schema", "schema": schema(0, N)},
        {"action": "set-current-schema", "schema-id": -1}, add(9, None, 1), to("main", 9),
        requires=({"type": "assert-create"},),
    )  # type: ignore[arg-type]  # fmt: skip
    assert found["requirements"] == [{"type": "assert-create"}]
    assert [each["action"] for each in found["updates"]][:3] == [
        "assign-uuid",
        "add-schema",
        "set-current-schema",
    ]
    assert found["updates"][4] == to(WHO.branch, 9)
    assert (kept(found).created_by, kept(found).shape, kept(found).base) == ("make/2", None, None)
    with pytest.raises(Refused, match="exists already") as refused:
        sent(table(), requires=({"type": "assert-create"},))
    assert refused.value.status == 409


def test_a_client_cannot_say_who_made_a_snapshot() -> None:
    """What Forebay's own writers say of their rows is kept, whatever else begins so is the lens's to say."""
    kept = {
        "forebay.replay": "yes", "forebay.ingest.files": "[]", "forebay.quarantine.source": "1",
        "forebay.quarantine.replay": "x", "operation": "append", "mine": "too",
    }  # fmt: skip
    forged = {"forebay.record": "yes", "forebay.replay-of": "x", "forebay.keep": "1", "forebay.run": "other"}
    made = {**snapshot(6, 3), "summary": {**kept, **forged}}
    commit = {"requirements": [], "updates": [{"action": "add-snapshot", "snapshot": made}]}
    asked = Asked(WHO, "lab.t", table(FORKED), {}, looked=True, first_seen=1)
    [added] = [each for each in rewrite(commit, asked)["updates"] if each["action"] == "add-snapshot"]
    summary = added["snapshot"]["summary"]
    assert kept.items() <= summary.items()
    assert summary["forebay.run"] == "r"
    assert not {"forebay.record", "forebay.replay-of", "forebay.keep"} & summary.keys()
