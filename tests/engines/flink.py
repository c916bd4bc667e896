"""Apache Flink in a process of its own, asked by Py4J as PySpark asks Spark, from jars of Maven Central."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError
from second_stack import java_program, of_spark, pinned

from forebay.machine import jars

_OPEN = ("java.lang", "java.util", "java.util.concurrent", "java.net", "java.nio")


@contextlib.contextmanager
def running_flink(folder: Path) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """What runs one statement of SQL on a cluster of its own, and gives its rows. It writes to `folder` only."""
    needed = [
        *pinned("flink_jars.toml"),
        *(each for each in jars.pinned() if each.artifact == "iceberg-aws-bundle"),
    ]
    jars.fetch(print, needed)
    libraries = [
        *(str(jars.folder() / jar.file_name) for jar in needed),
        *of_spark("hadoop-client-api", "hadoop-client-runtime", "commons-compress", "commons-io", "commons-lang3", "jcl-over-slf4j"),
        *of_spark("commons-math3", "commons-text", "jsr305", "lz4-java", "objenesis", "snappy-java"),
        *of_spark("slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl"),
    ]  # fmt: skip
    options = [
        "-Xmx600m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Djava.io.tmpdir={folder}",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPEN),
    ]
    with (folder / "log").open("w") as log:
        port, token, process = launch_gateway(
            jarpath=of_spark("py4j")[0], classpath=os.pathsep.join(libraries), javaopts=options, die_on_exit=True,
            java_path=java_program()[0], enable_auth=True, redirect_stdout=log, redirect_stderr=log, return_proc=True,
        )  # fmt: skip
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))

        def run(statement: str) -> list[tuple[Any, ...]]:
            found, rows = session.executeSql(statement).collect(), []
            while found.hasNext():
                row = found.next()
                rows.append(tuple(row.getField(number) for number in range(row.getArity())))
            return rows

        try:
            api = gateway.jvm.org.apache.flink.table.api
            session = api.TableEnvironment.create(api.EnvironmentSettings.inBatchMode())
            yield run
        except Py4JJavaError as error:
            # What it says is asked of Flink, which is gone later.
            raise AssertionError(str(error)) from None
        finally:
            gateway.shutdown()
            process.terminate()
            process.wait(30)
