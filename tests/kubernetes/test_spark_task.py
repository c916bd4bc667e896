"""The `spark` task as Airflow runs it, with a connection of type `kubernetes`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cluster as clusters
import pytest
from test_spark import names, namespace, set_state, until

__all__ = ["namespace"]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An Airflow with a database of its own: its environment."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return environment


def connected(cluster: clusters.Cluster, namespace: str) -> dict[str, str]:
    """The connections of a `spark` task that runs in a namespace."""
    made = {
        "LAKE_SPARK": {
            "conn_type": "kubernetes",
            "extra": {
                "kube_config_path": str(cluster.kubeconfig),
                "namespace": namespace,
                "image": "forebay-spark:0.1.0",
                "executors": {"instances": 3, "cores": 2},
            },
        },
        "LAKE_CATALOG": {
            "conn_type": "iceberg",
            "host": "http://catalog",
            "login": "the-key",
            "password": "the-secret",
            "extra": {"warehouse": "lake", "s3.endpoint": "http://s3", "lens": "http://lens"},
        },
    }
    return {f"AIRFLOW_CONN_{name}": json.dumps(each) for name, each in made.items()}


@pytest.mark.parametrize(("state", "ends"), [("COMPLETED", "success"), ("FAILED", "failed")])
def test_airflow_runs_it(
    cluster: clusters.Cluster, namespace: str, airflow: dict[str, str], tmp_path: Path, state: str, ends: str
) -> None:
    for name, text in {
        "spark_jobs/flights/clean.py": "import flights.days\n",
        "include/flights/days.py": "DAYS = 7\n",
        "include/forebay/secret.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Airflow knows the dags of its folder only.
    script = Path(airflow["AIRFLOW_HOME"]) / "dags" / "spark_task.py"
    script.parent.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("spark_task.py"), script)
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**airflow, "TEST_FOLDER": str(tmp_path), **connected(cluster, namespace)},
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        name = until(
            lambda: process.poll() is not None or names(cluster, namespace), 120
        ) and names(cluster, namespace)[0]  # fmt: skip
        made = cluster.get("sparkapplications.sparkoperator.k8s.io", name, "-n", namespace)
        programs = cluster.get("configmap", name, "-n", namespace)
        until(lambda: cluster.get("configmap", name, "-n", namespace)["metadata"].get("ownerReferences"))
        set_state(cluster, namespace, name, state, "driver container failed with ExitCode: 3, Reason: Error")
        assert process.wait(60) is not None
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert f"STATE {ends}" in text, text[-4000:]
    spec = made["spec"]
    assert spec["driver"]["memory"] == "700m"
    assert (spec["executor"]["memory"], spec["executor"]["cores"]) == ("600m", 2)
    assert spec["dynamicAllocation"]["maxExecutors"] == 2
    assert spec["arguments"][0] == "--run"
    assert made["metadata"]["labels"]["forebay/workspace"] == "flights"
    assert made["metadata"]["labels"]["forebay/task"] == "clean"
    assert "the-secret" not in json.dumps(made)
    assert len(programs["data"]) == 2 + 1
    assert re.search(r"import flights\.days", json.dumps(programs["data"]))
    collected = cluster.get("sparkapplications.sparkoperator.k8s.io", name, "-n", namespace)["metadata"][
        "annotations"
    ]
    assert ("forebay/collected" in collected) is (ends == "success")
    if ends == "failed":
        assert "The program ended with code 3." in text
