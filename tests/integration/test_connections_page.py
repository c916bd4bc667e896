"""The connection doctor on a real stack: page, API and command; who may use it, what is kept, what is never seen."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import eventually
from console_client import browser, inside
from forebay.stack.connections import connections
from test_console import text

if TYPE_CHECKING:
    from conftest import Lab

CANARY = "canary-of-the-connections-7b1f"
METADATA = "http://169.254.169.254/latest/meta-data"


def made(conn_id: str, conn_type: str, **fields: Any) -> dict[str, object]:
    fields["extra"] = json.dumps(fields.get("extra", {}))
    return {"connection_id": conn_id, "conn_type": conn_type, **fields}


@pytest.fixture(scope="module")
def broken(lab: Lab) -> Iterator[None]:
    """Connections that do not work, each with a canary for a secret."""
    access, s3 = lab.stack.secrets["access_key"], lab.stack.url("s3")
    connections = [
        made("doc_wrong_secret", "aws", login=access, password=CANARY, extra={"endpoint_url": s3}),
        made("doc_bucket", "aws", login=access, password=lab.stack.secrets["secret_key"],
             extra={"endpoint_url": s3, "service_config": {"s3": {"bucket_name": "laek"}}}),
        made("doc_metadata", "http", host=METADATA, login="x", password=CANARY),
        made("doc_closed", "postgres", host="127.0.0.1", port=1, login="x", password=CANARY),
        made("doc_html", "http", host="<script>alert(1)</script>", password=CANARY),
        made("doc_database", "postgres", host=str(lab.stack.sockets), port=5432, schema="postgres", login="airflow",
             password=lab.stack.secrets["postgres_password"]),
    ]  # fmt: skip
    lab.api.put_connections(connections)
    yield
    for each in connections:
        lab.api.request("DELETE", f"/api/v2/connections/{each['connection_id']}")


@pytest.fixture
def admin(lab: Lab) -> Iterator[httpx.Client]:
    with browser(lab, "admin") as client:
        client.headers["x-forebay-csrf"] = _csrf(client)
        yield client


def _csrf(client: httpx.Client) -> str:
    return client.get("/connections").text.partition('name="csrf" value="')[2].partition('"')[0]


def checked(client: httpx.Client, conn_id: str) -> dict[str, Any]:
    answer = client.post(f"/api/v1/connections/{conn_id}/check", params={"timeout": 20})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def step(report: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in report["steps"] if each["key"] == key)
    return found


@pytest.mark.parametrize("conn_id", ["lake_catalog", "lake_s3", "lake_sql", "lake_spark", "doc_database"])
def test_the_stacks_own_connections_work(lab: Lab, broken: None, admin: httpx.Client, conn_id: str) -> None:
    report = checked(admin, conn_id)
    assert report["state"] == "ok", report
    assert "API server" in report["where"]
    # SeaweedFS says its name in S3, and not in the catalog.
    assert report["facts"].get("server") or conn_id == "lake_catalog"


@pytest.mark.parametrize(
    ("conn_id", "key", "found"),
    [
        ("doc_wrong_secret", "authenticate", "the secret key is wrong"),
        ("doc_bucket", "list", "there is no bucket 'laek'"),
        ("doc_metadata", "resolve", "refused: 169.254.169.254"),
        ("doc_closed", "connect", "refuses connections"),
    ],
)
def test_the_step_that_fails_is_named(
    lab: Lab, broken: None, admin: httpx.Client, conn_id: str, key: str, found: str
) -> None:
    report = checked(admin, conn_id)
    assert report["state"] == "bad"
    assert found in step(report, key)["found"]
    assert step(report, key)["hint"]
    page = text(admin.get(f"/connections/{conn_id}"))
    assert step(report, key)["hint"] in page
    listed = text(admin.get("/connections"))
    assert found in listed


def test_the_page_is_sent_step_by_step_and_without_javascript(
    lab: Lab, broken: None, admin: httpx.Client
) -> None:
    form = {"csrf": admin.headers.pop("x-forebay-csrf")}
    with admin.stream("POST", "/connections/lake_s3", data=form) as answer:
        assert answer.status_code == 200
        parts = list(answer.iter_raw())
    assert len(parts) >= 6
    page = b"".join(parts).decode()
    assert page.rstrip().endswith("</html>")
    assert "Write and delete a probe" in page
    assert "works</span>" in page
    with admin.stream("POST", "/connections", data=form) as answer:
        assert answer.status_code == 200
        page = "".join(answer.iter_text())
    assert "Done." in page
    for conn_id in ("lake_catalog", "doc_bucket", "doc_html"):
        assert f"/connections/{conn_id}" in page
    assert "<script>alert" not in page


def test_all_of_them_line_by_line(lab: Lab, broken: None, admin: httpx.Client) -> None:
    with admin.stream("POST", "/api/v1/connections/check", params={"timeout": 20}) as answer:
        assert answer.status_code == 200
        events = [json.loads(line) for line in answer.iter_lines()]
    reports = {each["connection_id"]: each["report"] for each in events if "report" in each}
    assert {"lake_catalog", "lake_s3", "doc_metadata"} <= set(reports)
    assert all(any("step" in each for each in events if each["connection_id"] == name) for name in reports)
    assert reports["lake_s3"]["state"] == "ok"
    one = admin.post("/api/v1/connections/check", params={"connection": ["lake_s3"]})
    assert {json.loads(line)["connection_id"] for line in one.text.splitlines()} == {"lake_s3"}


def test_one_that_jobs_name_and_nobody_made_is_listed(lab: Lab, broken: None, admin: httpx.Client) -> None:
    def missing() -> list[str]:
        found = admin.get("/api/v1/connections").json()["connections"]
        return [each["connection_id"] for each in found if each["origin"] == "missing"]

    eventually(20, lambda: "nowhere" in missing(), "the missing connection is listed")
    page = text(admin.get("/connections"))
    assert re.search(r"nowhere named by [^;]*lab[^;]*; nobody made it", page)
    assert admin.get("/connections/nowhere").status_code == 404
    assert admin.post("/api/v1/connections/nowhere/check").status_code == 404


def test_results_are_kept_with_who_and_when(lab: Lab, broken: None, admin: httpx.Client) -> None:
    began = time.time()
    checked(admin, "doc_bucket")
    found = admin.get("/api/v1/connections/doc_bucket").json()["results"][0]
    assert found["by"] == "the-admin"
    assert began - 2 <= found["at"] <= time.time() + 2
    assert "API server" in found["where"]
    assert step(found["report"], "list")["hint"]
    rows = lab.api.get("/eventLogs", event="forebay.connection_check", order_by="-event_log_id", limit=1)
    row = json.loads(rows["event_logs"][0]["extra"])
    assert (row["connection_id"], row["state"], row["step"]) == ("doc_bucket", "bad", "list")
    assert "laek" not in rows["event_logs"][0]["extra"]


def test_who_may_see_and_check(lab: Lab, broken: None) -> None:
    for role, sees in (("viewer", False), ("user", False), ("op", True), ("admin", True)):
        with browser(lab, role) as client:
            answer = client.get("/connections")
            assert answer.status_code == 200
            assert ("lake_catalog" in answer.text) == sees, role
            token = client.get("/api/v1/connections")
            assert token.status_code == 200
            assert client.get("/connections/lake_s3").status_code == (200 if sees else 403)
            assert client.get("/api/v1/connections/lake_s3").status_code == (200 if sees else 403)
            assert client.get("/connections/lake_catalog/open").status_code == (200 if sees else 403)
            if sees:
                client.headers["x-forebay-csrf"] = _csrf(client)
                assert client.post("/api/v1/connections/lake_s3/check").status_code == 200
    # With a token of their own there is no form to forge, and still no right.
    from console_client import session

    with browser(lab, None) as client:
        for role in ("viewer", "user"):
            token_of = {"authorization": f"Bearer {session(lab, role)}"}
            for path in ("lake_s3/check", "check?connection=lake_s3"):
                answer = client.post(f"/api/v1/connections/{path}", headers=token_of)
                assert answer.status_code == 403, (role, path)
            assert client.post("/connections/lake_s3", headers=token_of).status_code == 403


def test_a_check_from_another_site_is_refused(lab: Lab, broken: None) -> None:
    with browser(lab, "admin") as client:
        assert client.post("/api/v1/connections/lake_s3/check").status_code == 403
        assert client.post("/connections/lake_s3", data={"csrf": "0" * 64}).status_code == 403
        token = _csrf(client)
        foreign = {"x-forebay-csrf": token, "origin": "https://evil.example"}
        assert client.post("/connections", headers=foreign).status_code == 403


def test_no_secret_is_seen_anywhere(lab: Lab, broken: None, admin: httpx.Client) -> None:
    secrets = [CANARY, *(value for name, value in lab.stack.secrets.items() if name != "access_key")]
    seen = [admin.post("/api/v1/connections/check").text]
    for path in (
        "",
        "/lake_catalog",
        "/lake_catalog/open",
        "/lake_s3",
        "/doc_wrong_secret",
        "/doc_metadata",
        "/doc_html",
    ):
        page = admin.get(f"/connections{path}").text
        assert "<script>alert(1)" not in page
        seen += [page, admin.get(f"/api/v1/connections{path}").text]
    seen.append(json.dumps(lab.api.get("/eventLogs", event="forebay.connection_check", limit=100)))
    seen.append(admin.get("/audit").text)
    seen.append((lab.stack.logs / "api-server.log").read_text())
    for number, said in enumerate(seen):
        assert not [secret for secret in secrets if secret in said], f"secret in text {number}"


def test_configuration_for_engines(lab: Lab, broken: None, admin: httpx.Client) -> None:
    found = admin.get("/api/v1/connections/lake_catalog/open").json()["openings"]
    assert [each["engine"] for each in found] == ["DuckDB", "PyIceberg", "Spark", "Trino", "Flink"]
    for each in found:
        assert f"{lab.stack.url('lens')}/published" in each["text"]
        assert lab.stack.url("s3").partition("://")[2] in each["text"]
    page = text(admin.get("/connections/lake_catalog/open"))
    assert "spark.sql.catalog.lake.uri" in page
    # PyIceberg's is a program: with the key put in it reads the lake.
    program = next(each["text"] for each in found if each["engine"] == "PyIceberg")
    for placeholder, secret in (("YOUR_KEY", "access_key"), ("YOUR_SECRET", "secret_key")):
        program = program.replace(placeholder, lab.stack.secrets[secret])
    assert inside(lab, f"{program}\nprint(len(lake.list_namespaces()))").strip().isdigit()


def test_the_command(lab: Lab, broken: None) -> None:
    good = lab.forebay("connections", "check", "lake_s3", "lake_catalog", "--timeout", "20")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Write and delete a probe" in good.stdout
    bad = lab.forebay("connections", "check", "doc_bucket")
    assert bad.returncode == 1
    assert "there is no bucket 'laek'" in bad.stdout
    assert "→ Correct bucket_name" in bad.stdout
    (report,) = lab.json("connections", "check", "lake_s3", "--from", "server", "--timeout", "20")
    assert report["state"] == "ok"
    listed = lab.json("connections", "list")
    assert "lake_s3" in {each["connection_id"] for each in listed}
    trino = lab.forebay("connections", "open", "--engine", "trino")
    assert trino.stdout.startswith("connector.name=iceberg")
    unknown = lab.forebay("connections", "check", "nothing")
    assert unknown.returncode == 1
    assert "no connection 'nothing'" in unknown.stderr


def test_results_outlive_many_of_others(lab: Lab, broken: None, admin: httpx.Client) -> None:
    checked(admin, "doc_closed")
    try:
        inside(lab, _CROWD)
        found = {
            each["connection_id"]: each for each in admin.get("/api/v1/connections").json()["connections"]
        }
        assert found["doc_closed"]["state"] == "bad"
        assert found["doc_closed"]["sides"]["server"]["by"] == "the-admin"
    finally:
        inside(lab, _NO_CROWD)


_CROWD = """
import json
from airflow.models.log import Log
from airflow.utils.session import create_session
with create_session() as session:
    for number in range(2500):
        session.add(Log(event="forebay.connection_check", owner="crowd", task_id="crowd", run_id="server",
                        extra=json.dumps({"connection_id": "crowd", "state": "ok"})))
