"""PySpark programs through the engine: the catalog is there, values arrive, failures say why."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from store import free_ports

from forebay.engines.background import EngineError
from forebay.engines.spark import SparkEngine, last_words, spark_home
from forebay.engines.spark_settings import event_log
from forebay.lake.connection import CatalogConfig

PROGRAM = """\
import json, os, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
(table,) = sys.argv[1:]
values = json.loads(os.environ["FOREBAY_PARAMETERS"])
spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {table.split('.')[0]}")
spark.sql(f"CREATE TABLE {table} AS SELECT id, DATE '{values['day']}' AS day FROM range(10)")
print("zone", spark.conf.get("spark.sql.session.timeZone"))
print(spark.conf.get("spark.sql.catalog.lake.s3.secret-access-key"))
raise ValueError("no such luck")
"""


def test_program(config: CatalogConfig, namespace: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    lines: list[str] = []
    engine = SparkEngine(config, jars=os.environ["FOREBAY_JARS"], master="local[1]", driver_memory="700m")
    with pytest.raises(EngineError) as caught:
        engine.run(str(program), [f"{namespace}.t"], values={"day": date(2020, 1, 1)}, log=lines.append)
    assert str(caught.value).endswith("ValueError: no such luck")
    assert "program.py ended with code 1" in str(caught.value)
    assert "zone UTC" in lines
    assert not any(config.secret_key in line for line in lines)
    assert "***" in lines
    program.write_text(
        "from pyspark.sql import SparkSession as S\n"
        f"S.builder.getOrCreate().sql('DELETE FROM {namespace}.t WHERE id < 4')\n"
    )
    (result,) = engine.run(str(program), writes=[f"{namespace}.t"], log=lines.append)
    assert (result.rows, result.deleted - result.inserted) == (6, 4)


def test_what_it_did_is_in_sparks_own_history(config: CatalogConfig, tmp_path: Path) -> None:
    """By the name that the engine tells, on a history server of Spark's."""
    (tmp_path / "events").mkdir()
    program, lines, told = tmp_path / "p.py", list[str](), list[str]()
    program.write_text(
        "from pyspark.sql import SparkSession as S\n"
        "S.builder.appName('counts to seven').getOrCreate().range(7).count()\n"
    )
    engine = SparkEngine(config, jars=os.environ["FOREBAY_JARS"], master="local[1]", driver_memory="700m")
    kept = event_log({"events": f"file://{tmp_path}/events"})
    engine.run(str(program), conf=kept, log=lines.append, on_application=told.append)
    (application,) = told
    assert application.startswith("local-")
    # The catalog's login and the store's key are not in what is kept, whoever reads that folder.
    (events,) = (tmp_path / "events").rglob("events_*")
    kept_text = pa.input_stream(events, compression="zstd").read().decode()
    assert "spark.sql.catalog.lake.credential" in kept_text
    assert config.secret_key not in kept_text
    with history_server(tmp_path / "events") as address:
        # Where the console's link leads.
        page = httpx.get(
            f"{address}/history/{application}/", follow_redirects=True, timeout=60, trust_env=False
        )
        assert page.status_code == 200, page.text[:500]
        assert "counts to seven" in page.text
        assert httpx.get(f"{address}/history/local-1/", timeout=60, trust_env=False).status_code == 404
    # Without it nothing is kept, and nothing is told.
    engine.run(str(program), log=lines.append, on_application=told.append)
    assert told == [application]


def test_its_own_page_while_it_runs(config: CatalogConfig, tmp_path: Path) -> None:
    program, pages = tmp_path / "p.py", list[tuple[str, str]]()
    program.write_text(
        "import os, time\nfrom pyspark.sql import SparkSession as S\n"
        "S.builder.appName('counts to seven').getOrCreate().range(7).count()\n"
        f"end = time.time() + 120\nwhile not os.path.exists({str(tmp_path / 'seen')!r}) and time.time() < end: time.sleep(0.1)\n"
    )

    def look(address: str) -> None:
        # On another thread than the one that follows the program, as a browser is.
        def read() -> None:
            try:
                for path in ("jobs/", "environment/"):
                    # It says for a moment that it is starting up, and then that it knows of no settings yet.
                    end = time.monotonic() + 60
                    while time.monotonic() < end:
                        answer = httpx.get(f"{address}/{path}", timeout=60, trust_env=False)
                        if answer.status_code == 200 and "starting up" not in answer.text:
                            break
                        time.sleep(0.2)
                    pages.append((f"{path} {answer.status_code}", answer.text))
            finally:
                (tmp_path / "seen").touch()

        threading.Thread(target=read).start()

    engine = SparkEngine(config, jars=os.environ["FOREBAY_JARS"], master="local[1]", driver_memory="700m")
    engine.run(str(program), conf={"spark.ui.enabled": True}, on_page=look)
    (jobs, shown), (environment, settings) = pages
    assert (jobs, environment) == ("jobs/ 200", "environment/ 200")
    assert "counts to seven" in shown
    assert "spark.sql.catalog.lake.credential" in settings
    assert config.secret_key not in settings
    engine.run(str(program), on_page=look)
    assert len(pages) == 2, "it is not there where nobody asked for it"


@contextlib.contextmanager
def history_server(events: Path) -> Iterator[str]:
    """Spark's history server over a folder, out of PySpark's jars."""
    (port,) = free_ports(1)
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else "java"
    settings = {
        "spark.history.fs.logDirectory": f"file://{events}",
        "spark.history.ui.port": port,
        "spark.history.fs.update.interval": "1s",
    }
    command = [
        str(java), "-Xmx400m", "-cp", f"{spark_home()}/jars/*", *(f"-D{name}={value}" for name, value in settings.items()),
        "org.apache.spark.deploy.history.HistoryServer",
    ]  # fmt: skip
    with (events.parent / "history.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
        )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            assert process.poll() is None, (events.parent / "history.log").read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/api/v1/applications", timeout=20, trust_env=False).json():
                    break
            assert time.monotonic() < deadline, (events.parent / "history.log").read_text()
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_missing_jars_and_program(config: CatalogConfig, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    with pytest.raises(EngineError, match="no program"):
        SparkEngine(config, jars="").run(str(program))
    program.write_text("")
    with pytest.raises(EngineError, match="FOREBAY_JARS"):
        SparkEngine(config, jars=str(tmp_path)).run(str(program))


def test_last_words() -> None:
    lines = ["a", "Traceback (most recent call last):", "  x", "WARN y", "ValueError: z"]
    assert last_words(lines) == "Traceback (most recent call last):\n  x\nValueError: z"
    assert last_words([str(number) for number in range(50)]).splitlines()[0] == "30"
