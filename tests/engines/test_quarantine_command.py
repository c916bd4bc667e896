"""forebay quarantine, on a real store: what is listed, and what a replay does by the rules of the job's YAML."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from store import free_ports

from forebay.checks import replay as replaying
from forebay.checks.rules import QUARANTINE, rules_of
from forebay.checks.run import check
from forebay.cli import quarantine
from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError
from forebay.lake.branch import Branch
from forebay.lake.built_on import Lake, plan
from forebay.lake.connection import CatalogConfig
from forebay.lake.history import blame
from forebay.lake.identity import Run
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.project import Project
from forebay.sqltext import MACROS
from forebay.stack.layout import Stack
from forebay.tasks.checks import Task

JOB = """\
parameters: {{most: {{type: integer, default: {most}}}}}
tasks:
  - {{key: make, type: sql, sql: "SELECT 1 AS id, 2 AS amount", table: {table}, mode: merge, merge_key: [id]}}
  - key: trust
    type: checks
    table: {table}
    depends_on: [make]
    expect:
      - {{name: not too much, rule: sql, sql: "amount <= :most", severity: quarantine}}
"""


@pytest.fixture
def table(
    config: CatalogConfig, lens: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A table with two rows in quarantine, and the repository whose job put them there."""
    name = f"{namespace}.t"
    folder = tmp_path / f"dags/{namespace}"
    folder.mkdir(parents=True)
    (folder / "workspace.yaml").write_text("owner: lab\n")
    (folder / "job.yaml").write_text(JOB.format(most=10, table=name))
    monkeypatch.setenv("FOREBAY_ROOT", str(tmp_path))
    # The commands look for a running stack; the tests' store is none, and its Airflow answers nobody.
    monkeypatch.setattr(quarantine, "lake", lambda: replace(config, lens=lens))
    monkeypatch.setattr(quarantine, "running_stack", lambda: Stack(tmp_path, tmp_path / ".forebay"))
    (tmp_path / ".forebay").mkdir()
    (tmp_path / ".forebay/ports.json").write_text(json.dumps({"airflow": free_ports(1)[0]}))
    task = Project(tmp_path).load_job(namespace, "job").spec.tasks[1]
    assert isinstance(task, Task)
    with DuckDBEngine(config, macros=MACROS) as engine:
        select = "SELECT * FROM (VALUES (1, 5), (2, 50), (3, 500)) v(id, amount)"
        engine.write(select, TableDefinition(name))
        check(engine, name, rules_of(task.expect), {"most": 10}, run="run_1")
    return name


def run(*arguments: str) -> Result:
    return CliRunner().invoke(quarantine.command, list(arguments), catch_exceptions=False)


def test_list_and_replay(table: str, config: CatalogConfig, namespace: str, tmp_path: Path) -> None:
    listed = json.loads(run("list", table, "-o", "json").stdout)
    assert [(one["rules"], one["rows"], one["runs"]) for one in listed] == [("not too much", 2, 1)]
    assert f"{table}  " in run("list").stdout

    (tmp_path / f"dags/{namespace}/job.yaml").write_text(JOB.format(most=100, table=table))
    planned = run("replay", table, "--dry-run").stdout
    assert f"1 rows would go back to {table}, 1 stay in quarantine." in planned
    stricter = json.loads(run("replay", table, "--dry-run", "-p", "most=1", "-o", "json").stdout)
    assert (stricter["returned"], stricter["kept"]) == (0, {"not too much": 2})
    done = run("replay", table)
    assert f"1 rows went back to {table}, 1 stay in quarantine." in done.stdout
    assert f"rules of {namespace}.job (dags/{namespace}/job.yaml)" in done.stderr
    found = load(config, table)
    assert found is not None
    assert row_count(found) == 2
    # Nobody took note of it, which is said and stops nothing.
    assert "not in Airflow's audit log: Airflow does not answer" in done.stderr
    assert f"{table}: the jobs that wait for it were not told: Airflow does not answer" in done.stderr

    # It is a run of the job: both tables are published at once, say who did it, and go back together.
    name = done.stdout.partition(f"forebay rollback {namespace}.job/")[2].strip()
    assert name.startswith("replay__")
    both = [table, f"{table}{QUARANTINE}"]
    with Rest(config) as rest:
        documents = rest.tables(both)
        for document in documents.values():
            made = blame(document)[0].made
            assert made is not None
            assert (made.job, made.run, made.task) == (f"{namespace}.job", name, "replay")
            assert (made.user, made.engine) == ("admin", "duckdb")
            assert Branch.all(document) == []
        taken = plan(Lake(documents.items()), Run(f"{namespace}.job", name))
        assert [each.table for each in taken.tables] == both

    # Without a row that moves there is nothing to take back.
    assert "rollback" not in run("replay", table).stdout
    run("replay", table, "-p", "most=1000")
    assert json.loads(run("list", table, "-o", "json").stdout) == []


@pytest.mark.parametrize("broken", ["work", "publish"])
def test_a_replay_that_breaks_off_has_changed_nothing(
    table: str, config: CatalogConfig, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = [load(config, name).metadata.current_snapshot_id for name in (table, f"{table}{QUARANTINE}")]  # type: ignore[union-attr]

    finished = replaying._finish

    def finish(*arguments: Any) -> int:
        count = finished(*arguments)
        if count and broken == "work":
            raise KeyboardInterrupt
        if count:
            # Somebody else gets at the quarantine meanwhile.
            with DuckDBEngine(config) as engine:
                engine.write("SELECT 9 AS id", TableDefinition(f"{table}{QUARANTINE}"), "append")
        return count

    monkeypatch.setattr(replaying, "_finish", finish)
    result = CliRunner().invoke(quarantine.command, ["replay", table, "-p", "most=1000"])
    assert result.exit_code == 1
    monkeypatch.undo()
    found = load(config, table)
    assert found is not None
    assert found.metadata.current_snapshot_id == before[0]
    with Rest(config) as rest:
        assert all(Branch.all(each) == [] for each in rest.tables([table, f"{table}{QUARANTINE}"]).values())


def test_what_cannot_be_replayed_is_said(table: str, namespace: str) -> None:
    with pytest.raises(ForebayError, match=f"{namespace}.x has no quarantine"):
        run("list", f"{namespace}.x")
    with pytest.raises(ForebayError, match=f"has a checks task for {namespace}.tt.*Did you mean '{table}'"):
        run("replay", f"{namespace}.tt")
    with pytest.raises(ForebayError, match="has no parameter 'mots'"):
        run("replay", table, "-p", "mots=3")
