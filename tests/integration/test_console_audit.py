"""The audit page on a real stack: who did what, filtered, exported, without formulas and without secrets."""

from __future__ import annotations

import csv
import io
import json
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pytest

from conftest import eventually
from console_client import browser, inside, session, text

if TYPE_CHECKING:
    from conftest import Lab

CANARY = "canary-Hq7Rt2Lm9Zx4"
FORMULA = '=HYPERLINK("http://evil.example","x")'


@pytest.fixture(scope="module")
def acted(lab: Lab) -> None:
    """Somebody starts a run, and makes a connection with secrets everywhere secrets can be."""
    lab.run("lab.noop")
    lab.api.put_connections(
        [
            {
                "connection_id": "canaries", "conn_type": "aws", "host": "127.0.0.1", "login": "me", "password": CANARY,
                "description": "for the tests", "extra": json.dumps({"aws_secret_access_key": CANARY, "token": CANARY}),
            }
        ]
    )  # fmt: skip
    # By the name of somebody whose name is a formula.
    inside(
        lab,
        f"""
from airflow.models.log import Log
from airflow.utils.session import create_session
with create_session() as session:
    session.add(Log(event="forebay.test", owner={FORMULA!r}, owner_display_name={FORMULA!r},
                    extra='{{"workspace": "lab", "table": "<script>alert(1)</script>", "to": "@SUM(A1)"}}'))
    session.add(Log(event="forebay.test", owner="x", extra='{{"workspace": ""}}'))
""",
    )


def events(client: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/audit", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def test_what_people_did_is_told(acted: None, admin: httpx.Client) -> None:
    found = events(admin, job="lab.noop", kind="runs")
    assert found[0]["event"] == "trigger_dag_run"
    assert (found[0]["who"], found[0]["what"]) == ("admin", "started a run")
    assert "started a run" in text(admin.get("/audit", params={"job": "lab.noop"}))
    assert next(each["event"] for each in events(admin, kind="connections")) == "bulk_connections"
    everything = {each["event"] for each in events(admin, kind="all", job="lab.noop")}
    assert everything >= {"running", "success", "trigger_dag_run"}
    assert not {"running", "success"} & {each["event"] for each in events(admin, job="lab.noop")}


def test_looking_at_rows_is_noted(lab: Lab, acted: None, admin: httpx.Client) -> None:
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr
    with browser(lab, "viewer") as viewer:
        assert viewer.get("/catalog/lab/console_rows/sample").status_code == 200
    [newest, *_] = events(admin, kind="console", about="lab.console_rows", by="the-viewer")
    assert (newest["event"], newest["job"]) == ("forebay.sample", "lab.console")
    assert newest["details"]["table"] == "lab.console_rows"


@pytest.mark.parametrize(
    "stamp", ["forebay:query", "other.x", "lab.console2", "lab.", "lab", "", "lab." + "x" * 300, "=1+1"]
)
def test_a_stamp_of_somebodys_own_hides_no_look_at_rows(
    lab: Lab, acted: None, admin: httpx.Client, stamp: str
) -> None:
    """Whoever commits to the catalog itself says what they like: the row stays the owning workspace's."""
    catalog = lab.lake.pyiceberg()
    catalog.create_namespace_if_not_exists("lab")
    rows = pa.table({"n": pa.array([1], pa.int64())})
    table = catalog.create_table_if_not_exists("lab.stamped", rows.schema)
    table.append(rows, snapshot_properties={"forebay.job": stamp, "forebay.run": "r", "forebay.task": "t"})
    with browser(lab, "viewer") as viewer:
        before = len(events(viewer, event="forebay.sample", about="lab.stamped", limit=1000))
        assert viewer.get("/catalog/lab/stamped/sample").status_code == 200
        found = events(viewer, event="forebay.sample", about="lab.stamped", limit=1000)
    assert len(found) == before + 1
    assert (found[0]["job"], found[0]["details"]["workspace"]) == ("", "lab")


def test_the_filter_narrows(acted: None, admin: httpx.Client) -> None:
    today = events(admin)[0]["at"][:10]
    assert events(admin, since=today)
    assert events(admin, until=today), "the last day is included"
    assert not events(admin, since="2199-01-01")
    assert not events(admin, until="1999-01-01")
    assert not events(admin, by="nobody at all")
    assert {each["who"] for each in events(admin, by="admin")} == {"admin"}
    assert not events(admin, about="100%_no such text")
    for wrong in (
        {"since": "yesterday"},
        {"until": "0001-01-01"},
        {"kind": "else"},
        {"before": 0},
        {"limit": 0},
    ):
        assert admin.get("/api/v1/audit", params=wrong).status_code == 422, wrong
        assert admin.get("/audit", params=wrong).status_code in (200, 422)
    first = admin.get("/api/v1/audit", params={"limit": 2, "kind": "all"}).json()
    second = admin.get("/api/v1/audit", params={"limit": 2, "kind": "all", "before": first["older"]}).json()
    numbers = [each["number"] for each in first["events"] + second["events"]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 4


def test_a_spreadsheet_runs_nothing(acted: None, admin: httpx.Client) -> None:
    answer = admin.get(
        "/audit/export.csv", params={"kind": "console", "event": "forebay.test", "by": FORMULA}
    )
    assert answer.headers["content-disposition"].startswith("attachment;")
    listed = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert listed[0] == ["when", "who", "event", "what", "job", "run", "task", "details"]
    assert [row[1] for row in listed[1:]] == [f"'{FORMULA}"]
    for row in csv.reader(
        io.StringIO(admin.get("/audit/export.csv", params={"kind": "all"}).text, newline="")
    ):
        assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))], row
    found = admin.get(
        "/audit/export.json", params={"kind": "console", "event": "forebay.test", "by": FORMULA}
    ).json()
    assert [each["who"] for each in found["events"]] == [FORMULA]
    page = admin.get("/audit", params={"kind": "console", "event": "forebay.test"})
    assert "<script>alert" not in page.text
    assert "<script>alert(1)</script>" in unescape(page.text)


