"""The example job with its Spark task on Kubernetes: what it publishes is what pandas finds in the package's data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import images
import pytest
from spark_cluster import SparkCluster
from store import KEY, SECRET, running_lens, running_store
from test_spark import KIND
from test_spark_task import airflow

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
    """The job's run: what it said, its application and the lake after it."""

    text: str
    application: dict[str, Any]
    lake: CatalogConfig


@pytest.fixture(scope="module")
def published(
    spark_cluster: SparkCluster, airflow: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("flights")
    (folder / "weed").mkdir()
    with (
        running_store(folder / "weed", spark_cluster.here) as store,
        running_lens(store.config, folder / "lens.log", host=spark_cluster.here) as lens,
        spark_cluster.workspace("flights", key=KEY, secret=SECRET) as namespace,
    ):
        environment = {
            **airflow,
            **_connections(store.config, lens, spark_cluster.account(namespace, folder)),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "FOREBAY_ROOT": str(ROOT),
            "PYTHONPATH": str(ROOT / "include"),
        }
        log = folder / "log"
        with log.open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "dags", "test", JOB],
                env=environment, stdout=file, stderr=file, timeout=900, cwd=folder,
            )  # fmt: skip
        text = log.read_text()
        (application,) = spark_cluster.cluster.get(KIND, "-n", namespace)["items"]
        assert done.returncode == 0, text[-8000:]
        yield Run(text, application, store.config)


def _connections(config: CatalogConfig, lens: str, kubeconfig: Path) -> dict[str, str]:
    """As in production, but for DuckDB: the connection decides the engine, the job does not."""
    made = {
        "LAKE_CATALOG": {
            "conn_type": "iceberg", "host": config.uri, "login": config.access_key, "password": config.secret_key,
            "extra": {"warehouse": config.warehouse, "s3.endpoint": config.s3_endpoint, "lens": lens},
        },
        "LAKE_S3": {
            "conn_type": "aws", "login": config.access_key, "password": config.secret_key,
            "extra": {"endpoint_url": config.s3_endpoint, "region_name": config.s3_region},
        },
        "LAKE_SQL": {"conn_type": "duckdb", "extra": {"catalog": "lake_catalog", "memory_limit": "1GB", "threads": 2}},
        "LAKE_SPARK": {
            "conn_type": "kubernetes",
            "extra": {
                "kube_config_path": str(kubeconfig), "image": images.SPARK, "image_pull_policy": "Never",
                "catalog": "lake_catalog", "driver_memory": "640m", "executors": {"instances": 1, "memory": "640m"},
                "logs": "s3://lake/spark-logs",
                # Of two cores each pod gets what the other leaves.
                "conf": {f"spark.kubernetes.{each}.request.cores": "250m" for each in ("driver", "executor")},
            },
        },
    }  # fmt: skip
    return {f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in made.items()}


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
