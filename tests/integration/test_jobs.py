"""What a job's YAML says is what Airflow does, seen through its REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from conftest import eventually
from console_client import text as read
from forebay.stack.airflow_api import ApiError

if TYPE_CHECKING:
    from conftest import Lab


def rows(lab: Lab, table: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = lab.lake.pyiceberg().load_table(table).scan().to_arrow().to_pylist()
    return found


def test_everything_a_job_can_say(lab: Lab) -> None:
    parameters: dict[str, object] = {"day": "2013-02-28", "count": 4}
    run, tasks = lab.run("lab.everything", parameters)
    states = {key: sorted(str(task["state"]) for task in found) for key, found in tasks.items()}
    assert states == {
        "names": ["success"],
        "each": ["success"] * 4,
        "squares": ["success"],
        "per_number": ["success"] * 2,
        "fails_once": ["success"],
        "child": ["success"],
        "broken": ["failed"],
        "rescue": ["success"],
        "publish": ["success"],
    }
    # `rescue` ran because `broken` failed, so the run as a whole ended well.
    assert run["state"] == "success"
    assert tasks["fails_once"][0]["try_number"] == 2
    run_id = str(run["dag_run_id"])
    assert lab.api.xcom("lab.everything", run_id, "names") == [f"<it's>{n}" for n in range(4)]
    shouted = {lab.api.xcom("lab.everything", run_id, "each", n) for n in range(4)}
    assert shouted == {f"<IT'S>{n}" for n in range(4)}

    squares = sorted(rows(lab, "lab.squares"), key=lambda row: row["x"])  # type: ignore[arg-type, return-value]
    assert [(row["x"], row["square"]) for row in squares] == [
        (1, 1),
        (2, 4),
        (3, 9),
        (4, 16),
        (100, 0),
        (200, 0),
    ]
    assert {str(row["day"]) for row in squares[:4]} == {"2013-02-28"}
    assert {row["label"] for row in squares[:4]} == {"it's"}

    child = lab.api.get("/dags/lab.child/dagRuns")["dag_runs"][-1]
    assert (child["state"], child["conf"]) == ("success", {"word": "it's"})
    notes = lab.root / "notes"
    eventually(
        20,
        lambda: {"broken-failed", "everything-success"} <= {p.name for p in notes.iterdir()},
        "notifiers ran",
    )
    eventually(
        30, lambda: lab.api.get("/dags/lab.after_squares/dagRuns")["dag_runs"], "a job started on lab.squares"
    )


def test_small_files_are_put_together_and_no_job_is_told(lab: Lab, admin: httpx.Client) -> None:
    assert lab.run("lab.pieces")[0]["state"] == "success"
    assets = lab.api.get("/assets", name_pattern="lab.pieces")["assets"]
    events = {"asset_id": next(asset["id"] for asset in assets if asset["name"] == "lab.pieces")}
    before = lab.api.get("/assets/events", **events)["total_entries"]
    assert before == 1
    said = lab.forebay("run", "lab.files")
    assert said.returncode == 0, said.stdout + said.stderr
    for text in (
        "lab.pieces: 3 files became 1, 3 rows as before",
        "lab.never_spark: the table does not exist",
    ):
        assert text in said.stdout
    assert [row["n"] for row in sorted(rows(lab, "lab.pieces"), key=lambda row: str(row["n"]))] == [1, 2, 3]
    assert len(list(lab.lake.pyiceberg().load_table("lab.pieces").scan().plan_files())) == 1
    newest = lab.json("blame", "lab.pieces")[0]
    assert (newest["operation"], newest["job"], newest["task"], newest["added"]) == (
        "replace",
        "lab.files",
        "files",
        0,
    )
    assert lab.api.get("/assets/events", **events)["total_entries"] == before
    (run,) = lab.json("runs", "lab.files")
    assert run["state"] == "published"

    # The console says what became of the files, and does not take who put them together for who writes the table.
    page = read(admin.get(f"/runs/lab.files/{quote(run['run_id'], safe='')}")).replace(" :", ":")
    assert "lab.pieces: 3 files became 1, 3 rows as before · replace" in page
    assert "lab.never_spark: the table does not exist" in page
    told = admin.get(f"/api/v1/runs/{quote(run['run_id'], safe='')}").json()["tasks"][0]["files"]
    assert told["lab.pieces"] == "3 files became 1, 3 rows as before"
    assert "written by lab.pieces" in read(admin.get("/catalog/lab/pieces"))

    def last() -> str:
        listed = admin.get("/api/v1/catalog/lab").json()
        return next((str(each["job"]) for each in listed if each["table"] == "lab.pieces"), "")

    eventually(20, lambda: last() == "lab.files", "the console knows who was the last")
    drift = admin.get("/api/v1/workspaces/lab").json()["drift"]
    assert "lab.pieces" not in [each["name"] for each in drift]


def test_asset_events_carry_snapshot_and_rows(lab: Lab) -> None:
    lab.run("lab.everything")
    assets = lab.api.get("/assets", name_pattern="lab.squares")["assets"]
    asset = next(asset for asset in assets if asset["name"] == "lab.squares")
    assert asset["uri"] == "iceberg://lake/lab/squares"
    events = lab.api.get("/assets/events", asset_id=asset["id"], source_task_id="publish")["asset_events"]
    snapshots = {
        str(s.snapshot_id) for s in lab.lake.pyiceberg().load_table("lab.squares").metadata.snapshots
    }
    assert events
    assert {str(event["extra"]["snapshot_id"]) for event in events} <= snapshots
    assert any(event["extra"]["added"] > 0 for event in events)
    assert {str(event["extra"]["run"]) for event in events} == {str(e["source_run_id"]) for e in events}


def test_parameters_are_typed_in_the_trigger_form(lab: Lab) -> None:
    eventually(30, lambda: lab.known("lab.everything"), "lab.everything is known")
    params = lab.api.get("/dags/lab.everything/details")["params"]
    schemas = {
        name: {k: v for k, v in p["schema"].items() if k != "description"} for name, p in params.items()
    }
    assert schemas == {
        "day": {"type": ["null", "string"], "format": "date"},
        "count": {"type": "integer", "minimum": 1, "maximum": 10},
        "label": {"type": "string", "enum": ["it's", "other"]},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
    }
    assert params["day"]["description"] == "Day of the run. Left empty: yesterday."
    assert {name: p["value"] for name, p in params.items()} == {
        "day": None,
        "count": 3,
        "label": "it's",
        "ratio": 0.5,
        "flag": True,
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", "three", "integer"),
        ("count", 11, "maximum"),
        ("label", "neither", "one of"),
        ("day", "soon", "date"),
    ],
)
def test_a_wrong_parameter_is_refused_when_triggered(lab: Lab, name: str, value: object, words: str) -> None:
    eventually(30, lambda: lab.known("lab.everything"), "lab.everything is known")
    with pytest.raises(ApiError, match=f"(?s)HTTP 4.*{words}"):
        lab.api.trigger("lab.everything", {name: value})


def test_the_dag_page_shows_the_yaml_and_its_path(lab: Lab) -> None:
    eventually(30, lambda: lab.known("lab.child"), "lab.child is known")
    documentation = lab.api.get("/dags/lab.child/details")["doc_md"]
    assert "`dags/lab/child.yaml`" in documentation
    assert (lab.root / "dags/lab/child.yaml").read_text().strip() in documentation
    dag = lab.api.get("/dags/lab.child")
    assert dag["owners"] == ["test"]
    assert {tag["name"] for tag in dag["tags"]} == {"lab"}


def test_a_missed_deadline_tells_people(lab: Lab) -> None:
    run_id = lab.start("lab.slow_python")
    try:
        eventually(40, lambda: (lab.root / "notes/deadline").exists(), "the deadline's notifier ran")
    finally:
        lab.api.request("PATCH", f"/api/v2/dags/lab.slow_python/dagRuns/{run_id}", json={"state": "failed"})
        lab.finish("lab.slow_python", run_id)


def test_run_follows_a_job_and_prints_what_it_wrote(lab: Lab) -> None:
    result = lab.json("run", "lab.after_squares") if lab.run("lab.everything") else None
    assert result is not None
    assert result["state"] == "success"
    assert result["tables"]["lab.squares_copy"]["rows"] == len(rows(lab, "lab.squares"))
    shown = lab.forebay("run", "lab.after_squares")
    assert shown.returncode == 0
    assert "✓ copy" in shown.stdout
    assert "lab.squares_copy:" in shown.stdout


def test_run_shows_the_end_of_a_failed_tasks_log(lab: Lab) -> None:
    run = lab.forebay("run", "lab.failing")
    assert run.returncode == 1
    assert "✗ divide" in run.stdout
    assert "twelve" in run.stdout
    assert "failed after" in run.stdout


def test_run_refuses_what_cannot_work(lab: Lab) -> None:
    unknown = lab.forebay("run", "lab.everythin")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no job 'lab.everythin'. Did you mean 'lab.everything'?" in unknown.stderr
    wrong = lab.forebay("run", "lab.everything", "--param", "count=three", "--param", "cuont=3", "-p", "flag")
    assert wrong.returncode == 1
    assert "parameter 'count' must be of type integer, not 'three'" in wrong.stderr
    assert "has no parameter 'cuont'. Did you mean 'count'?" in wrong.stderr
    assert "'flag' is not NAME=VALUE" in wrong.stderr
    missing = lab.forebay("run", "lab.child")
    assert "parameter 'word' has no default: give it with --param word=…" in missing.stderr


def test_sql_and_tables_read_the_lake(lab: Lab) -> None:
    lab.run("lab.everything")
    found = lab.json("sql", "SELECT count(*) AS n, max(x) AS x FROM lab.squares")
    assert found == {"columns": ["n", "x"], "rows": [[5, 200]], "more": False}
    tables = {table["name"]: table for table in lab.json("tables", "lab")}
    assert tables["lab.squares"]["rows"] == 5
    for text, words in (
        ("DROP TABLE lab.squares", "takes one SELECT"),
        ("SELECT 1; SELECT 2", "takes one SELECT"),
        ("SELECT * FROM 'notes/x.csv'", "SQL:1:15"),
        ("SELECT * FROM read_csv('/etc/passwd')", "SQL:1:15"),
        ("SELECT :x", ":x stands for a value"),
    ):
        refused = lab.forebay("sql", text)
        assert refused.returncode == 1
        assert words in refused.stderr, refused.stderr
    assert lab.json("sql", "SELECT count(*) AS n FROM lab.squares")["rows"] == [[5]]


def test_a_table_that_a_run_makes_and_drops_again(lab: Lab) -> None:
    """It is not missed when the run is published; and what a function returns is nobody's report."""
    done = lab.forebay("run", "lab.staging")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lab.from_staging: 1 rows written" in done.stdout
    assert "lab.staging" not in {each["name"] for each in lab.json("tables", "lab")}
