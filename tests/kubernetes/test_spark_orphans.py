"""What nobody comes back for is deleted, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import cluster as clusters
import pytest
from test_spark import (
    CONFIG,
    KIND,
    PROGRAM,
    WHO,
    engine,
    names,
    namespace,
    set_state,
    settings,
    until,
)
from test_spark_task import airflow, connected

from forebay.engines import spark_orphans
from forebay.engines.spark_application import application_name, config_map, manifest
from forebay.engines.spark_kubernetes import SparkOnKubernetes
from forebay.lake.identity import TaskTry

__all__ = ["airflow", "namespace"]

OURS = "this-airflow"


def left(
    cluster: clusters.Cluster, namespace: str, who: TaskTry, airflow: str = OURS, state: str = "RUNNING"
) -> str:
    """What a worker leaves that dies for good: gives its application's name."""
    made = manifest(who, settings(namespace), PROGRAM, CONFIG.seen_by(who), airflow=airflow)
    cluster.kubectl("create", "-f", "-", given=made)
    if state:
        set_state(cluster, namespace, application_name(who), state)
    return application_name(who)


def swept(cluster: clusters.Cluster, namespace: str, over: Any, airflow: str = OURS) -> list[str]:
    said: list[str] = []
    spark: SparkOnKubernetes = engine(cluster, namespace, log=said.append, airflow=airflow)
    spark.sweep(over)
    return said


def test_applications_of_tasks_that_are_over_are_deleted(cluster: clusters.Cluster, namespace: str) -> None:
    over = dataclasses.replace(WHO, run="manual__1", task="load[3]")
    runs = dataclasses.replace(WHO, run="manual__2")
    ended = dataclasses.replace(WHO, run="manual__3")
    other = dataclasses.replace(WHO, run="manual__4")
    new = dataclasses.replace(WHO, run="manual__5")
    for each in (over, runs):
        left(cluster, namespace, each)
    left(cluster, namespace, ended, state="COMPLETED")
    left(cluster, namespace, new, state="")
    left(cluster, namespace, other, "another-airflow")
    asked: list[tuple[str, str, str]] = []

    def is_over(job: str, run: str, task: str) -> bool:
        asked.append((job, run, task))
        return run != "manual__2"

    said = swept(cluster, namespace, is_over)
    assert sorted(asked) == [(WHO.job, "manual__1", "load[3]"), (WHO.job, "manual__2", "clean")]
    # What has ended goes when it has been kept long enough.
    assert sorted(names(cluster, namespace)) == sorted(map(application_name, (runs, ended, other, new)))
    (line,) = said
    assert line.startswith(
        f"deleted the application {application_name(over)}: its task load[3] in the run manual__1"
    )


def test_one_that_a_task_goes_on_with_meanwhile_stays(cluster: clusters.Cluster, namespace: str) -> None:
    """It was found to be over, and cleared before it was deleted: the new try has it."""
    name = left(cluster, namespace, WHO)

    def cleared(job: str, run: str, task: str) -> bool:
        assert engine(cluster, namespace, airflow=OURS).earlier(dataclasses.replace(WHO, number=2)) == 1
        return True

    assert swept(cluster, namespace, cleared) == []
    assert names(cluster, namespace) == [name]


def test_one_that_has_not_begun_is_gone_on_with_untouched(cluster: clusters.Cluster, namespace: str) -> None:
    """Touched while the operator submits it, it is submitted twice, and fails."""
    name = left(cluster, namespace, WHO, state="")
    before = cluster.get(KIND, name, "-n", namespace)
    assert engine(cluster, namespace).earlier(dataclasses.replace(WHO, number=2)) == 1
    assert cluster.get(KIND, name, "-n", namespace) == before


def test_one_that_was_swept_before_a_task_goes_on_with_it_is_begun_anew(
    cluster: clusters.Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(cluster, namespace, WHO)
    spark = engine(cluster, namespace, airflow=OURS)
    listed = spark.api.applications

    def slow(selector: str) -> list[dict[str, Any]]:
        found = listed(selector)
        assert len(swept(cluster, namespace, lambda *_: True)) == 1
        return found

    monkeypatch.setattr(spark.api, "applications", slow)
    assert spark.earlier(dataclasses.replace(WHO, number=2)) is None
    assert names(cluster, namespace) == []


def test_programs_without_an_application_are_deleted(cluster: clusters.Cluster, namespace: str) -> None:
    lost = dataclasses.replace(WHO, run="manual__1")
    for each in (WHO, lost):
        cluster.kubectl(
            "create", "-n", namespace, "-f", "-", given=config_map(application_name(each), each, PROGRAM)
        )
    cluster.kubectl("create", "configmap", "somebodys", "-n", namespace)
    left(cluster, namespace, WHO)
    before = set(names(cluster, namespace, "configmaps"))
    assert swept(cluster, namespace, lambda *_: False) == []
    assert set(names(cluster, namespace, "configmaps")) == before
    said: list[str] = []
    api = engine(cluster, namespace).api
    spark_orphans.sweep(api, OURS, lambda *_: False, said.append, old=timedelta())
    assert set(names(cluster, namespace, "configmaps")) == before - {application_name(lost)}
    assert said == [f"deleted the ConfigMap {application_name(lost)}: programs of a task that never began"]


def test_a_task_deletes_what_airflow_says_is_over(
    cluster: clusters.Cluster, namespace: str, airflow: dict[str, str], tmp_path: Path
) -> None:
    """A real task, by what Airflow says of others: never one that may come back, nor another Airflow's."""
    (tmp_path / "clean.py").write_text("")
    script = Path(airflow["AIRFLOW_HOME"]) / "dags" / "orphans_task.py"
    script.parent.mkdir()
    shutil.copy(Path(__file__).with_name("orphans_task.py"), script)
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**airflow, "TEST_FOLDER": str(tmp_path), **connected(cluster, namespace)}, stdout=file, stderr=file,
        )  # fmt: skip
    made = tmp_path / "made.json"
    try:
        until(lambda: process.poll() is not None or made.exists(), 120)
        assert made.exists(), log.read_text()[-5000:]
        found = json.loads(made.read_text())
        for run, name in found["applications"].items():
            who = dataclasses.replace(WHO, run=run, task="clean[3]" if run.startswith("mapped") else "clean")
            left(cluster, namespace, who, name)
        (tmp_path / "go").touch()
        own = until(lambda: process.poll() is not None or _runs(cluster, namespace).get(found["own"]), 120)
        assert isinstance(own, str), log.read_text()[-5000:]
        there = set(_runs(cluster, namespace))
        set_state(cluster, namespace, own, "COMPLETED")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    deleted = {"success", "failed", "skipped", "upstream_failed", "removed", "mapped-failed", "gone"}
    assert set(found["applications"]) - there == deleted, log.read_text()[-5000:]
    assert log.read_text().count("is over, and its worker did not end it") == len(deleted)


def _runs(cluster: clusters.Cluster, namespace: str) -> dict[str, str]:
    """The applications that are there, by their runs."""
    found = cluster.get(KIND, "-n", namespace)["items"]
    return {each["metadata"]["annotations"]["forebay/run"]: each["metadata"]["name"] for each in found}
