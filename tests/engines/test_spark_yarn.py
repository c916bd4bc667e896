"""A `spark` task on YARN: its driver is with the task, its executors are where a real ResourceManager places them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lake import Lake
from operator_process import Start, wait_for
from store import free_ports
from yarn import Yarn, running_yarn, write

from forebay.connections import doctor
from forebay.connections.model import Connection, Report
from forebay.engines.spark import spark_home
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import Run
from forebay.lake.publish import publish
from forebay.lake.rest import Rest

EXECUTORS = {"min": 1, "cores": 1, "memory": "512m"}
PROGRAM = """\
import sys
from pyspark.sql import SparkSession
from helper import tenfold
spark = SparkSession.builder.appName("on yarn").getOrCreate()
print("MASTER", spark.sparkContext.master, spark.sparkContext.applicationId)
spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {sys.argv[1].split('.')[0]}")
rows = spark.sparkContext.parallelize(range(5), 2).map(lambda n: (tenfold(n),))
spark.createDataFrame(rows, "n long").writeTo(sys.argv[1]).create()
"""
HELPER = "def tenfold(n: int) -> int:\n    return 10 * n\n"
ENDLESS = """\
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("for ever").getOrCreate()
spark.sparkContext.parallelize([1]).count()
print("AT WORK", flush=True)
spark.range(10**15).selectExpr("sum(id * id % 7)").collect()
"""


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    with running_yarn(tmp_path_factory.mktemp("yarn")) as running:
        yield running


@pytest.fixture(autouse=True)
def settings(yarn: Yarn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(yarn.settings))


def on_yarn(folder: Path, **extra: Any) -> dict[str, Any]:
    # Spark's jars are on the node; else each program sends them.
    conf = {"spark.yarn.jars": f"local:{spark_home()}/jars/*", "spark.yarn.am.memory": "256m"}
    conf["spark.yarn.stagingDir"] = str(folder)
    told = {"catalog": "lake_catalog", "driver_memory": "700m", "conf": conf, **extra}
    return {"conn_type": "spark", "host": "yarn", "extra_dejson": told}


def test_a_task_writes_through_its_executors(
    start: Start, yarn: Yarn, lake: Lake, rest: Rest, tmp_path: Path
) -> None:
    program, table = tmp_path / "write.py", lake.name("t")
    program.write_text(PROGRAM)
    (tmp_path / "helper.py").write_text(HELPER)
    arguments = {"application": str(program), "arguments": [table], "writes": [table], "executors": EXECUTORS}
    before = yarn.said()["appsCompleted"]
    process = start("spark", arguments, on_yarn(tmp_path, queue="default"))
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "MASTER yarn application_" in said
    # Where it stands is told meanwhile.
    assert "(state: ACCEPTED)" in said
    assert yarn.said()["appsCompleted"] == before + 1
    assert lake.rows("t") == []
    publish(rest, Run("lab.job", "r"), [table])
    assert lake.rows("t") == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_nothing_on_the_cluster(
    start: Start, yarn: Yarn, tmp_path: Path, sent: signal.Signals
) -> None:
    program = tmp_path / "forever.py"
    program.write_text(ENDLESS)
    process = start("spark", {"application": str(program), "executors": EXECUTORS}, on_yarn(tmp_path))
    wait_for(process, "AT WORK")
    # The one that keeps the application, and an executor.
    assert yarn.said()["containersAllocated"] == 2
    killed = time.monotonic()
    process.send_signal(sent)
    while yarn.said()["containersAllocated"] or yarn.said()["appsRunning"]:
        assert time.monotonic() - killed < 5, yarn.said()
        time.sleep(0.1)
    said, _ = process.communicate(timeout=10)
    assert ("Cancelled" in said) == (sent == signal.SIGTERM)


@pytest.mark.parametrize(
    ("extra", "executors", "why"),
    [
        ({"queue": "nobodys"}, EXECUTORS, "unknown queue: nobodys"),
        ({}, EXECUTORS | {"memory": "4g"}, "is above the max threshold (2048 MB)"),
    ],
)
def test_what_yarn_refuses_is_told(
    start: Start, tmp_path: Path, extra: dict[str, Any], executors: dict[str, Any], why: str
) -> None:
    program = tmp_path / "forever.py"
    program.write_text(ENDLESS)
    process = start(
        "spark", {"application": str(program), "executors": executors}, on_yarn(tmp_path, **extra)
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert why in said.partition("ended with code")[2], said


def test_a_yarn_that_is_away_is_told_at_once(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed,) = free_ports(1)
    write(tmp_path / "yarn-site.xml", {"yarn.resourcemanager.address": f"127.0.0.1:{closed}"})
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    program = tmp_path / "forever.py"
    program.write_text(ENDLESS)
    process = start("spark", {"application": str(program)}, on_yarn(tmp_path))
    said, _ = process.communicate(timeout=60)
    assert f"YARN does not answer: no connection to 127.0.0.1:{closed}" in said


def test_the_doctor_asks_yarn(config: CatalogConfig, yarn: Yarn, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Connection.of(
        "lake_catalog", "iceberg", host=config.uri, login=config.access_key, password=config.secret_key,
        extra={"warehouse": config.warehouse},
    )  # fmt: skip
    connection = Connection.of("lake_spark", "spark", host="yarn")
    lookup = {"lake_catalog": catalog}.get

    def asked() -> Report:
        *_, last = doctor.check_all([connection], timeout=20, lookup=lookup)
        assert last.report is not None
        return last.report

    report = asked()
    assert report.state == "ok", report
    assert report.facts["address"] == f"127.0.0.1:{yarn.manager}"
    monkeypatch.delenv("HADOOP_CONF_DIR")
    report = asked()
    assert report.steps[0].state == "bad"
    assert "as HADOOP_CONF_DIR" in report.steps[0].found
