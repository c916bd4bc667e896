"""Rows that go back from quarantine by command: noted, told to jobs that wait, blamed, and taken back like a run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Lab

JOB = """\
tasks:
  - key: make
    type: sql
    sql: SELECT * FROM (VALUES (1, 5), (2, 50), (3, 500)) AS v(id, amount)
    table: held.amounts
    mode: append
  - key: trust
    type: checks
    table: held.amounts
    depends_on: [make]
    expect:
      - {name: not too much, rule: between, column: amount, max: %s, severity: quarantine}
"""
WAITS = """\
schedule: {after: [held.amounts]}
tasks:
  - {key: sum, type: sql, sql: SELECT sum(amount) AS total FROM held.amounts, table: held.total, mode: overwrite}
"""


@pytest.fixture(scope="module")
def published(lab: Lab) -> Iterator[str]:
    """The run that left two of three rows in quarantine."""
    folder = lab.root / "dags/held"
    folder.mkdir()
    (folder / "jobs.py").write_text((lab.root / "dags/lab/jobs.py").read_text())
    (folder / "workspace.yaml").write_text("owner: test\n")
    (folder / "job.yaml").write_text(JOB % 10)
    (folder / "waits.yaml").write_text(WAITS)
    eventually(30, lambda: lab.known("held.waits"), "held.waits is known")
    run, tasks = lab.run("held.job")
    assert run["state"] == "success", tasks
    yield str(run["dag_run_id"])
    shutil.rmtree(folder)


def amounts(lab: Lab, table: str) -> list[Any]:
    return [row[0] for row in lab.json("sql", f"SELECT amount FROM held.{table} ORDER BY 1")["rows"]]


def test_a_replay_is_a_run(lab: Lab, published: str) -> None:
    (found,) = lab.json("blame", "held.check_results")
    assert (found["job"], found["run_id"], found["task"], found["user"]) == (
        "held.job",
        published,
        "trust",
        "admin",
    )
    assert [each["state"] for each in lab.json("runs", "held.job")] == ["published"]

    eventually(60, lambda: _ended(lab, "held.waits") == 1, "the job that waits has run")
    (lab.root / "dags/held/job.yaml").write_text(JOB % 100)
    done = lab.forebay("quarantine", "replay", "held.amounts")
    assert done.returncode == 0, done.stderr
    name = done.stdout.partition("forebay rollback ")[2].strip()
    assert name.startswith("held.job/replay__")
    assert "audit log" not in done.stderr
    assert "not told" not in done.stderr
    assert amounts(lab, "amounts") == [5, 50]

    run_id = name.partition("/")[2]
    newest, *_ = lab.json("blame", "held.amounts")
    assert (newest["job"], newest["run_id"], newest["task"], newest["user"], newest["added"]) == (
        "held.job", run_id, "replay", "admin", 1,
    )  # fmt: skip
    noted = lab.api.get("/eventLogs", dag_id="held.job", run_id=run_id, event="forebay.replay_run")[
        "event_logs"
    ]
    assert [json.loads(each["extra"])["tables"] for each in noted] == [
        ["held.amounts", "held.amounts__quarantine"]
    ]
    eventually(
        60, lambda: _ended(lab, "held.waits") == 2, "the job that waits has run on the rows that went back"
    )

    # What the replay did goes back like any run, with what was built on it; what checks found stays.
    refused = lab.forebay("rollback", name)
    assert refused.returncode == 1
    assert "held.waits/" in refused.stderr
    back = lab.json("rollback", name, "--cascade", "--yes")
    assert {each["table"] for each in back["tables"]} == {
        "held.amounts", "held.amounts__quarantine", "held.total",
    }  # fmt: skip
    assert (amounts(lab, "amounts"), amounts(lab, "amounts__quarantine")) == ([5], [50, 500])
    back = lab.json("rollback", f"held.job/{published}", "--cascade", "--yes")
    assert "held.check_results" not in {each["table"] for each in back["tables"]}
    assert len(lab.json("sql", "SELECT run_id FROM held.check_results")["rows"]) == 1


def _ended(lab: Lab, job: str) -> int:
    return len([each for each in lab.json("runs", job) if each["airflow"] == "success"])
