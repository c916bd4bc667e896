"""Who may do what in the console: every route, every role, one's own workspace and another one's."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import psycopg2
import pytest

from conftest import eventually
from console_client import ROLES, routes
from query_rights import THEIRS, ask, nothing_of_others
from teams import DATABASE, LISTED, OTHER, OWN, server, session, settings_on, two_workspaces

if TYPE_CHECKING:
    from conftest import Lab

# What a role may do in its own workspace; in another one it may do nothing but what is everybody's.
#            viewer user   op     admin
RIGHTS = {
    "anyone": (True, True, True, True),  # may read at least one job
    "read": (True, True, True, True),
    "change": (False, True, True, True),  # as editing a job's runs
    "query": (False, True, True, True),  # may change some workspace
    "connection": (False, False, True, True),  # a connection of all teams
}
EVERYWHERE = ("anyone", "connection", "query")
"""Rights that do not ask for a workspace."""
"""An admin of Airflow's simple auth manager is in every team."""


@pytest.fixture(scope="module")
def address(lab: Lab) -> Iterator[str]:
    two_workspaces(lab)
    with server(lab, (OWN, OTHER)) as url:
        yield url


def client(lab: Lab, address: str, role: str, team: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"{address}/forebay",
        cookies={"_token": session(lab, role, (team,))},
        timeout=60,
        trust_env=False,
    )


# Every route, and what it takes. `GET` stands for HEAD too; a route that is not here fails the test.
TABLE = """
GET     /                                                   anyone
GET     /static/{name}                                      anyone
GET     /api/v1/openapi.json                                anyone
GET     /api/v1/docs                                        anyone
ANY     /{rest:path}                                        anyone
GET     /health                                             anyone
GET     /api/v1/health/components                           anyone
GET     /api/v1/health/day                                  anyone
GET     /workspaces                                         anyone
GET     /workspaces/{workspace}                             read
GET     /api/v1/workspaces                                  anyone
GET     /api/v1/workspaces/{workspace}                      read
GET     /audit                                              anyone
GET     /audit/export.csv                                   anyone
GET     /audit/export.json                                  anyone
GET     /api/v1/audit                                       anyone
GET     /catalog                                            anyone
GET     /api/v1/catalog                                     anyone
GET     /api/v1/search                                      anyone
GET     /catalog/{namespace}                                read
GET     /api/v1/catalog/{namespace}                         read
GET     /catalog/{namespace}/{table}                        read
GET     /catalog/{namespace}/{table}/sample                 read
GET     /catalog/{namespace}/{table}/history                read
GET     /catalog/{namespace}/{table}/files                  read
GET     /catalog/{namespace}/{table}/checks                 read
GET     /catalog/{namespace}/{table}/open                   read
GET     /catalog/{namespace}/{table}/lineage                read
GET     /catalog/{namespace}/{table}/diff                   read
GET     /catalog/{namespace}/{table}/rollback               change
POST    /catalog/{namespace}/{table}/rollback               change
GET     /api/v1/catalog/{namespace}/{table}                 read
GET     /api/v1/catalog/{namespace}/{table}/history         read
GET     /api/v1/catalog/{namespace}/{table}/open            read
GET     /api/v1/catalog/{namespace}/{table}/sample          read
GET     /api/v1/catalog/{namespace}/{table}/files           read
GET     /api/v1/catalog/{namespace}/{table}/checks          read
GET     /api/v1/catalog/{namespace}/{table}/lineage         read
GET     /api/v1/catalog/{namespace}/{table}/diff            read
GET     /api/v1/catalog/{namespace}/{table}/rollback        change
POST    /api/v1/catalog/{namespace}/{table}/rollback        change
GET     /connections                                        anyone
POST    /connections                                        anyone
GET     /connections/{connection}                           connection
POST    /connections/{connection}                           connection
GET     /connections/{connection}/open                      connection
GET     /api/v1/connections                                 anyone
POST    /api/v1/connections/check                           connection
GET     /api/v1/connections/{connection}                    connection
POST    /api/v1/connections/{connection}/check              connection
GET     /api/v1/connections/{connection}/open               connection
GET     /jobs                                               anyone
GET     /jobs/{job}                                         read
GET     /jobs/{job}/why                                     read
POST    /jobs/{job}/runs                                    change
GET     /api/v1/jobs                                        anyone
GET     /api/v1/jobs/{job}                                  read
GET     /api/v1/jobs/{job}/runs                             read
POST    /api/v1/jobs/{job}/runs                             change
GET     /api/v1/jobs/{job}/why                              read
GET     /runs                                               anyone
GET     /runs/{name}                                        anyone
GET     /runs/{job}/{run}                                   read
GET     /runs/{job}/{run}/why                               read
GET     /runs/{job}/{run}/diff                              read
GET     /runs/{job}/{run}/publish                           change
GET     /runs/{job}/{run}/discard                           change
GET     /runs/{job}/{run}/rollback                          change
GET     /runs/{job}/{run}/rerun                             change
POST    /runs/{job}/{run}/publish                           change
POST    /runs/{job}/{run}/discard                           change
POST    /runs/{job}/{run}/rollback                          change
POST    /runs/{job}/{run}/rerun                             change
GET     /api/v1/runs                                        anyone
GET     /api/v1/runs/{name}                                 anyone
GET     /api/v1/runs/{job}/{run}                            read
GET     /api/v1/runs/{job}/{run}/checks                     read
GET     /api/v1/runs/{job}/{run}/why                        read
GET     /api/v1/runs/{job}/{run}/diff                       read
POST    /api/v1/runs/{job}/{run}/publish                    change
POST    /api/v1/runs/{job}/{run}/discard                    change
POST    /api/v1/runs/{job}/{run}/note                       change
GET     /api/v1/runs/{job}/{run}/rollback                   change
POST    /api/v1/runs/{job}/{run}/rollback                   change
POST    /api/v1/runs/{job}/{run}/rerun                      change
GET     /sql                                                anyone
POST    /sql                                                query
GET     /sql/history                                        anyone
GET     /sql/saved                                          anyone
GET     /sql/tables/{namespace}                             read
POST    /sql/saved/{workspace}/{name}                       change
POST    /api/v1/query                                       change
POST    /api/v1/query/check                                 change
GET     /api/v1/query/tables                                anyone
GET     /api/v1/query/history                               anyone
GET     /api/v1/query/saved/{workspace}                     read
PUT     /api/v1/query/saved/{workspace}                     change
DELETE  /api/v1/query/saved/{workspace}/{name}              change
POST    /api/v1/query/job                                   change
GET     /api/v1/query/{query_id}                            anyone
DELETE  /api/v1/query/{query_id}                            anyone
"""


ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
BODIES = {
    "/api/v1/query": {"workspace": "{workspace}", "sql": "SELECT 1 AS n"},
    "/api/v1/query/check": {"workspace": "{workspace}", "sql": "SELECT 1"},
    "/api/v1/query/job": {
        "workspace": "{workspace}",
        "sql": "SELECT 1",
        "job": "new",
        "table": "{workspace}.new",
    },
    "/api/v1/query/saved/{workspace}": {"title": "Kept", "sql": "SELECT 1"},
}
"""What a request must hold for its right to be looked at."""


