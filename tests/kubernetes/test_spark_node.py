"""`spark` tasks on a node: what becomes of the driver when all goes well, and when it does not."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import images
import pytest
from spark_cluster import SparkCluster
from test_spark import WHO, Started, names, until

from forebay.engines.background import Cancelled, EngineError
from forebay.engines.spark_application import application_name
from forebay.engines.spark_kubernetes import SparkOnKubernetes
from forebay.engines.spark_settings import Cluster, Program

BEGIN = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
COUNT = f"""{BEGIN}
import shared.days, socket, time
def where(number):
    print("number", number, flush=True)
    time.sleep(0.3)
    return socket.gethostname(), shared.days.DAYS
found = spark.sparkContext.parallelize(range(40), 40).map(where).collect()
print("executors", len({{host for host, _ in found}} - {{socket.gethostname()}}), "days", {{days for _, days in found}})
"""
WAIT = f"{BEGIN}print('waits', flush=True)\nimport time\ntime.sleep(600)\n"
EAT = f"{BEGIN}print('eats', flush=True)\nmuch = [bytearray(10**7) for _ in range(1000)]\n"
EXIT = "import sys\nprint('last words')\nsys.exit(3)\n"
SLOW = f"{BEGIN}import time\nfor second in range(25):\n    print('second', second, flush=True)\n    time.sleep(1)\n"
LIBRARY = {"shared/__init__.py": "", "shared/days.py": "DAYS = 7\n"}


@dataclass(frozen=True)
class Space:
    """A workspace's namespace, as Airflow's workers may use it."""

    spark: SparkCluster
    name: str
    kubeconfig: Path

    def engine(
        self, text: str, said: list[str] | None = None, start_seconds: float = 240, **more: Any
    ) -> SparkOnKubernetes:
        from kubernetes.config import new_client_from_config

        log = (said if said is not None else []).append
        client = new_client_from_config(str(self.kubeconfig))
        program = Program("job.py", {"job.py": text, **LIBRARY})
        return SparkOnKubernetes(client, self.settings(**more), program, log=log, start_seconds=start_seconds)

    def settings(self, **more: Any) -> Cluster:
        """Of two cores each pod gets what the others leave."""
        cores = {f"spark.kubernetes.{each}.request.cores": "200m" for each in ("driver", "executor")}
        given = {
            "namespace": self.name, "image": images.SPARK, "image_pull_policy": "Never", "driver_memory": "512m",
            "executors": {"instances": 1, "memory": "512m"}, "conf": cores, **more,
        }  # fmt: skip
        return Cluster.from_extra(given, "unused")

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.spark.cluster.get("pods", "-n", self.name)["items"]
        return found

    def driver(self) -> str:
        """The driver's pod, by what no other will ever be called; empty where there is none."""
        return "".join(
            pod["metadata"]["uid"]
            for pod in self.pods()
            if pod["metadata"]["labels"].get("spark-role") == "driver"
        )

    def running(self, role: str) -> str:
        """The name of a running pod of that role; empty where there is none."""
        names = [
            pod["metadata"]["name"]
            for pod in self.pods()
            if pod["metadata"]["labels"].get("spark-role") == role and pod["status"]["phase"] == "Running"
        ]
        return names[0] if names else ""

    def log(self, pod: str) -> str:
        return self.spark.cluster.kubectl("logs", pod, "-n", self.name, check=False).stdout


@pytest.fixture
def space(spark_cluster: SparkCluster, tmp_path: Path) -> Iterator[Space]:
    with spark_cluster.workspace() as name:
        yield Space(spark_cluster, name, spark_cluster.account(name, tmp_path))


def test_executors_share_the_work(space: Space) -> None:
    said: list[str] = []
    started = Started(space.engine(COUNT, said, executors={"instances": 2, "memory": "512m"}))
    assert started.ended(400) is None, "\n".join(said)
    assert "executors 2 days {7}" in said, "\n".join(said)
    assert f"{application_name(WHO)}: COMPLETED" in said


def test_a_killed_task_has_no_driver_after_five_seconds(space: Space) -> None:
    said: list[str] = []
    started = Started(space.engine(WAIT, said))
    until(lambda: "waits" in said or not started.thread.is_alive(), 300)
    assert len(space.pods()) == 2
    begun = time.monotonic()
    started.spark.cancel()
    assert isinstance(started.ended(5), Cancelled)
    until(lambda: names(space.spark.cluster, space.name) == [] and space.pods() == [], 5)
    assert time.monotonic() - begun < 5


