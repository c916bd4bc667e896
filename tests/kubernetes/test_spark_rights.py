"""Which rights a `spark` task needs on Kubernetes: the chart's role has them, and one that is missing is named."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import cluster as clusters
import programs
import pytest
import yaml
from test_spark import PROGRAM, WHO, Started, engine, names, namespace, set_state, until
from test_spark_orphans import OURS, left

from conftest import ROOT
from forebay.engines import spark_orphans
from forebay.engines.background import Cancelled, EngineError
from forebay.engines.spark_application import application_name, config_map

__all__ = ["namespace"]


def as_account(cluster: clusters.Cluster, namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig of a service account."""
    cluster.kubectl("create", "serviceaccount", account, "-n", namespace)
    token = cluster.kubectl("create", "token", account, "-n", namespace).stdout.strip()
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def charts_role() -> dict[str, Any]:
    """The role that the chart gives to Airflow in a workspace's namespace."""
    done = subprocess.run(
        [programs.helm(), "template", "forebay", str(ROOT / "helm/forebay"), "--kube-version", programs.KUBERNETES.lstrip("v"), "-s", "templates/workspaces.yaml", "--set", "workspaces.flights.poolSlots=1"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    made = yaml.safe_load_all(done.stdout)
    role = next(each for each in made if each["kind"] == "Role" and each["metadata"]["name"] == "airflow")
    return {**role, "metadata": {"name": "airflow"}}


def test_the_charts_role_is_enough(cluster: clusters.Cluster, namespace: str, tmp_path: Path) -> None:
    path = as_account(cluster, namespace, "worker", tmp_path)
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=charts_role())
    cluster.kubectl("create", "rolebinding", "airflow", "--role=airflow", f"--serviceaccount={namespace}:worker", "-n", namespace)  # fmt: skip
    said: list[str] = []
    spark = engine(cluster, namespace, kubeconfig=path, log=said.append, airflow="one")
    spark.sweep(lambda *_: True)
    assert spark.earlier(WHO) is None
    started = Started(spark)
    name = until(lambda: names(cluster, namespace))[0]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "x", "image": "x"}]}}
    pod["metadata"] = {
        "name": f"{name}-driver",
        "labels": {"spark-role": "driver", "sparkoperator.k8s.io/app-name": name},
    }
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=pod)
    set_state(cluster, namespace, name, "FAILED", "driver container failed with ExitCode: 3, Reason: Error")
    assert "The program ended with code 3." in str(started.ended())
    spark.collected(WHO)
    # Sweeping and keeping say so where they may not.
    assert [line for line in said if "could not" in line] == []
    spark.delete(name)
    assert names(cluster, namespace) == []
    assert names(cluster, namespace, "pods") == []


def without(cluster: clusters.Cluster, namespace: str, folder: Path, verb: str, resource: str) -> Path:
    """A kubeconfig of an account that has the chart's role, but for one right."""
    path, role = as_account(cluster, namespace, "worker", folder), charts_role()
    split = [{**rule, "resources": [each]} for rule in role["rules"] for each in rule["resources"]]
    for rule in split:
        if rule["resources"] == [resource]:
            rule["verbs"].remove(verb)
    cluster.kubectl("create", "-n", namespace, "-f", "-", given={**role, "rules": split})
    account = f"--serviceaccount={namespace}:worker"
    cluster.kubectl("create", "rolebinding", "most", "--role=airflow", account, "-n", namespace)
    return path


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        *((verb, "sparkapplications") for verb in ("list", "get", "create", "patch", "delete")),
        *((verb, "configmaps") for verb in ("list", "create", "patch", "delete")),
        *(("list", "pods"), ("delete", "pods"), ("get", "pods/log"), ("list", "events")),
    ],
)
def test_each_right_that_a_task_uses_is_named_where_it_is_missing(
    cluster: clusters.Cluster, namespace: str, tmp_path: Path, verb: str, resource: str
) -> None:
    """All that a task does there: it sweeps, looks for an earlier try, runs, keeps logs, notes its end, and deletes."""
    orphan = dataclasses.replace(WHO, run="manual__1")
    lost = dataclasses.replace(WHO, run="manual__2")
    left(cluster, namespace, orphan)
    programs_of_lost = config_map(application_name(lost), lost, PROGRAM)
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=programs_of_lost)
    said: list[str] = []
    path = without(cluster, namespace, tmp_path, verb, resource)
    spark = engine(cluster, namespace, kubeconfig=path, log=said.append, airflow=OURS)
    name = application_name(WHO)

    def run() -> None:
        started = Started(spark)
        until(lambda: name in names(cluster, namespace) or not started.thread.is_alive(), 20)
        if name in names(cluster, namespace):
            for role, number in (("driver", "0"), ("executor", "1")):
                labels = {"sparkoperator.k8s.io/app-name": name, "spark-role": role, "spark-exec-id": number}
                pod = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{name}-{role}", "labels": labels},
                }
                pod["spec"] = {"containers": [{"name": f"spark-kubernetes-{role}", "image": "x"}]}
                cluster.kubectl("create", "-n", namespace, "-f", "-", given=pod)
            set_state(
                cluster, namespace, name, "FAILED", "driver container failed with ExitCode: 3, Reason: Error"
            )
        if error := started.ended():
            raise error

    for step in (
        lambda: spark_orphans.sweep(spark.api, OURS, lambda *_: True, said.append, datetime.timedelta()),
        lambda: spark.earlier(WHO),
        run,
        lambda: spark.collected(WHO),
        lambda: spark.delete(name, 5),
    ):
        try:
            step()
        except EngineError as error:
            said.append(str(error))
    text = "\n".join(said)
    user = f"system:serviceaccount:{namespace}:worker"
    assert f"{user} may not {verb} {resource} in the namespace {namespace}. Add it to" in text
    # Nothing else is missing.
    assert set(re.findall(r"may not (\S+ \S+) in", text)) == {f"{verb} {resource}"}, text


def test_a_killed_task_that_may_not_delete_its_application_says_so(
    cluster: clusters.Cluster, namespace: str, tmp_path: Path
) -> None:
    said: list[str] = []
    path = without(cluster, namespace, tmp_path, "delete", "sparkapplications")
    started = Started(engine(cluster, namespace, kubeconfig=path, log=said.append))
    name = until(lambda: names(cluster, namespace))[0]
    started.spark.cancel()
    assert isinstance(started.ended(5), Cancelled)
    words = f"The application {name} could not be deleted: system:serviceaccount:{namespace}:worker may not delete sparkapplications"
    assert until(lambda: [line for line in said if line.startswith(words)], 5)


def test_a_missing_right_stops_no_task(cluster: clusters.Cluster, namespace: str, tmp_path: Path) -> None:
    said: list[str] = []
    path = as_account(cluster, namespace, "worker", tmp_path)
    engine(cluster, namespace, kubeconfig=path, log=said.append, airflow=OURS).sweep(lambda *_: True)
    assert len(said) == 1
    assert "could not be looked for: " in said[0]
    assert "may not list sparkapplications" in said[0]
