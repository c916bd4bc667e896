"""The console on a real stack: what it shows, whom it lets in, and what becomes of it when half the platform is down."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pytest

from conftest import eventually
from console_client import ROLES, browser, inside, routes, session, text
from forebay.stack import supervisor

if TYPE_CHECKING:
    from conftest import Lab

HOSTILE = {
    "<img src=x onerror=alert(1)>": "<script>alert('comment')</script>",
    "=cmd|'/C calc'!A0": '"><svg onload=alert(2)>',
    "{{ 7 * 7 }}": "{% raw %}",
}
CSV_OF_PAGES = (
    "health", "catalog", "catalog?q=n", "catalog/lab", "catalog/lab/console_rows", "catalog/lab/console_rows/sample",
    "catalog/lab/console_rows/history", "catalog/lab/console_rows/files", "catalog/lab/console_rows/checks",
    "catalog/lab/console_rows/lineage", "catalog/lab/console_rows/open", "catalog/lab/hostile",
    "catalog/lab/hostile/sample", "api/v1/docs", "api/v1/openapi.json", "api/v1/catalog", "api/v1/catalog/lab",
    "api/v1/search?q=n", "api/v1/health/components", "api/v1/catalog/lab/console_rows",
    "api/v1/catalog/lab/console_rows/history", "api/v1/catalog/lab/console_rows/sample",
    "api/v1/catalog/lab/console_rows/lineage", "static/console.css", "nothing", "catalog/lab/nothing",
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(lab: Lab) -> None:
    """A table that a run wrote, and one whose names are meant to do harm."""
    # By the command, which outlasts an API server that is still warming up.
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr
    catalog = lab.lake.pyiceberg()
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, StringType

    fields = [
        NestedField(number, name, StringType(), required=False, doc=doc)
        for number, (name, doc) in enumerate(HOSTILE.items(), 1)
    ]
    table = catalog.create_table(
        "lab.hostile", Schema(*fields), properties={"comment": "<script>alert('table')</script>"}
    )
    table.append(pa.table({name: ["<b>bold</b>", "=1+1"] for name in HOSTILE}))


def filled(path: str) -> str:
    values = {
        "namespace": "lab", "table": "console_rows", "name": "console.css", "rest:path": "no/such/page",
        "job": "lab.console", "run": "latest", "workspace": "lab", "connection": "lake_catalog",
    }  # fmt: skip
    return re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], "none"), path)


def test_every_route_asks_for_a_login_and_for_a_right(lab: Lab, tables: None) -> None:
    found = routes(lab)
    assert len(found) > 20
    assert [path for path, _, is_open in found if is_open] == ["/api/v1/health"]
    with browser(lab, None) as anonymous, browser(lab, "nobody") as nobody, browser(lab, "viewer") as viewer:
        newest = lab.lake.pyiceberg().load_table("lab.console_rows").current_snapshot()
        assert newest is not None
        for path, methods, is_open in found:
            asked = {"search": "?q=n", "diff": f"?to={newest.snapshot_id}"}.get(path.rpartition("/")[2], "")
            url = filled(path) + asked
            for method in methods:
                got = [client.request(method, url).status_code for client in (anonymous, nobody, viewer)]
                if is_open:
                    assert got == [200, 200, 200]
                elif method in ("GET", "HEAD", "OPTIONS"):
                    assert got[:2] == [401, 403], f"{method} {url}"
                    # What changes something asks for more than reading, before it is done as well; so do connections.
                    more = (
                        path.endswith(("/publish", "/discard", "/rollback", "/rerun"))
                        or "{connection}" in path
                    )
                    assert got[2] in ((403,) if more else (200, 303, 404)), f"{method} {url}: {got[2]}"
                else:
                    # Without the token of a form nothing gets through.
                    assert got == [401, 403, 403], f"{method} {url}"
            for method in ("OPTIONS", "TRACE"):
                assert anonymous.request(method, url).status_code == 401, f"{method} {url}"
        strange = anonymous.request("PROPFIND", "/catalog")
        assert strange.status_code == 405
        assert "Connections" not in strange.text


@pytest.mark.parametrize("role", ROLES)
def test_whoever_reads_a_workspace_sees_its_pages(lab: Lab, tables: None, role: str) -> None:
    with browser(lab, role) as client:
        for page in CSV_OF_PAGES:
            assert client.get(f"/{page}").status_code == (404 if "nothing" in page else 200), page


def test_a_bearer_token_is_as_good_as_the_cookie(lab: Lab, tables: None) -> None:
    with browser(lab, None) as client:
        token = {"authorization": f"Bearer {session(lab, 'viewer')}"}
        assert client.get("/api/v1/catalog", headers=token).status_code == 200
        assert client.get("/api/v1/catalog", headers={"authorization": "Bearer nonsense"}).status_code in (
            401,
            403,
        )


def test_what_another_site_sends_is_refused(lab: Lab, admin: httpx.Client) -> None:
    form = re.search(r'name="csrf" value="([0-9a-f]{64})"', admin.get("/sql").text)
    assert form is not None
    ours = {"sec-fetch-site": "same-origin", "origin": lab.stack.url("airflow")}
    valid = ours | {"x-forebay-csrf": form[1]}
    # There is just nothing to POST to here.
    assert admin.post("/health", headers=valid).status_code == 404
    assert admin.post("/health", headers=ours, data={"csrf": form[1]}).status_code == 404
    for headers in (
        {},
        # One thing is wrong with each.
        ours,
        valid | {"x-forebay-csrf": "0" * 64},
        valid | {"origin": "https://evil.example"},
        valid | {"origin": "null"},
        valid | {"sec-fetch-site": "cross-site"},
        valid | {"sec-fetch-site": "same-site"},
        # Beside these Airflow takes the cookie, which a browser sends by itself.
        ours | {"authorization": "Basic YTpi"},
        ours | {"authorization": "anything"},
        ours | {"authorization": "Bearer"},
        valid | {"authorization": "Basic YTpi", "origin": "https://evil.example"},
        valid | {"authorization": "Basic YTpi", "sec-fetch-site": "cross-site"},
    ):
        answer = admin.post("/health", headers=headers)
        assert answer.status_code == 403, headers
    assert admin.post("/health", headers=ours, data={"csrf": "0" * 64}).status_code == 403
    # A program with a token of its own is nobody's browser: for it there is just nothing to POST to here.
    with browser(lab, None) as client:
        token = {"authorization": f"Bearer {session(lab, 'admin')}"}
        assert client.post("/health", headers=token).status_code == 404


def test_every_answer_forbids_scripts_that_are_not_ours(lab: Lab, admin: httpx.Client, tables: None) -> None:
    for page in (*CSV_OF_PAGES, "api/v1/health"):
        answer = admin.get(f"/{page}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, page
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.search(r"<script(?![^>]* src=)", answer.text), f"{page} has a script of its own"
            assert not re.search(r"<[^>]+ (style|on\w+)=", answer.text), (
                f"{page} has inline style or handlers"
            )


def test_the_word_for_load_balancers_has_no_detail(lab: Lab) -> None:
    with browser(lab, None) as anonymous:
        assert anonymous.get("/api/v1/health").json() == {"status": "healthy"}
        assert anonymous.get("/api/v1/health/components").status_code == 401


def test_somebody_without_a_session_is_shown_the_way_in(lab: Lab) -> None:
    with browser(lab, None) as anonymous:
        answer = anonymous.get("/catalog")
    assert answer.status_code == 401
    assert "/auth/login" in answer.text
    assert "next=" in answer.text


def test_health_names_every_component(lab: Lab, admin: httpx.Client, tables: None) -> None:
    # A machine that is busy with other tests may be silent for longer than a probe waits.
    eventually(60, lambda: "All is well" in text(admin.get("/health")), "every component answers in time")
    page = text(admin.get("/health"))
    for name in (
        "Scheduler",
        "Dag processor",
        "Triggerer",
        "Catalog",
        "Store",
        "Lens",
        "SQL engine",
        "Spark",
    ):
        assert f"{name} healthy" in page, page
    eventually(
        20, lambda: "lab.console_rows" in text(admin.get("/health")), "the table is among those that changed"
    )


def test_health_tells_the_last_day(lab: Lab, admin: httpx.Client, tables: None) -> None:
    before = {each["workspace"]: each for each in admin.get("/api/v1/health/day").json()["runs"]}["lab"]
    began = time.time()
    failed = lab.start("lab.failing")
    assert lab.finish("lab.failing", failed)[0]["state"] == "failed"
    assert lab.forebay("run", "lab.noop").returncode == 0

    day = admin.get("/api/v1/health/day").json()
    assert day["trouble"] == ""
    runs = {each["workspace"]: each for each in day["runs"]}
    assert runs["lab"]["runs"] == before["runs"] + 2
    assert runs["lab"]["failed"] == before["failed"] + 1
    assert runs["lab"]["last_failed"] == {"dag_id": "lab.failing", "dag_run_id": failed}
    assert runs["lab"]["state"] == f"{runs['lab']['failed']} failed"
    assert day["runs"][0]["failed"] == max(each["failed"] for each in day["runs"]), "problems first"
    page = admin.get("/health")
    assert re.search(rf"lab last failed: lab\.failing .* {runs['lab']['runs']} runs {runs['lab']['failed']} failed", text(page))  # fmt: skip
    assert f"/dags/lab.failing/runs/{failed.replace(':', '%3A').replace('+', '%2B')}" in page.text

    # What was published a moment ago comes first, with its rows and who made them.
    assert lab.forebay("run", "lab.console").returncode == 0

    def again() -> dict[str, dict[str, Any]] | None:
        found = admin.get("/api/v1/health/day").json()["tables"]
        since = {each["table"]: each for each in found if each["changed"] > began}
        return since if {"lab.console_rows", "lab.console_copy"} <= since.keys() else None

    changed = eventually(30, again, "the publish is seen")["lab.console_rows"]
    assert (changed["rows"], changed["job"]) == (3, "lab.console")
    moments = [each["changed"] for each in admin.get("/api/v1/health/day").json()["tables"]]
    assert moments == sorted(moments, reverse=True)
    assert re.search(
        r"lab\.console_rows lab\.console \+3 (−3 )?(rows )?(just now|\d+ s ago)", text(admin.get("/health"))
    )


def test_a_table_tells_who_wrote_it(lab: Lab, admin: httpx.Client, tables: None) -> None:
    overview = text(admin.get("/catalog/lab/console_rows"))
    assert "Rows for the console's tests." in overview
    assert "lab.console" in overview
    assert "3 rows" in overview
    assert "month(day)" in overview
    assert "How it is called." in overview
    history = admin.get("/api/v1/catalog/lab/console_rows/history").json()
    assert {(each["job"], each["added"], each["user"]) for each in history} == {("lab.console", 3, "admin")}
    assert not history[0]["can_roll_back_to"], "it is there"
    opened = admin.get("/api/v1/catalog/lab/console_rows/open").json()["openings"]
    assert {each["engine"] for each in opened} >= {"DuckDB", "PyIceberg", "Spark", "Trino"}
    day = admin.get("/api/v1/health/day").json()
    assert [(each["job"], each["rows"]) for each in day["tables"] if each["table"] == "lab.console_rows"] == [
        ("lab.console", 3)
    ]
    assert day["trouble"] == ""
    assert next(each for each in day["runs"] if each["workspace"] == "lab")["runs"] >= 1
    sample = admin.get("/api/v1/catalog/lab/console_rows/sample").json()
    assert sorted(sample["rows"]) == [
        ["1", "one", "2026-01-01"],
        ["2", "two", "2026-01-02"],
        ["3", None, "2026-02-01"],
    ]
    then = admin.get("/catalog/lab/console_rows/sample", params={"snapshot": history[0]["snapshot"]})
    assert "one" in text(then)
    assert admin.get("/catalog/lab/console_rows/sample?snapshot=1").status_code == 404
    files = text(admin.get("/catalog/lab/console_rows/files"))
    assert "2 data files" in files
    assert "day_month=2026-01" in files
    assert "not_null" in text(admin.get("/catalog/lab/console_rows/checks"))
    assert "console_rows" in text(admin.get("/catalog/lab/console_copy/lineage"))
    for engine in ("DuckDB", "PyIceberg", "Spark", "Trino"):
        assert engine in text(admin.get("/catalog/lab/console_rows/open"))


def test_search_finds_names_columns_and_comments(lab: Lab, admin: httpx.Client, tables: None) -> None:
    def found(words: str) -> set[tuple[str, str]]:
        hits = admin.get("/api/v1/search", params={"q": words}).json()["hits"]
        return {(hit["table"], hit["where"]) for hit in hits}

    eventually(20, lambda: found("console_rows"), "the index has the table")
    assert ("lab.console_rows", "name") in found("CONSOLE rows")
    assert ("lab.console_rows", "column") in found("label")
    assert ("lab.console_rows", "column") in found("how it is called")
    assert ("lab.console_rows", "comment") in found("console's tests")
    assert found("no such words anywhere") == set()
    assert "No table, column or comment" in text(admin.get("/catalog", params={"q": "zzzz <b>"}))


def test_names_that_carry_html_are_only_names(lab: Lab, admin: httpx.Client, tables: None) -> None:
    for page in ("", "/sample", "/history", "/files", "/checks", "/lineage", "/open"):
        body = admin.get(f"/catalog/lab/hostile{page}").text
        for harm in (*HOSTILE, *HOSTILE.values(), "<b>bold", "<script>alert"):
            if "<" in harm:
                assert harm not in body, f"{harm} on {page}"
        assert ">49<" not in body
    overview = text(admin.get("/catalog/lab/hostile"))
    assert all(name in overview for name in ("=cmd|'/C calc'!A0", "{{ 7 * 7 }}"))
    answer = admin.get("/catalog", params={"q": "<script>alert(1)</script>"})
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/catalog/lab/%2e%2e",
        "/catalog/lab/%2e%2e%2ftables",
        "/catalog/lab%1Fx/y",
        "/static/..%2fapp.py",
        "/static/app.py",
    ],
)
def test_paths_lead_nowhere_else(lab: Lab, admin: httpx.Client, path: str) -> None:
    assert admin.get(path).status_code in (403, 404)


def test_no_page_holds_a_secret(lab: Lab, admin: httpx.Client, tables: None) -> None:
    secrets = {name: value for name, value in lab.stack.secrets.items() if name not in ("access_key",)}
    assert len(secrets) >= 6
    for page in CSV_OF_PAGES:
        body = admin.get(f"/{page}").text
        for name, value in secrets.items():
            assert value not in body, f"{page} shows {name}"
    log = (lab.stack.logs / "api-server.log").read_text()
    assert not [name for name, value in secrets.items() if value in log]


def test_the_console_costs_a_task_nothing(lab: Lab) -> None:
    program = """
