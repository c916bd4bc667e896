"""What the lens makes of a commit when its memory or the table is not as the client thinks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from forebay.lake.branch import REPLAY, UNSURE, Branch, Shape
from forebay.lake.identity import TaskTry
from forebay.lens import memory
from forebay.lens.commit import Asked, created, rewrite
from forebay.lens.commits import Commits
from forebay.lens.memory import Memory
from forebay.lens.refused import Refused
from forebay.lens.upstream import Answer

WHO = TaskTry(job="lab.job", run="r", task="make", writes=("lab.t",), began=1.0)


def snapshot(number: int, parent: int | None = None) -> dict[str, Any]:
    known: dict[str, Any] = {"snapshot-id": number, "sequence-number": number, "timestamp-ms": number}
    return {**known, **({"parent-snapshot-id": parent} if parent else {}), "summary": {"operation": "append"}}


def table(main: int | None, *branches: Branch) -> dict[str, Any]:
    """Snapshots 1 and 2 one after the other; 3 is on nobody's line any more."""
    refs = {} if main is None else {"main": {"snapshot-id": main, "type": "branch"}}
    for branch in branches:
        if branch.head is not None:
            refs[branch.name] = {"snapshot-id": branch.head, "type": "branch"}
    return {
        "format-version": 2, "table-uuid": "u", "last-sequence-number": 3, "current-schema-id": 0, "default-spec-id": 0,
        "default-sort-order-id": 0, "schemas": [{"schema-id": 0, "type": "struct", "fields": []}],
        "partition-specs": [{"spec-id": 0, "fields": []}], "sort-orders": [{"order-id": 0, "fields": []}],
        "snapshots": [snapshot(1), snapshot(2, 1), snapshot(3, 1)], "refs": refs,
        "properties": {branch.key: branch.text() for branch in branches},
    }  # fmt: skip


def append(parent: int | None, number: int = 9) -> dict[str, Any]:
    return {
        "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}],
        "updates": [
            {"action": "add-snapshot", "snapshot": snapshot(number, parent)},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": number},
        ],
    }


REPLACE = {
    "requirements": [{"type": "assert-table-uuid", "uuid": "u"}],
    "updates": [{"action": "remove-snapshot-ref", "ref-name": "main"}, *append(None)["updates"]],
}


def begun(commit: dict[str, Any], metadata: dict[str, Any], **known: Any) -> Branch:
    found = rewrite(commit, Asked(WHO, "lab.t", metadata, **known))
    written = [each["updates"] for each in found["updates"] if each["action"] == "set-properties"]
    branch = Branch.find({"properties": written[-1], "refs": {}}, WHO.branch)
    assert branch is not None
    return branch


def test_a_replace_begins_where_the_task_looked_first() -> None:
    assert begun(REPLACE, table(2), looked=True, first_seen=1).base == 1
    # It was empty then, so today's rows are somebody else's, which publishing will say.
    assert begun(REPLACE, table(2), looked=True, first_seen=None).base is None


def test_a_replace_whose_look_is_forgotten_is_refused() -> None:
    with pytest.raises(Refused, match="Try the task again") as refused:
        rewrite(REPLACE, Asked(WHO, "lab.t", table(2)))
    assert refused.value.status == 403
    # One that changes no rows takes none away.
    properties = {"action": "set-properties", "updates": {"owner": "somebody"}}
    assert begun({"requirements": [], "updates": [properties]}, table(2)).base == 2


def test_a_branch_does_not_begin_at_rows_that_were_put_back() -> None:
    with pytest.raises(Refused, match="not at 3 any more") as refused:
        rewrite(append(3), Asked(WHO, "lab.t", table(2)))
    assert refused.value.kind == "CommitFailedException"
    assert begun(append(1), table(2)).base == 1


@pytest.mark.parametrize(
    ("known", "said", "stamped"),
    [
        ({}, None, None),
        ({"scanned": True}, None, UNSURE),
        ({"complete": False}, None, UNSURE),
        ({"scanned": True}, "partitions", "no"),
        ({"scanned": True}, "yes", "yes"),
    ],
)
def test_whether_an_append_may_be_repeated(
    known: dict[str, bool], said: str | None, stamped: str | None
) -> None:
    commit = append(2)
    if said:
        commit["updates"][0]["snapshot"]["summary"][REPLAY] = said
    found = rewrite(commit, Asked(WHO, "lab.t", table(2), **known))
    assert found["updates"][0]["snapshot"]["summary"].get(REPLAY) == stamped


