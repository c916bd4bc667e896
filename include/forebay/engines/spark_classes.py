"""A class-data archive: what a Spark program loads at its start, as Java wants it in memory, so that it starts sooner.

`forebay setup` makes one for this machine's Java and PySpark, out of a program that does what programs do. Java maps it
where it fits, and does without where it does not. It lies beside the jars, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.engines.background import EngineError
from forebay.lake.connection import CatalogConfig
from forebay.machine import jars, java

if TYPE_CHECKING:
    from forebay.engines.spark import SparkEngine

_PREFIX = "classes-"
_FREE_DISK = 500 << 20
_LOADED, _JAVAS, _OF = "spark.jsa", "java.jsa", "of"
"""The archive; the one of Java's own classes below it, where Java has none; the Java and Spark it is of, and its length."""

_PROGRAM = """\
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
spark.sql("CREATE NAMESPACE here.a")
spark.sql("CREATE TABLE here.a.b AS SELECT id, string(id) AS name, current_date() AS day FROM range(9)")
spark.sql("MERGE INTO here.a.b USING (SELECT 1 AS id) AS s ON b.id = s.id WHEN MATCHED THEN DELETE")
spark.createDataFrame([(10, "ten")], "id long, name string").selectExpr("*", "current_date() AS day").writeTo("here.a.b").append()
spark.table("here.a.b").groupBy("day").count().join(spark.table("here.a.b"), "day").orderBy("id").collect()
# Nobody answers there; what asks is loaded by then.
try:
    spark.table("lake.a.b")
except (Py4JError, PySparkException):
    pass
files = spark._jvm.org.apache.iceberg.aws.s3.S3FileIO()
names = ("s3.endpoint", "s3.path-style-access", "s3.access-key-id", "s3.secret-access-key", "client.region")
files.initialize({name: spark.conf.get("spark.sql.catalog.lake." + name) for name in names})
try:
    files.newInputFile("s3://a/b").exists()
except Py4JError:
    pass
"""
_NOWHERE = CatalogConfig("http://127.0.0.1:1", "warehouse", "nobody", "nothing", "http://127.0.0.1:1")


def options(program: Path, folder: Path, classpath: str) -> list[str]:
    """Options for the `java` at `program` with this class path; none where the jars' `folder` has no archive for it."""
    found = place(program, folder, classpath)
    # A warning for each class path that does not fit would be no news to who reads a program's log.
    return [_option(found), "-Xlog:cds=off", "-Xlog:cds+dynamic=off"] if found and _whole(found) else []


def make(progress: Callable[[str], None]) -> None:
    """Makes the archive for this machine's Java, PySpark and jars, unless there is one that Java takes.

    It may go wrong, for programs run without it; `progress` is then told why. Commands that make it at once wait for
    each other.
    """
    from forebay.engines.spark import SparkEngine, spark_home

    home, folder = java.require(), jars.folder()
    engine = SparkEngine(_NOWHERE, jars=str(folder), java_home=home)
    classpath, of = engine.classpath(), f"{home.resolve()}\n{spark_home()}\n"
    where = place(home / "bin" / "java", folder, classpath)
    if where is None or _fits(where, home, classpath):
        return
    try:
        with jars.only_one(progress):
            if _fits(where, home, classpath):
                return
            _sweep(folder, of)
            if (free := shutil.disk_usage(folder).free) < _FREE_DISK:
                raise EngineError(
                    f"only {free >> 20} MB are free at {folder}, and {_FREE_DISK >> 20} MB are needed"
                )
            progress("making the archive of classes that Spark starts from, 200 MB, once")
            # In its place, for an archive knows where the one below it is; nobody takes it without the note of its length.
            where.mkdir()
            try:
                _make(engine, where, home)
                (where / _OF).write_text(f"{of}{(where / _LOADED).stat().st_size}")
                if not _fits(where, home, classpath):
                    raise EngineError(f"the Java at {home} does not take what it made itself")
            except BaseException:
                shutil.rmtree(where, ignore_errors=True)
                raise
    except (OSError, EngineError) as error:
        progress(f"no archive of Spark's classes was made, so programs start some seconds later: {error}")


def _make(engine: SparkEngine, where: Path, home: Path) -> None:
    wanted = shlex.quote(f"-XX:ArchiveClassesAtExit={where / _LOADED}")
    if not (home / "lib" / "server" / "classes.jsa").exists():
        # The Java from PyPI has no archive of its own classes.
        below = f"-XX:SharedArchiveFile={where / _JAVAS}"
        subprocess.run([home / "bin" / "java", "-Xshare:dump", below], capture_output=True)
        wanted = f"{shlex.quote(below)} {wanted}"
    with tempfile.TemporaryDirectory(prefix="forebay-classes-") as work:
        program = Path(work, "program.py")
        program.write_text(_PROGRAM)
        conf = {
            "spark.driver.extraJavaOptions": f"{wanted} -Xlog:disable",
            "spark.sql.catalog.here": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.here.type": "hadoop",
            "spark.sql.catalog.here.warehouse": f"file://{work}/warehouse",
        }
        engine.run(str(program), conf=conf, log=lambda _: None)
    for file in where.iterdir():
        with file.open("rb") as content:
            os.fsync(content.fileno())


def place(program: Path, folder: Path, classpath: str) -> Path | None:
    """Where the archive is, by what it depends on; None for a Java that is not laid out as one."""
    home = program.resolve().parent.parent
    try:
        modules = (home / "lib" / "modules").stat()
    except OSError:
        return None
    key = f"{home}\n{modules.st_size}\n{modules.st_mtime_ns}\n{classpath}"
    return folder / (_PREFIX + hashlib.sha256(key.encode()).hexdigest()[:16])


def _whole(found: Path) -> bool:
    """Whether the archive has the length it was made with: Java maps a shorter one, and crashes where it ends."""
    try:
        size = (found / _LOADED).stat().st_size
        return (found / _OF).read_text().endswith(f"\n{size}")
    except OSError:
        return False


def _option(found: Path) -> str:
    files = [found / name for name in (_JAVAS, _LOADED) if (found / name).exists()]
    return f"-XX:SharedArchiveFile={':'.join(map(str, files))}"


def _fits(found: Path, home: Path, classpath: str) -> bool:
    """Whether Java takes the archive, all of it as it was written."""
    if not _whole(found):
        return False
    command = [
        str(home / "bin" / "java"), "-Xshare:on", "-XX:+VerifySharedSpaces", "-XX:+UseSerialGC", _option(found),
        "-cp", classpath, "-version",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True).returncode == 0


def _sweep(folder: Path, of: str) -> None:
    """Removes archives of a Java or a Spark that is gone, or is another by now, and what a killed command left."""
    for each in folder.glob(f"{_PREFIX}*"):
        said = (each / _OF).read_text() if (each / _OF).exists() else of
        if said.startswith(of) or not all(Path(path).exists() for path in said.split("\n")[:2]):
            shutil.rmtree(each)
