"""Jobs from a Git repository, as in production: each run keeps its commit, and every snapshot names it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
import psycopg2
import pytest

from conftest import REPOSITORY, Lab, command, eventually
from console_client import session, text
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition
from forebay.stack.airflow_api import AirflowApi
from teams import another, copy_database, settings_on

if TYPE_CHECKING:
    from forebay.stack.airflow_api import Json

DATABASE = "git"
JOB = """tasks:
  - {key: wait, type: python, function: waiting.wait, arguments: {file: "{file}"}}
  - {key: rows, type: sql, file: rows.sql, table: versioned.rows, mode: overwrite, depends_on: [wait]}
parameters:
  file: {type: string, default: ""}
"""
WAITING = """import os
import time


def wait(file: str) -> None:
    deadline = time.monotonic() + 120
    while file and not os.path.exists(file):
        assert time.monotonic() < deadline
        time.sleep(0.1)
"""
TABLE, SOURCE = "versioned.rows", "versioned.source"


@dataclass
class Team:
    """A workspace's repository, and the parts of Airflow that read it."""

    lab: Lab
    repository: Path
    url: str = ""
    api: AirflowApi = field(init=False)

    def commit(self, **files: str) -> str:
        """Commits and gives the commit; a name has `__` for `/`, the ending is that of its folder."""
        endings = {"dags": ".yaml", "sql": ".sql", "include": ".py"}
        for name, content in files.items():
            path = self.repository / (name.replace("__", "/") + endings[name.partition("__")[0]])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        _git(self.repository, "add", ".")
        _git(self.repository, "commit", "--quiet", "--message", "Change")
        return _git(self.repository, "rev-parse", "HEAD")

    def parsed(self, commit: str) -> Json | None:
        with contextlib.suppress(Exception):
            dag = self.api.get("/dags/versioned.job")
            return dag if dag["bundle_version"] == commit and not dag["is_stale"] else None
        return None

    def finish(self, run_id: str) -> Json:
        def ended() -> Json | None:
            run = self.api.run("versioned.job", run_id)
            return run if run["state"] in ("success", "failed") else None

        run: Json = eventually(120, ended, "the run ends")
        assert run["state"] == "success", self.api.task_instances("versioned.job", run_id)
        return run

    def rows(self) -> list[int]:
        with DuckDBEngine(self.lab.lake.published()) as engine:
            found: list[int] = engine.query(f"SELECT n FROM lake.{TABLE} ORDER BY n").column("n").to_pylist()
        return found

    def stamp(self, name: str = "commit") -> str:
        """What main's snapshot of the table says of itself."""
        with Rest(self.lab.lake) as rest:
            metadata = rest.table(TABLE)
        assert metadata is not None
        head = metadata["refs"]["main"]["snapshot-id"]
        snapshot = next(each for each in metadata["snapshots"] if each["snapshot-id"] == head)
        return str(snapshot["summary"][f"forebay.{name}"])

    def add(self, number: int, mode: Literal["append", "overwrite"] = "append") -> None:
        """One row more in the table that the job reads, or this one alone."""
        with DuckDBEngine(self.lab.lake.main()) as engine:
            engine.write(f"SELECT {number} AS n", TableDefinition(SOURCE), mode)

    def run(self, commit: str) -> str:
        """A run of a commit that was just pushed."""
        eventually(60, lambda: self.parsed(commit), "the commit is parsed")
        run_id = self.api.trigger("versioned.job", {})
        assert self.finish(run_id)["bundle_version"] == commit
        return run_id

    def tasks(self, run_id: str) -> set[str]:
        return {str(each["task_id"]) for each in self.api.task_instances("versioned.job", run_id)}

    def forebay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on a stack like the lab's, whose Airflow is this one."""
        state = self.repository.parent / "state"
        if not state.exists():
            state.mkdir()
            shutil.copy(self.lab.stack.state / "secrets.json", state)
            ports = self.lab.stack.ports | {"airflow": int(self.url.rpartition(":")[2])}
            (state / "ports.json").write_text(json.dumps(ports))
            (state / "run").symlink_to(self.lab.stack.sockets)
        return command(self.repository, *arguments, FOREBAY_STATE=str(state))

    def console(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.url}/forebay", cookies={"_token": session(self.lab, "admin")}, timeout=60, trust_env=False
        )  # fmt: skip

    def asked(self, run_id: str) -> str:
        """What the console's page says before a run is done again."""
        with self.console() as console:
            return text(console.get(f"/runs/versioned.job/{run_id}/rerun"))

    def rerun(self, *arguments: str) -> Json:
        answer = self.forebay("rerun", *arguments, "--output", "json")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        found: Json = json.loads(answer.stdout)
        return found


