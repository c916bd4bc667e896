"""The dossier of a run on a real stack: what it tells, to whom, and what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import pytest

from conftest import eventually
from console_client import browser, session, text
from forebay.stack.airflow_api import ApiError

if TYPE_CHECKING:
    from conftest import Lab


@pytest.fixture
def user(lab: Lab) -> Iterator[httpx.Client]:
    with browser(lab, "user") as client:
        yield client


@pytest.fixture
def viewer(lab: Lab) -> Iterator[httpx.Client]:
    with browser(lab, "viewer") as client:
        yield client


def run(lab: Lab, job: str, **parameters: object) -> str:
    started = lab.start(f"tale.{job}", parameters)
    lab.finish(f"tale.{job}", started)
    return started


@pytest.fixture(scope="module")
def tale(lab: Lab) -> dict[str, str]:
    """A source, a run on it that is published, and one that failed on the source as it was later."""
    told = {"source": run(lab, "source", count=2), "good": run(lab, "people", word="a")}
    told["more"] = run(lab, "source", count=3)
    told["bad"] = run(lab, "people", word="bad")
    return told


def page(job: str, name: str, part: str = "") -> str:
    return f"/runs/tale.{job}/{name}{part}"


def told(client: httpx.Client, job: str, name: str) -> Any:
    answer = client.get(f"/api/v1/runs/tale.{job}/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def form(client: httpx.Client, path: str, **values: str) -> httpx.Response:
    """Sends the form of a page, with the hidden fields it has."""
    shown = client.get(path)
    assert shown.status_code == 200, f"{path} {shown.status_code}: {shown.text[-600:]}"
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown.text))
    assert "csrf" in hidden, f"{path} has no form: {text(shown)}"
    return client.post(path, data={**hidden, **values})


def rows(lab: Lab, table: str) -> list[dict[str, Any]]:
    found = lab.json("sql", f"SELECT * FROM tale.{table} ORDER BY 1")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_a_dossier_tells_what_a_run_did(lab: Lab, admin: httpx.Client, tale: dict[str, str]) -> None:
    found = told(admin, "people", tale["good"])
    assert (found["state"], found["airflow"], found["user"]) == ("published", "success", "admin")
    assert found["id"] == tale["good"]
    assert found["acts"] == ["rollback"]
    assert [each["task"] for each in found["tasks"]] == ["merge", "trust", "verdict", "publish"]
    merge = found["tasks"][0]
    assert (merge["kind"], merge["state"], merge["rows_after"]) == ("duckdb", "success", {"tale.people": 2})
    (written,) = merge["wrote"]
    assert (written["table"], written["added"], written["stands"]) == ("tale.people", 2, "main")
    assert written["bytes"] > 0
    source = lab.json("blame", "tale.source")[-1]["snapshot_id"]
    assert merge["read"] == [f"tale.source@{source}"]
    assert found["inputs"] == [{"table": f"tale.source@{source}", "tasks": ["merge"]}]
    assert found["tasks"][1]["checks"] == {
        "table": "tale.people",
        "passed": 2,
        "failed": 0,
        "warned": 0,
        "quarantined": 0,
    }
    assert [(each["table"], each["states"], each["added"]) for each in found["tables"]] == [
        ("tale.people", ["published"], 2)
    ]
    checks = admin.get(f"/api/v1/runs/tale.people/{tale['good']}/checks").json()
    assert [(each["table_name"], each["verdict"]) for each in checks] == [("tale.people", "passed")] * 2
    read = text(admin.get(page("people", tale["good"])))
    for words in (
        "Published · everybody sees what it wrote to tale.people",
        "2 of 2 passed",
        "+2",
        "tale.source",
        "duckdb",
        "4 of 4",
    ):
        assert words in read, words
    # By its id alone, and as the job's last one.
    assert admin.get(f"/api/v1/runs/{tale['good']}").json()["id"] == tale["good"]
    sent_on = admin.get(f"/runs/{tale['good']}").headers["location"]
    assert unquote(sent_on).endswith(page("people", tale["good"]))
    assert admin.get("/api/v1/runs/tale.people/latest").json()["id"] == tale["bad"]
    assert admin.get("/api/v1/runs/nonsense").status_code == 404
    assert admin.get(page("people", "manual__never")).status_code == 404
    listed = text(admin.get("/runs", params={"job": "tale.people", "state": "failed"}))
    assert "The newest 1 of tale.people: 1 failed" in listed


def test_runs_are_listed(viewer: httpx.Client, tale: dict[str, str]) -> None:
    def listed(**asked: Any) -> list[dict[str, Any]]:
        answer = viewer.get("/api/v1/runs", params=asked)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    newest, *older = listed(job="tale.people")
    assert (newest["job"], newest["run_id"], newest["state"]) == ("tale.people", tale["bad"], "failed")
    assert (newest["user"], newest["kind"]) == ("admin", "manual")
    assert newest["seconds"] > 0
    assert tale["good"] in {each["run_id"] for each in older}
    assert {each["state"] for each in listed(state="failed")} == {"failed"}
    assert len(listed(limit=2)) == 2
    assert viewer.get("/api/v1/runs", params={"state": "odd"}).status_code == 422
    assert viewer.get("/api/v1/runs", params={"job": "no.such"}).status_code == 404


def test_a_failed_run_says_why_and_what_it_would_have_changed(
    admin: httpx.Client, viewer: httpx.Client, tale: dict[str, str]
) -> None:
    found = told(admin, "people", tale["bad"])
    assert (found["state"], found["acts"]) == ("failed", ["publish", "discard"])
    assert told(viewer, "people", tale["bad"])["acts"] == []
    verdict = next(each for each in found["tasks"] if each["task"] == "verdict")
    assert verdict["state"] == "failed"
    assert any("this word is bad" in line for line in verdict["said"])
    read = text(admin.get(page("people", tale["bad"])))
    assert "Not published · verdict failed; what it wrote to tale.people is on its branch" in read
    assert "this word is bad" in read
    assert "Publish…" in read
    assert "Publish…" not in text(viewer.get(page("people", tale["bad"])))
    (people,) = admin.get(f"/api/v1/runs/tale.people/{tale['bad']}/diff").json()["tables"]
    assert people["rows"] == {"added": 1, "removed": 0, "changed": 2}
    assert people["sample"]["changed"][0] == {"key": {"n": 1}, "columns": {"word": ["a", "bad"]}}
    shown = text(viewer.get(page("people", tale["bad"], "/diff")))
    assert "word: a → bad" in shown
    reasons = admin.get(f"/api/v1/runs/tale.people/{tale['bad']}/why").json()
    assert [each["kind"] for each in reasons] == ["failed", "dependency failed"]
    assert "this word is bad" in reasons[0]["evidence"]
    assert "publish never ran" in text(admin.get(page("people", tale["bad"], "/why")))


def test_the_buttons_do_what_the_commands_do(
    lab: Lab, admin: httpx.Client, user: httpx.Client, viewer: httpx.Client, tale: dict[str, str]
) -> None:
    bad = page("people", tale["bad"])
    for act in ("publish", "discard", "rollback"):
        assert viewer.get(f"{bad}/{act}").status_code == 403
        assert viewer.post(f"{bad}/{act}", headers={"x-forebay-csrf": _token(viewer)}).status_code == 403
        assert user.post(f"{bad}/{act}", data={"csrf": "0" * 64}).status_code == 403
        assert user.post(f"/api/v1/runs/tale.people/{tale['bad']}/{act}", json={}).status_code == 403
    assert "verdict" in text(user.get(f"{bad}/publish"))
    # Without the tick it is not published.
    refused = form(user, f"{bad}/publish")
    assert refused.status_code == 409
    assert "failed in verdict" in unescape(refused.text)
    assert [each["word"] for each in rows(lab, "people")] == ["a"] * 2
    done = form(user, f"{bad}/publish", force="yes")
    assert done.status_code == 303, done.text[-800:]
    assert [each["word"] for each in rows(lab, "people")] == ["bad"] * 3
    after = text(user.get(done.headers["location"].partition("/forebay")[2]))
    assert "the run was published" in after
    # Airflow lets this role emit no event of an asset, and the page does not keep quiet about it.
    assert "Jobs that wait for tale.people were not told" in after
    assert told(user, "people", tale["bad"])["state"] == "published"
    assert "There is nothing to publish" in text(user.get(f"{bad}/publish"))
    eventually(60, lambda: not _at_work(lab, "tale.totals"), "the job that waits for the table has run")
    back = form(user, f"{bad}/rollback")
    assert back.status_code == 303, back.text[-800:]
    assert [each["word"] for each in rows(lab, "people")] == ["a"] * 2
    assert told(user, "people", tale["bad"])["state"] == "rolled back"
    # What a program does.
    another = run(lab, "people", word="bad")
    with browser(lab, None) as program:
        bearer = {"authorization": f"Bearer {session(lab, 'user')}"}
        answer = program.post(f"/api/v1/runs/tale.people/{another}/discard", headers=bearer)
        assert (answer.status_code, answer.json()["tables"]) == (200, ["tale.people"])
        assert program.post(f"/api/v1/runs/tale.people/{another}/discard", headers=bearer).status_code == 409
    assert told(user, "people", another)["state"] == "discarded"
    assert "taken off again" not in text(user.get(page("people", another)))
    noted = lab.api.get("/eventLogs", dag_id="tale.people", limit=100, order_by="-when")["event_logs"]
    ours = [
        (each["event"], each["owner"], each["run_id"])
        for each in noted
        if each["event"].endswith("_run") and each["run_id"] in (another, tale["bad"])
        if each["event"] != "forebay.compare_run"
    ]
    assert [each for each in ours if each[0].startswith("forebay.")] == [
        ("forebay.discard_run", "the-user", another),
        ("forebay.rollback_run", "the-user", tale["bad"]),
        ("forebay.publish_run", "the-user", tale["bad"]),
    ]


def _token(client: httpx.Client) -> str:
    """What a form of theirs carries: a job's page has one for those who may start it, so it is made from a session."""
    found = re.search(r'name="csrf" value="(\w+)"', client.get("/jobs/tale.people").text)
    return found[1] if found else "0" * 64


