"""What nobody may do with another workspace by SQL, whoever decides about rights."""

from __future__ import annotations

import json
from typing import Any

import httpx

from teams import LISTED, OTHER, OWN

MINE = f"SELECT count(*) AS n FROM {OWN}.console_rows"
THEIRS = f"SELECT n FROM {OTHER}.rows"
FORMS: tuple[dict[str, Any], ...] = ({}, {"explain": True}, {"format": "csv"}, {"format": "parquet"})
WAYS_TO_READ = (
    THEIRS,
    f"SELECT n FROM lake.{OTHER}.rows",
    f'SELECT n FROM "{OTHER}"."rows"',
    f"SELECT (SELECT max(n) FROM {OTHER}.rows) AS n",
    f"WITH mine AS (SELECT n FROM {OTHER}.rows) SELECT n FROM mine",
    f"SELECT a.id FROM {OWN}.console_rows AS a JOIN {OTHER}.rows AS b ON a.id = b.n",
    f"SELECT id FROM {OWN}.console_rows UNION ALL SELECT n FROM {OTHER}.rows",
    f"SELECT id FROM {OWN}.console_rows WHERE EXISTS (SELECT 1 FROM {OTHER}.rows)",
)


def ask(client: httpx.Client, workspace: str, sql: str, **more: Any) -> httpx.Response:
    return client.post("/api/v1/query", json={"workspace": workspace, "sql": sql, **more})


def nothing_of_others(own: httpx.Client, theirs: httpx.Client) -> None:
    """`own` may query in its workspace only, `theirs` in the other one only; both carry a bearer token."""
    for more in FORMS:
        assert ask(own, OWN, MINE, **more).status_code == 200, more
        assert ask(theirs, OTHER, THEIRS, **more).status_code == 200, more
        for sql in WAYS_TO_READ:
            refused = ask(own, OWN, sql, **more)
            assert refused.status_code == 403, f"{sql} {more}: {refused.status_code} {refused.text[:300]}"
            assert f"{OTHER}.rows" in refused.json()["detail"]
        for sql in ("SELECT 1 AS n", MINE, THEIRS):
            assert ask(own, OTHER, sql, **more).status_code == 403, f"{sql} {more}"
    assert ask(theirs, OTHER, f"SELECT n FROM {LISTED}.rows").status_code == 200
    listed = ask(own, OWN, f"SELECT n FROM {LISTED}.rows")
    assert listed.status_code == 403, "named like ours, and listed by them"
    # A table of Iceberg's own about theirs is no way in either.
    assert ask(own, OWN, f'SELECT * FROM {OTHER}."rows$snapshots"').status_code in (403, 422)
    _forms(own)
    _answers_of_others(own, theirs)
    job = {"workspace": OTHER, "sql": "SELECT 1 AS n", "job": "mine", "table": f"{OTHER}.mine"}
    assert own.post("/api/v1/query/job", json=job).status_code == 403
    looked = {"workspace": OTHER, "sql": "SELECT 1 AS n"}
    assert own.post("/api/v1/query/check", json=looked).status_code == 403
    names = {each["table"] for each in own.get("/api/v1/query/tables").json()["tables"]}
    assert f"{OWN}.console_rows" in names
    assert not [name for name in names if name.startswith(f"{OTHER}.")]


def _forms(own: httpx.Client) -> None:
    """The page without JavaScript."""
    for do in ("run", "explain", "csv", "parquet"):
        for workspace, sql in ((OWN, THEIRS), (OTHER, "SELECT 1 AS n"), (OTHER, THEIRS)):
            sent = own.post("/sql", data={"workspace": workspace, "sql": sql, "do": do})
            assert sent.status_code == 403, f"{do} {sql} in {workspace}: {sent.status_code}"
    for do in ("save", "job"):
        sent = own.post(
            "/sql",
            data={
                "workspace": OTHER, "sql": "SELECT 1 AS n", "do": do, "title": "Mine", "job": "mine", "table": f"{OTHER}.mine"
            },
        )  # fmt: skip
        assert sent.status_code == 403, do
    page = own.get("/sql", params={"workspace": OTHER})
    assert page.status_code == 200
    assert f"{OTHER}.rows" not in page.text
    assert f"<option selected>{OWN}</option>" in page.text


def _answers_of_others(own: httpx.Client, theirs: httpx.Client) -> None:
    """What somebody asked is theirs alone."""
    number = json.loads(ask(theirs, OTHER, THEIRS).text.splitlines()[0])["id"]
    assert theirs.get(f"/api/v1/query/{number}").json()["sql"] == THEIRS
    assert own.get(f"/api/v1/query/{number}").status_code == 404
    assert own.delete(f"/api/v1/query/{number}").status_code == 404
    assert own.get("/sql", params={"query": number}).status_code == 404
    assert number not in {each["id"] for each in own.get("/api/v1/query/history").json()}
    assert own.get("/api/v1/query/history", params={"everyone": True}).status_code == 403
