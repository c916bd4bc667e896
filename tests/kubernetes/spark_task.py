"""A dag with one `spark` task, which Airflow itself runs in this process when it is started as a program."""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.sdk import DAG

from forebay.operators.spark import SparkOperator

folder = Path(os.environ["TEST_FOLDER"])
with DAG("flights.daily_delays", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
    SparkOperator(
        task_id="clean",
        application=str(folder / "spark_jobs/flights/clean.py"),
        folders=[str(folder / "spark_jobs/flights"), str(folder / "include")],
        arguments=["--run", "{run_id}"],
        conf={"spark.sql.shuffle.partitions": 4},
        driver_memory="700m",
        executors={"min": 1, "max": 2, "memory": "600m"},
        conn_id="lake_spark",
    )

if __name__ == "__main__":
    run = dag.test()
    print("STATE", run.state)
