"""A table's pages on a real stack: what differs, where it comes from, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import eventually
from console_client import browser, session, text

if TYPE_CHECKING:
    from conftest import Lab

TABLE = "/catalog/lab/ledger"
API = f"/api/v1{TABLE}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def runs(lab: Lab) -> list[str]:
    """Three runs, each of which adds one row and sums them up; the third's amount is too much for its check."""
    ids = []
    for amount in (5, 7, 700):
        run_id = lab.start("lab.ledger", {"amount": amount})
        run, tasks = lab.finish("lab.ledger", run_id)
        assert run["state"] == "success", tasks
        ids.append(run_id)
        if amount == 7:
            _copied(lab)
    return ids


def _copied(lab: Lab) -> None:
    """A table made of the rows there are, by a run of another job."""
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.identity import TaskTry
    from forebay.lake.publish import publish
    from forebay.lake.rest import Rest
    from forebay.lake.tables import TableDefinition

    table = "lab.ledger_copy"
    who = TaskTry(
        job="lab.copies", run="one", task="write", number=1, commit=COMMIT, user="somebody", writes=(table,)
    )
    with DuckDBEngine(lab.lake.seen_by(who)) as engine:
        engine.write("SELECT amount FROM lake.lab.ledger", TableDefinition(table), "append")
    with Rest(lab.lake.main()) as rest:
        publish(rest, who, who.writes)


def events(client: httpx.Client, table: str = TABLE) -> list[dict[str, Any]]:
    """What happened to it, newest first."""
    found: list[dict[str, Any]] = client.get(f"/api/v1{table}/history").json()
    return found


