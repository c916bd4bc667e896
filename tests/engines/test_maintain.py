"""Tasks of type maintain, as Airflow runs them: on the run's branch, published by the run, done anew after a kill."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pyarrow as pa
import pytest
from given_connection import connection
from operator_process import Start, wait_for
from trino_server import lake_connections

from forebay.dag import build_dag
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.lake.branch import Branch
from forebay.lake.connection import CatalogConfig
from forebay.lake.history import blame
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load
from forebay.project import Project

_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
YAML = """\
tasks:
  - {{key: files, type: maintain, tables: [{0}.many, {0}.alone, {0}.busy, {0}.missing]}}
  - {{key: more, type: sql, sql: SELECT 1 AS n, table: {0}.more}}
"""


class Job:
    """A job that puts the files of four tables together, and writes another one."""

    def __init__(self, config: CatalogConfig, namespace: str, folder: Path) -> None:
        self.config, self.namespace, self.said = config, namespace, dict[str, Any]()
        workspace = folder / "dags" / namespace
        workspace.mkdir(parents=True)
        (workspace / "workspace.yaml").write_text("owner: tests\n")
        (workspace / "files.yaml").write_text(YAML.format(namespace))
        self.loaded = Project(folder).load_job(namespace, "files")
        for number in range(3):
            self.write("many", f"SELECT {number} AS n")
        self.write("alone", "SELECT 1 AS n")
        self.write("busy", "SELECT 1 AS n")
        self.write(
            "busy", "SELECT 2 AS n", config.seen_by(TaskTry("x.y", "r", "t", writes=(f"{namespace}.busy",)))
        )

    def write(self, table: str, select: str, config: CatalogConfig | None = None) -> None:
        with DuckDBEngine(config or self.config) as engine:
            engine.write(select, TableDefinition(f"{self.namespace}.{table}"), "append")

    def publish_each(self) -> None:
        path = self.loaded.path
        path.write_text(f"publish: each\n{path.read_text()}")
        self.loaded = Project(path.parents[2]).load_job(self.namespace, "files")

    def task(self, key: str, number: int, *, until: str = "") -> Any:
        """A try of a task; with `until: execute` its process dies when it has committed."""
        operator = build_dag(self.loaded).get_task(key)
        ti = SimpleNamespace(
            dag_id=self.loaded.dag_id, run_id="r", task_id=key, map_index=-1, try_number=number, bundle_instance=None,
            xcom_push=lambda name, value: self.said.__setitem__((key, name), value),
            xcom_pull=lambda task_ids, key: self.said.get((task_ids, key)),
        )  # fmt: skip
        run = SimpleNamespace(
            run_id="r", start_date=_MOMENT, logical_date=_MOMENT, data_interval_start=_MOMENT, data_interval_end=_MOMENT,
            run_after=_MOMENT, conf={}, run_type="scheduled", triggering_user_name="somebody",
        )  # fmt: skip
        context: Any = {"ti": ti, "dag_run": run, "params": {}}
        operator.pre_execute(context)
        result = operator.execute(context)
        if until != "execute":
            operator.post_execute(context, result)
        return operator, result

    def rows(self, table: str) -> list[int]:
        with DuckDBEngine(self.config) as engine:
            found = engine.query(f"SELECT n FROM {lake_name(f'{self.namespace}.{table}')} ORDER BY n")
        return list(found.column("n").to_pylist())

    def files(self, table: str) -> int:
        found = load(self.config, f"{self.namespace}.{table}")
        assert found is not None
        return len(list(found.scan().plan_files()))


@pytest.fixture(params=["duckdb", "trino"])
def job(
    request: pytest.FixtureRequest, config: CatalogConfig, lens: str, namespace: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, start: Start,
) -> Job:  # fmt: skip
    fields = start.connections()
    if request.param == "trino":
        fields = lake_connections(config, lens, request.getfixturevalue("trino"))
    connections = {key: connection(each) for key, each in fields.items()}
    monkeypatch.setattr(airflow.sdk.BaseHook, "get_connection", connections.__getitem__)
    return Job(replace(config, lens=lens), namespace, tmp_path)


def test_a_run_publishes_what_it_put_together(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    name = job.namespace
    _, result = job.task("files", 1)
    told = result["tables"]
    assert (told[f"{name}.many"]["files"], told[f"{name}.many"]["rows"]) == ([3, 1], 3)
    said = capsys.readouterr().out
    for line in (
        f"{name}.many: 3 files became 1, 3 rows as before",
        f"{name}.alone: nothing to do, 1 file ",
        f"{name}.busy: left alone: 1 run has rows in it that are not published",
        f"{name}.missing: the table does not exist",
    ):
        assert line in said
    # Nobody sees it before it is published.
    assert (job.files("many"), job.rows("many")) == (3, [0, 1, 2])
    job.task("more", 1)
    publisher, published = job.task("publish", 1)
    assert sorted(published["published"]) == [f"{name}.many", f"{name}.more"]
    assert (job.files("many"), job.files("alone"), job.files("busy"), job.rows("many")) == (
        1,
        1,
        1,
        [0, 1, 2],
    )
    assert f"published {name}.many: its files, with the rows as they were" in capsys.readouterr().out
    # Jobs that wait for a table's rows are not started.
    assert [asset.name for asset in publisher.outlets] == [f"{name}.more"]
    with Rest(job.config) as rest:
        newest = blame(rest.table(f"{name}.many") or {})[0]
    assert newest.made is not None
    assert (newest.operation, newest.made.job, newest.made.task) == ("replace", f"{name}.files", "files")


def test_the_next_try_begins_anew(job: Job) -> None:
    job.task("files", 1, until="execute")
    table = f"{job.namespace}.many"
    with Rest(job.config) as rest:
        branch = Branch.find(rest.table(table) or {}, Run(job.loaded.dag_id, "r").branch)
        assert branch is not None
        first = branch.head
        job.task("files", 2)
        branch = Branch.find(rest.table(table) or {}, branch.name)
    assert branch is not None
    assert branch.head not in (first, branch.base)
    job.task("more", 1)
    job.task("publish", 1)
    assert (job.files("many"), job.rows("many")) == (1, [0, 1, 2])


def test_rows_that_others_add_before_it_is_published_stay(job: Job) -> None:
    job.task("files", 1)
    job.task("more", 1)
    job.write("many", "SELECT 9 AS n")
    job.task("publish", 1)
    assert (job.files("many"), job.rows("many")) == (2, [0, 1, 2, 9])


def test_with_publish_each_the_task_publishes_itself(job: Job) -> None:
    job.publish_each()
    operator, _ = job.task("files", 1)
    assert (job.files("many"), job.rows("many"), operator.outlets) == (1, [0, 1, 2], [])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_task_changes_nothing(
    start: Start, config: CatalogConfig, lens: str, namespace: str, sign: signal.Signals
) -> None:
    name = f"{namespace}.t"
    catalog = config.pyiceberg()
    catalog.create_namespace_if_not_exists(namespace)
    rows = pa.table({"n": range(200_000), "part": [number % 150 for number in range(200_000)]})
    table = catalog.create_table(name, rows.schema)
    with table.update_spec() as spec:
        spec.add_identity("part")
    for _ in range(2):
        table.append(rows)
    before = table.metadata.current_snapshot_id
    arguments = {"conn_id": "lake_sql", "small_files": 32 << 20, "tables": [name]}
    process = start("maintain", arguments)
    wait_for(process, "READY")
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(sign)
    process.communicate(timeout=5)
    now = load(config, name)
    assert now is not None
    assert now.metadata.current_snapshot_id == before
    out, _ = start("maintain", arguments).communicate(timeout=120)
    assert f"{name}: 300 files became 150, 400,000 rows as before" in out
    with Rest(replace(config, lens=lens)) as rest:
        publish(rest, Run("lab.job", "r"), [name])
    now = load(config, name)
    assert now is not None
    assert now.scan().to_arrow().num_rows == 400_000
    assert len(list(now.scan().plan_files())) == 150
