"""A run publishes all of its tables or none, through Airflow, on DuckDB and PyIceberg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from conftest import eventually
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import Branch, ancestry, ref, snapshots, stamp
from forebay.lake.identity import Run
from forebay.lake.rest import Rest

if TYPE_CHECKING:
    from conftest import Lab


def rows(lab: Lab, table: str) -> list[tuple[Any, ...]]:
    """What a table holds for everybody."""
    with DuckDBEngine(lab.lake.published()) as engine:
        found = engine.query(f"SELECT * FROM lake.{table} ORDER BY ALL").to_pylist()
    return [tuple(row.values()) for row in found]


def exists(lab: Lab, table: str) -> bool:
    with Rest(lab.lake) as rest:
        found = rest.table(table)
    return found is not None and ref(found, "main") is not None


def log(lab: Lab, dag_id: str, run_id: str, task: str, number: int = 1) -> str:
    return "\n".join(lab.api.log(dag_id, run_id, task, number))


def test_all_or_nothing_and_no_row_twice(lab: Lab) -> None:
    spoiled, tasks = lab.run("lab.transaction", {"spoil": True})
    assert spoiled["state"] == "failed"
    assert {key: found[0]["state"] for key, found in tasks.items()} == {
        "first": "success", "again": "success", "second": "failed", "publish": "upstream_failed",
    }  # fmt: skip
    assert not exists(lab, "lab.tx_first")
    assert not exists(lab, "lab.tx_second")

    run, tasks = lab.run("lab.transaction")
    assert run["state"] == "success"
    assert tasks["again"][0]["try_number"] == 2
    assert rows(lab, "lab.tx_first") == [(0,), (1,), (2,)]
    assert rows(lab, "lab.tx_second") == [(3, 0)]
    with Rest(lab.lake) as rest:
        document = rest.table("lab.tx_second")
        first = rest.table("lab.tx_first")
    assert document is not None
    assert first is not None
    made = snapshots(document)[ref(document, "main") or 0]
    assert {name: stamp(made, name) for name in ("workspace", "job", "run", "task", "try", "engine", "user")} == {
        "workspace": "lab", "job": "lab.transaction", "run": run["dag_run_id"], "task": "second", "try": "1",
        "engine": "duckdb", "user": "admin",
    }  # fmt: skip
    assert stamp(made, "inputs") == f"lab.tx_first@{ref(first, 'main')}"
    line = list(ancestry(snapshots(first), ref(first, "main")))
    assert [(stamp(each, "task"), stamp(each, "try")) for each in line] == [
        ("again", "2"), ("again", "2"), ("first", "1"),
    ]  # fmt: skip
    # The failed run's branch is still there to be looked at.
    branch = Branch.find(first, Run("lab.transaction", str(spoiled["dag_run_id"])).branch)
    assert branch is not None
    assert branch.head is not None

    # A task of a published run cannot write its rows a second time.
    body = {"dry_run": False, "dag_run_id": run["dag_run_id"], "task_ids": ["second"], "only_failed": False}
    lab.api.request("POST", "/api/v2/dags/lab.transaction/clearTaskInstances", json=body)

    def refused() -> bool:
        found = lab.api.task_instances("lab.transaction", str(run["dag_run_id"]))
        return any(t["task_id"] == "second" and (t["try_number"], t["state"]) == (2, "failed") for t in found)

    eventually(60, refused, "the second try is refused")
    assert "forebay rollback" in log(lab, "lab.transaction", str(run["dag_run_id"]), "second", 2)
    assert rows(lab, "lab.tx_second") == [(3, 0)]


def test_each_table_on_its_own(lab: Lab) -> None:
    run, tasks = lab.run("lab.each")
    assert run["state"] == "failed"
    assert "publish" not in tasks
    assert rows(lab, "lab.each_good") == [(1,)]
    assert not exists(lab, "lab.each_bad")


def test_after_approval(lab: Lab) -> None:
    for answer, state in (("Reject", "failed"), ("Approve", "success")):
        run_id = lab.start("lab.approved")
        path = f"/dags/lab.approved/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"

        def asked(path: str = path) -> bool:
            tasks = {t["task_id"]: t["state"] for t in lab.api.task_instances("lab.approved", run_id)}  # noqa: B023
            return tasks.get("approve") in ("deferred", "awaiting_input") and bool(lab.api.get(path))

        eventually(60, asked, "the approval is asked for")
        assert "lab.approved" in str(lab.api.get(path)["subject"])
        assert not exists(lab, "lab.approved")
        lab.api.request("PATCH", f"/api/v2{path}", json={"chosen_options": [answer]})
        run, _ = lab.finish("lab.approved", run_id)
        assert run["state"] == state
        assert exists(lab, "lab.approved") == (answer == "Approve")
    assert rows(lab, "lab.approved") == [(1,)]


def test_an_answered_failure_leaves_its_rows_out(lab: Lab) -> None:
    run, tasks = lab.run("lab.handled")
    assert (run["state"], tasks["bad"][0]["state"], tasks["publish"][0]["state"]) == (
        "success",
        "failed",
        "success",
    )
    assert rows(lab, "lab.handled") == [(7,)]


def test_what_a_check_refused_is_not_published_whatever_comes_after_it(lab: Lab) -> None:
    run, tasks = lab.run("lab.told")
    states = {key: found[0]["state"] for key, found in tasks.items()}
    assert states == {"make": "success", "trust": "failed", "tell": "success", "publish": "upstream_failed"}
    assert run["state"] == "failed"
    assert not exists(lab, "lab.told")


def test_a_table_that_is_not_declared(lab: Lab) -> None:
    run, tasks = lab.run("lab.undeclared")
    assert run["state"] == "failed"
    assert "publish" not in tasks
    said = log(lab, "lab.undeclared", str(run["dag_run_id"]), "write")
    assert "does not declare that it writes lab.tx_first" in said


def test_the_lens_is_watched_and_answers(lab: Lab) -> None:
    lens = lab.stack.url("lens")
    assert httpx.get(f"{lens}/health").json()["status"] == "ok"
    assert (
        'forebay_lens_requests_total{method="POST",status="200",view="run"}'
        in httpx.get(f"{lens}/metrics").text
    )
    assert httpx.get(f"{lens}/main/v1/namespaces").status_code in (401, 403)
    status = {each["name"]: each for each in lab.json("status")["services"]}
    assert status["lens"]["state"] == "up"
