"""PySpark programs driven from this machine, with the catalog `lake` configured: local, on a standalone master, or on YARN."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebay.engines import spark_classes
from forebay.engines.background import Cancelled, EngineError
from forebay.engines.results import TableResult
from forebay.lake.connection import CatalogConfig
from forebay.machine import hadoop
from forebay.machine.jars import pinned

_OPENED = (
    *(f"java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util")),
    *("java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs"),
    *("sun.security.action", "sun.util.calendar"),
)
_YARN_SECONDS = 5.0
_MEMORY = re.compile(r"[1-9]\d*[kmgKMG]")
# Airflow's own settings (its database, its keys) are none of a program's business.
_WITHHELD = ("AIRFLOW__", "_AIRFLOW", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "FOREBAY_OIDC_", "SUPERVISOR_")
LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m %ex{short}%n
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.events.name = org.apache.spark.deploy.history.RollingEventLogFilesWriter
logger.events.level = info
"""
_YARN_LOG4J = """\
logger.yarn.name = org.apache.spark.deploy.yarn.Client
logger.yarn.level = info
"""
"""Where the application stands: a queue may keep it waiting."""
_PAGE_LOG4J = """\
logger.page.name = org.apache.spark.util.Utils
logger.page.level = info
"""
"""A program's log has what it prints, and of Spark's own words the warnings, and where its events are kept."""

_EVENTS = re.compile(r"INFO RollingEventLogFilesWriter: Logging events to \S*/eventlog_v2_([\w.-]+)/")
"""What Spark says where its history is kept; the folder is named after the application."""
_PAGE = re.compile(r"INFO Utils: Successfully started service 'SparkUI' on port (\d+)")
"""What Spark says where its own page is, which `spark.ui.enabled` in a task's conf switches on."""
_HIDDEN = "(?i)secret|password|token|access[.]?key|credential"
"""Spark's own rule for what neither its page nor its history shows, and the catalog's login."""