def test_a_roll_back_takes_along_what_was_built_on_it(
    lab: Lab, admin: httpx.Client, tale: dict[str, str]
) -> None:
    base = run(lab, "source", count=5)
    built = run(lab, "people", word="d")
    eventually(60, lambda: _totals(lab) == [5], "the job that waits for the table has run")
    eventually(60, lambda: not _at_work(lab, "tale.totals"), "and ended")
    shown = text(admin.get(page("source", base, "/rollback")))
    for words in (
        "tale.people",
        "tale.totals",
        "read tale.source to write tale.people",
        "Roll back 3 tables and what was built on them",
    ):
        assert words in shown, words
    plan = admin.get(f"/api/v1/runs/tale.source/{base}/rollback").json()
    assert f"tale.people/{built}" in [each["name"] for each in plan["built_on"]]
    bearer = {"authorization": f"Bearer {session(lab, 'admin')}"}
    stale = admin.post(f"/api/v1/runs/tale.source/{base}/rollback", json={"plan": "0" * 32}, headers=bearer)
    assert stale.status_code == 409
    assert form(admin, page("source", base, "/rollback")).status_code == 303
    assert len(rows(lab, "source")) == 3
    assert told(admin, "people", built)["state"] == "rolled back"
    assert "was taken off again" in text(admin.get(page("people", built)))


