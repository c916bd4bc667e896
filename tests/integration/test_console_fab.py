"""Who may do what under FAB's auth manager: roles per workspace, made of permissions on its jobs or on all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from conftest import eventually
from console_client import routes
from query_rights import THEIRS, ask, nothing_of_others
from teams import OTHER, OWN, another, copy_database, settings_on, two_workspaces
from test_console_roles import EVERYWHERE, body, filled, needed, wrong_in_listed

if TYPE_CHECKING:
    from conftest import Lab

DATABASE = "fab"
FAB = {"AIRFLOW__CORE__AUTH_MANAGER": "forebay.workspace_auth.WorkspaceFabAuthManager"}
PASSWORD = "a-password-of-the-tests"
PEOPLE = ("lab-reader", "lab-editor", "lab-op", "other-editor", "Admin", "lab-whole")
"""The last has a right on the workspace and none on a job."""
RIGHTS = {
    #              reader editor op     other  admin  whole
    "anyone":     (True,  True,  True,  True,  True,  True),
    "read":       (True,  True,  True,  True,  True,  True),
    "change":     (False, True,  True,  True,  True,  True),
    "query":      (False, True,  True,  True,  True,  True),
    "connection": (False, False, True,  False, True,  False),
    "audit":      (False, False, True,  False, True,  False),
}  # fmt: skip
"""What a role may do in its own workspace. Who sees the audit log, FAB's roles say by themselves."""

# What Airflow's own pages take for jobs that one may read, and then more; as an administrator puts it together.
ROLES = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from forebay.workspace_roles import rights

people, password, jobs = json.loads(sys.argv[1])
SINGLE = "single-reader"
READ = ["DAG Runs", "Task Instances", "DAG Code", "DAG Versions", "Task Logs", "XComs", "Assets", "DAG Warnings", "HITL Detail",
        "Website"]
with get_application_builder() as builder:
    manager = builder.sm
    manager.sync_roles()
    for name in people:
        if name == "Admin":
            continue
        workspace, _, kind = name.partition("-")
        if kind == "whole":
            manager.bulk_sync_roles([{"role": name, "perms": rights(workspace, "editor")}])
            continue
        given = [("can_read", each) for each in READ]
        if kind != "reader":
            # Not per job in FAB; it takes the right to edit the job as well.
            given += [("can_edit", "DAG Runs")]
        if kind == "op":
            given += [("can_read", "Connections"), ("can_edit", "Connections"), ("can_read", "Audit Logs")]
        manager.bulk_sync_roles([{"role": name, "perms": given}])
    # Somebody who may read one job of the workspace alone; other jobs have permissions of their own, too.
    manager.bulk_sync_roles([{"role": SINGLE, "perms": [("can_read", each) for each in READ]}])
    for job in jobs:
        mine = [each for each in people if each.partition("-")[0] == job.partition(".")[0] and not each.endswith("-whole")]
        access = {}
        for name in mine:
            edits = not name.endswith("-reader")
            access[name] = {"DAGs": {"can_read", "can_edit"} if edits else {"can_read"}}
            if edits:
                access[name]["DAG Runs"] = {"can_read", "can_create"}
        if job == "lab.console":
            access[SINGLE] = {"DAGs": {"can_read"}}
        manager.sync_perm_for_dag(job, access)
    for name in (*people, SINGLE):
        made = manager.add_user(name.lower(), name, "Test", name + "@example.org", manager.find_role(name), password)
        assert made, name
"""


@pytest.fixture(scope="module")
def address(lab: Lab) -> Iterator[str]:
    two_workspaces(lab)
    copy_database(lab, DATABASE)
    own = settings_on(lab, DATABASE) | FAB
    jobs = [each["dag_id"] for each in lab.api.get("/dags", limit=100)["dags"]]
    _inside(lab, own, "-m", "airflow", "fab-db", "migrate")
    _inside(lab, own, "-c", ROLES, json.dumps([PEOPLE, PASSWORD, jobs]))
    with another(lab, DATABASE, FAB) as url:
        yield url


def _inside(lab: Lab, own: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], env=own, cwd=lab.root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def visitor(address: str, person: str) -> httpx.Client:
    """Somebody who logged in with FAB's own users."""
    token = httpx.post(
        f"{address}/auth/token", json={"username": person.lower(), "password": PASSWORD}, timeout=60, trust_env=False
    )  # fmt: skip
    assert token.status_code == 201, token.text
    return httpx.Client(
        base_url=f"{address}/forebay", headers={"authorization": f"Bearer {token.json()['access_token']}"},
        timeout=60, trust_env=False,
    )  # fmt: skip


