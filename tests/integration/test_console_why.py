"""Why is it not running? Each cause made to happen on a real stack, and told with its evidence."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import eventually
from console_client import browser, session, text

if TYPE_CHECKING:
    from conftest import Lab


def why(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/{path}/why")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    order = ["bad", "warn", "wait", "run", "ok"]
    assert [order.index(each["level"]) for each in found] == sorted(order.index(e["level"]) for e in found)
    assert all(each["what"].endswith((".", "?")) or ":" in each["what"] for each in found)
    return found


def one(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    named = [each for each in found if each["kind"] == kind]
    assert named, f"no {kind} among {[each['kind'] for each in found]}"
    return named[0]


def fail(lab: Lab, job: str, run: str) -> None:
    lab.api.request("PATCH", f"/api/v2/dags/{job}/dagRuns/{run}", json={"state": "failed"})


def slots(lab: Lab, number: int) -> None:
    body, only = {"slots": number}, {"update_mask": ["slots"]}
    lab.api.request("PATCH", "/api/v2/pools/default_pool", json=body, params=only)


def state_of(lab: Lab, job: str, run: str, task: str) -> str:
    found = [t for t in lab.api.task_instances(job, run) if t["task_id"] == task]
    return str(found[0]["state"]) if found else ""


def test_a_program_starts_a_run(lab: Lab, admin: httpx.Client) -> None:
    eventually(30, lambda: lab.known("tale.people"), "the job is known")
    with browser(lab, None) as program:
        bearer = {"authorization": f"Bearer {session(lab, 'user')}"}
        for job, body, status in (
            ("tale.nobody", {}, 404),
            ("tale.people", {"parameters": {"word": 7}}, 400),
            ("tale.people", {"nonsense": 1}, 422),
        ):
            answer = program.post(f"/api/v1/jobs/{job}/runs", json=body, headers=bearer)
            assert answer.status_code == status, answer.text
        answer = program.post(
            "/api/v1/jobs/tale.source/runs", json={"parameters": {"count": 4}}, headers=bearer
        )
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert made["state"] == "queued"
        assert answer.headers["location"] == made["url"]
        run, _ = lab.finish("tale.source", made["id"])
        assert (run["state"], run["conf"], run["triggering_user_name"]) == (
            "success",
            {"count": 4},
            "the-user",
        )
        there = program.get(made["url"].partition("/forebay")[2], headers=bearer).json()
        assert (there["id"], there["state"]) == (made["id"], "published")
        viewer = {"authorization": f"Bearer {session(lab, 'viewer')}"}
        assert program.post("/api/v1/jobs/tale.source/runs", json={}, headers=viewer).status_code == 403
    assert admin.post("/api/v1/jobs/tale.source/runs", json={}).status_code == 403
    listed = admin.get("/api/v1/jobs/tale.source/runs").json()
    assert (listed[0]["id"], listed[0]["state"]) == (made["id"], "published")


def test_a_person_starts_a_run(lab: Lab, admin: httpx.Client) -> None:
    shown = admin.get("/jobs/tale.source")
    token = re.search(r'name="csrf" value="(\w+)"', shown.text)
    assert token
    wrong = admin.post("/jobs/tale.source/runs", data={"csrf": token[1], "parameters": "[1"})
    assert wrong.status_code == 422
    assert "no JSON object" in wrong.text
    answer = admin.post("/jobs/tale.source/runs", data={"csrf": token[1], "parameters": '{"count": 1}'})
    assert answer.status_code == 303
    run = answer.headers["location"].rpartition("/")[2]
    assert lab.finish("tale.source", run.replace("%3A", ":").replace("%2B", "+"))[0]["state"] == "success"
    with browser(lab, "viewer") as viewer:
        assert "Start a run" not in text(viewer.get("/jobs/tale.source"))


def test_a_job_by_hand_and_one_by_the_clock(lab: Lab, admin: httpx.Client) -> None:
    eventually(30, lambda: lab.known("tale.daily"), "the job is known")
    assert "when somebody starts it" in one(why(admin, "jobs/tale.source"), "schedule")["what"]
    daily = one(why(admin, "jobs/tale.daily"), "schedule")
    assert "due at 2027-01-01 05:00:00 UTC" in daily["what"]
    assert "0 5 1 1 *" in daily["evidence"]
    assert admin.get("/api/v1/jobs/tale.nobody/why").status_code == 404
    assert admin.get("/jobs/tale.nobody").status_code == 404


def test_a_paused_job(lab: Lab, admin: httpx.Client) -> None:
    lab.api.request("PATCH", "/api/v2/dags/tale.daily", json={"is_paused": True})
    try:
        paused = why(admin, "jobs/tale.daily")[0]
        assert (paused["kind"], paused["level"]) == ("paused", "bad")
        run = lab.start("tale.daily")
        assert why(admin, f"runs/tale.daily/{run}")[0]["kind"] == "paused"
        row = next(each for each in admin.get("/api/v1/jobs?q=tale").json() if each["job"] == "tale.daily")
        assert row["state"] == "paused"
        assert "The job is paused" in text(admin.get("/jobs/tale.daily"))
    finally:
        lab.api.request("PATCH", "/api/v2/dags/tale.daily", json={"is_paused": False})
    assert lab.finish("tale.daily", run)[0]["state"] == "success"
    assert why(admin, f"runs/tale.daily/{run}")[0]["kind"] == "done"


def test_a_job_that_waits_for_a_table(lab: Lab, admin: httpx.Client) -> None:
    eventually(30, lambda: lab.known("tale.totals"), "the job is known")
    eventually(60, lambda: not _at_work(lab, "tale.totals"), "no run of it is under way")
    waits = one(why(admin, "jobs/tale.totals"), "waiting for a table")
    assert "tale.people" in waits["what"]
    assert "written by tale.people" in waits["evidence"]
    assert {"text": "tale.people", "path": "catalog/tale/people", "console": True} in waits["links"]
    assert "jobs/tale.people" in [each["path"] for each in waits["links"]]
    assert "It waits for tale.people" in text(admin.get("/jobs/tale.totals"))


def _at_work(lab: Lab, job: str) -> bool:
    return any(
        lab.api.get(f"/dags/{job}/dagRuns", state=state)["dag_runs"] for state in ("queued", "running")
    )


def test_one_run_at_a_time(lab: Lab, admin: httpx.Client) -> None:
    first = lab.start("tale.slow")
    eventually(60, lambda: state_of(lab, "tale.slow", first, "sleep") == "running", "the first is at work")
    second = lab.start("tale.slow")
    try:
        full = why(admin, f"runs/tale.slow/{second}")[0]
        assert full["kind"] == "max concurrent runs"
        assert f"at work: {first}" in full["evidence"]
        assert one(why(admin, "jobs/tale.slow"), "max concurrent runs")["links"][0]["text"] == first
        working = why(admin, f"runs/tale.slow/{first}")
        assert one(working, "at work")["what"] == "sleep is at work."
        assert "sleep is running" in one(working, "depends on")["evidence"]
        assert "max concurrent runs" in text(admin.get(f"/runs/tale.slow/{second}"))
        assert "Running · sleep is at work" in text(admin.get(f"/runs/tale.slow/{first}"))
    finally:
        for run in (second, first):
            fail(lab, "tale.slow", run)


def test_more_tasks_than_airflow_works_on_at_once(lab: Lab, admin: httpx.Client) -> None:
    run = lab.start("tale.wide")
    try:

        def four() -> bool:
            states = [str(t["state"]) for t in lab.api.task_instances("tale.wide", run)]
            return states.count("running") == 4 and len(states) == 6

        eventually(90, four, "four of six tasks are at work")
        found = why(admin, f"runs/tale.wide/{run}")
        assert len([each for each in found if each["kind"] == "at work"]) == 4
        # They have been given out, and with that have their slots of the pool.
        waiting = [each for each in found if each["kind"] == "parallelism"]
        assert ["parallelism 4" in each["evidence"] for each in waiting] == [True, True]
        assert len(found) == 6
    finally:
        fail(lab, "tale.wide", run)


def test_a_pool_without_a_free_slot(lab: Lab, admin: httpx.Client) -> None:
    eventually(60, lambda: not _at_work(lab, "tale.wide"), "the tasks before have ended")
    first = lab.start("tale.slow")
    try:
        eventually(60, lambda: state_of(lab, "tale.slow", first, "sleep") == "running", "it is at work")
        slots(lab, 1)
        other = lab.start("tale.daily")
        eventually(60, lambda: state_of(lab, "tale.daily", other, "say") == "scheduled", "the other waits")
        full = one(why(admin, f"runs/tale.daily/{other}"), "pool")
        assert "waits for the pool default_pool" in full["what"]
        assert "1 of 1 slots are taken, 1 needed" in full["evidence"]
    finally:
        slots(lab, 128)
        fail(lab, "tale.slow", first)
    assert lab.finish("tale.daily", other)[0]["state"] == "success"


def test_a_task_that_is_tried_again_later(lab: Lab, admin: httpx.Client) -> None:
    run = lab.start("tale.tries")
    try:
        eventually(60, lambda: state_of(lab, "tale.tries", run, "fail") == "up_for_retry", "it failed once")
        found = why(admin, f"runs/tale.tries/{run}")
        retry = one(found, "retry delay")
        assert "failed in try 1 of 2 and is tried again at" in retry["what"]
        assert "this word is bad" in retry["evidence"]
        assert "fail is up for retry" in one(found, "depends on")["evidence"]
    finally:
        fail(lab, "tale.tries", run)
    ended = why(admin, f"runs/tale.tries/{run}")
    assert ended[0]["level"] == "bad"


@pytest.fixture(scope="module")
def narrow(lab: Lab) -> None:
    """A workspace where two tasks of a run are at work at once, and a dag of Airflow's own whose task waits for a moment."""
    folder = lab.root / "dags/narrow"
    folder.mkdir()
    shutil.copytree(lab.root / "include/tale", lab.root / "include/narrow")
    (folder / "jobs.py").write_text((lab.root / "dags/tale/jobs.py").read_text())
    (folder / "workspace.yaml").write_text("owner: test\nlimits: {max_concurrent_tasks: 2}\n")
    (folder / "wide.yaml").write_text((lab.root / "dags/tale/wide.yaml").read_text())
    (folder / "waits.py").write_text(WAITS)


