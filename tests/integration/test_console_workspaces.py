"""Workspaces on a real stack: what is declared, what is there, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import eventually
from console_client import browser, text

if TYPE_CHECKING:
    from conftest import Lab

YAML = """tasks:
  - key: one
    type: sql
    sql: SELECT 1 AS n
    table: drifting.made
    mode: overwrite
    comment: %s
    partitioned_by: [n]
"""


@pytest.fixture(scope="module")
def drifting(lab: Lab) -> None:
    """A workspace of its own, with one job that ran."""
    folder = lab.root / "dags/drifting"
    folder.mkdir()
    (folder / "jobs.py").write_text((lab.root / "dags/lab/jobs.py").read_text())
    (folder / "workspace.yaml").write_text(
        "owner: drifters\ndescription: What moves.\nconnections: {allowed: [not_made]}\n"
        "limits: {max_concurrent_tasks: 3, timeout: 1h}\n"
    )
    (folder / "made.yaml").write_text(YAML % "First words.")
    run, tasks = lab.run("drifting.made")
    assert run["state"] == "success", tasks


def differs(client: httpx.Client) -> set[tuple[str, str, str]]:
    found: list[dict[str, Any]] = client.get("/api/v1/workspaces/drifting").json()["drift"]
    return {(each["kind"], each["name"], each["found"]) for each in found}


def test_a_workspace_tells_what_belongs_together(lab: Lab, drifting: None, admin: httpx.Client) -> None:
    lines = {each["name"]: each for each in admin.get("/api/v1/workspaces").json()}
    assert lines["drifting"]["owner"] == "drifters"
    assert lines["drifting"]["jobs"] == 1
    assert "drifters" in text(admin.get("/workspaces"))
    eventually(20, lambda: "First words." in text(admin.get("/workspaces/drifting")), "the table is known")
    page = text(admin.get("/workspaces/drifting"))
    for words in (
        "What moves.",
        "owner drifters",
        "by hand",
        "First words.",
        "Tasks at the same time 3",
        "1:00:00",
    ):
        assert words in page, words
    found = admin.get("/api/v1/workspaces/drifting").json()
    assert found["jobs"][0]["last"]["state"] == "success"
    assert {"connection_id": "lake_catalog", "uses": ["catalog"], "exists": True} in found["connections"]
    assert admin.get("/workspaces/nowhere_at_all").status_code == 404
    with browser(lab, "viewer") as viewer:
        assert "drifting" in text(viewer.get("/workspaces"))


def test_what_differs_is_said(lab: Lab, drifting: None, admin: httpx.Client) -> None:
    folder = lab.root / "dags/drifting"
    missing = ("connection", "not_made", "nobody has made it")
    eventually(20, lambda: differs(admin) == {missing}, "only the connection is missing at first")

    (folder / "made.yaml").write_text(YAML % "Other words." + "    column_comments: {gone: Not there.}\n")
    (folder / "later.yaml").write_text(YAML.replace("drifting.made", "drifting.later") % "Later.")
    (folder / "wrong.yaml").write_text("tasks: [{key: a, type: nothing}]\n")
    catalog = lab.lake.main().pyiceberg()
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    catalog.create_table("drifting.by_hand", Schema(NestedField(1, "n", LongType(), required=False)))
    wanted = {
        missing,
        ("table", "drifting.made", "comment: First words."),
        ("table", "drifting.made", "there is no such column"),
    }
    eventually(30, lambda: wanted <= differs(admin), "what changed in the files is seen")
    listed = {
        each["table"]: each["exists"] for each in admin.get("/api/v1/workspaces/drifting").json()["tables"]
    }
    assert listed["drifting.later"] is False, "a table is not missed before its job has run"
    broken = next(each for each in differs(admin) if each[1] == "drifting.wrong")
    assert "unknown task type" in broken[2]
    (folder / "wrong.yaml").unlink()
    (folder / "later.yaml").unlink()
    eventually(
        30,
        lambda: ("table", "drifting.by_hand", "written by others") in differs(admin),
        "a table that no job writes is found",
    )
    # A job that is gone from Git stays in Airflow for a moment: that is a difference, until Airflow has seen it.
    eventually(60, lambda: not any(each[1] == "drifting.later" for each in differs(admin)), "Airflow follows")
    catalog.drop_table("drifting.by_hand")
    catalog.drop_table("drifting.made")
    gone = ("table", "drifting.made", "not there")
    eventually(20, lambda: gone in differs(admin), "a table that its job had made is missed")


def test_failures_come_first(lab: Lab, admin: httpx.Client) -> None:
    run, _ = lab.run("lab.failing")
    assert run["state"] == "failed"
    lines = admin.get("/api/v1/workspaces").json()
    lab_line = next(each for each in lines if each["name"] == "lab")
    assert lab_line["failed"] >= 1
    assert lab_line["last_failed"]["job"].startswith("lab.")
    assert "lab.failing" in text(admin.get("/workspaces/lab"))
