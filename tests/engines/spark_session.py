"""One warm Spark for many tries: a program of the engine's own that takes orders, each try in a session of its own.

Starting Spark takes seconds, and a catalog is added to a session at run time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forebay.engines.background import EngineError
from forebay.engines.spark import SparkEngine
from forebay.lake.connection import CatalogConfig

PROGRAM = """\
import json, socket, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
sessions = {}
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection, connection.makefile("rw") as stream:
    for line in stream:
        order = json.loads(line)
        key = json.dumps(order["conf"])
        if key not in sessions:
            sessions[key] = spark.newSession()
            for name, value in order["conf"].items():
                sessions[key].conf.set(name, value)
        try:
            for text in order["statements"]:
                found = sessions[key].sql(text).collect()
            answer = {"rows": [list(row) for row in found]}
        except Exception as error:
            answer = {"error": " ".join(str(error).split())[:3000]}
        stream.write(json.dumps(answer) + "\\n")
        stream.flush()
"""


class WarmSpark:
    """Statements on the catalog `lake` of any configuration."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def sql(self, config: CatalogConfig, *statements: str) -> list[list[Any]]:
        """The rows of the last statement. Raises EngineError with Spark's words."""
        # Extensions are the program's own: they are set once, when Spark starts.
        conf = {name: text for name, text in config.spark_conf().items() if name != "spark.sql.extensions"}
        self._stream.write(json.dumps({"conf": conf, "statements": statements}) + "\n")
        self._stream.flush()
        answer = json.loads(self._stream.readline())
        if "error" in answer:
            raise EngineError(answer["error"])
        rows: list[list[Any]] = answer["rows"]
        return rows


@contextlib.contextmanager
def running_spark(config: CatalogConfig, folder: Path) -> Iterator[WarmSpark]:
    program = folder / "orders.py"
    program.write_text(PROGRAM)
    engine = SparkEngine(config, jars=os.environ["FOREBAY_JARS"], master="local[1]", driver_memory="700m")
    lines: list[str] = []
    failed: list[EngineError] = []

    def work(arguments: Sequence[str]) -> None:
        try:
            engine.run(str(program), arguments, log=lines.append)
        except EngineError as error:
            failed.append(error)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=work, args=([str(server.getsockname()[1])],))
        thread.start()
        server.settimeout(1)
        connection = None
        while connection is None:
            assert thread.is_alive(), (failed, lines)
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
    try:
        connection.settimeout(120)
        with connection, connection.makefile("rw") as stream:
            yield WarmSpark(stream)
        thread.join(30)
    finally:
        engine.cancel()
        thread.join()