@pytest.mark.parametrize("person", PEOPLE)
def test_the_matrix(lab: Lab, address: str, person: str) -> None:
    table, wrong = needed(), []
    column = PEOPLE.index(person)
    with visitor(address, person) as client:
        for path, methods, is_open in routes(lab):
            for method in methods:
                if is_open or method == "HEAD":
                    continue
                right = "audit" if "/audit" in path else table[method, path]
                if (method, path) == ("POST", "/sql"):
                    # FAB has no right to edit "any" job: the form has to say where.
                    right = "change"
                for workspace in (OWN, OTHER):
                    mine = workspace == person.partition("-")[0]
                    there = mine or person == "Admin" or right in (*EVERYWHERE, "audit")
                    may = RIGHTS[right][column] and there
                    sent = body(method, path, workspace)
                    if (method, path) == ("POST", "/sql"):
                        sent = {"data": {"workspace": workspace, "sql": "SELECT 1"}}
                    got = client.request(method, filled(path, workspace), **sent).status_code
                    if (got in (401, 403)) == may or got >= 500:
                        wrong.append(f"{method} {path} for {person} in {workspace}: {got}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("person", PEOPLE)
def test_a_namespace_that_others_list_is_theirs(address: str, person: str) -> None:
    there = person in ("other-editor", "Admin")
    with visitor(address, person) as client:
        may = {right: RIGHTS[right][PEOPLE.index(person)] and there for right in RIGHTS}
        assert not wrong_in_listed(client, may)


def test_lists_leave_out_what_one_may_not_see(lab: Lab, address: str) -> None:
    with visitor(address, "lab-op") as own, visitor(address, "other-editor") as other:
        eventually(30, lambda: own.get("/api/v1/catalog").json(), "the index is filled")
        for client, mine, theirs in ((own, OWN, OTHER), (other, OTHER, OWN)):
            seen = {each["namespace"] for each in client.get("/api/v1/catalog").json()}
            assert mine in seen
            assert theirs not in seen
            listed = {each["name"] for each in client.get("/api/v1/workspaces").json()}
            assert mine in listed
            assert theirs not in listed
            jobs = [each["job"] for each in client.get("/api/v1/jobs").json()]
            assert jobs
            assert all(each.startswith(f"{mine}.") for each in jobs)
        events = own.get("/api/v1/audit", params={"kind": "all", "limit": 1000}).json()["events"]
        assert events
        assert not [each for each in events if each["job"].startswith(f"{OTHER}.")]


def test_sql_stays_in_ones_own_workspace(address: str) -> None:
    with visitor(address, "lab-editor") as own, visitor(address, "other-editor") as other:
        nothing_of_others(own, other)


def test_everybodys_queries_and_what_is_about_no_workspace_are_for_admins(address: str) -> None:
    with visitor(address, "other-editor") as theirs:
        number = json.loads(ask(theirs, OTHER, THEIRS).text.splitlines()[0])["id"]
    for person in (each for each in PEOPLE if each != "Admin"):
        with visitor(address, person) as client:
            assert client.get("/api/v1/query/history", params={"everyone": True}).status_code == 403, person
            mine = person == "other-editor"
            assert client.get(f"/api/v1/query/{number}").status_code == (200 if mine else 404), person
    with visitor(address, "Admin") as admin, visitor(address, "lab-op") as op:
        found = admin.get("/api/v1/query/history", params={"everyone": True}).json()
        assert number in {each["id"] for each in found}
        assert admin.get(f"/api/v1/query/{number}").json()["sql"] == THEIRS
        assert "Everybody’s" in admin.get("/sql/history").text
        # Of no workspace and no job: that everybody's queries were looked at.
        noted = {"event": "forebay.query_history"}
        assert admin.get("/api/v1/audit", params=noted).json()["events"]
        assert not op.get("/api/v1/audit", params=noted).json()["events"]


def test_jobs_of_others_are_not_taken_for_jobs_that_airflow_never_read(address: str) -> None:
    with visitor(address, "single-reader") as single, visitor(address, "lab-reader") as reader:
        assert "lab.noop" in {each["job"] for each in reader.get("/api/v1/jobs").json()}
        listed = {each["job"]: each["state"] for each in single.get("/api/v1/jobs").json()}
        assert "lab.console" in listed
        assert "lab.noop" not in listed
        assert "not read yet" not in listed.values()
        assert "lab.noop" not in single.get("/jobs").text


def test_who_has_no_role_sees_nothing(lab: Lab, address: str) -> None:
    with httpx.Client(base_url=f"{address}/forebay", trust_env=False) as nobody:
        assert nobody.get("/catalog").status_code == 401
        assert nobody.get("/api/v1/catalog").status_code == 401
