"""People sign in by Keycloak, and what they may do is what their groups say: by Airflow's own login, as a browser does it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from stack_of_tests import eventually

from console_client import routes
from query_rights import nothing_of_others
from teams import LISTED, OTHER, OWN
from test_console_roles import EVERYWHERE, body, filled, needed

if TYPE_CHECKING:
    from keycloak import Keycloak
    from platform_of_tests import Platform

PASSWORD = "a-password-of-the-tests"
PEOPLE = {
    "lab-reader": (f"{OWN}/reader",),
    "lab-editor": (f"{OWN}/editor",),
    "lab-operator": (f"{OWN}-operator",),
    "other-editor": (f"{OTHER}/editor",),
    "an-admin": ("forebay-admin",),
    "both": (f"{OWN}/reader", f"{OTHER}/reader"),
    "nobody": (),
}
RIGHTS = {
    #              reader editor oper.  other  admin
    "anyone":     (True,  True,  True,  True,  True),
    "read":       (True,  True,  True,  True,  True),
    "change":     (False, True,  True,  True,  True),
    "query":      (False, True,  True,  True,  True),
    "connection": (False, False, True,  False, True),
    "audit":      (False, False, True,  False, True),
}  # fmt: skip
MATRIX = tuple(PEOPLE)[:5]


@pytest.fixture(scope="module")
def people(lab: Platform, keycloak: Keycloak) -> dict[str, str]:
    """The token that Airflow's login left with each of them."""
    for name, groups in PEOPLE.items():
        keycloak.make_person(name, PASSWORD, *groups)
    return {name: signed_in(lab, name) for name in PEOPLE}


def browser_at(url: str) -> httpx.Client:
    """Goes where it is sent, and takes loopback for safe, as browsers do: Keycloak's cookies are for safe lines only."""
    browser = httpx.Client(base_url=url, follow_redirects=True, timeout=120, trust_env=False)

    def kept(_: httpx.Response) -> None:
        for cookie in browser.cookies.jar:
            cookie.secure = False

    browser.event_hooks["response"] = [kept]
    return browser


def form_of(page: httpx.Response) -> str:
    """Where Keycloak's form of name and password goes."""
    found = re.search(r'<form[^>]*id="kc-form-login"[^>]*action="([^"]+)"', page.text)
    assert found, f"{page.status_code} {page.url}: {page.text[:2000]}"
    return html.unescape(found[1])


def signed_in(lab: Platform, name: str) -> str:
    """Goes from Airflow to Keycloak, fills in its form, and comes back with a session of Airflow's."""
    url = lab.stack.url("airflow")
    with browser_at(url) as browser:
        page = browser.get("/auth/login/oidc", params={"next": f"{url}/forebay/health"})
        home = browser.post(form_of(page), data={"username": name, "password": PASSWORD})
        assert str(home.url) == f"{url}/forebay/health", f"{home.status_code} {home.url}: {home.text[:2000]}"
        token = browser.cookies.get("_token", path="/")
        assert token, [
            (each.request.method, str(each.request.url), each.status_code) for each in home.history
        ]
        return token


def console(lab: Platform, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"{lab.stack.url('airflow')}/forebay", headers={"authorization": f"Bearer {token}"},
        timeout=120, trust_env=False,
    )  # fmt: skip


def test_a_browsers_session_opens_the_console(lab: Platform, people: dict[str, str]) -> None:
    cookie = {"_token": people["lab-reader"]}
    with httpx.Client(
        base_url=lab.stack.url("airflow"), cookies=cookie, timeout=120, trust_env=False
    ) as client:
        assert client.get("/forebay/health").status_code == 200
        assert client.get("/api/v2/dags/lab.console").json()["dag_id"] == "lab.console"
        assert client.get("/api/v2/dags/other.rows").status_code == 403
        assert {each["dag_id"] for each in client.get("/api/v2/dags").json()["dags"]} == {
            each["dag_id"] for each in lab.api.get("/dags", dag_id_pattern="lab.")["dags"]
        }


@pytest.mark.parametrize("person", MATRIX)
def test_the_matrix(lab: Platform, people: dict[str, str], person: str) -> None:
    table, wrong = needed(), []
    column = MATRIX.index(person)
    with console(lab, people[person]) as client:
        for path, methods, is_open in routes(lab):
            for method in methods:
                if is_open or method == "HEAD":
                    continue
                right = "audit" if "/audit" in path else table[method, path]
                if (method, path) == ("POST", "/sql"):
                    # FAB has no right to edit "any" job: the form has to say where.
                    right = "change"
                for workspace in (OWN, OTHER):
                    there = workspace == person.partition("-")[0] or person == "an-admin"
                    may = RIGHTS[right][column] and (there or right in (*EVERYWHERE, "audit"))
                    sent = body(method, path, workspace)
                    if (method, path) == ("POST", "/sql"):
                        sent = {"data": {"workspace": workspace, "sql": "SELECT 1"}}
                    got = client.request(method, filled(path, workspace), **sent).status_code
                    if (got in (401, 403)) == may or got >= 500:
                        wrong.append(f"{method} {path} for {person} in {workspace}: {got}")
    assert not wrong, "\n".join(wrong)


