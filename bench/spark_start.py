"""From a `spark` task's start to a session that is ready, and the same program by spark-submit."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from forebay.engines import spark_classes
from forebay.engines.spark import spark_home
from forebay.lake.connection import CatalogConfig
from forebay.machine import jars, java
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from harness import LOADER, Row, folder, median, running, say, wait_for_dags, write

STARTS = 9
PROGRAM = """\
import time
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
print("ready", time.time(), flush=True)
spark.sql("CREATE NAMESPACE IF NOT EXISTS bench")
spark.sql("CREATE OR REPLACE TABLE bench.{} AS SELECT id FROM range(100)")
print("written", time.time(), flush=True)
"""
Times = tuple[float, float]


def measure(rounds: int) -> list[Row]:
    # What `forebay setup` does, for who runs this file without it.
    spark_classes.make(say)
    with folder() as root:
        write(root / "dags/bench/jobs.py", LOADER)
        write(root / "dags/bench/workspace.yaml", "owner: bench\n")
        task = "tasks:\n  - key: one\n    type: spark\n    application: start.py\n    writes: [bench.ours]\n"
        write(root / "dags/bench/start.yaml", task)
        write(root / "spark_jobs/bench/start.py", PROGRAM.format("ours"))
        write(root / "plain.py", PROGRAM.format("plain"))
        with running(root) as stack, AirflowApi.of_stack(stack) as api:
            wait_for_dags(stack, 1)
            properties = _properties(stack, root)
            # Once each before it counts: files come from the disk then.
            _task(api), _plain(root, properties)
            pairs = [(_task(api), _plain(root, properties)) for _ in range(STARTS)]
    (ours, ours_written), (plain, plain_written) = (
        [sorted(times) for times in zip(*each, strict=True)] for each in zip(*pairs, strict=True)
    )
    say(f"task: ready {_shown(ours)}, written {_shown(ours_written)}")
    say(f"spark-submit: ready {_shown(plain)}, written {_shown(plain_written)}")
    ready = median(ours)
    return [
        (f"Spark task's start → session ready, p50 of {STARTS}", f"{ready:.1f} s", "≤ 6 s", ready <= 6),
        _compared("session ready: Spark task / spark-submit", ready, median(plain)),
        _compared("first table written: Spark task / spark-submit", median(ours_written), median(plain_written)),
    ]  # fmt: skip


def _compared(what: str, ours: float, plain: float) -> Row:
    return (what, f"{ours:.1f} / {plain:.1f} s = {ours / plain:.2f}", "≤ 0.75", ours / plain <= 0.75)


def _shown(times: Iterable[float]) -> list[float]:
    return [round(each, 1) for each in times]


def _task(api: AirflowApi) -> Times:
    run = api.trigger("bench.start", {})
    for _ in api.follow("bench.start", run, every=0.1):
        pass
    (one,) = (each for each in api.task_instances("bench.start", run) if each["task_id"] == "one")
    log = api.log("bench.start", run, "one", 1)
    if one["state"] != "success":
        raise SystemExit("\n".join(log[-15:]))
    return _times(log, datetime.fromisoformat(one["start_date"]).timestamp())


def _plain(root: Path, properties: Path) -> Times:
    """By the program that PySpark brings, as one who has read Iceberg's page would start it."""
    began = time.time()
    files = ",".join(str(jars.folder() / jar.file_name) for jar in jars.pinned())
    command = [
        str(Path(spark_home()) / "bin" / "spark-submit"), "--master", "local[*]", "--driver-memory", "1g", "--jars", files,
        "--properties-file", str(properties), str(root / "plain.py"),
    ]  # fmt: skip
    environment = {
        **os.environ, "SPARK_HOME": spark_home(), "JAVA_HOME": str(java.require()), "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable,
    }  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr[-2000:]}")
    return _times(done.stdout.splitlines(), began)


def _times(lines: list[str], began: float) -> Times:
    said = {
        name: float(line.split()[-1])
        for name in ("ready", "written")
        for line in lines
        if f"{name} 1" in line
    }
    return said["ready"] - began, said["written"] - began


def _properties(stack: Stack, root: Path) -> Path:
    found = next(each for each in connections(stack) if each["connection_id"] == "lake_catalog")
    config = CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), json.loads(str(found["extra"]))
    )
    file = root / "spark.properties"
    file.touch(0o600)
    file.write_text("".join(f"{name} {value}\n" for name, value in config.main().spark_conf().items()))
    return file
