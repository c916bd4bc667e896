"""Commits of several runs to one table that wait for each other go to the catalog in one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from lake import Lake

from forebay.lake.branch import MAIN, Branch, ancestry, ref, snapshots, stamp
from forebay.lake.identity import TaskTry
from forebay.lake.rest import Rest
from forebay.lens.service import application


@pytest.fixture
def token(rest: Rest) -> str:
    rest.tables([])
    return str(rest._client.headers["Authorization"])


def commit(document: dict[str, Any], number: int) -> dict[str, Any]:
    """An append that shares its parent's files, as a client sends it."""
    last = snapshots(document)[document["current-snapshot-id"]]
    new = {
        **last,
        "snapshot-id": time.time_ns() + number,
        "parent-snapshot-id": last["snapshot-id"],
        "sequence-number": document["last-sequence-number"] + 1,
        "timestamp-ms": int(time.time() * 1000),
    }
    return {
        "requirements": [
            {"type": "assert-table-uuid", "uuid": document["table-uuid"]},
            {"type": "assert-ref-snapshot-id", "ref": MAIN, "snapshot-id": last["snapshot-id"]},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": new},
            {
                "action": "set-snapshot-ref",
                "ref-name": MAIN,
                "type": "branch",
                "snapshot-id": new["snapshot-id"],
            },
        ],
    }


async def at_once(
    lake: Lake, table: str, sent: Sequence[tuple[TaskTry, str, dict[str, Any]]]
) -> list[httpx.Response]:
    """The lens's answers to commits that all come while it is at another one."""
    app = application(lake.config.uri)
    lens = next(route.endpoint.__self__ for route in app.routes if getattr(route, "path", "") == "/health")
    namespace, name = table.split(".")
    path = f"/v1/{lake.prefix}namespaces/{namespace}/tables/{name}"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lens", timeout=60) as client,
    ):
        # What a client does before it commits.
        for who, token, _ in sent[:1]:
            await client.get(f"/run/{who.segment()}{path}", headers={"Authorization": token})
        async with lens.memory.lock(table):
            posts = [
                asyncio.create_task(
                    client.post(f"/run/{who.segment()}{path}", json=body, headers={"Authorization": token})
                )
                for who, token, body in sent
            ]
            while len(lens.commits._waiting[table]) < len(sent):
                await asyncio.sleep(0.01)
        answers = list(await asyncio.gather(*posts))
        assert not lens.commits._waiting
        return answers


def versions(rest: Rest, table: str) -> int:
    document = rest.table(table)
    assert document is not None
    return len(document["metadata-log"])


def test_they_are_one_version_of_the_table(lake: Lake, rest: Rest, token: str) -> None:
    lake.directly("t", "(1)")
    table = lake.name("t")
    document, before = rest.table(table), versions(rest, table)
    assert document is not None
    runs = [lake.who(f"r{number}", "t") for number in range(8)]
    sent = [(who, token, commit(document, number)) for number, who in enumerate(runs)]
    answers = asyncio.run(at_once(lake, table, sent))
    assert [each.status_code for each in answers] == [200] * 8
    assert versions(rest, table) == before + 1
    after = rest.table(table)
    assert after is not None
    numbers = []
    for (who, _, body), answer in zip(sent, answers, strict=True):
        wanted = body["updates"][0]["snapshot"]["snapshot-id"]
        branch = Branch.find(after, who.branch)
        assert branch is not None
        assert (branch.head, branch.base) == (wanted, document["current-snapshot-id"])
        # Each client sees its own branch as main, and only its own.
        shown = answer.json()["metadata"]
        assert ref(shown, MAIN) == wanted
        line = list(ancestry(snapshots(after), branch.head))
        assert stamp(line[0], "run") == who.run
        numbers.append(line[0]["sequence-number"])
    assert sorted(set(numbers)) == sorted(numbers)
    assert ref(after, MAIN) == document["current-snapshot-id"]


def test_one_that_is_refused_does_not_hold_up_the_others(lake: Lake, rest: Rest, token: str) -> None:
    lake.directly("t", "(1)")
    lake.directly("other", "(1)")
    table = lake.name("t")
    document = rest.table(table)
    assert document is not None
    undeclared = lake.who("undeclared", "other")
    stale = commit(document, 90)
    stale["requirements"][0]["uuid"] = "00000000-0000-0000-0000-000000000000"
    sent = [
        (lake.who("r1", "t"), token, commit(document, 1)),
        (undeclared, token, commit(document, 2)),
        (lake.who("r2", "t"), token, stale),
        (lake.who("r3", "t"), token, commit(document, 3)),
    ]
    answers = asyncio.run(at_once(lake, table, sent))
    assert [each.status_code for each in answers] == [200, 403, 409, 200]
    assert "does not declare that it writes" in answers[1].json()["error"]["message"]
    after = rest.table(table)
    assert after is not None
    assert {each.name for each in Branch.all(after)} == {sent[0][0].branch, sent[3][0].branch}


def test_another_credential_is_another_commit(lake: Lake, rest: Rest, token: str) -> None:
    """Nobody's commit goes under somebody else's name."""
    lake.directly("t", "(1)")
    table = lake.name("t")
    document, before = rest.table(table), versions(rest, table)
    assert document is not None
    sent = [
        (lake.who("r1", "t"), token, commit(document, 1)),
        (lake.who("r2", "t"), "Bearer nobody", commit(document, 2)),
        (lake.who("r3", "t"), token, commit(document, 3)),
    ]
    answers = asyncio.run(at_once(lake, table, sent))
    assert [each.status_code for each in answers] == [200, 401, 200]
    assert versions(rest, table) == before + 1


def test_two_commits_to_one_branch_stay_apart(lake: Lake, rest: Rest, token: str) -> None:
    lake.directly("t", "(1)")
    table = lake.name("t")
    document = rest.table(table)
    assert document is not None
    who = lake.who("r1", "t")
    sent = [(who, token, commit(document, 1)), (who, token, commit(document, 2))]
    answers = asyncio.run(at_once(lake, table, sent))
    assert [each.status_code for each in answers] == [200, 409]