def _at_work(lab: Lab, job: str) -> bool:
    return any(
        lab.api.get(f"/dags/{job}/dagRuns", state=state)["dag_runs"] for state in ("queued", "running")
    )


def _totals(lab: Lab) -> list[int]:
    try:
        return [each["people"] for each in rows(lab, "totals")]
    except AssertionError:
        return []


def test_the_story_outlives_airflows_memory(lab: Lab, admin: httpx.Client, tale: dict[str, str]) -> None:
    forgotten = run(lab, "people", word="kept")
    before = told(admin, "people", forgotten)
    lab.api.request("DELETE", f"/api/v2/dags/tale.people/dagRuns/{forgotten}")
    with pytest.raises(ApiError):
        lab.api.run("tale.people", forgotten)
    after = told(admin, "people", forgotten)
    assert (after["remembered"], after["state"], after["airflow"]) == (False, "published", "gone")
    assert (after["tables"], after["inputs"], after["user"]) == (before["tables"], before["inputs"], "admin")
    assert [(each["task"], each["kind"], each["state"]) for each in after["tasks"]] == [
        ("merge", "duckdb", "wrote")
    ]
    assert after["tasks"][0]["wrote"] == before["tasks"][0]["wrote"]
    read = text(admin.get(page("people", forgotten)))
    assert "Airflow has forgotten this run" in read
    assert "2 of 2 passed" in read
    assert "word" in text(admin.get(page("people", forgotten, "/diff")))
    # What it published started a job, which reads it: a roll back waits for that.
    eventually(60, lambda: not _at_work(lab, "tale.totals"), "the job that waits for the table has run")
    assert form(admin, page("people", forgotten, "/rollback")).status_code == 303
    assert told(admin, "people", forgotten)["state"] == "rolled back"


