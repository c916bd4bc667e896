"""Connection checks where tasks run: what they find, who may have them made, and what is never seen of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from console_client import browser, inside
from forebay.connections.worker import DAG_ID, TASK
from forebay.stack.airflow_api import ApiError
from test_connections_page import CANARY, _csrf, made, step
from test_console import text

if TYPE_CHECKING:
    from conftest import Lab

WORKER = {"from": "worker", "timeout": 20}
_ASK = """
import json, sys
from forebay.connections.model import Connection
from forebay_ui.worker_checks import from_worker
kept = []
events = list(from_worker("somebody", [Connection("{conn_id}", "http")], {allowed}, {timeout}, "", kept.extend, {patience}))
print(json.dumps([len(kept), [event.report.document() for event in events if event.report]]))
"""


@pytest.fixture(scope="module", autouse=True)
def broken(lab: Lab) -> Iterator[None]:
    s3 = lab.stack.url("s3")
    lab.api.put_connections(
        [
            made("doc_worker", "aws", login=lab.stack.secrets["access_key"], password=CANARY, extra={"endpoint_url": s3}),
        ]
    )  # fmt: skip
    yield
    lab.api.request("DELETE", "/api/v2/connections/doc_worker")


@pytest.fixture
def admin(lab: Lab) -> Iterator[httpx.Client]:
    with browser(lab, "admin") as client:
        client.headers["x-forebay-csrf"] = _csrf(client)
        client.timeout = httpx.Timeout(150)
        yield client


def checked(client: httpx.Client, conn_id: str) -> dict[str, Any]:
    answer = client.post(f"/api/v1/connections/{conn_id}/check", params=WORKER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("conn_id", ["lake_catalog", "lake_s3", "lake_sql", "lake_spark"])
def test_the_stacks_own_connections_work_for_tasks(lab: Lab, admin: httpx.Client, conn_id: str) -> None:
    report = checked(admin, conn_id)
    assert report["state"] == "ok", report
    assert report["side"] == "worker"
    assert report["where"].startswith("worker on ")
    here = admin.post(f"/api/v1/connections/{conn_id}/check", params={"timeout": 20}).json()
    assert [each["key"] for each in report["steps"]] == [each["key"] for each in here["steps"]]
    assert here["side"] == "server"


def test_what_is_wrong_is_the_same_as_from_the_api_server(lab: Lab, admin: httpx.Client) -> None:
    report = checked(admin, "doc_worker")
    assert report["state"] == "bad"
    assert "the secret key is wrong" in step(report, "authenticate")["found"]
    kept = admin.get("/api/v1/connections/doc_worker").json()["results"][0]
    assert (kept["side"], kept["by"], kept["state"]) == ("worker", "the-admin", "bad")
    row = lab.api.get("/eventLogs", event="forebay.connection_check", order_by="-event_log_id", limit=1)
    assert json.loads(row["event_logs"][0]["extra"])["side"] == "worker"


def test_the_page_shows_both(lab: Lab, admin: httpx.Client) -> None:
    form = {"csrf": admin.headers.pop("x-forebay-csrf")}
    for path in ("/connections/lake_s3", "/connections/doc_worker"):
        page = text(admin.post(path, data=form))
        # Each in turn, with its own verdict.
        assert page.index("From the API server") < page.index("From a worker") < page.index("worker on ")
        again = text(admin.get(path))
        assert "From the API server" in again
        assert "From a worker" in again
    every = admin.post("/connections", data=form).text
    assert every.count("/connections/lake_s3") == 2
    assert "from a worker" in every
    listed = {each["connection_id"]: each for each in admin.get("/api/v1/connections").json()["connections"]}
    assert set(listed["lake_s3"]["sides"]) == {"server", "worker"}


def _asked(
    lab: Lab,
    conn_id: str = "doc_nowhere",
    allowed: tuple[str, ...] = (),
    patience: int = 60,
    timeout: int = 20,
) -> Any:
    program = _ASK.format(conn_id=conn_id, allowed=list(allowed), patience=patience, timeout=timeout)
    return json.loads(inside(lab, program).splitlines()[-1])


@pytest.mark.parametrize("conn_id", ["lake_sql", "lake_spark"])
def test_a_worker_uses_only_what_the_asker_may_check(lab: Lab, conn_id: str) -> None:
    _, (report,) = _asked(lab, conn_id, allowed=("lake_s3",))
    assert step(report, "list")["found"] == "there is no connection 'lake_catalog'"
    _, (report,) = _asked(lab, conn_id, allowed=("lake_catalog",))
    assert step(report, "list")["found"] == "lake_catalog answers"


def test_a_connection_that_tasks_do_not_find(lab: Lab) -> None:
    kept, (report,) = _asked(lab)
    assert kept == 1
    assert report["steps"][0]["found"] == "tasks find no connection 'doc_nowhere'"
    assert report["where"].startswith("worker on ")


def test_when_no_worker_answers_that_is_said_and_not_kept(lab: Lab) -> None:
    dag = f"/api/v2/dags/{DAG_ID}"
    lab.api.request("PATCH", dag, json={"is_paused": True})
    try:
        kept, (report,) = _asked(lab, patience=1, timeout=5)
    finally:
        lab.api.request("PATCH", dag, json={"is_paused": False})
    assert kept == 0
    assert report["where"] == ""
    assert "no worker did it within" in report["steps"][0]["found"]
    assert "paused" in report["steps"][0]["hint"]
    # What was given up starts no more.
    runs = lab.api.get(f"/dags/{DAG_ID}/dagRuns", order_by="-run_after", limit=1)["dag_runs"]
    assert runs[0]["state"] == "failed"


def test_it_cannot_be_started_by_hand_or_again(lab: Lab, admin: httpx.Client) -> None:
    checked(admin, "lake_s3")
    used = lab.api.get(f"/dags/{DAG_ID}/dagRuns", order_by="-run_after", limit=1)["dag_runs"][0]["conf"]
    assert set(used) == {"order"}
    for conf in ({}, {"order": "nothing"}, {"connections": ["lake_s3"]}, used):
        run, tasks = lab.run(DAG_ID, conf)
        assert run["state"] == "failed", conf
        said = "\n".join(lab.api.log(DAG_ID, run["dag_run_id"], TASK, tasks[TASK][0]["try_number"]))
        assert "started by Forebay's console" in said


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("user", False), ("op", True)])
def test_who_may(lab: Lab, role: str, may: bool) -> None:
    with browser(lab, role) as client:
        token = client.get("/sql").text.partition('name="csrf" value="')[2].partition('"')[0] or _csrf(client)
        client.headers["x-forebay-csrf"] = token
        before = _runs(lab)
        answer = client.post("/api/v1/connections/lake_s3/check", params=WORKER)
        assert answer.status_code == (200 if may else 403)
        assert _runs(lab) == before + may


def test_no_secret_leaves_the_worker(lab: Lab, admin: httpx.Client) -> None:
    checked(admin, "doc_worker")
    checked(admin, "lake_catalog")
    secrets = [CANARY, *(value for name, value in lab.stack.secrets.items() if name != "access_key")]
    seen = [
        admin.get("/connections/doc_worker").text,
        admin.get("/api/v1/connections/doc_worker").text,
        (lab.stack.logs / "api-server.log").read_text(),
        (lab.stack.logs / "scheduler.log").read_text(),
    ]
    for run in lab.api.get(f"/dags/{DAG_ID}/dagRuns", order_by="-run_after", limit=2)["dag_runs"]:
        kept = str(lab.api.xcom(DAG_ID, run["dag_run_id"], TASK) or "")
        # Airflow shows runs to more people than may see connections: they do not learn where those lead to.
        assert lab.stack.url("s3") not in kept
        assert "lake_catalog" not in json.dumps(run["conf"])
        seen += [json.dumps(run), kept, "\n".join(lab.api.log(DAG_ID, run["dag_run_id"], TASK, 1))]
    for number, said in enumerate(seen):
        assert not [secret for secret in secrets if secret in said], f"secret in text {number}"


def test_it_is_no_job_of_a_workspace(lab: Lab, admin: httpx.Client) -> None:
    checked(admin, "lake_s3")
    assert DAG_ID not in admin.get("/api/v1/jobs").text
    for page in ("/jobs", "/health", "/runs", "/workspaces"):
        assert f"/{DAG_ID}" not in admin.get(page).text, page
    assert DAG_ID not in lab.forebay("runs").stdout
    with pytest.raises(ApiError):
        lab.api.get("/dags/forebay.check_connections")


def test_the_command_compares(lab: Lab) -> None:
    done = lab.forebay("connections", "check", "lake_s3", "--timeout", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", from the API server on " in done.stdout
    assert ", from the worker on " in done.stdout
    reports = lab.json("connections", "check", "lake_s3", "--timeout", "20")
    assert [each["side"] for each in reports] == ["server", "worker"]


def _runs(lab: Lab) -> int:
    return int(lab.api.get(f"/dags/{DAG_ID}/dagRuns", limit=1)["total_entries"])
