"""A `spark` task on Kubernetes as far as the API server goes: what it makes, ends, finds again and is refused.

There is no Spark operator here: where a test needs a state that the operator would set, it is set by hand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster as clusters
import pytest

from forebay.engines.background import Cancelled, EngineError
from forebay.engines.spark_api import Unreachable
from forebay.engines.spark_application import application_name, manifest
from forebay.engines.spark_kubernetes import SparkOnKubernetes
from forebay.engines.spark_settings import Cluster, Executors, Program
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry

WHO = TaskTry("flights.daily_delays", "manual__2026-11-21T16:53:31.282050+00:00", "clean")
CONFIG = CatalogConfig("http://catalog", "lake", "the-key", "the-secret", "http://s3", lens="http://lens")
PROGRAM = Program("clean.py", {"clean.py": "import shared.days", "shared/days.py": "DAYS = 7"})
KIND = "sparkapplications.sparkoperator.k8s.io"


@pytest.fixture
def namespace(cluster: clusters.Cluster, kinds: None) -> Iterator[str]:
    """A namespace of the test's own."""
    made = cluster.kubectl(
        "create", "-o", "json", "-f", "-",
        given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "forebay-test-"}},
    )  # fmt: skip
    name = str(json.loads(made.stdout)["metadata"]["name"])
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def settings(namespace: str, **more: Any) -> Cluster:
    return Cluster.from_extra({"image": "forebay-spark:0.1.0", "namespace": namespace, **more}, "flights")


def engine(
    cluster: clusters.Cluster, namespace: str, *, kubeconfig: Path | None = None, **more: Any
) -> SparkOnKubernetes:
    from kubernetes.config import new_client_from_config

    client = new_client_from_config(str(kubeconfig or cluster.kubeconfig))
    return SparkOnKubernetes(client, settings(namespace), more.pop("program", PROGRAM), **more)


class Started:
    """A run of the engine in a thread, as a task is."""

    def __init__(self, spark: SparkOnKubernetes, who: TaskTry = WHO, config: CatalogConfig = CONFIG) -> None:
        self.spark, self.error, self.results = spark, None, None  # type: tuple[Any, BaseException | None, Any]
        self.thread = threading.Thread(target=self._run, args=(who, config))
        self.thread.start()

    def _run(self, who: TaskTry, config: CatalogConfig) -> None:
        try:
            self.results = self.spark.run(who, config.seen_by(who))
        except BaseException as error:  # noqa: BLE001  looked at by the test
            self.error = error

    def ended(self, seconds: float = 20) -> BaseException | None:
        self.thread.join(seconds)
        assert not self.thread.is_alive()
        return self.error


def until(what: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def names(cluster: clusters.Cluster, namespace: str, kind: str = KIND) -> list[str]:
    found = cluster.get(kind, "-n", namespace)["items"]
    return [each["metadata"]["name"] for each in found if not each["metadata"]["name"].startswith("kube-")]


def set_state(cluster: clusters.Cluster, namespace: str, name: str, state: str, message: str = "") -> None:
    """In the Spark operator's place."""
    status = {"driverInfo": {}, "lastSubmissionAttemptTime": None, "terminationTime": None}
    status["applicationState"] = {"state": state, "errorMessage": message}
    cluster.kubectl(
        "patch", KIND, name, "-n", namespace, "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": status}),
    )  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"executors": {"min": 2, "max": 9, "cores": 4, "memory": "8g"}, "priority_class": "test-batch"},
        {"image_pull_secrets": ["registry"], "conf": {"spark.eventLog.enabled": True}, "keep_seconds": 60},
    ],
)
def test_the_api_server_takes_the_application(
    cluster: clusters.Cluster, namespace: str, more: dict[str, Any]
) -> None:
    made = manifest(WHO, settings(namespace, **more), PROGRAM, CONFIG.seen_by(WHO))
    dry = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    cluster.kubectl(*dry, given=made)
    # The operator's kind leaves templates of pods unchecked, so they are looked at as pods.
    if "priority_class" in more:
        cluster.kubectl(
            "apply", "-f", "-",
            given={"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "test-batch"}, "value": 1000},
        )  # fmt: skip
    for part in ("driver", "executor"):
        template = made["spec"][part]["template"]
        template["spec"]["containers"][0]["image"] = "x"
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
        pod["metadata"] = {"name": "x", "namespace": namespace, "labels": made["spec"][part]["labels"]}
        cluster.kubectl(*dry, given=pod)


def test_the_pods_are_allowed_where_the_strictest_rules_are(
    cluster: clusters.Cluster, namespace: str
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    made = manifest(WHO, settings(namespace), PROGRAM, CONFIG.seen_by(WHO))
    spec = made["spec"]["driver"]["template"]["spec"]
    spec["containers"][0]["image"] = "x"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}, "spec": spec}
    cluster.kubectl("create", "--dry-run=server", "-f", "-", given=pod)


def test_the_api_server_names_what_is_wrong(cluster: clusters.Cluster, namespace: str) -> None:
    wrong = engine(cluster, namespace)
    wrong._cluster = dataclasses.replace(
        settings(namespace), executors=Executors(cores=0, minimum=1, maximum=1)
    )
    with pytest.raises(EngineError, match=r"spec\.executor\.cores.* should be greater than or equal to 1"):
        wrong.run(WHO, CONFIG.seen_by(WHO))