def test_columns_stay_on_the_branch_of_a_table_that_another_run_published_first() -> None:
    branch = created(WHO)
    own = Branch(branch.name, None, 3, created_by=branch.created_by)
    column = {
        "schema-id": 1,
        "type": "struct",
        "fields": [{"id": 1, "name": "n", "type": "int", "required": False}],
    }
    commit = {
        "requirements": [],
        "updates": [
            {"action": "add-schema", "schema": column, "last-column-id": 1},
            {"action": "set-current-schema", "schema-id": -1},
        ],
    }
    found = rewrite(commit, Asked(WHO, "lab.t", table(2, own)))
    assert "set-current-schema" not in [each["action"] for each in found["updates"]]
    text = next(each["updates"] for each in found["updates"] if each["action"] == "set-properties")
    kept = Branch.find({"properties": text, "refs": {}}, WHO.branch)
    assert kept is not None
    assert (kept.shape, kept.main_shape) == (Shape(1, 0, 0), Shape(0, 0, 0))


def test_a_lens_that_forgot_a_try_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_TASKS", 2)
    kept = Memory()
    tries = [TaskTry(job="lab.job", run=str(n), task="t", began=time.time() + n) for n in range(3)]
    assert not kept.of(WHO).complete, "it began before the lens did"
    for each in tries:
        assert kept.of(each).complete
    assert not kept.of(tries[0]).complete, "what it had read is forgotten"
    assert kept.of(tries[2]).complete


def test_documents_are_kept_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_BYTES", 100)
    kept = Memory()
    for name in ("a", "b", "a", "c"):
        kept.table(name, {"of": name}, 40)
    assert (kept.known("a"), kept.known("b"), kept.known("c")) == ({"of": "a"}, None, {"of": "c"})
    kept.table("big", {}, 101)
    assert not any(map(kept.known, ("a", "c", "big")))
    kept.forget("big")
    kept.table("d", {"of": "d"}, 100)
    assert kept.known("d")


def test_commits_sent_together_that_may_be_done_are_not_told_as_conflicts() -> None:
    """Their writers would repeat them, and the rows would be there twice."""
    sent = []

    async def send(request: Request, method: str, rest: str, json: Any = None) -> Answer:
        sent.append(method)
        return Answer(504, {}, b"gateway timeout")

    first, second = asyncio.run(_two_at_once(send))
    assert sent == ["POST"]
    assert first.status_code == second.status_code == 504


def test_of_commits_sent_one_by_one_each_gets_its_own_answer() -> None:
    """The first one is done when the line to the catalog breaks during the second."""

    class Broken(Exception):
        pass

    commits_sent = 0

    async def send(request: Request, method: str, rest: str, json: Any = None) -> Answer:
        nonlocal commits_sent
        found = Answer(200, {}, orjson.dumps({"metadata": table(2)}))
        if method == "GET":
            return found
        commits_sent += 1
        if commits_sent == 1:
            # Both together.
            error = {"message": "sequence number", "type": "CommitFailedException", "code": 409}
            return Answer(409, {}, orjson.dumps({"error": error}))
        if commits_sent == 3:
            raise Broken
        return found

    first, second = asyncio.run(_two_at_once(send))
    assert commits_sent == 3
    assert first.status_code == 200
    assert isinstance(second, Broken)


async def _two_at_once(send: Any) -> list[Any]:
    """The answers to two runs that commit to one table while it is held."""
    commits = Commits(Memory(), send)
    commits.memory.table("lab.t", table(2), 1000)
    lock = commits.memory.lock("lab.t")
    await lock.acquire()
    asked = []
    for number, run in ((9, "one"), (10, "two")):
        who = TaskTry(job="lab.job", run=run, task="make", writes=("lab.t",), began=1.0)
        body = orjson.dumps(append(2, number))

        async def receive(body: bytes = body) -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        request = Request(
            {"type": "http", "method": "POST", "headers": [], "state": {"upstream": 0.0}}, receive
        )
        asked.append(asyncio.create_task(commits.one(request, who, "v1/x", "lab.t")))
    await asyncio.sleep(0.05)
    lock.release()
    return await asyncio.gather(*asked, return_exceptions=True)
