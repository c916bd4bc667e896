"""What executors said, and what happened to pods, is there when the pods are not."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from store import running_store
from test_spark import CONFIG, WHO, Started, names, until
from test_spark_node import BEGIN, COUNT, Space, space

from forebay.engines.background import Cancelled
from forebay.engines.files import S3Access
from forebay.engines.spark_application import application_name
from forebay.engines.spark_keep import Keeper, folder
from forebay.lake.connection import CatalogConfig

__all__ = ["space"]

DIES = f"""{BEGIN}
import os, time
from pyspark import TaskContext
def work(number):
    if number == 0 and TaskContext.get().attemptNumber() == 0:
        print("these are its last words", flush=True)
        print("the key is", os.environ["AWS_SECRET_ACCESS_KEY"], flush=True)
        # Java passes on what its Python workers print, and has to have done so before it ends.
        time.sleep(2)
        # The Python worker's parent is the daemon of Python workers, and that one's is Java.
        daemon = open("/proc/%d/stat" % os.getppid()).read().split()[3]
        os.kill(int(daemon), 9)
    return number
print("sum", sum(spark.sparkContext.parallelize(range(4), 4).map(work).collect()), flush=True)
"""
BUSY = f"""{BEGIN}
import time
def work(number):
    print("number", number, flush=True)
    time.sleep(600)
print("waits", flush=True)
spark.sparkContext.parallelize(range(2), 2).foreach(work)
"""
IDLE = COUNT + "time.sleep(12)\n"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogConfig]:
    """A real store with the bucket `lake`."""
    place = tmp_path_factory.mktemp("weed")
    with running_store(place) as store:
        config = store.config
        yield dataclasses.replace(
            CONFIG, s3_endpoint=config.s3_endpoint, access_key=config.access_key, secret_key=config.secret_key
        )


def kept(lake: CatalogConfig, address: str) -> dict[str, str]:
    """The files of a folder of the store, with what is in them."""
    from pyarrow.fs import FileSelector

    store = S3Access(lake.s3_endpoint, lake.access_key, lake.secret_key).filesystem()
    found = store.get_file_info(FileSelector(address.removeprefix("s3://").rstrip("/")))
    texts = {}
    for each in found:
        with store.open_input_stream(each.path) as file:
            texts[each.base_name] = file.read().decode()
    return texts


def test_logs_and_events_outlive_the_pods(space: Space, lake: CatalogConfig) -> None:
    said: list[str] = []
    engine = space.engine(
        COUNT, said, executors={"instances": 2, "memory": "512m"}, logs="s3://lake/logs/spark/"
    )
    assert Started(engine, config=lake).ended(400) is None, "\n".join(said)
    address = folder("s3://lake/logs/spark", WHO)
    assert address.startswith(
        "s3://lake/logs/spark/flights/daily_delays/manual__2026-11-21T16:53:31.282050+00:00/clean/1/"
    )
    (line,) = [each for each in said if each.startswith("kept: ")]
    found = re.fullmatch(rf"kept: {re.escape(address)} \(2 executors, (\d+) lines, (\d+) events\)", line)
    assert found, line
    # They are where they were until the application goes, and take nothing of the workspace's quota.
    until(lambda: [pod["status"]["phase"] for pod in space.pods()] == ["Succeeded"] * 3, 30)
    until(lambda: _used(space) == "0", 30)
    _in_the_tasks_log(space, lake)

    engine.delete(application_name(WHO))
    until(lambda: space.pods() == [])
    texts = kept(lake, address)
    assert sorted(texts) == ["events.log", "executor-1.log", "executor-2.log"]
    numbers = re.findall(
        r"^\d{4}-\d\d-\d\dT\S+Z number (\d+)$", texts["executor-1.log"] + texts["executor-2.log"], re.M
    )
    assert sorted(map(int, numbers)) == list(range(40))
    assert int(found[1]) == sum(
        text.count("\n") for name, text in texts.items() if name.startswith("executor")
    )
    assert int(found[2]) == texts["events.log"].count("\n")
    name = application_name(WHO)
    for about in (
        rf"{name} SparkApplicationSubmitted",
        rf"{name}-driver Scheduled",
        rf"{name}-\S+-exec-1 Started",
    ):
        assert re.search(rf"^\d{{4}}-\S+Z {about}: ", texts["events.log"], re.MULTILINE), texts["events.log"]


def _in_the_tasks_log(space: Space, lake: CatalogConfig) -> None:
    """Where no store is named, or it does not take them, the last lines are in the task's log."""
    api = space.engine(COUNT).api
    unknown = dataclasses.replace(lake, access_key="somebody-else")
    refused = "Nothing could be kept at s3://lake/logs/: "
    for address, config, words in (("", lake, ""), ("s3://lake/logs/", unknown, refused)):
        said: list[str] = []
        Keeper(api, application_name(WHO), address, config, said.append).keep(60)
        text = "\n".join(said)
        assert said[0].startswith(words), text
        assert ("Is there a bucket lake, and may the lake's key write to it?" in text) is bool(words)
        assert "executor-1 ended; its last lines:" in said
        assert len(re.findall(r"^executor-[12]: number \d+$", text, re.MULTILINE)) == 40
        assert re.search(r"^event: \S+ \S+-driver Scheduled: ", text, re.MULTILINE)
        assert lake.secret_key not in text