def test_a_run_that_waits_for_approval(lab: Lab, admin: httpx.Client) -> None:
    started = lab.start("tale.asks")
    eventually(60, lambda: told(admin, "asks", started)["waits_for_approval"], "it asks")
    read = text(admin.get(page("asks", started)))
    assert (
        "Waits for approval · a person is asked whether to publish it; nobody else sees tale.asked yet"
        in read
    )
    assert "Approve or reject" in read
    reasons = admin.get(f"/api/v1/runs/tale.asks/{started}/why").json()
    assert reasons[0]["kind"] == "approval"
    assert "Publish tale.asked?" in reasons[0]["what"]
    assert reasons[0]["links"][0]["path"].endswith("/tasks/approve/required_actions")
    assert "There is nothing to discard" in text(admin.get(page("asks", started, "/discard")))
    bearer = {"authorization": f"Bearer {session(lab, 'admin')}"}
    assert admin.post(f"/api/v1/runs/tale.asks/{started}/publish", headers=bearer).status_code == 409
    lab.api.request("PATCH", f"/api/v2/dags/tale.asks/dagRuns/{started}", json={"state": "failed"})
    assert form(admin, page("asks", started, "/discard")).status_code == 303
    assert told(admin, "asks", started)["state"] == "discarded"


def test_names_and_logs_that_carry_html_are_only_text(lab: Lab, admin: httpx.Client) -> None:
    started = run(lab, "hostile")
    for part in ("", "/diff", "/why", "/publish", "/discard"):
        answer = admin.get(page("hostile", started, part))
        assert answer.status_code == 200
        for harm in ("<script>alert", "<img src=x"):
            assert harm not in answer.text, f"{harm} on {part}"
        assert not re.search(r"<script(?![^>]* src=)", answer.text)
        assert not re.search(r"<[^>]+ (style|on\w+)=", answer.text)
    assert "<img src=x onerror=alert(1)>" in text(admin.get(page("hostile", started, "/diff")))
    assert "alert('log')" in text(admin.get(page("hostile", started)))
    for bad in ("%3Cscript%3E", "..%2f..", "a%00b"):
        assert admin.get(f"/runs/tale.people/{bad}").status_code in (404, 422), bad
        answer = admin.get(f"/jobs/{bad}")
        assert answer.status_code == 404, bad
        assert "<script>" not in answer.text.replace("<script src", "")