WAITS = """\
from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG

with DAG("narrow.waits", schedule=None):
    TimeDeltaSensor(task_id="later", delta=timedelta(hours=1), deferrable=True)
"""


def test_more_tasks_than_a_workspace_allows(lab: Lab, narrow: None, admin: httpx.Client) -> None:
    run = lab.start("narrow.wide")
    try:

        def two() -> bool:
            states = [str(task["state"]) for task in lab.api.task_instances("narrow.wide", run)]
            return states.count("running") == 2 and states.count("scheduled") == 4

        eventually(90, two, "two of six tasks are at work")
        found = why(admin, f"runs/narrow.wide/{run}")
        assert len([each for each in found if each["kind"] == "at work"]) == 2
        waiting = [each for each in found if each["kind"] == "max concurrent tasks"]
        assert [each["evidence"] for each in waiting] == ["limits.max_concurrent_tasks 2"] * 4
        assert [each["level"] for each in waiting] == ["wait"] * 4
        assert "waits: 2 of at most 2 tasks of this run are at work." in waiting[0]["what"]
        assert waiting[0]["what"].startswith(waiting[0]["links"][0]["text"].removeprefix("Task of "))
        assert len(found) == 6
        assert "limits.max_concurrent_tasks 2" in text(admin.get(f"/runs/narrow.wide/{run}"))
    finally:
        fail(lab, "narrow.wide", run)