def _used(space: Space) -> str:
    (quota,) = space.spark.cluster.get("quota", "-n", space.name)["items"]
    return str(quota["status"]["used"]["pods"])


def test_an_executor_that_dies_is_told_and_its_log_kept(space: Space, lake: CatalogConfig) -> None:
    said: list[str] = []
    # What the pods call the secret is what must not be in any log.
    secret = dataclasses.replace(lake, secret_key="b")
    engine = space.engine(DIES, said, logs="")
    assert Started(engine, config=secret).ended(400) is None, "\n".join(said)
    assert "sum 6" in said
    begins = next(
        number for number, line in enumerate(said) if line.startswith("executor-1 ended with exit code ")
    )
    assert "137" in said[begins]
    own = [line.partition(": ")[2] for line in said[begins:] if line.startswith("executor-1: ")]
    assert "these are its last words" in own
    assert "the key is ***" in own
    assert "executor-2 ended; its last lines:" in said[begins:]


def test_a_killed_tasks_logs_are_kept_within_its_five_seconds(space: Space, lake: CatalogConfig) -> None:
    said: list[str] = []
    started = Started(space.engine(BUSY, said, logs="s3://lake/killed"), config=lake)
    pod = until(lambda: space.running("executor") or not started.thread.is_alive(), 300)
    until(lambda: "number" in space.log(pod), 60)
    begun = time.monotonic()
    started.spark.cancel()
    assert isinstance(started.ended(5), Cancelled)
    until(lambda: names(space.spark.cluster, space.name) == [] and space.pods() == [], 5)
    assert time.monotonic() - begun < 5
    assert [
        line for line in said if line.startswith(f"kept: {folder('s3://lake/killed', WHO)} (1 executor, ")
    ], said
    assert re.search(
        r"Z number 0$", kept(lake, folder("s3://lake/killed", WHO))["executor-1.log"], re.MULTILINE
    )


def test_executors_that_are_let_go_leave_their_logs(space: Space, lake: CatalogConfig) -> None:
    """With dynamic allocation: their pods stay, ended, and take nothing of the quota."""
    said: list[str] = []
    conf = {
        **{f"spark.kubernetes.{each}.request.cores": "200m" for each in ("driver", "executor")},
        "spark.dynamicAllocation.executorIdleTimeout": "2s",
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        # What one cannot do at once.
        "spark.task.cpus": "1",
    }
    more: dict[str, Any] = {
        "executors": {"min": 1, "max": 2, "memory": "512m"},
        "conf": conf,
        "logs": "s3://lake/let-go",
    }
    started = Started(space.engine(IDLE.replace("0.3", "1.0"), said, **more), config=lake)
    until(
        lambda: (
            [pod for pod in space.pods() if pod["status"]["phase"] == "Succeeded"]
            or not started.thread.is_alive()
        ),
        400,
    )
    assert started.thread.is_alive(), "\n".join(said)
    assert len(space.pods()) == 3
    until(lambda: _used(space) == "2", 10)
    assert started.ended(200) is None, "\n".join(said)
    assert [line for line in said if line.startswith("kept: ") and "(2 executors, " in line], said
    texts = kept(lake, folder("s3://lake/let-go", WHO))
    assert texts["executor-1.log"].count(" number ") + texts["executor-2.log"].count(" number ") == 40
    assert " number " in texts["executor-2.log"]