class SparkEngine:
    """Runs one program at a time; `cancel` may be called from a signal handler."""

    def __init__(
        self,
        config: CatalogConfig,
        *,
        jars: str,
        master: str = "local[*]",
        driver_memory: str = "1g",
        modules: Mapping[str, str] | None = None,
        java_home: Path | None = None,
    ) -> None:
        """`modules` are the texts of what a program may import, by path; executors elsewhere get them with the jars."""
        self.config, self._jars, self._master, self._memory = config, jars, master, driver_memory
        self._modules = modules or {}
        self._hadoop = hadoop.folder() if master == hadoop.MASTER else None
        home = java_home or os.environ.get("JAVA_HOME")
        self._java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(
        self,
        application: str,
        arguments: Sequence[str] = (),
        *,
        values: Mapping[str, object] | None = None,
        conf: Mapping[str, object] | None = None,
        writes: Sequence[str] = (),
        log: Callable[[str], None] = print,
        on_application: Callable[[str], None] = lambda _: None,
        on_page: Callable[[str], None] = lambda _: None,
    ) -> list[TableResult]:
        """Run the program, hand each line it prints to `log`, and report the tables named in `writes`.

        `on_application` hears the name under which Spark's history has it, where `conf` keeps one, `on_page` where Spark's own page is while it runs, where
        `conf` has `spark.ui.enabled`. The values are also in FOREBAY_PARAMETERS, as JSON. Raises EngineError with the program's last words.
        """
        from forebay.engines.written import changes, snapshots

        started = time.monotonic()
        if not Path(application).is_file():
            raise EngineError(f"There is no program {application}.")
        if self._hadoop is not None:
            _answers(hadoop.resource_managers(self._hadoop))
        before = snapshots(self.config, writes)
        folder = Path(tempfile.mkdtemp(prefix="forebay-spark-"))
        tail: deque[str] = deque(maxlen=400)

        def said(line: str) -> None:
            if (found := _EVENTS.match(line)) is not None:
                on_application(found[1])
            if (found := _PAGE.match(line)) is not None:
                on_page(f"http://127.0.0.1:{found[1]}")
            log(line)

        try:
            command = self._command(folder, application, arguments, conf or {})
            code = self._follow(folder, command, self._environment(folder, values or {}), said, tail)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self._cancelled:
            raise Cancelled("The Spark program was cancelled.")
        if code:
            raise EngineError(f"{Path(application).name} ended with code {code}.\n{last_words(tail)}")
        return changes(self.config, before, "spark", started)

    def cancel(self) -> None:
        """End the program and all it started, within 3 s. Returns at once."""
        self._cancelled = True
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)

    def _follow(
        self,
        folder: Path,
        command: list[str],
        environment: dict[str, str],
        log: Callable[[str], None],
        tail: deque[str],
    ) -> int:
        script = Path(__file__).with_name("guard.py")
        guard = [sys.executable, "-I", "-S", str(script), str(os.getpid()), str(folder)]
        process = subprocess.Popen(
            guard + command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        if self._cancelled:
            self.cancel()
        assert process.stdout is not None
        try:
            while line := process.stdout.readline(65_536):
                text = self.config.redact(line.decode(errors="replace").rstrip())
                tail.append(text)
                log(text)
            return process.wait()
        except BaseException:
            # A timeout raised here must not leave the program running.
            self.cancel()
            process.wait()
            raise
        finally:
            process.stdout.close()

    def _command(
        self, folder: Path, application: str, arguments: Sequence[str], conf: Mapping[str, object]
    ) -> list[str]:
        if not _MEMORY.fullmatch(self._memory):
            raise EngineError(f"driver_memory: {self._memory!r} is no size such as 1g or 512m.")
        page = str(conf.get("spark.ui.enabled")).lower() == "true"
        logged = LOG4J + _PAGE_LOG4J * page + _YARN_LOG4J * (self._master == hadoop.MASTER)
        (folder / "log4j2.properties").write_text(logged)
        settings = {
            "spark.master": self._master,
            "spark.ui.enabled": "false",
            "spark.ui.port": "0",
            "spark.redaction.regex": _HIDDEN,
            **self._reach(folder),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "8",
            "spark.ui.showConsoleProgress": "false",
            **{
                key: str(value).lower() if isinstance(value, bool) else str(value)
                for key, value in conf.items()
            },
            **self.config.spark_conf(),
        }
        properties = folder / "spark.properties"
        # The file holds the secret: readable by this user only from its first moment, gone after the run.
        descriptor = os.open(properties, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{_property(key)}={_property(value)}\n" for key, value in settings.items())
        classpath = self.classpath()
        # Starting the class itself spares the launcher's own JVM, and suits a Java without incubator modules.
        return [
            str(self._java),
            *spark_classes.options(self._java, Path(self._jars), classpath),
            f"-Xmx{self._memory}",
            "-XX:+UseSerialGC",
            # A third less CPU for a short program; a long one can ask for the full compiler by conf
            # spark.driver.extraJavaOptions: -XX:TieredStopAtLevel=4.
            "-XX:TieredStopAtLevel=1",
            "-XX:+IgnoreUnrecognizedVMOptions",
            "-Djdk.reflect.useDirectMethodHandle=false",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Duser.timezone=UTC",
            "-Dfile.encoding=UTF-8",
            f"-Djava.io.tmpdir={folder}",
            # Not by the class path, on which an archive of classes bears no folder.
            f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
            "--enable-native-access=ALL-UNNAMED",
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
            *shlex.split(str(conf.get("spark.driver.extraJavaOptions") or "")),
            "-cp",
            classpath,
            "org.apache.spark.deploy.SparkSubmit",
            "--properties-file",
            str(properties),
            application,
            *arguments,
        ]

    @property
    def _local(self) -> bool:
        return self._master.startswith("local")

    def _reach(self, folder: Path) -> dict[str, str]:
        """A program of this machine's own listens to nobody else; executors elsewhere need the driver, and from it the jars
        and what the program imports.
        """
        if self._local:
            return {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        reach = {"spark.jars": ",".join(self._jar_files())}
        if self._modules:
            archive = folder / "modules.zip"
            with zipfile.ZipFile(archive, "w") as content:
                for path, text in self._modules.items():
                    content.writestr(path, text)
            reach["spark.submit.pyFiles"] = str(archive)
        return reach

    def classpath(self) -> str:
        """What Java finds Spark and the pinned jars by, and a cluster's settings."""
        settings = [str(self._hadoop)] if self._hadoop else []
        return ":".join([*settings, f"{spark_home()}/jars/*", *self._jar_files()])

    def _jar_files(self) -> list[str]:
        # The folder is shared by all checkouts: only the pinned files count.
        files = [Path(self._jars or ".") / jar.file_name for jar in pinned()]
        for file in files:
            if not self._jars or not file.exists():
                raise EngineError(
                    f"{file.name} is not in the folder FOREBAY_JARS names ({self._jars or 'not set'}). "
                    "Run `make install`."
                )
        return [str(file) for file in files]

    def _environment(self, folder: Path, values: Mapping[str, object]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
        return {
            **kept,
            "SPARK_HOME": spark_home(),
            "SPARK_CONF_DIR": str(folder),
            "SPARK_LOCAL_DIRS": str(folder),
            **({"SPARK_LOCAL_IP": "127.0.0.1"} if self._local else {}),
            # Spark hands the files of both to its executors.
            **(dict.fromkeys(hadoop.VARIABLES, str(self._hadoop)) if self._hadoop else {}),
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            "FOREBAY_PARAMETERS": parameters(values),
        }


def _answers(places: Sequence[tuple[str, int]]) -> None:
    """Raises EngineError where no ResourceManager takes connections: Hadoop's client would try for a quarter of an hour."""
    why = ""
    for place in places:
        try:
            socket.create_connection(place, _YARN_SECONDS).close()
            return
        except OSError as error:
            why = str(error)
    raise EngineError(
        f"YARN does not answer: no connection to {', '.join(f'{host}:{port}' for host, port in places)} ({why}). See that "
        "its ResourceManager runs, and that this machine may reach it."
    )


def spark_home() -> str:
    """The Spark that ships in the pyspark package."""
    import importlib.util

    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.origin:
        raise EngineError("The Python package pyspark is not installed.")
    return str(Path(spec.origin).parent)


def last_words(lines: Sequence[str]) -> str:
    """The end of an output: from the last Python traceback on where there is one, at most 25 lines."""
    found = list(lines)
    starts = [
        number for number, line in enumerate(found) if line.startswith("Traceback (most recent call last)")
    ]
    if starts:
        block = [line for line in found[starts[-1] :] if not line.startswith(("\tat ", "WARN ", "INFO "))]
        return "\n".join(block if len(block) <= 25 else [*block[:8], "…", *block[-16:]])
    return "\n".join(found[-20:])


def parameters(values: Mapping[str, object]) -> str:
    """A run's values as a program finds them in FOREBAY_PARAMETERS."""
    return json.dumps(dict(values), default=_json)


def _json(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _property(text: str) -> str:
    """Text as a Java properties file holds it."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("=", "\\=").replace(":", "\\:")
    return "".join(one if " " < one < "\x7f" else f"\\u{ord(one):04x}" for one in escaped)