def needed() -> dict[tuple[str, str], str]:
    """What each method of each route takes."""
    found = {}
    for line in TABLE.strip().splitlines():
        method, path, right = line.split()
        for each in ANY if method == "ANY" else (method,):
            found[each, path] = right
    return found


def filled(path: str, workspace: str) -> str:
    own = workspace == OWN
    values = {
        "namespace": workspace, "workspace": workspace, "table": "console_rows" if own else "rows", "name": "console.css" if path.startswith("/static") else "kept",
        "rest:path": "no/such/page", "job": f"{workspace}.{'console' if own else 'rows'}", "connection": "lake_catalog",
        "query_id": "0123456789abcdef",
    }  # fmt: skip
    url = re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], "none"), path)
    asked = {"/api/v1/search": "?q=n", "/api/v1/connections/check": "?connection=lake_catalog"}
    return url + asked.get(path, "")


def body(method: str, path: str, workspace: str) -> dict[str, Any]:
    given = BODIES.get(path, {}) if method != "GET" else {}
    return {"json": {name: text.format(workspace=workspace) for name, text in given.items()}} if given else {}


@pytest.mark.parametrize("role", ROLES)
def test_the_matrix(lab: Lab, address: str, role: str) -> None:
    table, wrong = needed(), []
    column = ROLES.index(role)
    # A bearer token: the right alone decides, not what a browser sends along.
    token = {"authorization": f"Bearer {session(lab, role, (OWN,))}"}
    with httpx.Client(base_url=f"{address}/forebay", headers=token, timeout=60, trust_env=False) as visitor:
        for path, methods, is_open in routes(lab):
            for method in methods:
                if is_open or method == "HEAD":
                    continue
                right = table.get((method, path))
                assert right is not None, f"{method} {path} is not in the table: what does it take?"
                for workspace in (OWN, OTHER):
                    there = workspace == OWN or role == "admin" or right in EVERYWHERE
                    may = RIGHTS[right][column] and there
                    got = visitor.request(
                        method, filled(path, workspace), **body(method, path, workspace)
                    ).status_code
                    if (got in (401, 403)) == may or got >= 500:
                        wrong.append(f"{method} {path} for {role} in {workspace}: {got}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("role", ROLES)
def test_a_namespace_that_others_list_is_theirs(lab: Lab, address: str, role: str) -> None:
    for team in (OWN, OTHER):
        token = {"authorization": f"Bearer {session(lab, role, (team,))}"}
        with httpx.Client(
            base_url=f"{address}/forebay", headers=token, timeout=60, trust_env=False
        ) as visitor:
            may = {
                right: RIGHTS[right][ROLES.index(role)] and (team == OTHER or role == "admin")
                for right in RIGHTS
            }
            assert not wrong_in_listed(visitor, may), team


def wrong_in_listed(visitor: httpx.Client, may: dict[str, bool]) -> list[str]:
    """Routes of the namespace that is named like one workspace and listed by the other, which answer wrongly."""
    wrong = []
    for (method, path), right in needed().items():
        if "{namespace}" in path:
            url = path.replace("{namespace}", LISTED).replace("{table}", "rows")
            got = visitor.request(method, url).status_code
            if (got in (401, 403)) == may[right] or got >= 500:
                wrong.append(f"{method} {url}: {got}")
    return wrong


def test_the_table_has_no_route_that_is_gone(lab: Lab) -> None:
    there = {(method, path) for path, methods, _ in routes(lab) for method in methods}
    assert set(needed()) <= there, set(needed()) - there


def test_lists_leave_out_what_one_may_not_see(lab: Lab, address: str) -> None:
    with client(lab, address, "op", OWN) as own, client(lab, address, "op", OTHER) as other:
        eventually(20, lambda: own.get("/api/v1/catalog").json(), "the index is filled")
        for visitor, mine, theirs in ((own, OWN, OTHER), (other, OTHER, OWN)):
            assert mine in {each["namespace"] for each in visitor.get("/api/v1/catalog").json()}
            assert theirs not in {each["namespace"] for each in visitor.get("/api/v1/catalog").json()}
            listed = {each["name"] for each in visitor.get("/api/v1/workspaces").json()}
            assert mine in listed
            assert theirs not in listed
            hits = visitor.get("/api/v1/search", params={"q": "n"}).json()["hits"]
            assert not [hit for hit in hits if hit["table"].startswith(f"{theirs}.")]
            for page in ("/health", "/workspaces", "/catalog", f"/catalog?q={theirs}", "/audit?kind=all"):
                body = visitor.get(page).text
                assert f"/{theirs}/" not in body, page
                assert f"{theirs}.rows" not in body, page
                assert f"{theirs}.console" not in body, page
        events = own.get("/api/v1/audit", params={"kind": "all", "limit": 1000}).json()["events"]
        assert not [each for each in events if each["job"].startswith("other.")]
        assert own.get("/catalog/other/rows/sample").status_code == 403
        assert other.get("/catalog/other/rows/sample").status_code == 200
        noted = {"kind": "console", "about": "other.rows"}
        assert not own.get("/api/v1/audit", params=noted).json()["events"]
        assert other.get("/api/v1/audit", params=noted).json()["events"]


def test_sql_stays_in_ones_own_workspace(lab: Lab, address: str) -> None:
    with client(lab, address, "user", OWN) as own, client(lab, address, "user", OTHER) as other:
        for visitor, team in ((own, OWN), (other, OTHER)):
            visitor.headers["authorization"] = f"Bearer {session(lab, 'user', (team,))}"
        nothing_of_others(own, other)


def test_everybodys_queries_are_for_admins(lab: Lab, address: str) -> None:
    def somebody(role: str, team: str) -> httpx.Client:
        visitor = client(lab, address, role, team)
        visitor.headers["authorization"] = f"Bearer {session(lab, role, (team,))}"
        return visitor

    with somebody("user", OTHER) as theirs:
        number = json.loads(ask(theirs, OTHER, THEIRS).text.splitlines()[0])["id"]
    for role in ("viewer", "user", "op"):
        for team in (OWN, OTHER):
            with somebody(role, team) as visitor:
                everyone = visitor.get("/api/v1/query/history", params={"everyone": True})
                assert everyone.status_code == 403, f"{role} of {team}"
                assert THEIRS not in unescape(visitor.get("/sql/history?everyone=true").text) or (
                    role == "user" and team == OTHER
                )
                if (role, team) != ("user", OTHER):
                    assert visitor.get(f"/api/v1/query/{number}").status_code == 404
                    assert visitor.delete(f"/api/v1/query/{number}").status_code == 404
                assert not visitor.get("/api/v1/audit", params={"event": "forebay.query_history"}).json()[
                    "events"
                ]
    with somebody("admin", OWN) as admin:
        found = admin.get("/api/v1/query/history", params={"everyone": True}).json()
        assert number in {each["id"] for each in found}
        assert admin.get(f"/api/v1/query/{number}").json()["sql"] == THEIRS
        assert admin.get("/api/v1/audit", params={"event": "forebay.query_history"}).json()["events"]


def test_a_command_notes_only_tables_that_one_may_change(lab: Lab, address: str) -> None:
    run = lab.api.get("/dags/lab.console/dagRuns", limit=1)["dag_runs"][0]["dag_run_id"]
    note = f"/api/v1/runs/lab.console/{run}/note"
    with client(lab, address, "op", OWN) as own:
        own.headers["authorization"] = f"Bearer {session(lab, 'op', (OWN,))}"
        for tables in ([f"{OTHER}.rows"], [f"{OWN}.console_rows", f"{LISTED}.rows"], ["nobodys.rows"]):
            refused = own.post(note, json={"act": "discard", "tables": tables})
            assert refused.status_code == 403, tables
            assert "tables of another workspace," in refused.text
        mine = {"act": "discard", "tables": [f"{OWN}.console_rows"]}
        assert own.post(note, json=mine).status_code == 204
        found = own.get("/api/v1/audit", params={"event": "forebay.discard_run"}).json()["events"]
        assert [each["details"]["tables"] for each in found if each["run"] == run] == [
            [f"{OWN}.console_rows"]
        ]


def test_the_doctor_uses_no_connection_that_its_visitor_may_not_check(lab: Lab, address: str) -> None:
    """Somebody's own connection names another team's catalog: its login is used for those who might check it only."""
    named = {
        "connection_id": "theirs",
        "conn_type": "iceberg",
        "host": "http://127.0.0.1:1",
        "team_name": OTHER,
    }
    mine = {
        "connection_id": "mine",
        "conn_type": "duckdb",
        "extra": '{"catalog": "theirs"}',
        "team_name": OWN,
    }
    made = {"authorization": f"Bearer {session(lab, 'admin', (OWN, OTHER))}"}
    with httpx.Client(base_url=address, headers=made, timeout=60, trust_env=False) as admin:
        for each in (named, mine):
            assert admin.post("/api/v2/connections", json=each).status_code == 201

    def found(*teams: str) -> str:
        token = {"authorization": f"Bearer {session(lab, 'op', teams)}"}
        answer = httpx.post(
            f"{address}/forebay/api/v1/connections/mine/check", params={"timeout": 20}, headers=token, timeout=60,
            trust_env=False,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        return str(next(each for each in answer.json()["steps"] if each["key"] == "list")["found"])

    assert found(OWN) == "there is no connection 'theirs'"
    assert "refuses connections" in found(OWN, OTHER)


def test_a_connection_from_elsewhere_is_not_missing(lab: Lab, address: str) -> None:
    """The workspace names `nowhere`, and this server has it in its environment: who may not see it learns nothing of it."""
    for role, sees in (("viewer", False), ("user", False), ("admin", True)):
        with client(lab, address, role, OWN) as visitor:
            listed = {
                each["connection_id"]: each["origin"]
                for each in visitor.get("/api/v1/connections").json()["connections"]
            }
            assert listed.get("nowhere") == ("outside" if sees else None), role
            assert ("nowhere" in visitor.get("/connections").text) == sees, role


def test_a_runs_id_does_not_show_another_workspaces_run(lab: Lab, address: str) -> None:
    run = lab.api.get("/dags/other.rows/dagRuns", limit=1)["dag_runs"][0]["dag_run_id"]
    with client(lab, address, "op", OWN) as own, client(lab, address, "op", OTHER) as other:
        assert other.get(f"/api/v1/runs/{run}").json()["job"] == "other.rows"
        assert own.get(f"/api/v1/runs/{run}").status_code == 404
        assert own.get(f"/runs/{run}").status_code == 404


def test_what_was_done_with_forgotten_jobs_is_their_workspaces(lab: Lab, address: str) -> None:
    copy = psycopg2.connect(
        settings_on(lab, DATABASE)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    )
    with contextlib.closing(copy), copy, copy.cursor() as cursor:
        for job in (f"{OWN}.gone", f"{OTHER}.gone"):
            cursor.execute(
                "INSERT INTO log (dttm, dag_id, event, owner) VALUES (now(), %s, 'delete_dag', 'x')", (job,)
            )
    for team in (OWN, OTHER):
        with client(lab, address, "op", team) as visitor:
            found = visitor.get("/api/v1/audit", params={"event": "delete_dag"}).json()["events"]
            deleted = [each["job"] for each in found]
            assert {job.partition(".")[0] for job in deleted} == {team}
            # Another test may have deleted a job of ours as well.
            assert [job for job in deleted if job.endswith(".gone")] == [f"{team}.gone"]


def test_a_roll_back_stops_at_what_one_may_not_change(lab: Lab, address: str) -> None:
    """Rows of the other workspace were made from ours: who may not change those cannot take ours back."""
    from forebay.engines.duckdb import DuckDBEngine
    from forebay.lake.identity import TaskTry
    from forebay.lake.publish import publish
    from forebay.lake.rest import Rest
    from forebay.lake.tables import TableDefinition

    def write(job: str, run: str, table: str, query: str) -> None:
        who = TaskTry(job=job, run=run, task="write", number=1, writes=(table,))
        with DuckDBEngine(lab.lake.seen_by(who)) as engine:
            engine.write(query, TableDefinition(table), "append")
        with Rest(lab.lake.main()) as rest:
            publish(rest, who, who.writes)

    write("lab.console", "one", "lab.shared", "SELECT 1 AS n")
    write("lab.console", "two", "lab.shared", "SELECT 2 AS n")
    write("other.rows", "reader", "other.from_lab", "SELECT n FROM lake.lab.shared")
    # What was read is told to those who may see it.
    pages = ("/catalog/other/from_lab", "/catalog/other/from_lab/history", "/runs/other.rows/reader")
    for teams, sees in (((OTHER,), False), ((OWN, OTHER), True)):
        with client(lab, address, "viewer", OTHER) as reader:
            reader.headers["authorization"] = f"Bearer {session(lab, 'viewer', teams)}"
            for page in pages:
                shown = reader.get(page)
                assert shown.status_code == 200, page
                assert (f"{OWN}.shared" in shown.text) == sees, page
                assert ("a table of another workspace" in shown.text) != sees, page
            told = reader.get("/api/v1/catalog/other/from_lab/history").json()[0]
            assert ([each.partition("@")[0] for each in told["inputs"]], told["inputs_hidden"]) == (
                (["lab.shared"], 0) if sees else ([], 1)
            )
            run = reader.get("/api/v1/runs/other.rows/reader").json()
            assert (f"{OWN}.shared" in str(run)) == sees
            assert run["inputs_hidden"] == (0 if sees else 1)
    where = "/api/v1/catalog/lab/shared"
    with client(lab, address, "op", OWN) as own:
        own.headers["authorization"] = f"Bearer {session(lab, 'op', (OWN,))}"
        start = own.get(f"{where}/history").json()[-1]["snapshot"]
        plan = own.get(f"{where}/rollback", params={"snapshot": start}).json()
        assert plan["may_not_change"] == ["another workspace"]
        assert plan["hidden"] >= 1
        assert "other." not in str(plan["tables"]) + str(plan["built_on"])
        body = {"snapshot": int(start), "plan": plan["digest"], "confirm": "lab.shared"}
        refused = own.post(f"{where}/rollback", json=body)
        assert refused.status_code == 403
        assert "another workspace" in refused.json()["detail"]
        page = own.get("/catalog/lab/shared/rollback", params={"snapshot": start})
        assert "Not by you" in page.text
        assert 'name="confirm"' not in page.text
        assert len(own.get(f"{where}/sample").json()["rows"]) == 2
    with client(lab, address, "op", OWN) as both:
        both.headers["authorization"] = f"Bearer {session(lab, 'op', (OWN, OTHER))}"
        assert both.post(f"{where}/rollback", json=body).status_code == 200
        assert len(both.get(f"{where}/sample").json()["rows"]) == 1