def test_an_event_of_no_workspace_and_no_job_is_for_admins(
    lab: Lab, acted: None, admin: httpx.Client
) -> None:
    assert len(events(admin, by="x", event="forebay.test")) == 1
    for role in ("user", "op"):
        with browser(lab, role) as other:
            assert events(other, kind="all")
            assert not events(other, by="x", event="forebay.test"), role


def test_an_export_says_where_it_was_cut(acted: None, admin: httpx.Client) -> None:
    asked: dict[str, Any] = {"kind": "all", "job": "lab.noop"}
    whole = admin.get("/audit/export.json", params=asked).json()
    assert len(whole["events"]) >= 3
    assert whole["older"] is None
    cut = admin.get("/audit/export.json", params={**asked, "limit": 2}).json()
    assert cut["events"] == whole["events"][:2]
    assert cut["older"] == whole["events"][1]["number"]
    rest = admin.get("/audit/export.json", params={**asked, "before": cut["older"]}).json()
    assert rest["events"] == whole["events"][2:]
    file = admin.get("/audit/export.csv", params={**asked, "limit": 2}).text
    listed = list(csv.reader(io.StringIO(file, newline="")))
    assert len(listed) == 4
    assert listed[-1][-1] == f"There are older events. Ask again with before={cut['older']} for those."
    complete = list(csv.reader(io.StringIO(admin.get("/audit/export.csv", params=asked).text, newline="")))
    assert len(complete) == 1 + len(whole["events"])
    assert "older events" not in complete[-1][-1]
    assert "up to 50,000 events" in text(admin.get("/audit"))
    assert admin.get("/audit/export.csv", params={"limit": 50_001}).status_code == 422


