"""Every job text of the example and of the tests' project, on DuckDB and on Trino: each task ends the same way, and each
table has the same columns and rows. Tasks run as Airflow runs them, in this process."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pytest
from airflow.sdk.definitions.mappedoperator import MappedOperator
from given_connection import connection
from trino_server import TrinoServer, lake_connections

from forebay import sqltext
from forebay.dag import build_dag
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import Run
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load
from forebay.project import LoadedJob, Project
from forebay.tasks import checks, ingest, maintain, python, sql

TESTS = Path(__file__).parents[1]
PARTS = ("dags", "sql", "spark_jobs", "include/flights")

ENDLESS = "lab.slow_sql"
"""Its query works on Trino, too, until somebody ends it: tests/integration/test_trino_stack.py."""

NO_SQL = {"lab.slow_python", "lab.slow_spark", "tale.slow", "tale.tries", "tale.wide"}
"""Jobs that end only after minutes, without a task that a SQL engine does."""

GIVEN = {
    # What Spark, landed files and other tests make of them.
    "flights.silver_flights": "SELECT * FROM (VALUES "
    "('UA', DATE '2013-01-01', 'JFK', 'LAX', TIMESTAMP '2013-01-01 05:17:00', 2, 11, 2475, false, 39.02e0), "
    "('UA', DATE '2013-01-01', 'EWR', 'LAX', TIMESTAMP '2013-01-01 07:10:00', -3, NULL, 2454, false, NULL), "
    "('B6', DATE '2013-02-28', 'JFK', 'BQN', NULL, NULL, NULL, 1576, true, 44.6e0)) AS t(carrier, flight_date, origin, "
    "destination, departed_at, departure_delay, arrival_delay, distance, cancelled, temperature)",
    "flights.bronze_airlines": "SELECT * FROM (VALUES ('UA', 'United'), ('B6', 'JetBlue')) AS t(carrier, name)",
    "flights.bronze_airports": "SELECT 'LAX' AS faa, 'Los Angeles Intl' AS name",
    "killed.source": "SELECT CAST(0 AS BIGINT) AS n",
    "killed.given": "SELECT CAST(2 AS BIGINT) AS factor",
}  # fmt: skip

OURS = (sql.Task, checks.Task, ingest.Task, maintain.Task, python.Task)
_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ANSWERS = {"all_done", "at_least_one_failed", "all_failed"}
_VERDICTS = ("task", "table_name", "rule", "severity", "verdict", "element_count", "unexpected_count")


def projects(folder: Path) -> dict[str, LoadedJob]:
    project = Project(folder)
    return {
        job.dag_id: job
        for name in project.workspace_names()
        for job in project.load_workspace(name).jobs.values()
    }


def copied(folder: Path) -> Path:
    """The example and the tests' project side by side, where notes may be left."""
    for part in PARTS:
        shutil.copytree(TESTS.parent / part, folder / part)
    shutil.copytree(TESTS / "integration/project", folder, dirs_exist_ok=True)
    return folder


ALL = {**projects(TESTS.parent), **projects(TESTS / "integration/project")}
TEXTS = sorted(ALL.keys() - {ENDLESS, *NO_SQL})


@dataclass
class Came:
    """What a job came to: how each of its tasks ended, the tables that it and its checks write, and how many files those
    have that it put together."""

    tasks: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