def test_a_killed_task_leaves_nothing(cluster: clusters.Cluster, namespace: str) -> None:
    started = Started(engine(cluster, namespace))
    until(lambda: names(cluster, namespace))
    begun = time.monotonic()
    started.spark.cancel()
    assert isinstance(started.ended(5), Cancelled)
    assert names(cluster, namespace) == []
    assert time.monotonic() - begun < 5
    # Its programs go with it.
    until(lambda: names(cluster, namespace, "configmaps") == [])


def test_a_task_killed_while_it_starts_leaves_nothing(cluster: clusters.Cluster, namespace: str) -> None:
    for milliseconds in (0, 5, 10, 20, 40, 80, 160):
        started = Started(engine(cluster, namespace))
        time.sleep(milliseconds / 1000)
        started.spark.cancel()
        assert isinstance(started.ended(), Cancelled)
        until(lambda: names(cluster, namespace) == [], 5)


def test_a_worker_that_dies_is_followed_by_one_that_goes_on(
    cluster: clusters.Cluster, namespace: str, tmp_path: Path
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import cluster, test_spark as t\nfrom pathlib import Path\n"
        "c = cluster.Cluster(Path(sys.argv[2]), '', '')\n"
        "t.engine(c, sys.argv[3]).run(t.WHO, t.CONFIG.seen_by(t.WHO))\n"
    )
    command = [sys.executable, str(script), str(Path(__file__).parent), str(cluster.folder), namespace]
    worker = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})
    try:
        until(lambda: names(cluster, namespace))
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    name = application_name(WHO)
    set_state(cluster, namespace, name, "RUNNING")

    again = dataclasses.replace(WHO, number=2)
    spark = engine(cluster, namespace)
    assert spark.earlier(again) == 1
    started = Started(spark, dataclasses.replace(again, number=1))
    time.sleep(1.5)
    assert names(cluster, namespace) == [name]
    set_state(cluster, namespace, name, "COMPLETED")
    assert started.ended() is None
    assert started.results == []
    # Its result is there for a task that failed after it, until the task has it.
    assert engine(cluster, namespace).earlier(again) == 1
    spark.collected(WHO)
    assert engine(cluster, namespace).earlier(again) is None


def test_other_work_of_the_task_is_ended_before_new_work_begins(
    cluster: clusters.Cluster, namespace: str
) -> None:
    started = Started(engine(cluster, namespace))
    until(lambda: names(cluster, namespace))
    changed = dataclasses.replace(PROGRAM, files={"clean.py": "print('another')"})
    assert engine(cluster, namespace, program=changed).earlier(dataclasses.replace(WHO, number=2)) is None
    assert names(cluster, namespace) == []
    error = started.ended()
    assert isinstance(error, EngineError)
    assert "was deleted while it ran" in str(error)


def test_two_workers_of_one_try_make_one_application(cluster: clusters.Cluster, namespace: str) -> None:
    both = [Started(engine(cluster, namespace)) for _ in range(2)]
    until(lambda: names(cluster, namespace))
    time.sleep(1)
    assert names(cluster, namespace) == [application_name(WHO)]
    set_state(cluster, namespace, application_name(WHO), "COMPLETED")
    assert [each.ended() for each in both] == [None, None]


def test_a_failed_application_is_told_in_plain_words(cluster: clusters.Cluster, namespace: str) -> None:
    started = Started(engine(cluster, namespace))
    name = until(lambda: names(cluster, namespace))[0]
    message = "driver container failed with ExitCode: 137, Reason: OOMKilled"
    set_state(cluster, namespace, name, "FAILED", message)
    error = started.ended()
    assert isinstance(error, EngineError)
    assert "The driver ran out of memory" in str(error)


def test_without_the_operator_it_says_so_and_leaves_nothing(
    cluster: clusters.Cluster, namespace: str
) -> None:
    said: list[str] = []
    started = Started(engine(cluster, namespace, start_seconds=17, log=said.append))
    error = started.ended(30)
    assert isinstance(error, EngineError)
    assert "did not start in 17 s: the Spark operator has not taken it up" in str(error)
    assert [line for line in said if line.startswith("waits: the Spark operator")]
    until(lambda: names(cluster, namespace) == [])


def test_a_quota_that_is_used_up_is_told(cluster: clusters.Cluster, namespace: str) -> None:
    cluster.kubectl("create", "quota", "workspace", f"--hard=count/{KIND}=0", "-n", namespace)
    until(lambda: cluster.get("quota", "workspace", "-n", namespace)["status"].get("hard"))
    with pytest.raises(EngineError, match=r"The quota is used up .* allowed.*raise workspaces"):
        engine(cluster, namespace).run(WHO, CONFIG.seen_by(WHO))


def test_a_namespace_that_is_not_there_is_named(cluster: clusters.Cluster, kinds: None) -> None:
    with pytest.raises(EngineError, match="There is no namespace nowhere"):
        engine(cluster, "nowhere").run(WHO, CONFIG.seen_by(WHO))


def test_an_api_server_that_does_not_answer_is_named(cluster: clusters.Cluster, tmp_path: Path) -> None:
    config = json.loads(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    with pytest.raises(Unreachable, match=r"https://127\.0\.0\.1:1 does not answer"):
        engine(cluster, "x", kubeconfig=path).earlier(WHO)
