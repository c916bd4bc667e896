"""The example job with its Spark task on Kubernetes and its SQL on DuckDB or Trino: what it publishes is what pandas finds in
the package's data, and the same on both.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airflow_connections as connections
import images
import pandas
import pytest
from spark_cluster import SparkCluster
from store import KEY, SECRET, free_ports, running_lens, running_store
from test_spark import KIND
from test_spark_task import airflow
from trino_server import lake_connections, running_trino

from conftest import ROOT
from forebay.engines.files import S3Access
from forebay.lake.connection import CatalogConfig
from test_flights import (
    test_daily_delays_are_right_for_every_carrier_and_day,
    test_every_flight_is_in_silver_once_with_its_weather,
    test_routes_are_right,
    test_the_table_is_laid_out_as_the_yaml_says,
)

__all__ = [
    "airflow",
    # What is true of the job on one machine.
    "test_daily_delays_are_right_for_every_carrier_and_day",
    "test_every_flight_is_in_silver_once_with_its_weather",
    "test_routes_are_right",
    "test_the_table_is_laid_out_as_the_yaml_says",
]

JOB = "flights.daily_delays"


@dataclass(frozen=True)
class Run:
    """The job's run: whose SQL it was, what it said, its application and the lake after it."""

    engine: str
    text: str
    application: dict[str, Any]
    lake: CatalogConfig

    def table(self, name: str) -> pandas.DataFrame:
        return self.lake.pyiceberg().load_table(name).scan().to_pandas()


@pytest.fixture(scope="module")
def runs(
    spark_cluster: SparkCluster, airflow: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Run]]:
    """One run with each engine for SQL, on lakes of their own, which stay for the tests."""
    with contextlib.ExitStack() as stays:
        namespace = stays.enter_context(spark_cluster.workspace("flights", key=KEY, secret=SECRET))
        made = {}
        for engine in ("duckdb", "trino"):
            folder = tmp_path_factory.mktemp(engine)
            (folder / "weed").mkdir()
            store = stays.enter_context(running_store(folder / "weed", spark_cluster.here))
            lens = stays.enter_context(
                running_lens(store.config, folder / "lens.log", host=spark_cluster.here)
            )
            account = spark_cluster.account(namespace, folder)
            with _sql(engine, folder, store.config, lens) as sql:
                told = connections.of_lake(store.config, lens, lake_sql=sql, lake_spark=_spark(account))
                text = _ran(folder, {**airflow, **told})
            (name,) = set(re.findall(rf"SparkApplication (\S+) in {namespace}", text))
            application = spark_cluster.cluster.get(KIND, name, "-n", namespace)
            made[engine] = Run(engine, text, application, store.config)
        yield made


@contextlib.contextmanager
def _sql(engine: str, folder: Path, config: CatalogConfig, lens: str) -> Iterator[dict[str, Any]]:
    """The connection `lake_sql`, and Trino where that is what it is."""
    if engine == "duckdb":
        yield connections.DUCKDB
        return
    with running_trino(folder / "trino", config, lens, free_ports(1)[0]) as trino:
        made = lake_connections(config, lens, trino)["lake_sql"]
        made["extra"] = made.pop("extra_dejson")
        yield made


def _ran(folder: Path, environment: dict[str, str]) -> str:
    """What the job says, run as Airflow runs it."""
    log = folder / "log"
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "test", JOB],
            env={
                **environment, "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"), "FOREBAY_ROOT": str(ROOT),
                "PYTHONPATH": str(ROOT / "include"),
            },
            stdout=file, stderr=file, timeout=900, cwd=folder,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text()[-8000:]
    return log.read_text()


@pytest.fixture(scope="module", params=["duckdb", "trino"])
def published(runs: dict[str, Run], request: pytest.FixtureRequest) -> Run:
    return runs[request.param]


def _spark(kubeconfig: Path) -> dict[str, Any]:
    return {
        "conn_type": "kubernetes",
        "extra": {
            "kube_config_path": str(kubeconfig), "image": images.SPARK, "image_pull_policy": "Never",
            "catalog": "lake_catalog", "driver_memory": "640m", "executors": {"instances": 1, "memory": "640m"},
            "logs": "s3://lake/spark-logs",
            # Of two cores each pod gets what the other leaves.
            "conf": {f"spark.kubernetes.{each}.request.cores": "250m" for each in ("driver", "executor")},
        },
    }  # fmt: skip


def test_its_spark_task_ran_as_driver_and_executor(published: Run) -> None:
    status = published.application["status"]
    assert status["applicationState"]["state"] == "COMPLETED"
    assert len(status["executorState"]) == 1
    name = published.application["metadata"]["name"]
    assert f"SparkApplication {name} in forebay-flights" in published.text
    # What the driver prints is in the task's log.
    assert re.search(r"silver_flights: 336,776 rows", published.text)
    assert published.application["metadata"]["annotations"]["forebay/collected"] == "true"
    assert SECRET not in json.dumps(published.application)
    # What its executor said is in the lake's store.
    kept = re.search(
        r"kept: (s3://lake/spark-logs/flights/daily_delays/\S+/clean/1/) \(1 executor, ", published.text
    )
    assert kept, published.text[-4000:]
    store = S3Access(published.lake.s3_endpoint, KEY, SECRET).filesystem()
    with store.open_input_stream(f"{kept[1].removeprefix('s3://')}events.log") as file:
        assert f"{name}-driver Scheduled: " in file.read().decode()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("flights.silver_flights", ["scheduled_at", "carrier", "flight", "origin"]),
        ("flights.daily_delays", ["carrier", "flight_date"]),
        ("flights.routes", ["origin", "destination"]),
    ],
)
def test_the_figures_are_the_same(runs: dict[str, Run], name: str, key: list[str]) -> None:
    duckdb, trino = (runs[engine].table(name).sort_values(key, ignore_index=True) for engine in runs)
    # Means of the same numbers in another order.
    pandas.testing.assert_frame_equal(duckdb, trino, rtol=1e-12, atol=0)
    if name != "flights.silver_flights":
        assert {engine: _written_by(run, name) for engine, run in runs.items()} == {
            each: each for each in runs
        }


def _written_by(run: Run, name: str) -> str:
    snapshot = run.lake.pyiceberg().load_table(name).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return snapshot.summary.additional_properties["forebay.engine"]
