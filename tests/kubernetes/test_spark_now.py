"""What the console says of a Spark task that waits on Kubernetes, asked of a real API server.

There is no scheduler and no Spark operator here: what they would note is noted by hand.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cluster as clusters
from test_spark import CONFIG, PROGRAM, WHO, namespace, set_state, settings, until  # noqa: F401  a fixture among them

from forebay.connections.model import Connection
from forebay.engines.spark_application import application_name, manifest

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))
from forebay_ui.spark_now import application_now


def connection(cluster: clusters.Cluster, namespace: str, token: str = "") -> Connection:  # noqa: F811
    config = json.loads(cluster.kubeconfig.read_text())
    if token:
        config["users"] = [{"name": "admin", "user": {"token": token}}]
    return Connection.of(
        "lake_spark", "kubernetes", extra={"namespace": namespace, "kube_config": json.dumps(config)}
    )


def test_an_application_that_waits_for_room(cluster: clusters.Cluster, namespace: str) -> None:  # noqa: F811
    found = connection(cluster, namespace)
    # A kind that was made a moment ago is not listed yet.
    until(lambda: application_now(found, WHO) is None)
    for number in (1, 2):
        who = replace(WHO, number=number)
        made = manifest(who, settings(namespace), PROGRAM, CONFIG.seen_by(who), {}, "tests")
        cluster.kubectl("create", "-f", "-", given=made)
        set_state(cluster, namespace, application_name(who), "FAILED" if number == 1 else "SUBMITTED")
    name = application_name(replace(WHO, number=2))
    # The newest try counts, and nobody else's.
    assert application_now(found, WHO) == ("Spark: submitted", f"application {name} in {namespace}")
    assert application_now(found, replace(WHO, task="other")) is None
    labels = {"sparkoperator.k8s.io/app-name": name, "spark-role": "driver"}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-driver", "labels": labels},
        "spec": {"containers": [{"name": "driver", "image": "nothing:1"}]},
    }  # fmt: skip
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=pod)
    full = "0/3 nodes are available: 3 Insufficient memory."
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": full}
    _note(cluster, namespace, f"{name}-driver", {"conditions": [waits]})
    how, where = application_now(found, WHO) or ("", "")
    assert how == "Spark: queued"
    assert where == f"application {name} in {namespace}: no node takes its driver: {full}"
    # What needs somebody is no queue.
    pulls = {"name": "driver", "image": "nothing:1", "imageID": "", "ready": False, "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}  # fmt: skip
    scheduled = {"type": "PodScheduled", "status": "True"}
    _note(cluster, namespace, f"{name}-driver", {"conditions": [scheduled], "containerStatuses": [pulls]})
    how, where = application_now(found, WHO) or ("", "")
    assert how == "Spark: submitted"
    assert where.endswith("the image nothing:1 cannot be fetched: no such image")


def test_a_cluster_that_does_not_tell(cluster: clusters.Cluster, namespace: str) -> None:  # noqa: F811
    cluster.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    token = cluster.kubectl("create", "token", "nobody", "-n", namespace).stdout.strip()
    assert application_now(connection(cluster, namespace, token), WHO) == (
        "Kubernetes does not tell", f"{namespace}: HTTP 403",
    )  # fmt: skip
    gone = Connection.of("lake_spark", "kubernetes", host="https://127.0.0.1:1", extra={"token": "t"})
    assert application_now(gone, WHO) == ("Kubernetes does not answer", "https://127.0.0.1:1: ConnectError")


def _note(cluster: clusters.Cluster, namespace: str, pod: str, status: dict[str, object]) -> None:  # noqa: F811
    cluster.kubectl(
        "patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": {"phase": "Pending", **status}}),
    )  # fmt: skip
