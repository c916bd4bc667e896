"""The SQL page and its API on a real stack: who may query what, what comes back, and what is remembered of it."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType

from conftest import eventually
from console_client import browser, inside, session

if TYPE_CHECKING:
    from conftest import Lab

SELECT = "SELECT id, label, day FROM lab.console_rows ORDER BY id"
# Seconds of work for DuckDB, and nothing to read.
LONG = (
    "WITH a AS (SELECT x FROM unnest(sequence(1, 10000)) AS t (x)) "
    "SELECT count(*) AS n FROM a CROSS JOIN a AS b CROSS JOIN a AS c WHERE sqrt(a.x * b.x + c.x) < 0"
)
CANARY = "canary-in-a-query-4711"


@pytest.fixture(scope="module")
def tables(lab: Lab) -> None:
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def admin(lab: Lab, tables: None) -> Iterator[httpx.Client]:
    with browser(lab, "admin") as client:
        yield client


def token(client: httpx.Client) -> str:
    """What a form of the page carries."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/sql").text)
    assert found is not None
    return found[1]


def ask(client: httpx.Client, sql: str, **more: Any) -> httpx.Response:
    body = {"workspace": "lab", "sql": sql, **more}
    return client.post("/api/v1/query", json=body, headers={"x-forebay-csrf": token(client)})


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def rows(answer: httpx.Response) -> list[list[str | None]]:
    found = lines(answer)
    assert found[-1]["type"] == "end", found[-1]
    return [row for line in found if line["type"] == "rows" for row in line["rows"]]


def post(client: httpx.Client, **fields: str) -> httpx.Response:
    return client.post("/sql", data={"csrf": token(client), "workspace": "lab", **fields})


def test_the_api_streams_columns_rows_and_an_end(admin: httpx.Client) -> None:
    answer = ask(admin, SELECT)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    # On a busy machine it says in between how far it is.
    found = [line for line in lines(answer) if line["type"] != "progress"]
    assert [line["type"] for line in found] == [
        "started",
        "columns",
        "rows",
        "end",
    ]
    assert found[0]["engine"] == "duckdb"
    assert [each["type"] for each in found[1]["columns"]] == ["integer", "varchar", "date"]
    assert rows(answer) == [["1", "one", "2026-01-01"], ["2", "two", "2026-01-02"], ["3", None, "2026-02-01"]]


def test_parameters_are_values_and_never_text(admin: httpx.Client) -> None:
    sql = "SELECT id FROM lab.console_rows WHERE label = :label OR day >= :since ORDER BY id"
    given = {"label": {"value": "one' OR '1'='1"}, "since": {"value": "2026-02-01"}}
    assert rows(ask(admin, sql, parameters=given)) == [["3"]]
    assert ask(admin, sql).status_code == 422
    wrong = ask(admin, sql, parameters={**given, "since": {"value": "soon", "type": "date"}})
    assert wrong.status_code == 422
    assert ":since is no date" in wrong.json()["detail"]


def test_the_page_works_as_a_plain_form(admin: httpx.Client) -> None:
    page = post(admin, sql=SELECT, do="run")
    assert page.status_code == 200
    assert "3 rows" in page.text
    assert "2026-02-01" in page.text
    assert "null" in page.text
    plan = post(admin, sql=SELECT, do="explain")
    assert "ICEBERG_SCAN" in plan.text
    asks = post(admin, sql="SELECT :n AS n", do="run")
    assert asks.status_code == 422
    assert 'name="value.n"' in asks.text
    given = post(admin, sql="SELECT :n + 1 AS n", do="run", **{"value.n": "41"})
    assert re.search(r"<td[^>]*>42\s", given.text)


def test_mistakes_are_shown_with_their_places(admin: httpx.Client) -> None:
    page = post(admin, sql="SELECT 1,\n  nosuch(2)", do="run")
    assert page.status_code == 422
    assert "2:3" in page.text
    for sql in (
        "DELETE FROM lab.console_rows",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT 1; SELECT 2",
    ):
        answer = ask(admin, sql)
        assert answer.status_code == 422, sql
        assert "SQL:1:" in answer.json()["detail"]
    checked = admin.post(
        "/api/v1/query/check", json={"workspace": "lab", "sql": "SELECT nosuch(:a)"},
        headers={"x-forebay-csrf": token(admin)},
    ).json()  # fmt: skip
    assert checked["mistakes"][0]["line"] == 1


