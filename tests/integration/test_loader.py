"""The loader: changes are live soon, a broken YAML hurts only itself, a task reads only its own job."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from conftest import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Lab

JOB = """\
description: {0}
tasks:
  - {{key: one, type: python, function: steps.names, arguments: {{count: 1, label: x, day: today}}}}
"""


@pytest.fixture
def file(lab: Lab) -> Iterator[Path]:
    path = lab.root / "dags/lab/fresh.yaml"
    yield path
    path.unlink(missing_ok=True)
    eventually(30, lambda: lab.known("lab.fresh") is None, "lab.fresh is gone")
    eventually(30, lambda: not import_errors(lab), "no import errors are left")


def import_errors(lab: Lab) -> list[str]:
    return [str(error["stack_trace"]) for error in lab.api.get("/importErrors")["import_errors"]]


def test_new_changed_and_deleted_jobs_are_seen_in_time(lab: Lab, file: Path) -> None:
    eventually(30, lambda: lab.known("lab.noop"), "the workspace is loaded")
    file.write_text(JOB.format("first"))
    began = time.monotonic()
    eventually(10, lambda: lab.known("lab.fresh"), "a new job is live")
    new = time.monotonic() - began

    for number in range(3):
        file.write_text(JOB.format(f"change {number}"))
        began = time.monotonic()
        eventually(
            5,
            lambda n=number: (lab.known("lab.fresh") or {})["description"] == f"change {n}",
            "a change is live",
        )
    changed = time.monotonic() - began

    file.unlink()
    began = time.monotonic()
    eventually(10, lambda: lab.known("lab.fresh") is None, "a deleted job is gone")
    print(f"new {new:.1f} s, changed {changed:.1f} s, deleted {time.monotonic() - began:.1f} s")


def test_a_broken_job_hurts_only_itself(lab: Lab, file: Path) -> None:
    eventually(30, lambda: lab.known("lab.noop"), "the workspace is loaded")
    file.write_text(
        "shedule: none\ntasks:\n  - {key: one, type: sql, file: missing.sql, table: lab.fresh}\n  - {key: one, type: pyhton}\n"
    )
    (error,) = eventually(10, lambda: import_errors(lab), "an import error")
    assert "dags/lab/fresh.yaml:1:1: shedule: unknown key 'shedule'. Did you mean 'schedule'?" in error
    assert (
        "dags/lab/fresh.yaml:4:22: tasks[1].type: unknown task type 'pyhton'. Did you mean 'python'?" in error
    )
    assert [e["filename"] for e in lab.api.get("/importErrors")["import_errors"]] == ["lab/fresh.yaml"]
    # Its siblings run, and a change of one of them still arrives.
    run, _ = lab.run("lab.noop")
    assert run["state"] == "success"
    file.write_text(JOB.format("mended"))
    eventually(
        10, lambda: lab.known("lab.fresh") and not import_errors(lab), "the error goes as the job is mended"
    )


def test_a_notifier_that_cannot_be_imported_is_a_mistake_of_its_job(lab: Lab, file: Path) -> None:
    file.write_text(JOB.format("x") + "notifications: {on_failure: [{notifier: lab.nowhere.Pager}]}\n")
    (error,) = eventually(10, lambda: import_errors(lab), "an import error")
    assert (
        "dags/lab/fresh.yaml:1:1: Airflow cannot use this job: notifier 'lab.nowhere.Pager' cannot be imported"
        in error
    )
    assert lab.known("lab.noop")


def test_a_broken_workspace_file_is_shown_and_mended(lab: Lab, file: Path) -> None:
    path = lab.root / "dags/lab/workspace.yaml"
    text = path.read_text()
    try:
        path.write_text("onwer: test\n")
        (error,) = eventually(10, lambda: import_errors(lab), "an import error")
        assert "dags/lab/workspace.yaml:1:1: onwer: unknown key 'onwer'. Did you mean 'owner'?" in error
    finally:
        path.write_text(text)
    eventually(10, lambda: lab.known("lab.noop") and not import_errors(lab), "its jobs are back")


def test_a_tasks_process_builds_only_its_own_dag(lab: Lab, file: Path) -> None:
    # With a broken sibling, building all of the folder would fail or show: the task runs and reads its own YAML only.
    eventually(30, lambda: lab.known("lab.noop"), "the workspace is loaded")
    script = (
        "from airflow.sdk.execution_time.task_runner import _airflow_parsing_context_manager as only\n"
        "import forebay.project as project\n"
        "read = []\n"
        "original = project.Project._load\n"
        "def noted(self, workspace, name):\n"
        "    read.append(name)\n"
        "    return original(self, workspace, name)\n"
        "project.Project._load = noted\n"
        "from forebay.dag import load_dags\n"
        "with only(dag_id='lab.noop', task_id='one'):\n"
        f"    dags = load_dags({str(lab.root / 'dags/lab/jobs.py')!r})\n"
        "print(sorted(dags), read)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=lab.root)
    assert run.stdout.splitlines()[-1:] == ["['lab.noop'] ['noop.yaml']"], run.stdout + run.stderr