def _git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def team(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("git")
    repository = folder / "repository"
    repository.mkdir()
    _git(repository, "init", "--quiet", "--initial-branch", "main")
    (repository / "dags/versioned").mkdir(parents=True)
    shutil.copy(REPOSITORY / "dags/flights/jobs.py", repository / "dags/versioned")
    copy_database(lab, DATABASE)
    bundle = {
        "name": "versioned",
        "classpath": "forebay.git_bundle.GitJobsBundle",
        "kwargs": {"repo_url": str(repository), "tracking_ref": "main", "subdir": "dags/versioned", "refresh_interval": 1},
    }  # fmt: skip
    settings = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
        "AIRFLOW_CONN_GIT_DEFAULT": '{"conn_type": "git"}',
        # The machine has no checkout, as in production.
        "FOREBAY_ROOT": "",
        "PYTHONFAULTHANDLER": "1",
    }
    team = Team(lab, repository)
    team.commit(
        dags__versioned__workspace="owner: team\n", dags__versioned__job=JOB,
        sql__versioned__rows="SELECT 1 AS n", include__versioned__waiting=WAITING,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(another(lab, DATABASE, settings))
        own = settings_on(lab, DATABASE) | settings
        own["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{url}/execution/"
        for part in (("dag-processor",), ("scheduler", "--skip-serve-logs")):
            stack.enter_context(_running(lab, own, *part))
        team.url = url
        team.api = stack.enter_context(AirflowApi(url, "admin", lab.stack.secrets["admin_password"]))
        yield team
    shutil.rmtree(folder)


@contextlib.contextmanager
def _running(lab: Lab, own: dict[str, str], *part: str) -> Iterator[None]:
    with (lab.stack.logs / f"{part[0]}-of-{DATABASE}.log").open("w") as out:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("airflow")), *part], env=own, cwd=lab.root, stdout=out, stderr=out
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                # Nothing of it may be left to the tests that follow; where it stood is told.
                process.send_signal(signal.SIGABRT)
                process.wait(60)
                raise AssertionError(
                    f"{part[0]} does not end: {Path(out.name).read_text()[-6000:]}"
                ) from None


def test_a_run_keeps_the_commit_it_began_with(team: Team, tmp_path: Path) -> None:
    first = _git(team.repository, "rev-parse", "HEAD")
    # The processes have to start first.
    eventually(180, lambda: team.parsed(first), "the first commit is parsed")
    go_on = tmp_path / "go-on"
    early = team.api.trigger("versioned.job", {"file": str(go_on)})
    eventually(
        60,
        lambda: any(each["state"] == "running" for each in team.api.task_instances("versioned.job", early)),
        "the first run's first task works",
    )
    second = team.commit(
        sql__versioned__rows="SELECT 2 AS n", dags__versioned__job=f"description: New\n{JOB}"
    )
    eventually(60, lambda: team.parsed(second), "the second commit is parsed")
    go_on.touch()
    assert team.finish(early)["bundle_version"] == first
    assert (team.rows(), team.stamp()) == ([1], first)

    assert team.finish(team.api.trigger("versioned.job", {}))["bundle_version"] == second
    assert (team.rows(), team.stamp()) == ([2], second)


def test_a_broken_job_is_shown_and_the_others_go_on(team: Team) -> None:
    commit = team.commit(dags__versioned__broken="tasks:\n  - {key: a, typ: sql}\n")

    def said() -> str:
        errors = team.api.get("/importErrors")["import_errors"]
        return next((str(each["stack_trace"]) for each in errors if each["filename"] == "broken.yaml"), "")

    shown = eventually(60, said, "the mistake is shown")
    assert "dags/versioned/broken.yaml:2" in shown
    assert "typ" in shown
    eventually(60, lambda: team.parsed(commit), "the good job follows to the commit")


def test_the_console_reads_the_files_of_the_newest_commit(team: Team) -> None:
    with team.console() as console:
        found = console.get("/api/v1/workspaces/versioned").json()
        assert found["owner"] == "team"
        assert "versioned.job" in json.dumps(found)
        assert "wait" in console.get("/jobs/versioned.job").text