def test_a_task_that_waits_for_an_event(lab: Lab, narrow: None, admin: httpx.Client) -> None:
    run = lab.start("narrow.waits")
    try:
        eventually(90, lambda: state_of(lab, "narrow.waits", run, "later") == "deferred", "it waits")
        waits = one(why(admin, f"runs/narrow.waits/{run}"), "deferred")
        assert (waits["level"], waits["what"]) == (
            "wait",
            "later waits for an event; a trigger watches for it.",
        )
        assert "DateTimeTrigger" in waits["evidence"]
        assert waits["links"][0]["path"].endswith("/tasks/later")
        assert "later waits for an event" in text(admin.get(f"/runs/narrow.waits/{run}"))
    finally:
        fail(lab, "narrow.waits", run)


def test_a_broken_yaml(lab: Lab, admin: httpx.Client) -> None:
    broken = lab.root / "dags/tale/broken.yaml"
    broken.write_text("tasks:\n  - {key: a, type: sqll, sql: SELECT 1 AS n, table: tale.n}\n")
    try:

        def told() -> list[dict[str, Any]]:
            answer = admin.get("/api/v1/jobs/tale.broken/why")
            assert answer.status_code == 200, answer.text
            return [each for each in answer.json() if each["kind"] == "import error"]

        (error,) = eventually(30, told, "the mistake is told")
        assert "unknown task type 'sqll'" in error["evidence"]
        row = admin.get("/api/v1/jobs?q=tale.broken").json()[0]
        assert (row["job"], row["level"]) == ("tale.broken", "bad")
        page = text(admin.get("/jobs/tale.broken"))
        assert "Its YAML has mistakes" in page
        assert "broken.yaml:2" in page
    finally:
        broken.unlink()


def test_a_scheduler_that_is_gone(lab: Lab, admin: httpx.Client) -> None:
    from forebay.stack import supervisor

    supervisor.stop_process(lab.stack, "scheduler")
    try:
        run = lab.start("tale.daily")

        def silent() -> list[dict[str, Any]]:
            return [each for each in why(admin, f"runs/tale.daily/{run}") if each["kind"] == "platform"]

        found = eventually(90, silent, "the scheduler counts as silent")
        assert "The scheduler is silent" in found[0]["what"]
        assert "last heartbeat" in found[0]["evidence"]
    finally:
        back = lab.forebay("up")
        assert back.returncode == 0, back.stdout + back.stderr
    assert lab.finish("tale.daily", run)[0]["state"] == "success"