def test_csv_and_parquet_are_files(admin: httpx.Client) -> None:
    sql = "SELECT id, concat('=', label) AS label FROM lab.console_rows ORDER BY id"
    file = post(admin, sql=sql, do="csv")
    assert file.headers["content-type"].startswith("text/csv")
    assert re.search(r'attachment; filename="query-[0-9a-f]+\.csv"', file.headers["content-disposition"])
    assert file.text.splitlines() == ['"id","label"', '1,"\'=one"', '2,"\'=two"', "3,"]
    kept = pq.read_table(io.BytesIO(ask(admin, sql, format="parquet").content))
    assert kept["label"].to_pylist() == ["=one", "=two", None]
    button = post(admin, sql=sql, do="parquet")
    assert re.search(
        r'attachment; filename="query-[0-9a-f]+\.parquet"', button.headers["content-disposition"]
    )
    assert pq.read_table(io.BytesIO(button.content)).to_pydict() == kept.to_pydict()
    broken = post(admin, sql="SELECT CAST(label AS integer) FROM lab.console_rows", do="csv")
    assert broken.status_code == 422


@pytest.mark.parametrize(("role", "may"), [("viewer", 403), ("user", 200), ("op", 200), ("admin", 200)])
def test_to_query_takes_the_right_to_edit_the_workspaces_jobs(
    lab: Lab, tables: None, role: str, may: int
) -> None:
    with browser(lab, role) as client:
        assert client.get("/sql").status_code == 200
        asked = {"workspace": "lab", "sql": "SELECT 1 AS n"}
        bearer = {"authorization": f"Bearer {session(lab, role)}"}
        for path in ("query", "query/job"):
            body = asked if path == "query" else {**asked, "job": f"of_{role}", "table": "lab.of_role"}
            assert client.post(f"/api/v1/{path}", json=body, headers=bearer).status_code == may, path
        kept = client.put(
            "/api/v1/query/saved/lab", json={"title": f"By {role}", "sql": "SELECT 1"}, headers=bearer
        )
        assert kept.status_code == may


def test_another_site_cannot_query(lab: Lab, admin: httpx.Client) -> None:
    body = {"workspace": "lab", "sql": "SELECT 1 AS n"}
    assert admin.post("/api/v1/query", json=body).status_code == 403
    fresh = {"x-forebay-csrf": token(admin)}
    assert (
        admin.post(
            "/api/v1/query", json=body, headers={**fresh, "origin": "https://evil.example"}
        ).status_code
        == 403
    )
    assert admin.post("/sql", data={"sql": "SELECT 1", "workspace": "lab"}).status_code == 403
    assert admin.get("/api/v1/query", params=body).status_code == 404


def test_history_is_ones_own_and_everybodys_for_admins(lab: Lab, admin: httpx.Client) -> None:
    sql = f"SELECT '{CANARY}' AS word"
    number = lines(ask(admin, sql))[0]["id"]
    found = eventually(
        10,
        lambda: (a := admin.get(f"/api/v1/query/{number}").json())["state"] == "done" and a,
        "its end is noted",
    )
    assert (found["sql"], found["rows"]) == (sql, 1)
    assert admin.get("/api/v1/query/history").json()[0]["id"] == number
    assert CANARY in admin.get("/sql/history").text
    assert CANARY in admin.get("/sql", params={"query": number}).text
    for role in ("viewer", "user", "op"):
        with browser(lab, role) as other:
            assert CANARY not in other.get("/sql/history?everyone=true").text
            assert "Everybody’s" not in other.get("/sql/history").text
            assert other.get("/api/v1/query/history?everyone=true").status_code == 403
            assert other.get("/sql", params={"query": number}).status_code == 404
            assert other.get(f"/api/v1/query/{number}").status_code == 404
    with browser(lab, "user") as other:
        mine = lines(ask(other, "SELECT 'from-a-user' AS word"))[0]["id"]
    assert admin.get(f"/api/v1/query/{mine}").json()["sql"].startswith("SELECT 'from-a-user'")
    assert any(each["id"] == mine for each in admin.get("/api/v1/query/history?everyone=true").json())