def hidden(answer: httpx.Response) -> dict[str, str]:
    """A form's hidden fields."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', answer.text))


def rows(client: httpx.Client, table: str) -> list[list[str]]:
    found: list[list[str]] = client.get(f"/api/v1{table}/sample").json()["rows"]
    return sorted(found)


def test_two_snapshots_are_compared(admin: httpx.Client, runs: list[str]) -> None:
    third, _, first = (each["snapshot"] for each in events(admin)[:3])
    found = admin.get(f"{API}/diff", params={"from": first, "to": third}).json()
    assert found["rows"] == {"added": 2, "removed": 0, "changed": None}
    assert {row["amount"] for row in found["sample"]["added"]} == {7, 700}
    assert (found["files"]["added"], found["changes"]) == (2, [])
    nothing = admin.get(f"{API}/diff", params={"to": first}).json()
    assert nothing["rows"]["added"] == 1
    assert nothing["changes"][0].startswith("made with amount")
    page = text(admin.get(f"{TABLE}/diff", params={"from": first, "to": third}))
    assert "+2 rows added" in page
    assert "700" in page
    # Without a choice the last change is shown.
    assert "+1 rows added" in text(admin.get(f"{TABLE}/diff"))
    total = events(admin, "/catalog/lab/ledger_total")
    keyed = admin.get(
        "/api/v1/catalog/lab/ledger_total/diff",
        params={"from": total[2]["snapshot"], "to": total[0]["snapshot"]},
    ).json()
    assert keyed["sample"]["added"][0]["total"] in (712, "712")
    for wrong in ({"to": 1}, {"from": 1, "to": third}, {"to": "x"}, {}):
        assert admin.get(f"{API}/diff", params=wrong).status_code in (404, 422), wrong
    assert "has no column nope" in text(
        admin.get(f"{TABLE}/diff", params={"from": first, "to": third, "key": "nope"})
    )


def test_time_travel_reaches_every_snapshot(admin: httpx.Client, runs: list[str]) -> None:
    for number, each in enumerate(reversed(events(admin)), 1):
        then = admin.get(f"{API}/sample", params={"snapshot": each["snapshot"]}).json()["rows"]
        assert len(then) == number
    assert admin.get(f"{TABLE}/sample").text.count("<option") >= 4


def test_the_lineage_is_a_picture_without_scripts(admin: httpx.Client, runs: list[str]) -> None:
    def drawn() -> bool:
        page = admin.get(f"{TABLE}/lineage").text
        return "ledger_total/lineage" in page and "ledger_copy/lineage" in page

    eventually(20, drawn, "the index has the edge")
    page = admin.get(f"{TABLE}/lineage").text
    assert page.count('class="edge') == 2
    assert "lab.ledger: lab.ledger → lab.ledger_total" in unescape(page)
    up = admin.get("/catalog/lab/ledger_total/lineage?depth=1").text
    assert "/catalog/lab/ledger/lineage" in up
    assert admin.get(f"{TABLE}/lineage?depth=0").status_code == 422


def test_the_history_shows_tags_and_the_commit_of_each_run(
    lab: Lab, admin: httpx.Client, runs: list[str]
) -> None:
    copy = "/catalog/lab/ledger_copy"
    assert events(admin, copy)[0]["commit"] == COMMIT
    for page in (copy, f"{copy}/history"):
        assert f"commit {COMMIT[:8]} · started by somebody" in text(admin.get(page)), page
    table = lab.lake.pyiceberg().load_table("lab.ledger_copy")
    snapshot = events(admin, copy)[0]["snapshot"]
    table.manage_snapshots().create_tag(int(snapshot), "audited-2026").commit()
    said = text(admin.get(f"{copy}/history"))
    assert re.search(rf"Branches and tags .*audited-2026 {snapshot} tag", said), said


def test_growth_checks_and_partitions_are_shown(admin: httpx.Client, runs: list[str]) -> None:
    overview = admin.get(TABLE)
    assert "from 1 to 3 rows" in text(overview)
    assert overview.text.count('class="bars"') == 2
    assert "0 of 1 passed" in text(overview)
    checks = text(admin.get(f"{TABLE}/checks"))
    assert "2 of 3" in checks
    assert admin.get(f"{TABLE}/checks").text.count('<rect class="warn"') == 1
    found = admin.get(f"{API}/checks").json()
    assert [each["verdict"] for each in found] == ["warned", "passed", "passed"]
    files = admin.get(f"{API}/files").json()
    assert (files["files"], files["skew"]) == (3, None)


@pytest.fixture(scope="module")
def lopsided(lab: Lab) -> Iterator[str]:
    """A sorted table of two partitions, nine rows in ten of them in the first; and one with deletes of single rows."""
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.tables import TableDefinition

    made = TableDefinition(
        "lab.lopsided", ("part",), ("n desc", "part"), "Most of it on one side.", {"n": "A number."}
    )
    with DuckDBEngine(lab.lake) as engine:
        engine.write("SELECT i AS n, i // 900 AS part FROM range(1000) AS t(i)", made, "append")
        for number in range(4):
            engine.write(f"SELECT {number} AS n", TableDefinition("lab.punched"), "append")
        engine.execute(["DELETE FROM lake.lab.punched WHERE n = 2"])
    yield "lab.lopsided"
    for name in ("lab.lopsided", "lab.punched"):
        lab.lake.pyiceberg().drop_table(name)


def test_a_table_says_what_it_is_and_whose(admin: httpx.Client, lopsided: str) -> None:
    page = text(admin.get("/catalog/lab/lopsided"))
    assert "lab. lopsided" in page or "lab.lopsided" in page
    assert "Most of it on one side. · owner test" in page
    assert "Partitioning part" in page
    assert "Sort order n desc, nulls last; part asc, nulls first" in page
    assert "A number." in page
    told = admin.get("/api/v1/catalog/lab/lopsided").json()
    assert (told["comment"], told["partitioning"]) == ("Most of it on one side.", ["part"])
    assert told["sort_order"] == ["n desc, nulls last", "part asc, nulls first"]
    assert "Sort order none" in text(admin.get("/catalog/lab/punched"))


def test_partitions_show_their_skew_and_files_what_of_them_is_small(
    admin: httpx.Client, lopsided: str
) -> None:
    told = admin.get("/api/v1/catalog/lab/lopsided/files").json()
    assert (told["files"], told["small"], told["delete_files"], told["partition_count"]) == (2, 2, 0, 2)
    first, second = told["partitions"]
    assert [(each["name"], each["rows"]) for each in (first, second)] == [("part=0", 900), ("part=1", 100)]
    skew = first["bytes"] / (told["bytes"] / 2)
    assert told["skew"] == pytest.approx(skew)
    assert skew > 1.2
    page = text(admin.get("/catalog/lab/lopsided/files"))
    assert "2 data files" in page
    assert "2 small, below 8 MB: 100 %" in page
    assert f"{skew:.1f}× skew: largest partition to mean" in page
    assert re.search(rf"part=0 900 1 \S+ \S+ {skew:.1f}×", page), page
    assert re.search(rf"part=1 100 1 \S+ \S+ {2 - skew:.1f}×", page), page


def test_deletes_show_their_share_of_the_files(admin: httpx.Client, lopsided: str) -> None:
    told = admin.get("/api/v1/catalog/lab/punched/files").json()
    assert (told["files"], told["delete_files"], told["delete_share"]) == (4, 1, 0.2)
    page = text(admin.get("/catalog/lab/punched/files"))
    assert "4 data files" in page
    assert "1 delete files: 20.0 % of all files" in page
    assert "in 4 files, 1 delete file" in text(admin.get("/catalog/lab/punched"))


def test_a_roll_back_asks_for_the_name_and_shows_what_goes(
    lab: Lab, admin: httpx.Client, runs: list[str]
) -> None:
    third, second, _ = (each["snapshot"] for each in events(admin)[:3])
    # Something else reads the table too, and is not touched as long as what it read stays.
    history = admin.get(f"{TABLE}/history").text
    assert f"rollback?snapshot={second}" in history
    assert f"rollback?snapshot={third}" not in history, "the current one is no place to go back to"
    can = {each["snapshot"]: each["can_roll_back_to"] for each in admin.get(f"{API}/history").json()}
    assert can[str(second)]
    assert not can[str(third)]
    page = admin.get(f"{TABLE}/rollback", params={"snapshot": second})
    said = text(page)
    assert "2 tables go back" in said
    assert "1 run taken out" in said
    assert "lab.ledger_total" in said
    assert re.search(
        r"1 reader that stays .*Reads it and stays what it read is older lab\.ledger_copy", said
    ), said
    fields = hidden(page)
    assert fields["snapshot"] == second

    def send(**changes: str) -> httpx.Response:
        return admin.post(f"{TABLE}/rollback", data={**fields, "confirm": "lab.ledger", **changes})

    assert send(csrf="").status_code == 403
    assert send(csrf="0" * 64).status_code == 403
    evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert (
        admin.post(f"{TABLE}/rollback", data={**fields, "confirm": "lab.ledger"}, headers=evil).status_code
        == 403
    )
    for name in ("", "lab.ledge", "LAB.LEDGER"):
        assert "type lab.ledger to confirm" in text(send(confirm=name), 422)
    assert "Look at it again" in text(send(plan="0" * 32), 409)
    assert send(snapshot="").status_code == 422
    assert send(snapshot="12345").status_code == 422
    with browser(lab, "viewer") as viewer:
        assert viewer.get(f"{TABLE}/rollback").status_code == 403
        assert "Roll back" not in viewer.get(TABLE).text
    assert len(rows(admin, TABLE)) == 3, "nothing was done so far"

    done = send()
    assert done.status_code == 303, done.text[:500]
    after = admin.get(done.headers["location"].partition("/forebay")[2])
    assert "is rolled back to snapshot" in text(after)
    assert [row[0] for row in rows(admin, TABLE)] == ["5", "7"]
    assert rows(admin, "/catalog/lab/ledger_total") == [["12"]]
    assert events(admin)[0]["operation"] == "roll back"
    again = send()
    assert again.status_code == 409, "what is done is not done twice"

    wanted = {"kind": "console", "about": "lab.ledger", "event": "forebay.roll_back"}
    [row] = admin.get("/api/v1/audit", params=wanted).json()["events"]
    assert (row["who"], row["job"], row["what"]) == ("the-admin", "lab.ledger", "rolled a table back")
    assert row["details"]["tables"] == ["lab.ledger", "lab.ledger_total"]
    assert row["details"]["to"] == int(second)

    def listed() -> int:
        tables = admin.get("/api/v1/catalog/lab").json()
        return int(next(each["rows"] for each in tables if each["table"] == "lab.ledger"))

    eventually(10, lambda: listed() == 2, "the list follows")


def test_a_program_rolls_back_with_what_it_was_shown(lab: Lab, runs: list[str]) -> None:
    with browser(lab, None) as program:
        program.headers["authorization"] = f"Bearer {session(lab, 'user')}"
        start = events(program)[-1]["snapshot"]
        plan = program.get(f"{API}/rollback", params={"snapshot": start}).json()
        assert plan["state"] == "planned"
        # What was made from the second run's rows goes along.
        assert {each["table"] for each in plan["tables"]} == {
            "lab.ledger",
            "lab.ledger_total",
            "lab.ledger_copy",
        }
        body = {"snapshot": int(start), "plan": plan["digest"], "confirm": "lab.ledger"}
        assert program.post(f"{API}/rollback", json={**body, "confirm": "x"}).status_code == 422
        assert program.post(f"{API}/rollback", json={**body, "plan": "x"}).status_code == 409
        assert program.post(f"{API}/rollback", json={**body, "more": 1}).status_code == 422
        done = program.post(f"{API}/rollback", json=body)
        assert done.status_code == 200, done.text
        assert done.json()["state"] == "rolled back"
        assert [row[0] for row in rows(program, TABLE)] == ["5"]
    with browser(lab, None) as viewer:
        viewer.headers["authorization"] = f"Bearer {session(lab, 'viewer')}"
        assert viewer.post(f"{API}/rollback", json=body).status_code == 403


def test_two_roll_backs_at_once_do_it_once(lab: Lab, runs: list[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run, _ = lab.run("lab.ledger", {"amount": 9})
    assert run["state"] == "success"
    token = {"authorization": f"Bearer {session(lab, 'user')}"}
    with browser(lab, None) as program:
        program.headers.update(token)
        target = next(
            each["snapshot"] for each in events(program)[1:] if each["on_main"] and each["snapshot"]
        )
        plan = program.get(f"{API}/rollback", params={"snapshot": target}).json()
        body = {"snapshot": int(target), "plan": plan["digest"], "confirm": "lab.ledger"}
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda _: program.post(f"{API}/rollback", json=body).status_code, range(4)))
        assert set(got) <= {200, 409}, got
        assert got.count(200) >= 1
        assert len(rows(program, TABLE)) == 1
        assert json.dumps(events(program)).count("took out") >= 1