def test_lists_show_ones_own_workspaces(lab: Platform, people: dict[str, str]) -> None:
    for person, mine in (("lab-editor", {OWN}), ("other-editor", {OTHER}), ("both", {OWN, OTHER})):
        with console(lab, people[person]) as client:
            eventually(60, lambda client=client: client.get("/api/v1/catalog").json(), "the index is filled")
            theirs = {LISTED} if OTHER in mine else set()
            assert {each["namespace"] for each in client.get("/api/v1/catalog").json()} == mine | theirs
            assert {each["name"] for each in client.get("/api/v1/workspaces").json()} == mine
            assert {each["job"].partition(".")[0] for each in client.get("/api/v1/jobs").json()} == mine


def test_sql_stays_in_ones_own_workspace(lab: Platform, people: dict[str, str]) -> None:
    with console(lab, people["lab-editor"]) as own, console(lab, people["other-editor"]) as other:
        nothing_of_others(own, other)


def test_airflow_lets_an_editor_start_the_workspaces_jobs_only(lab: Platform, people: dict[str, str]) -> None:
    for person, job, status in (
        ("lab-reader", "lab.console", 403),
        ("lab-editor", "other.rows", 403),
        ("other-editor", "other.rows", 200),
    ):
        headers = {"authorization": f"Bearer {people[person]}"}
        url = f"{lab.stack.url('airflow')}/api/v2/dags/{job}/dagRuns"
        answer = httpx.post(
            url, json={"logical_date": None, "conf": {}}, headers=headers, timeout=120, trust_env=False
        )
        assert answer.status_code == status, f"{person} {job}: {answer.text}"
        if status == 200:
            run, _ = lab.finish(job, answer.json()["dag_run_id"], 600)
            assert run["triggering_user_name"] == person


def test_who_is_in_no_group_signs_in_and_sees_nothing(lab: Platform, people: dict[str, str]) -> None:
    with console(lab, people["nobody"]) as client:
        for path in ("/catalog", "/api/v1/jobs", "/sql"):
            assert client.get(path).status_code == 403
    with httpx.Client(
        base_url=f"{lab.stack.url('airflow')}/forebay", trust_env=False, timeout=120
    ) as stranger:
        assert stranger.get("/catalog").status_code == 401


def test_who_leaves_a_group_loses_its_role_with_the_next_login(
    lab: Platform, keycloak: Keycloak, people: dict[str, str]
) -> None:
    with console(lab, people["both"]) as client:
        assert client.get(f"/catalog/{OTHER}").status_code == 200
    keycloak.leave("both", f"{OTHER}/reader")
    with console(lab, signed_in(lab, "both")) as client:
        # FAB remembers what somebody may do for half a minute.
        eventually(90, lambda: client.get(f"/catalog/{OTHER}").status_code == 403, "the role is gone")
        assert client.get(f"/catalog/{OWN}").status_code == 200


def test_a_wrong_password_and_a_forged_answer_open_nothing(lab: Platform, people: dict[str, str]) -> None:
    url = lab.stack.url("airflow")
    with browser_at(url) as browser:
        page = browser.get("/auth/login/oidc")
        refused = browser.post(form_of(page), data={"username": "lab-editor", "password": "wrong"})
        assert not str(refused.url).startswith(url)
        browser.get("/auth/oauth-authorized/oidc", params={"code": "made-up", "state": "made-up"})
        assert "_token" not in browser.cookies


def test_behind_an_ingress_keycloak_sends_people_back_to_its_name(lab: Platform) -> None:
    came = {
        "x-forwarded-proto": "https",
        "x-forwarded-host": "airflow.example.com",
        "x-forwarded-port": "443",
    }
    with httpx.Client(
        base_url=lab.stack.url("airflow"), headers=came, timeout=120, trust_env=False
    ) as browser:
        there = httpx.URL(browser.get("/auth/login/oidc").headers["location"])
    assert there.params["redirect_uri"] == "https://airflow.example.com/auth/oauth-authorized/oidc"
    assert there.params["code_challenge_method"] == "S256"


def test_the_clients_secret_is_in_no_log(lab: Platform, keycloak: Keycloak, people: dict[str, str]) -> None:
    said = lab.said()
    assert keycloak.secret not in said
    assert PASSWORD not in said
    assert not [name for name, token in people.items() if token in said]
