"""A dag whose `spark` task comes to a namespace where others left applications; runs of all states are in the database."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.sdk import DAG

from forebay.operators.spark import SparkOperator
from forebay.operators.spark_kubernetes import this_airflow

folder = Path(os.environ["TEST_FOLDER"])
with DAG("flights.daily_delays", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
    SparkOperator(task_id="clean", application=str(folder / "clean.py"), conn_id="lake_spark")

STATES = (
    *("success", "failed", "skipped", "upstream_failed", "removed"),
    *("queued", "running", "scheduled", "deferred", "restarting", "up_for_retry", "up_for_reschedule"),
)


def add_runs() -> list[str]:
    """Runs whose task is in the state that is the run's id; gives all that were added."""
    from airflow.models.dagrun import get_or_create_dagrun
    from airflow.models.taskinstance import TaskInstance
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import update

    chosen: dict[str, dict[str, object]] = {state: {"state": state} for state in STATES}
    chosen["no-state"] = {"state": None}
    chosen["mapped-failed"] = {"state": "failed", "map_index": 3}
    chosen["mapped-running"] = {"state": "running", "map_index": 3}
    known = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    with create_session() as session:
        for number, (run, values) in enumerate(chosen.items(), 1):
            when = pendulum.datetime(2026, 1, 1) + timedelta(hours=number)
            get_or_create_dagrun(
                dag=known, run_id=run, logical_date=when, data_interval=(when, when), run_after=when, conf=None,
                triggered_by=DagRunTriggeredByType.TEST, triggering_user_name="test", start_date=when, session=session,
            )  # fmt: skip
            session.flush()
            session.execute(update(TaskInstance).where(TaskInstance.run_id == run).values(**values))
    return list(chosen)


if __name__ == "__main__":
    import re

    # So that Airflow's database knows the dag.
    dag.test(mark_success_pattern=re.compile(".*"))
    here = this_airflow("http://lens")
    applications = dict.fromkeys((*add_runs(), "gone"), here)
    applications["of-another-airflow"] = "another"
    when = pendulum.now("UTC")
    said = {"applications": applications, "own": f"manual__{when.isoformat()}"}
    (folder / "made").write_text(json.dumps(said))
    (folder / "made").rename(folder / "made.json")
    while not (folder / "go").exists():
        time.sleep(0.1)
    run = dag.test(run_after=when, logical_date=when)
    assert run.run_id == said["own"], run.run_id
    assert str(run.state) == "success", run.state
