"""A `spark` task on a standalone cluster: Spark's own master and worker, out of PySpark's jars."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lake import Lake
from operator_process import Start, wait_for
from store import free_ports

from forebay.engines.spark import spark_home
from forebay.lake.identity import Run
from forebay.lake.publish import publish
from forebay.lake.rest import Rest

SMALL = {"spark.executor.memory": "512m", "spark.cores.max": 1}
PROGRAM = """\
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("on a cluster").getOrCreate()
print("MASTER", spark.sparkContext.master)
spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {sys.argv[1].split('.')[0]}")
spark.range(5).withColumnRenamed("id", "n").repartition(2).writeTo(sys.argv[1]).create()
"""
ENDLESS = """\
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("for ever").getOrCreate()
spark.range(1).count()
print("RUNNING", flush=True)
spark.range(10**15).selectExpr("sum(id * id % 7)").collect()
"""


class Cluster:
    """Where programs go, and what the master says of them."""

    def __init__(self, master: int, page: int) -> None:
        self.connection = {"conn_type": "spark", "host": "spark://127.0.0.1", "port": master}
        self.master, self._page = f"spark://127.0.0.1:{master}", f"http://127.0.0.1:{page}/json/"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(self._page, timeout=20, trust_env=False).json()
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    ports = free_ports(4)
    found = Cluster(*ports[:2])
    at = ["--host", "127.0.0.1", "--port"]
    with contextlib.ExitStack() as running:
        running.enter_context(
            part(folder, "master.Master", *at, str(ports[0]), "--webui-port", str(ports[1]))
        )
        up(folder, lambda: found.state()["status"] == "ALIVE")
        running.enter_context(
            part(
                folder, "worker.Worker", *at, str(ports[2]), "--webui-port", str(ports[3]), "--cores", "1", "--memory", "600m",
                "--work-dir", str(folder / "work"), found.master,
            )
        )  # fmt: skip
        up(folder, lambda: found.state()["aliveworkers"] == 1)
        yield found


@contextlib.contextmanager
def part(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    java = Path(os.environ["JAVA_HOME"], "bin", "java")
    # What Spark's shell scripts tell its classes.
    told = {"SPARK_HOME": spark_home(), "SPARK_SCALA_VERSION": "2.13", "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [
        str(java),
        "-Xmx512m",
        "-cp",
        f"{spark_home()}/jars/*",
        f"org.apache.spark.deploy.{name}",
        *arguments,
    ]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder,
            env={**os.environ, **told},
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def up(folder: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if ready():
                return
        time.sleep(0.2)
    raise AssertionError((folder / "log").read_text()[-3000:])


def test_a_task_writes_through_its_executors(
    start: Start, cluster: Cluster, lake: Lake, rest: Rest, tmp_path: Path
) -> None:
    program, table = tmp_path / "write.py", lake.name("t")
    program.write_text(PROGRAM)
    arguments = {"application": str(program), "arguments": [table], "writes": [table], "conf": SMALL}
    process = start("spark", arguments, cluster.connection)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"MASTER {cluster.master}" in said
    assert [each["name"] for each in cluster.state()["completedapps"]] == ["on a cluster"]
    assert lake.rows("t") == []
    publish(rest, Run("lab.job", "r"), [table])
    assert lake.rows("t") == [0, 1, 2, 3, 4]


def test_killed_it_leaves_nothing_on_the_cluster(start: Start, cluster: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "forever.py"
    program.write_text(ENDLESS)
    process = start("spark", {"application": str(program), "conf": SMALL}, cluster.connection)
    wait_for(process, "RUNNING")
    assert [each["name"] for each in cluster.state()["activeapps"]] == ["for ever"]
    killed = time.monotonic()
    process.send_signal(signal.SIGTERM)
    while cluster.state()["activeapps"] or cluster.state()["coresused"]:
        assert time.monotonic() - killed < 5, cluster.state()
        time.sleep(0.1)
    said, _ = process.communicate(timeout=10)
    assert "Cancelled" in said