def test_exports_and_looks_at_others_queries_are_noted(lab: Lab, acted: None, admin: httpx.Client) -> None:
    bearer = {"authorization": f"Bearer {session(lab, 'user')}"}
    with browser(lab, "user") as user:
        body = {"workspace": "lab", "sql": f"SELECT '{CANARY}' AS word"}
        asked = user.post("/api/v1/query", json=body, headers=bearer)
        number = json.loads(asked.text.splitlines()[0])["id"]
        assert user.get(f"/api/v1/query/{number}").status_code == 200
    for page in ("/audit/export.csv", "/audit/export.json"):
        assert admin.get(page, params={"about": CANARY, "since": "2026-01-01"}).status_code == 200
    assert admin.get("/api/v1/query/history?everyone=true").status_code == 200
    assert admin.get("/sql", params={"query": number}).status_code == 200
    csv_one, json_one = reversed(events(admin, event="forebay.audit_export", by="the-admin", limit=2))
    assert (csv_one["details"]["format"], json_one["details"]["format"]) == ("csv", "json")
    assert csv_one["details"]["since"] == "2026-01-01"
    assert csv_one["details"]["filtered"] == "about"
    assert csv_one["what"] == "exported the audit log"
    assert events(admin, event="forebay.query_history", by="the-admin")
    looked = events(admin, event="forebay.query_read")
    assert [(each["details"]["query"], each["details"]["of"]) for each in looked[:1]] == [
        (number, "the-user")
    ]
    assert not [each for each in looked if each["who"] == "the-user"], "one's own is nothing to note"
    assert CANARY not in json.dumps(events(admin, kind="console", limit=1000))


def test_what_was_done_with_a_job_outlives_it(lab: Lab, acted: None, admin: httpx.Client) -> None:
    file = lab.root / "dags/lab/fleeting.yaml"
    file.write_text(
        "tasks:\n  - {key: say, type: sql, sql: SELECT 1 AS n, table: lab.fleeting, mode: overwrite}\n"
    )
    try:
        run, tasks = lab.run("lab.fleeting")
        assert run["state"] == "success", tasks
    finally:
        file.unlink()
    eventually(60, lambda: lab.known("lab.fleeting") is None, "Airflow sees that its file is gone")
    lab.api.request("DELETE", "/api/v2/dags/lab.fleeting")
    found = {each["event"] for each in events(admin, kind="runs", job="lab.fleeting")}
    assert {"trigger_dag_run", "delete_dag"} <= found
    # The row that keeps a query's text belongs to no job either.
    assert not events(admin, kind="all", event="forebay.query_text")
    assert not events(admin, kind="all", job="forebay:query")


def test_canaries_are_nowhere(lab: Lab, acted: None, admin: httpx.Client) -> None:
    found = json.dumps(events(admin, kind="all", limit=1000))
    assert "canaries" in found, "the connection's own row is there"
    for page in (
        "/audit?kind=connections", "/audit/export.csv?kind=all", "/audit/export.json?kind=all", "/workspaces",
        "/workspaces/lab", "/health", "/api/v1/workspaces/lab", "/connections", "/api/v1/connections",
    ):  # fmt: skip
        answer = admin.get(page)
        assert CANARY not in answer.text, page
    assert CANARY not in found
    secrets = [value for name, value in lab.stack.secrets.items() if name != "access_key"]
    assert not [value for value in secrets if value in found]
    for log in lab.stack.logs.glob("*.log"):
        assert CANARY not in log.read_text(errors="replace"), log.name


def test_who_may_not_read_the_log_is_told_so(lab: Lab) -> None:
    with browser(lab, "nobody") as nobody:
        for page in ("/audit", "/audit/export.csv", "/audit/export.json", "/api/v1/audit"):
            assert nobody.get(page).status_code == 403
    with browser(lab, None) as program:
        program.headers["authorization"] = f"Bearer {session(lab, 'viewer')}"
        eventually(10, lambda: events(program), "a viewer sees it as in Airflow itself")