import sys, time
from airflow.sdk import plugins_manager
began = time.perf_counter()
from airflow.sdk.plugins_manager import _get_plugins
plugins, errors = _get_plugins()
took = time.perf_counter() - began
assert any(p.name == 'forebay' for p in plugins), plugins
assert not errors, errors
print([m for m in sys.modules if m.startswith('forebay_ui') or m in ('jinja2.environment_', 'app', 'auth', 'html.console')])
print(took)
"""
    loaded, took = inside(lab, program).strip().splitlines()[-2:]
    assert loaded == "[]"
    assert float(took) < 0.5


def test_health_says_what_is_down_while_the_rest_is_shown(
    lab: Lab, admin: httpx.Client, tables: None
) -> None:
    for name in ("lens", "triggerer", "store"):
        supervisor.stop_process(lab.stack, name)
    try:
        began = time.monotonic()
        answer = admin.get("/health")
        took = time.monotonic() - began
        page = text(answer)
        assert took < 6
        assert "Lens is down" in page
        assert "Catalog is down" in page
        assert "Store is down" in page
        assert "forebay restart lens" in page
        assert "Scheduler healthy" in page
        catalog = admin.get("/catalog/lab/console_rows")
        assert catalog.status_code == 503
        assert "does not answer" in catalog.text
        assert lab.stack.secrets["secret_key"] not in catalog.text
    finally:
        back = lab.forebay("up")
        assert back.returncode == 0, back.stdout + back.stderr
    eventually(60, lambda: "All is well" in text(admin.get("/health")), "all is well again")