"""
_NO_CROWD = """
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import delete
with create_session() as session:
    session.execute(delete(Log).where(Log.owner == "crowd"))
"""


def test_configuration_from_a_catalog_and_the_store_beside_it(lab: Lab, admin: httpx.Client) -> None:
    """A catalog whose connection names no store: chosen on its page, the texts are those of the one that names it."""
    stored = next(each for each in connections(lab.stack) if each["connection_id"] == "lake_catalog")
    extra = json.loads(str(stored["extra"]))
    bare = {name: value for name, value in extra.items() if not name.startswith("s3.")}
    lab.api.put_connections([{**stored, "connection_id": "bare_catalog", "extra": json.dumps(bare)}])
    try:
        page = admin.get("/connections/bare_catalog/open")
        assert "There is something missing." in text(page)
        assert "choose the connection of its object store here" in text(page)
        assert admin.get("/api/v1/connections/bare_catalog/open").status_code == 422
        assert re.search(r'<select name="store">.*<option>lake_s3</option>', page.text)
        assert "lake_catalog</option>" not in page.text
        # From the store's own page it is one step.
        assert "/connections/bare_catalog/open?store=lake_s3" in admin.get("/connections/lake_s3").text
        chosen = admin.get("/connections/bare_catalog/open", params={"store": "lake_s3"})
        assert "<option selected>lake_s3</option>" in chosen.text
        told = admin.get("/api/v1/connections/bare_catalog/open", params={"store": "lake_s3"}).json()
        assert told == admin.get("/api/v1/connections/lake_catalog/open").json()
        assert [each["engine"] for each in told["openings"]] == [
            "DuckDB",
            "PyIceberg",
            "Spark",
            "Trino",
            "Flink",
        ]
        assert all(lab.stack.url("s3").partition("://")[2] in each["text"] for each in told["openings"])
        wrong = admin.get("/api/v1/connections/bare_catalog/open", params={"store": "lake_sql"})
        assert (wrong.status_code, wrong.json()["detail"]) == (422, "'lake_sql' is of type duckdb, not aws.")
        assert lab.stack.secrets["secret_key"] not in chosen.text + page.text
    finally:
        lab.api.request("DELETE", "/api/v2/connections/bare_catalog")
