"""The airflow dag that drops branches of runs that were never published and are older than keep_failed_runs."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, CronTriggerTimetable

from forebay.operators import sweep

with DAG(
    sweep.DAG_ID,
    description="Drops branches of runs that were never published and are older than keep_failed_runs.",
    # A machine that is off at night catches up when it is on: a first run comes at once, a missed one at the next start.
    schedule=CronTriggerTimetable("17 3 * * *", timezone="UTC", run_immediately=True),
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=1,
    tags=["forebay"],
):
    PythonOperator(
        task_id=sweep.TASK,
        python_callable=sweep.sweep_lake,
        # On a new stack the first try may come before Airflow's API server is up.
        retries=5,
        retry_delay=timedelta(seconds=30),
    )