def test_a_worker_that_dies_is_followed_by_one_that_goes_on_with_its_driver(
    space: Space, tmp_path: Path
) -> None:
    """The second one sees what the driver said before it came, and there never is a second driver."""
    script = tmp_path / "worker.py"
    script.write_text(
        f"import sys\nsys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "from pathlib import Path\nimport test_spark as s, test_spark_node as t\n"
        f"space = t.Space(None, {space.name!r}, Path({str(space.kubeconfig)!r}))\n"
        "space.engine(t.SLOW).run(s.WHO, s.CONFIG.seen_by(s.WHO))\n"
    )
    worker = subprocess.Popen([sys.executable, str(script)])
    try:
        driver = until(lambda: worker.poll() is not None or space.driver(), 240)
    finally:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    said: list[str] = []
    second = space.engine(SLOW, said)
    again = dataclasses.replace(WHO, number=2)
    assert second.earlier(again) == 1
    started = Started(second, dataclasses.replace(again, number=1))
    assert started.ended(300) is None, "\n".join(said)
    assert [line for line in said if line.startswith("second ")] == [f"second {n}" for n in range(25)]
    assert space.driver() == driver
    assert names(space.spark.cluster, space.name) == [application_name(WHO)]


def test_a_lost_executor_is_replaced(space: Space) -> None:
    said: list[str] = []
    started = Started(space.engine(COUNT.replace("0.3", "0.6"), said))
    pod = until(lambda: space.running("executor") or not started.thread.is_alive(), 300)
    until(lambda: space.log(pod).count("number") > 2, 120)
    space.spark.cluster.kubectl("delete", "pod", pod, "-n", space.name, "--grace-period=0", "--force")
    assert started.ended(400) is None, "\n".join(said)
    assert "days {7}" in "\n".join(said)


def test_a_driver_that_is_put_off_its_node_is_told(space: Space) -> None:
    """As when a node is drained."""
    said: list[str] = []
    started = Started(space.engine(WAIT, said))
    until(lambda: "waits" in said or not started.thread.is_alive(), 300)
    pod = f"{application_name(WHO)}-driver"
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": space.name},
    }
    path = f"/api/v1/namespaces/{space.name}/pods/{pod}/eviction"
    space.spark.cluster.kubectl("create", "--raw", path, "-f", "-", given=eviction)
    error = started.ended(120)
    assert isinstance(error, EngineError)
    assert "asked to end (exit code 143): its pod was deleted or put off its node" in str(error)


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (EAT, {}, "The driver ran out of memory and was killed by the kernel (OOMKilled, exit code 137)"),
        (EXIT, {}, "The program ended with code 3."),
        (WAIT, {"image": "forebay.test/nothing:1"}, "The driver cannot start: the image forebay.test/nothing:1 is not on the node"),
        (
            WAIT, {"image": "forebay.test/nothing:1", "image_pull_policy": "IfNotPresent", "start_seconds": 40},
            "did not start in 40 s: the image forebay.test/nothing:1 cannot be fetched",
        ),
        (WAIT, {"conf": {"spark.kubernetes.driver.request.cores": "9"}, "start_seconds": 40}, "no node takes its driver: 0/1 nodes are available: 1 Insufficient cpu"),
    ],
    ids=["memory", "exit", "image", "registry", "room"],
)  # fmt: skip
def test_what_goes_wrong_is_told(space: Space, text: str, more: dict[str, Any], words: str) -> None:
    error = Started(space.engine(text, **more)).ended(300)
    assert isinstance(error, EngineError)
    assert words in str(error)
    # What the program said last, where it said something.
    assert ("last words" in text) is str(error).endswith("\nlast words")


def test_a_quota_that_leaves_no_room_for_the_driver_is_told(
    spark_cluster: SparkCluster, tmp_path: Path
) -> None:
    with spark_cluster.workspace("narrow", "quota.memory=100Mi") as name:
        space = Space(spark_cluster, name, spark_cluster.account(name, tmp_path))
        error = Started(space.engine(WAIT)).ended(300)
    assert isinstance(error, EngineError)
    assert "The driver could not be started: the quota is used up: " in str(error)
    assert "896Mi" in str(error)
    assert "100Mi allowed" in str(error)