class Target:
    """One of the two, and the lake that its jobs write."""

    def __init__(self, config: CatalogConfig, jobs: Mapping[str, LoadedJob], run: str) -> None:
        self.config, self.jobs, self.said = config, jobs, dict[tuple[str, str, str], Any]()
        # The lens takes another run of the same name for what is left of the first.
        self.run = run

    def all(self) -> dict[str, Came]:
        """Every job once, from a lake with what is given only; those whose tables others read come first."""
        with Rest(self.config) as rest:
            for name in rest.all_names():
                if name.partition(".")[0] in {job.workspace.name for job in self.jobs.values()}:
                    rest.drop(name)
        with DuckDBEngine(self.config) as engine:
            for name, select in GIVEN.items():
                engine.write(select, TableDefinition(name))
        writer = {table: name for name in TEXTS for table in self.jobs[name].writes}
        before = {
            name: {writer[table] for table in reads(self.jobs[name]) if table in writer} - {name}
            for name in TEXTS
        }
        return {name: self.job(self.jobs[name]) for name in TopologicalSorter(before).static_order()}

    def job(self, job: LoadedJob) -> Came:
        came, dag = Came(), build_dag(job)
        spark = any(task.type == "spark" for task in job.spec.tasks)
        # Behind Spark's work is what is given in its place.
        kinds = (sql.Task, checks.Task) if spark else OURS
        tasks = {task.key: task for task in job.spec.tasks if isinstance(task, kinds)}
        for key in TopologicalSorter(
            {key: set(task.depends_on) & tasks.keys() for key, task in tasks.items()}
        ).static_order():
            task = tasks[key]
            bad = [
                came.tasks[each]
                for each in task.depends_on
                if each in tasks and came.tasks[each] != "success"
            ]
            if bad and task.run_if not in _ANSWERS:
                came.tasks[key] = "not reached"
            else:
                came.tasks[key] = self.task(job, dag.get_task(key), task)
        needed = {each for task in job.spec.tasks for each in task.depends_on}
        held = all(
            came.tasks[key] == "success" for key, task in tasks.items() if isinstance(task, checks.Task)
        )
        if held and all(state == "success" for key, state in came.tasks.items() if key not in needed):
            with Rest(self.config) as rest:
                publish(rest, Run(job.dag_id, self.run), (*job.writes, *job.rewrites))
        results = {
            f"{job.workspace.name}.check_results" for task in tasks.values() if isinstance(task, checks.Task)
        }
        came.tables = {name: self.rows(name, job.dag_id) for name in {*job.writes, *job.rewrites, *results}}
        there = {name: found for name in job.rewrites if (found := load(self.config, name)) is not None}
        came.files = {name: len(list(found.scan().plan_files())) for name, found in there.items()}
        return came

    def task(self, job: LoadedJob, operator: Any, task: Any) -> str:
        """Its tries, for each of its values; how the last one ended."""
        if not isinstance(operator, MappedOperator):
            return self.tries(job, operator, task, -1)
        given = task.for_each.inputs
        values = self.said[job.dag_id, task.for_each.task, "return_value"] if given is None else given
        ended = [
            self.tries(job, operator.unmap({"item": each}), task, index) for index, each in enumerate(values)
        ]
        return "success" if set(ended) == {"success"} else "failed"

    def tries(self, job: LoadedJob, operator: Any, task: Any, index: int) -> str:
        for number in range(1, task.retries + 2):
            context = self.context(job, operator, index, number)
            try:
                operator.pre_execute(context)
                result = operator.execute(context)
                operator.post_execute(context, result)
            except Exception as error:  # noqa: BLE001  as Airflow does
                print(f"{job.dag_id} {task.key} {number}: {type(error).__name__}: {error}")
                continue
            self.said[job.dag_id, task.key, "return_value"] = result
            return "success"
        return "failed"

    def context(self, job: LoadedJob, operator: Any, index: int, number: int) -> Any:
        kept: dict[str, Any] = {}

        def pull(task_ids: str, key: str) -> Any:
            return self.said.get((job.dag_id, task_ids, key))

        def push(key: str, value: Any) -> None:
            self.said[job.dag_id, operator.task_id, key] = value

        ti = SimpleNamespace(
            dag_id=job.dag_id, run_id=self.run, task_id=operator.task_id, map_index=index, try_number=number,
            bundle_instance=None, xcom_push=push, xcom_pull=pull,
        )  # fmt: skip
        run = SimpleNamespace(
            run_id=self.run, start_date=_MOMENT, logical_date=_MOMENT, data_interval_start=_MOMENT, data_interval_end=_MOMENT,
            run_after=_MOMENT, conf={}, run_type="manual", triggering_user_name="somebody",
        )  # fmt: skip
        store = SimpleNamespace(get=kept.get, set=kept.__setitem__, delete=lambda key: kept.pop(key, None))
        params = {"word": "x"} if job.dag_id == "lab.child" else {}
        return {"ti": ti, "dag_run": run, "params": params, "task_state_store": store}

    def rows(self, name: str, job: str) -> Any:
        """A table's columns with their types, and its rows, as PyIceberg reads them; None where nothing was published.

        Trino makes a table before it has its first rows, so that one may be left, empty, where these failed.
        """
        table = load(self.config, name)
        if table is None or table.current_snapshot() is None:
            return None
        results = name.endswith(".check_results")
        found = table.scan(selected_fields=("job", *_VERDICTS) if results else ("*",)).to_arrow().to_pylist()
        kept = [
            {
                key: "<run>" if value == self.run else value
                for key, value in row.items()
                if key != "_loaded_at"
            }
            for row in found
        ]
        columns = [(each.name, str(each.field_type)) for each in table.schema().fields]
        return columns, sorted((row for row in kept if not results or row["job"] == job), key=repr)


