"""forebay quarantine, on a real store: what is listed, and what a replay does by the rules of the job's YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebay.checks.rules import rules_of
from forebay.checks.run import check
from forebay.cli import quarantine
from forebay.engines.duckdb import DuckDBEngine
from forebay.errors import ForebayError
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.project import Project
from forebay.sqltext import MACROS
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
def table(config: CatalogConfig, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table with two rows in quarantine, and the repository whose job put them there."""
    name = f"{namespace}.t"
    folder = tmp_path / f"dags/{namespace}"
    folder.mkdir(parents=True)
    (folder / "workspace.yaml").write_text("owner: lab\n")
    (folder / "job.yaml").write_text(JOB.format(most=10, table=name))
    monkeypatch.setenv("FOREBAY_ROOT", str(tmp_path))
    # The commands look for a running stack; the tests' store is none.
    monkeypatch.setattr(quarantine, "lake", lambda: config)
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
    run("replay", table, "-p", "most=1000")
    assert json.loads(run("list", table, "-o", "json").stdout) == []


def test_what_cannot_be_replayed_is_said(table: str, namespace: str) -> None:
    with pytest.raises(ForebayError, match=f"{namespace}.x has no quarantine"):
        run("list", f"{namespace}.x")
    with pytest.raises(ForebayError, match=f"has a checks task for {namespace}.tt.*Did you mean '{table}'"):
        run("replay", f"{namespace}.tt")
    with pytest.raises(ForebayError, match="has no parameter 'mots'"):
        run("replay", table, "-p", "mots=3")