def test_a_query_is_lost_only_after_its_own_time_cap(lab: Lab, admin: httpx.Client) -> None:
    inside(
        lab,
        """
import json
from datetime import UTC, datetime, timedelta
from airflow.models.log import Log
from airflow.utils.session import create_session
with create_session() as session:
    for name, cap in (("of-an-hour", {"cap": 3600}), ("of-five-minutes", {"cap": 300}), ("of-old", {})):
        row = Log(event="forebay.query_text", dag_id="forebay:query", run_id=name, owner="the-admin",
                  extra=json.dumps({"sql": "SELECT 1", "state": "running", **cap}))
        row.dttm = datetime.now(UTC) - timedelta(minutes=20)
        session.add(row)
""",
    )
    states = [
        admin.get(f"/api/v1/query/{name}").json()["state"]
        for name in ("of-an-hour", "of-five-minutes", "of-old")
    ]
    assert states == ["running", "lost", "lost"]
    number = lines(ask(admin, SELECT))[0]["id"]
    assert admin.get(f"/api/v1/query/{number}").json()["cap"] == 300


def test_the_audit_says_who_read_what_but_no_text(lab: Lab, admin: httpx.Client) -> None:
    lines(ask(admin, f"{SELECT} -- {CANARY}"))
    log = lab.api.get("/eventLogs", event="forebay.query", order_by="-id", limit=5)["event_logs"]
    newest = json.loads(log[0]["extra"])
    assert log[0]["owner"] == "the-admin"
    assert newest["tables"] == ["lab.console_rows"]
    everything = str(lab.api.get("/eventLogs", order_by="-id", limit=100))
    assert CANARY not in everything
    assert "query_text" not in everything


def test_queries_are_saved_for_their_workspace(admin: httpx.Client) -> None:
    page = post(admin, sql="SELECT 7 AS lucky", title="Lucky  numbers!", do="save")
    assert "Saved as “Lucky numbers!”" in page.text
    assert admin.get("/api/v1/query/saved/lab").json()[0]["by"] == "the-admin"
    assert (
        "SELECT 7 AS lucky" in admin.get("/sql", params={"workspace": "lab", "saved": "lucky-numbers"}).text
    )
    assert "Lucky numbers!" in admin.get("/sql/saved").text
    noted = {"workspace": "lab", "name": "lucky-numbers"}
    assert _newest(admin, "forebay.query_saved") == ("the-admin", "saved a query", noted)
    gone = admin.post("/sql/saved/lab/lucky-numbers", data={"csrf": token(admin)})
    assert gone.status_code == 303
    assert admin.get("/sql", params={"workspace": "lab", "saved": "lucky-numbers"}).status_code == 404
    assert _newest(admin, "forebay.query_removed") == ("the-admin", "removed a saved query", noted)


def _newest(client: httpx.Client, event: str) -> tuple[str, str, dict[str, Any]]:
    """Who did it, in which words, and the details."""
    [found] = client.get("/api/v1/audit", params={"event": event, "limit": 1}).json()["events"]
    return found["who"], found["what"], found["details"]


def test_a_query_becomes_a_job_that_passes_the_check(lab: Lab, admin: httpx.Client, tmp_path: Path) -> None:
    asked = {
        "workspace": "lab", "sql": "SELECT id FROM lab.console_rows WHERE day >= :since;", "job": "from_query",
        "table": "lab.from_query", "schedule": "0 5 * * *",
        "parameters": {"since": {"value": "2026-01-02"}},
    }  # fmt: skip
    headers = {"x-forebay-csrf": token(admin)}
    files = admin.post("/api/v1/query/job", json=asked, headers=headers).json()
    assert sorted(files) == ["dags/lab/from_query.yaml", "sql/lab/from_query.sql"]
    assert 'since: {type: date, default: "2026-01-02"}' in files["dags/lab/from_query.yaml"]
    for path, text in files.items():
        (lab.root / path).parent.mkdir(parents=True, exist_ok=True)
        (lab.root / path).write_text(text)
    try:
        run = lab.forebay("run", "lab.from_query")
        assert run.returncode == 0, run.stdout + run.stderr
        assert rows(ask(admin, "SELECT id FROM lab.from_query ORDER BY id")) == [["2"], ["3"]]
        again = admin.post("/api/v1/query/job", json=asked, headers=headers)
        assert "is there already" in again.json()["detail"]
    finally:
        for path in files:
            (lab.root / path).unlink()
    for job in ("../../../../../../../../../..{place}", "{place}", "../flights/planted", "workspace"):
        place = tmp_path / "planted"
        form = post(admin, sql="SELECT 1 AS n", do="job", job=job.format(place=place), table="lab.planted")
        assert form.status_code == 422, job
        assert "A job cannot be called" in form.text
        assert not list(tmp_path.iterdir()), job
    wrong = admin.post("/api/v1/query/job", json={**asked, "table": "elsewhere.t"}, headers=headers)
    assert wrong.status_code == 422
    assert "elsewhere" in wrong.json()["detail"]


