"""The airflow dag that checks connections where tasks run. The console starts it; it has no schedule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from forebay.connections import worker
from forebay.errors import ForebayError


def check(dag_run: Any) -> str:
    """The sealed reports."""
    try:
        return worker.check(dag_run.run_id, dag_run.conf or {})
    except ForebayError as error:
        raise AirflowFailException(str(error)) from None


with DAG(
    worker.DAG_ID,
    description="Checks connections where tasks run. Forebay's console starts it.",
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    max_active_runs=16,
    tags=["forebay"],
):
    PythonOperator(
        task_id=worker.TASK,
        python_callable=check,
        # For a worker that dies before it begins.
        retries=1,
        retry_delay=timedelta(seconds=1),
        priority_weight=1000,
        execution_timeout=timedelta(seconds=worker.LONGEST),
        show_return_value_in_logs=False,
    )