def reads(job: LoadedJob) -> set[str]:
    """Tables that its SQL and its checks read, or whose files it puts together."""
    found = set(job.rewrites)
    for task in job.spec.tasks:
        if isinstance(task, sql.Task):
            text = job.sql_path(task.file).read_text() if task.file else str(task.sql)
            found |= set(sqltext.parse(text).reads)
        elif isinstance(task, checks.Task):
            found.add(task.table)
    return found


@pytest.fixture(scope="module")
def targets(
    config: CatalogConfig, lens: str, trino: TrinoServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Came]]:
    """What all jobs came to on each."""
    root = copied(tmp_path_factory.mktemp("both"))
    path, found = list(sys.path), {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("duckdb", "trino"):
            shutil.rmtree(root / "notes", ignore_errors=True)
            (root / "notes").mkdir()
            # The task that waits for word to go on has it.
            (root / f"notes/go-on-{name}").touch()
            patch.setenv("FOREBAY_ROOT", str(root))
            patch.chdir(root)
            fields = lake_connections(config, lens, trino)
            fields["watched_catalog"] = fields["lake_catalog"]
            fields["lake_s3"] = {}
            if name == "duckdb":
                extra = {"catalog": "lake_catalog", "memory_limit": "500MB", "threads": 1}
                fields["lake_sql"] = {"conn_type": "duckdb", "extra_dejson": extra}
            connections = {key: connection(each) for key, each in fields.items()}
            patch.setattr(airflow.sdk.BaseHook, "get_connection", connections.__getitem__)
            found[name] = Target(config.at(f"{lens}/main"), projects(root), name).all()
    sys.path[:] = path
    return found


def test_what_is_left_out_has_nothing_that_a_sql_engine_does() -> None:
    assert NO_SQL | {ENDLESS} <= ALL.keys()
    for name in NO_SQL:
        assert not [task.key for task in ALL[name].spec.tasks if isinstance(task, (sql.Task, checks.Task))], (
            name
        )


@pytest.mark.parametrize("name", TEXTS)
def test_a_job_comes_to_the_same_on_both(targets: dict[str, dict[str, Came]], name: str) -> None:
    one, other = targets["duckdb"][name], targets["trino"][name]
    assert one.tasks == other.tasks
    assert one.files == other.files
    for table, held in one.tables.items():
        assert held == other.tables[table], table


def test_files_are_put_together(targets: dict[str, dict[str, Came]]) -> None:
    assert [targets[kind]["lab.files"].files["lab.pieces"] for kind in ("duckdb", "trino")] == [1, 1]


def test_most_of_them_end_well_and_write_rows(targets: dict[str, dict[str, Came]]) -> None:
    found = targets["trino"]
    wrong = {name: came.tasks for name, came in found.items() if set(came.tasks.values()) - {"success"}}
    assert wrong.keys() == {"lab.each", "lab.everything", "lab.failing", "lab.handled", "lab.slow_ingest", "lab.told",
                            "lab.undeclared", "tale.hostile"} & wrong.keys(), wrong  # fmt: skip
    tables = dict(itertools.chain.from_iterable(came.tables.items() for came in found.values()))
    assert sum(bool(held and held[1]) for held in tables.values()) >= 20, tables