def test_who_leaves_cancels(lab: Lab, admin: httpx.Client) -> None:
    headers = {"x-forebay-csrf": token(admin)}
    body = {"workspace": "lab", "sql": LONG}
    with admin.stream("POST", "/api/v1/query", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        # Kept, for letting go of them is leaving.
        found = answer.iter_lines()
        number = json.loads(next(found))["id"]
        time.sleep(1)
        assert admin.get(f"/api/v1/query/{number}").json()["state"] == "running"
    eventually(
        5, lambda: admin.get(f"/api/v1/query/{number}").json()["state"] == "cancelled", "it is cancelled"
    )


def test_a_running_query_can_be_cancelled_from_elsewhere(lab: Lab, admin: httpx.Client) -> None:
    headers = {"x-forebay-csrf": token(admin)}
    with admin.stream(
        "POST", "/api/v1/query", json={"workspace": "lab", "sql": LONG}, headers=headers
    ) as answer:
        found = answer.iter_lines()
        number = json.loads(next(found))["id"]
        with browser(lab, "user") as other:
            bearer = {"authorization": f"Bearer {session(lab, 'user')}"}
            assert other.delete(f"/api/v1/query/{number}", headers=bearer).status_code == 404
        assert admin.delete(f"/api/v1/query/{number}", headers=headers).status_code == 204
        last = json.loads(list(found)[-1])
    assert last["type"] == "failed"
    assert "cancelled" in last["message"]
    assert admin.delete(f"/api/v1/query/{number}", headers=headers).status_code == 404


def test_an_admin_cancels_somebodys_query_and_that_is_noted(lab: Lab, admin: httpx.Client) -> None:
    with browser(lab, None) as user:
        user.headers["authorization"] = f"Bearer {session(lab, 'user')}"
        with user.stream("POST", "/api/v1/query", json={"workspace": "lab", "sql": LONG}) as answer:
            found = answer.iter_lines()
            number = json.loads(next(found))["id"]
            cancelled = admin.delete(f"/api/v1/query/{number}", headers={"x-forebay-csrf": token(admin)})
            assert cancelled.status_code == 204
            assert "cancelled" in json.loads(list(found)[-1])["message"]
    told = {"workspace": "lab", "query": number, "of": "the-user"}
    assert _newest(admin, "forebay.query_cancel") == ("the-admin", "cancelled somebody's query", told)
    read = admin.get("/api/v1/audit", params={"event": "forebay.query_read", "about": number}).json()[
        "events"
    ]
    assert not read


def test_the_api_server_answers_others_while_queries_run(lab: Lab, admin: httpx.Client) -> None:
    headers = {"x-forebay-csrf": token(admin)}
    stop = threading.Event()
    heard: list[str] = []

    def busy(role: str) -> None:
        bearer = {"authorization": f"Bearer {session(lab, role)}"}
        with (
            browser(lab, role) as client,
            client.stream(
                "POST", "/api/v1/query", json={"workspace": "lab", "sql": LONG}, headers=bearer
            ) as answer,
        ):
            found = answer.iter_lines()
            heard.append(next(found))
            stop.wait(120)

    threads = [threading.Thread(target=busy, args=(role,)) for role in ("admin", "admin", "admin", "op")]
    for thread in threads[:3]:
        thread.start()
    try:
        eventually(60, lambda: len(heard) == 3, "three queries run")
        own = admin.post("/api/v1/query", json={"workspace": "lab", "sql": "SELECT 1 AS n"}, headers=headers)
        assert own.status_code == 429, heard
        assert "one place is left for others" in own.json()["detail"]
        threads[3].start()
        eventually(60, lambda: len(heard) == 4, "four queries run")
        assert not [line for line in heard if json.loads(line)["type"] == "failed"], heard
        full = admin.post("/api/v1/query", json={"workspace": "lab", "sql": "SELECT 1 AS n"}, headers=headers)
        assert full.status_code == 429, heard
        assert "no more may at a time" in full.json()["detail"]
        began = time.monotonic()
        assert admin.get("/catalog").status_code == 200
        assert time.monotonic() - began < 5
    finally:
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    eventually(5, lambda: ask(admin, "SELECT 1 AS n").status_code == 200, "who left is noticed")


def test_no_process_of_a_query_is_left(lab: Lab, admin: httpx.Client) -> None:
    assert rows(ask(admin, "SELECT 1 AS n")) == [["1"]]

    def left() -> bool:
        found = inside(lab, _PROCESSES)
        # One waits for the next query.
        return int(found.split()[-1]) <= 1

    eventually(20, left, "no process of a query is left")


_PROCESSES = """
import os, psutil
print(sum("forebay.query.worker" in " ".join(p.info["cmdline"] or ()) and p.info["username"] is not None
          and any("api-server" in " ".join(q.cmdline()) and os.environ["AIRFLOW_HOME"] in q.environ().get("AIRFLOW_HOME", "") for q in p.parents())
          for p in psutil.process_iter(["cmdline", "username"])))
"""


def test_no_secret_is_on_the_page_or_in_an_answer(lab: Lab, admin: httpx.Client) -> None:
    seen = (
        admin.get("/sql").text + admin.get("/sql/history").text + ask(admin, "SELECT * FROM lab.no_such").text
    )
    seen += ask(admin, "SELECT nope FROM lab.console_rows").text + ask(admin, SELECT, explain=True).text
    for name in ("access_key", "secret_key", "jwt_secret", "admin_password"):
        assert lab.stack.secrets[name] not in seen, name


def test_of_many_tables_only_some_are_on_the_page(lab: Lab, admin: httpx.Client) -> None:
    catalog = lab.lake.pyiceberg()
    catalog.create_namespace_if_not_exists("apart")
    fields = NestedField(1, "thing", StringType(), required=False)
    catalog.create_table_if_not_exists("apart.things", Schema(fields))

    def page() -> str:
        return admin.get("/sql", params={"workspace": "lab"}).text

    eventually(30, lambda: "<b>apart</b>" in page(), "the index has the table")
    # The workspace's own tables are there with their columns; of others the number, until they are asked for.
    assert 'data-insert="lab.console_rows"' in page()
    assert 'data-insert="label"' in page()
    assert 'data-insert="apart.things"' not in page()
    assert '/catalog/apart">Its tables' in page(), "without JavaScript a link leads to them"
    part = admin.get("/sql/tables/apart").text
    assert 'data-insert="apart.things"' in part
    assert 'data-insert="thing"' in part
    assert "<html" not in part
    assert "data-insert" not in admin.get("/sql/tables/nothing").text


def test_completion_asks_for_what_one_types(admin: httpx.Client) -> None:
    def known(**asked: Any) -> dict[str, Any]:
        answer = admin.get("/api/v1/query/tables", params=asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    everything = eventually(30, lambda: (found := known())["tables"] and found, "the index is filled")
    names = [each["table"] for each in everything["tables"]]
    assert names == sorted(names)
    assert not everything["more"]
    assert "lab" in everything["namespaces"]
    first = known(limit=1)
    assert [each["table"] for each in first["tables"]] == names[:1]
    assert first["more"]
    some = known(begin="LAB.console_r")
    assert [each["table"] for each in some["tables"]] == ["lab.console_rows"]
    assert some["tables"][0]["columns"][0] == ["id", "int"]
    assert not known(begin="no such")["tables"]
    assert admin.get("/api/v1/query/tables", params={"limit": 501}).status_code == 422