def test_a_run_is_done_again_with_its_commit_on_its_inputs(team: Team) -> None:
    team.add(1, "overwrite")
    then = team.commit(sql__versioned__rows=f"SELECT n * 10 AS n FROM {SOURCE}", dags__versioned__job=JOB)
    old = team.run(then)
    assert (team.rows(), team.stamp()) == ([10], then)
    read = team.stamp("inputs")
    team.add(2)
    # Airflow notes this commit at the version of the job that the old run had: only a file beside the job is another.
    team.run(team.commit(sql__versioned__rows=f"SELECT n * 100 AS n FROM {SOURCE}"))
    assert team.rows() == [100, 200]
    more = (
        "  - {key: more, type: sql, sql: SELECT 1 AS n, table: versioned.more, mode: overwrite}\nparameters:"
    )
    now = team.commit(dags__versioned__job=JOB.replace("parameters:", more))
    assert "more" in team.tasks(team.run(now))

    assert f"With the commit that it ran: {then[:8]}" in team.asked(old)
    again = team.rerun(f"versioned.job/{old}", "--as-of")
    assert (again["state"], again["rerun_of"], again["commit"], again["doubts"]) == ("success", old, then, [])
    assert (team.rows(), team.stamp(), team.stamp("inputs")) == ([10], then, read)
    blamed, *_ = json.loads(team.forebay("blame", TABLE, "--output", "json").stdout)
    assert (blamed["run_id"], blamed["commit"], blamed["inputs"]) == (again["run_id"], then, [read])
    assert read == next(iter(again["inputs"]["rows"]))
    assert team.tasks(again["run_id"]) == team.tasks(old) == {"wait", "rows", "publish"}
    run = team.api.run("versioned.job", again["run_id"])
    assert run["bundle_version"] == then
    assert [each["version_number"] for each in run["dag_versions"]] == [
        each["version_number"] for each in team.api.run("versioned.job", old)["dag_versions"]
    ]
    assert then in run["note"]
    noted = team.api.get("/eventLogs", dag_id="versioned.job", run_id=old, event="forebay.rerun_run")
    extra = json.loads(noted["event_logs"][0]["extra"])
    assert (extra["commit"], extra["new_run"]) == (then, again["run_id"])

    # Done again once more it is what it was.
    twice = team.rerun(again["run_id"], "--as-of")
    assert (twice["commit"], twice["inputs"], team.rows()) == (then, again["inputs"], [10])

    # Without --as-of it is today's code on today's tables.
    today = team.rerun(f"versioned.job/{old}")
    assert (today["commit"], today["inputs"], team.rows(), team.stamp()) == (None, None, [100, 200], now)
    assert "Set the bundle's branch back" in today["doubts"][0]


def test_code_that_is_gone_is_said(team: Team) -> None:
    team.add(4, "overwrite")
    lost = team.commit(
        sql__versioned__rows=f"SELECT n * 7 AS n FROM {SOURCE}",
        dags__versioned__job=f"description: Lost\n{JOB}",
    )
    old = team.run(lost)
    assert team.rows() == [28]
    _git(team.repository, "reset", "--quiet", "--hard", "HEAD~1")
    now = team.commit(sql__versioned__rows=f"SELECT n * 8 AS n FROM {SOURCE}")
    _git(team.repository, "reflog", "expire", "--expire=now", "--all")
    _git(team.repository, "gc", "--quiet", "--prune=now")
    eventually(60, lambda: team.parsed(now), "the branch without it is parsed")
    # As on a worker that never had it.
    bundle = team.repository.parent / "bundles/versioned"
    _git(bundle / "bare", "gc", "--quiet", "--prune=now")
    shutil.rmtree(bundle / "versions" / lost)
    failed = team.forebay("rerun", f"versioned.job/{old}", "--as-of")
    assert failed.returncode == 1
    assert (
        f"commit {lost} is not in the repository of the bundle 'versioned' any more"
        in failed.stderr + failed.stdout
    )
    assert "refs/tags/keep-" in failed.stderr + failed.stdout
    assert team.rows() == [28]

    # What `airflow db clean` leaves of a run whose version it took.
    database = settings_on(team.lab, DATABASE)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with contextlib.closing(psycopg2.connect(database)) as copy, copy, copy.cursor() as cursor:
        cursor.execute("UPDATE dag_run SET created_dag_version_id = NULL WHERE run_id = %s", (old,))
        cursor.execute("UPDATE dag_version SET bundle_version = 'x' WHERE bundle_version = %s", (lost,))
    refused = team.forebay("rerun", f"versioned.job/{old}", "--as-of")
    assert refused.returncode == 1
    assert "Airflow has no version of the job of then any more" in refused.stderr
    assert "--anyway" in refused.stderr
    asked = team.asked(old)
    assert "Airflow has no version of the job of then any more" in asked
    assert "Run it all the same" in asked
    team.add(3)
    anyway = team.rerun(f"versioned.job/{old}", "--as-of", "--anyway")
    assert (anyway["commit"], len(anyway["doubts"])) == (None, 1)
    # Today's code, on what that run read.
    assert (team.rows(), team.stamp()) == ([32], now)