def test_no_page_of_a_run_holds_a_secret(lab: Lab, admin: httpx.Client, tale: dict[str, str]) -> None:
    secrets = {name: value for name, value in lab.stack.secrets.items() if name != "access_key"}
    paths = [page("people", tale["bad"], part) for part in ("", "/diff", "/why", "/rollback")]
    paths += [f"/api/v1{page('people', tale['bad'], part)}" for part in ("", "/diff", "/why", "/checks")]
    for path in (
        *paths,
        "/runs",
        "/jobs",
        "/jobs/tale.people",
        "/api/v1/jobs",
        "/api/v1/jobs/tale.people/runs",
    ):
        body = admin.get(path).text
        assert not [name for name, value in secrets.items() if value in body], path


LIVE = """\
tasks:
  - {key: live, type: spark, application: sleep.py, conf: {spark.ui.enabled: true}, writes: [lab.never_live]}
"""


def test_a_spark_task_leads_to_sparks_own_page_while_it_runs(lab: Lab, admin: httpx.Client) -> None:
    file = lab.root / "dags/lab/live_spark.yaml"
    file.write_text(LIVE)
    started = lab.start("lab.live_spark")
    path = f"/api/v1/runs/lab.live_spark/{started}"

    def link() -> str:
        tasks = {each["task"]: each for each in admin.get(path).json()["tasks"]}
        return str(tasks["live"]["engine_link"]) if "live" in tasks else ""

    try:
        address = eventually(120, link, "Spark has said where its page is")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)

        def answers() -> bool:
            return "Spark Jobs" in httpx.get(f"{address}/jobs/", timeout=60, trust_env=False).text

        eventually(60, answers, "Spark's own page answers")
        shown = admin.get(f"/runs/lab.live_spark/{started}").text
        assert f'<a href="{address}" rel="external">Spark, live</a>' in shown
    finally:
        lab.api.request("PATCH", f"/api/v2/dags/lab.live_spark/dagRuns/{started}", json={"state": "failed"})
        file.unlink()
    # Somebody else's page may be there later.
    eventually(60, lambda: not link(), "the link goes with the program")


def test_a_run_is_done_again_from_its_page(
    lab: Lab, user: httpx.Client, viewer: httpx.Client, tale: dict[str, str]
) -> None:
    first = run(lab, "people", word="first")
    run(lab, "source", count=4)
    run(lab, "people", word="second")
    good = page("people", first)
    assert "Run again…" in text(user.get(good))
    assert "Run again…" not in text(viewer.get(good))
    assert viewer.get(f"{good}/rerun").status_code == 403
    assert user.post(f"{good}/rerun", data={"csrf": "0" * 64}).status_code == 403
    (read,) = told(user, "people", first)["inputs"]
    shown = text(user.get(f"{good}/rerun"))
    for words in ("As it was", "As of now", read["table"].partition("@")[2], "With the code as it is now."):
        assert words in shown, words
    done = form(user, f"{good}/rerun", anyway="yes")
    assert done.status_code == 303, done.text[-800:]
    sent_on = done.headers["location"].partition("/forebay")[2]
    started = unquote(sent_on.partition("?")[0].rpartition("/")[2])
    assert "the run was started" in text(user.get(sent_on))
    lab.finish("tale.people", started)
    again = told(user, "people", started)
    assert (again["state"], again["user"], again["inputs"]) == ("published", "the-user", [read])
    assert [each["word"] for each in rows(lab, "people")] == ["first"] * 3 + ["second"]
    # On today's tables it reads what stands there now.
    token = re.search(r'name="csrf" value="(\w+)"', user.get(f"{good}/rerun").text)
    assert token
    done = user.post(f"{good}/rerun", data={"csrf": token[1]})
    started = unquote(done.headers["location"].partition("?")[0].rpartition("/")[2])
    lab.finish("tale.people", started)
    now = lab.json("blame", "tale.source")[0]["snapshot_id"]
    assert told(user, "people", started)["inputs"] == [{"table": f"tale.source@{now}", "tasks": ["merge"]}]
    assert [each["word"] for each in rows(lab, "people")] == ["first"] * 4
    noted = lab.api.get("/eventLogs", dag_id="tale.people", run_id=first, event="forebay.rerun_run")
    assert [each["owner"] for each in noted["event_logs"]] == ["the-user"] * 2
