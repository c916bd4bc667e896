"""More than Airflow tells at once: runs at work, the tasks of a run, and the word that each of them left."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from conftest import eventually
from forebay.lake.identity import Run
from forebay.lake.rest import Rest
from forebay.stack import airflow_api
from forebay.stack.acts import lake_reader
from forebay.stack.airflow_api import PAGE
from forebay.stack.runs import last, words

if TYPE_CHECKING:
    from conftest import Lab

MANY = PAGE + 1
WAITING = "lab.noop"
JOB = """\
tasks:
  - key: parts
    type: python
    function: parts.part
    for_each: {inputs: %s}
    writes: [crowd.rows]
"""


def test_all_runs_at_work_are_known(lab: Lab) -> None:
    eventually(30, lambda: lab.known(WAITING), f"{WAITING} is known")
    lab.api.request("PATCH", f"/api/v2/dags/{WAITING}", json={"is_paused": True})
    started: list[str] = []
    try:
        started += [lab.api.trigger(WAITING, {}) for _ in range(MANY)]
        with Rest(lab.lake) as rest:
            known = lake_reader(lab.api, rest)().running
        assert {Run(WAITING, each) for each in started} <= known
        assert {each.run.run for each in last(lab.api, WAITING, MANY)} == set(started)
        assert len(last(lab.api, WAITING, 3)) == 3
    finally:
        for each in started:
            with contextlib.suppress(Exception):
                lab.api.request("DELETE", f"/api/v2/dags/{WAITING}/dagRuns/{quote(each, safe='')}")
        lab.api.request("PATCH", f"/api/v2/dags/{WAITING}", json={"is_paused": False})


def test_all_tasks_of_a_run_have_their_say(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = 5
    folder = lab.root / "dags/crowd"
    folder.mkdir()
    (lab.root / "include/crowd").mkdir()
    (lab.root / "include/crowd/parts.py").write_text('def part() -> None:\n    """Writes nothing."""\n')
    (folder / "jobs.py").write_text((lab.root / "dags/lab/jobs.py").read_text())
    (folder / "workspace.yaml").write_text("owner: test\n")
    (folder / "job.yaml").write_text(JOB % list(range(parts)))
    try:
        # A hundred tasks would take as many processes.
        monkeypatch.setattr(airflow_api, "PAGE", 2)
        run, tasks = lab.run("crowd.job")
        assert run["state"] == "success"
        assert len(tasks["parts"]) == parts
        left = words(lab.api, Run("crowd.job", str(run["dag_run_id"])))
    finally:
        shutil.rmtree(folder)
    assert left.tries == {f"parts[{number}]": 1 for number in range(parts)}
