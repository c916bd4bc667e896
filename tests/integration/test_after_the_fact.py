"""The commands about runs that have ended, on a running stack, as a person types them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from conftest import eventually
from forebay.stack.airflow_api import Json

if TYPE_CHECKING:
    from conftest import Lab


def run(lab: Lab, job: str, **parameters: object) -> str:
    started = lab.start(f"story.{job}", parameters)
    lab.finish(f"story.{job}", started)
    return started


def rows(lab: Lab, table: str) -> list[dict[str, Any]]:
    found = lab.json("sql", f"SELECT * FROM story.{table} ORDER BY 1")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def states(lab: Lab, job: str) -> list[str]:
    return [str(each["state"]) for each in lab.json("runs", f"story.{job}")]


def refused(lab: Lab, *arguments: str) -> str:
    answer = lab.forebay(*arguments)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    return answer.stderr


@pytest.fixture(scope="module")
def story(lab: Lab) -> dict[str, str]:
    """A source, a run on it that is published, one that failed on the source as it was later, and a reader."""
    told = {"source": run(lab, "source", count=2)}
    told["good"] = run(lab, "people", word="a")
    told["totals"] = run(lab, "totals")
    told["more"] = run(lab, "source", count=3)
    told["bad"] = run(lab, "people", word="bad")
    return told


def test_runs_and_their_names(lab: Lab, story: dict[str, str]) -> None:
    listed = lab.json("runs", "story.people")
    assert [(each["run_id"], each["state"]) for each in listed] == [
        (story["bad"], "failed"),
        (story["good"], "published"),
    ]
    assert listed[0]["tables"] == {"story.counts": ["open"], "story.people": ["open"]}
    assert run(lab, "nothing")
    assert states(lab, "nothing") == ["nothing written"]
    shown = lab.forebay("runs", "--limit", "3")
    assert shown.returncode == 0
    assert "story.people/" in shown.stdout
    assert "there is no job 'story.peeple'. Did you mean 'story.people'" in refused(
        lab, "runs", "story.peeple"
    )
    assert "alone names no run" in refused(lab, "diff", "story.people")
    assert "no run is called 'nonsense'" in refused(lab, "diff", "nonsense")
    ambiguous = refused(lab, "diff", "manual__")
    assert "Say which one" in ambiguous
    assert f"story.people/{story['bad']}" in ambiguous
    assert "there is no job 'story.nobody'" in refused(lab, "diff", "story.nobody/latest")
    assert "wrote no table" in refused(lab, "diff", "story.nothing/latest")
    assert "not published, so there is nothing to roll back" in refused(
        lab, "rollback", "story.nothing/latest"
    )


def test_diff(lab: Lab, story: dict[str, str]) -> None:
    found = lab.json("diff", "story.people/latest")
    tables = {each["table"]: each for each in found["tables"]}
    people = tables["story.people"]
    assert (people["state"], people["key"]) == ("open", ["n"])
    assert people["rows"] == {"added": 1, "removed": 0, "changed": 2}
    assert people["sample"]["added"] == [{"n": 3, "word": "bad"}]
    assert people["sample"]["changed"][0] == {"key": {"n": 1}, "columns": {"word": ["a", "bad"]}}
    # By the end of a run's id, as people copy it.
    ended = lab.json("diff", story["good"][-12:], "--table", "story.people")
    assert [each["state"] for each in ended["tables"]] == ["published"]
    assert ended["tables"][0]["rows"]["added"] == 2
    text = lab.forebay("diff", f"story.people/{story['bad']}").stdout
    assert "~ n=1: word a → bad" in text
    assert lab.lake.secret_key not in text + json.dumps(found)
    assert "did not change story.source" in refused(lab, "diff", story["bad"], "--table", "story.source")


def test_blame_and_lineage(lab: Lab, story: dict[str, str]) -> None:
    newest, *_ = lab.json("blame", "story.people")
    assert (newest["run_id"], newest["task"], newest["engine"]) == (story["good"], "merge", "duckdb")
    assert [each.partition("@")[0] for each in newest["inputs"]] == ["story.source"]
    assert story["good"] in lab.forebay("blame", "story.people").stdout
    assert "Did you mean 'story.people'" in refused(lab, "blame", "story.peopel")
    found = lab.json("lineage", "story.people")
    edges = {(each["from"], each["to"], each["job"]) for each in found["edges"]}
    assert edges == {
        ("story.source", "story.people", "story.people"),
        ("story.people", "story.counts", "story.people"),
        ("story.people", "story.totals", "story.totals"),
    }
    text = lab.forebay("lineage", "story.totals").stdout
    assert text.index("story.people") < text.index("story.source")


def test_a_failed_run_is_published_by_force_or_discarded(lab: Lab, story: dict[str, str]) -> None:
    bad = f"story.people/{story['bad']}"
    assert "failed in verdict" in refused(lab, "publish", bad)
    assert "say --yes" in refused(lab, "discard", bad)
    assert "Discarding is for what nobody sees yet" in refused(lab, "discard", story["good"], "--yes")
    done = lab.json("publish", bad, "--force")
    assert set(done["tables"]) == {"story.people", "story.counts"}
    assert set(done["events"]) == {"story.people", "story.counts"}
    assert [each["word"] for each in rows(lab, "people")] == ["bad"] * 3
    assert all(each["again"] for each in lab.json("publish", bad)["tables"].values())
    assert states(lab, "people")[0] == "published"
    lab.json("rollback", bad)
    assert [each["word"] for each in rows(lab, "people")] == ["a"] * 2
    assert states(lab, "people") == ["rolled back", "published"]
    assert lab.json("rollback", bad)["tables"] == []
    assert "was rolled back" in refused(lab, "publish", bad)
    assert lab.json("blame", "story.people")[0]["operation"] == "roll back"
    another = run(lab, "people", word="bad")
    dropped = lab.json("discard", another, "--yes")
    assert set(dropped["tables"]) == {"story.people", "story.counts"}
    # Commands work on the lake itself, and still leave word in Airflow.
    for act, name in (("publish", story["bad"]), ("rollback", story["bad"]), ("discard", another)):
        found = lab.api.get("/eventLogs", event=f"forebay.{act}_run", run_id=name)["event_logs"]
        noted = [json.loads(each["extra"]) for each in found]
        assert [each["tables"] for each in noted] == [["story.counts", "story.people"]], (act, found)
        assert (noted[0]["by"], found[0]["owner"], found[0]["dag_id"]) == ("command", "admin", "story.people")
    assert states(lab, "people")[0] == "discarded"
    assert "nothing to discard" in refused(lab, "discard", another, "--yes")
    assert lab.json("discard", "--older-than", "7d", "story.people", "--yes") == []


def test_a_run_that_waits_for_approval(lab: Lab) -> None:
    started = lab.start("story.asks")
    eventually(30, lambda: states(lab, "asks") == ["open"], "the run waits for approval")
    assert lab.json("diff", started)["tables"][0]["changes"][0].startswith("made with n")
    assert "Approve it in Airflow" in refused(lab, "publish", started)
    assert "still running" in refused(lab, "discard", started, "--yes")
    assert "still running" in refused(lab, "rollback", started)
    lab.api.request("PATCH", f"/api/v2/dags/story.asks/dagRuns/{started}", json={"state": "failed"})
    assert states(lab, "asks") == ["failed"]
    lab.json("discard", started, "--yes")
    # The table went with it: what the tasks said tells that there was something.
    assert states(lab, "asks") == ["discarded"]

    # So does what is swept out by its age; each run is in the audit log then as well.
    old = lab.start("story.asks")
    eventually(30, lambda: states(lab, "asks")[0] == "open", "the run waits for approval")
    assert lab.json("discard", "--older-than", "1s", "story.asks", "--yes") == []
    lab.api.request("PATCH", f"/api/v2/dags/story.asks/dagRuns/{old}", json={"state": "failed"})
    dropped = lab.json("discard", "--older-than", "1s", "story.asks", "--yes")
    assert [each["run_id"] for each in dropped] == [old]
    rows = lab.api.get("/eventLogs", dag_id="story.asks", run_id=old, event="forebay.discard_run")[
        "event_logs"
    ]
    assert [json.loads(each["extra"])["tables"] for each in rows] == [[each["table"]] for each in dropped]


def test_rerun_as_of(lab: Lab, story: dict[str, str]) -> None:
    """There are three people today; the first run that counted them saw two."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]

    def commit() -> None:
        for arguments in (["add", "-A", "dags"], ["commit", "-qm", "x", "--allow-empty"]):
            subprocess.run([*git, *arguments], cwd=lab.root, check=True)

    run(lab, "people", word="c")
    again = lab.json("rerun", story["totals"], "--as-of")
    assert (again["state"], again["rerun_of"]) == ("success", story["totals"])
    pins = {pin for listed in again["inputs"].values() for pin in listed}
    assert {pin.partition("@")[0] for pin in pins} == {"story.people"}
    newest, *_ = lab.json("blame", "story.totals")
    assert (newest["run_id"], set(newest["inputs"])) == (again["run_id"], pins)
    assert rows(lab, "totals") == [{"people": 2}]
    refs = lab.lake.pyiceberg().load_table("story.people").metadata.refs
    assert f"forebay_input_{pins.pop().partition('@')[2]}" in refs
    subprocess.run([*git, "init", "-q"], cwd=lab.root, check=True)
    commit()
    today = lab.json("rerun", story["totals"])
    assert today["inputs"] is None
    assert rows(lab, "totals") == [{"people": 3}]
    assert len(lab.json("blame", "story.totals", "--limit", "1")[0]["commit"]) >= 40
    commit()
    assert "ran with commit" in refused(lab, "rerun", today["run_id"], "--as-of")
    last = lab.json("rerun", today["run_id"], "--as-of", "--anyway", "--no-wait")
    ended: tuple[Json, Any] = lab.finish("story.totals", last["run_id"])
    assert ended[0]["state"] == "success"


def test_roll_back_with_what_was_built_on_it(lab: Lab, story: dict[str, str]) -> None:
    started = run(lab, "source", count=5)
    people, totals = run(lab, "people", word="d"), run(lab, "totals")
    said = refused(lab, "rollback", started)
    assert f"story.people/{people}: read story.source to write story.people" in said
    assert f"story.totals/{totals}: read story.people to write story.totals" in said
    answer = lab.forebay("rollback", started, "--cascade")
    assert (answer.returncode, "Nothing was done" in answer.stdout) == (0, True)
    assert totals in answer.stdout
    assert lab.json("rollback", started, "--cascade")["state"] == "planned"
    assert len(rows(lab, "people")) == 5
    done = lab.json("rollback", started, "--cascade", "--yes")
    assert done["state"] == "rolled back"
    assert {each["table"] for each in done["tables"]} == {
        "story.source", "story.people", "story.counts", "story.totals",
    }  # fmt: skip
    assert len(rows(lab, "source")) == len(rows(lab, "people")) == 3
    assert rows(lab, "totals") == [{"people": 3}]
    assert [states(lab, job)[0] for job in ("source", "people", "totals")] == ["rolled back"] * 3
