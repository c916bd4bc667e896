"""The tour in docs/overview.md: each command is run as it stands there, and says what stands below it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, command, eventually
from forebay.stack import lifecycle
from forebay.stack.layout import Stack

OVERVIEW = REPOSITORY / "docs/overview.md"
_BLOCK = re.compile(r"```sh\n(?P<command>forebay [^`]*?)\n```\n+```text\n(?P<output>.*?)```", re.DOTALL)

# What differs from run to run, as it is written in the tour and as it may be.
_VARIES = (
    (
        r"(manual|asset_triggered)__[0-9T:.+-]+(_\w{8})?",
        r"(?:manual|asset_triggered)__[0-9T:.+-]+(?:_\\w{8})?",
    ),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", r"\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d(?::\\d\\d)?"),
    (r"\b\d{15,20}\b", r"\\d{15,20}"),
    (r"\b[0-9a-f]{8}\b", r"[0-9a-f]{8}"),
    (r"\b\d+\.\d(?= s\b|  admin)", r"\\d+\\.\\d"),
)


def steps() -> list[tuple[str, str]]:
    tour = OVERVIEW.read_text("utf-8").partition("## A tour")[2].partition("\n## ")[0]
    return [(found["command"].strip(), found["output"]) for found in _BLOCK.finditer(tour)]


def pattern(line: str) -> str:
    """One line of the tour as a regular expression."""
    # Widths of columns and run ids differ, so any run of spaces is like any other.
    kept = re.sub(r" {2,}", "  ", line.strip())
    parts, rest = [], kept
    while rest:
        found = min(
            ((match, varies) for was, varies in _VARIES if (match := re.search(was, rest))),
            key=lambda pair: pair[0].start(),
            default=None,
        )
        if found is None:
            parts.append(re.escape(rest))
            break
        match, varies = found
        parts += [re.escape(rest[: match.start()]), varies.replace("\\\\", "\\")]
        rest = rest[match.end() :]
    return "".join(parts).replace(r"\ \ ", " +")


def said(expected: str, output: str) -> str:
    """Empty when the output says what was expected, in its order; `…` stands for any number of lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Progress is said of what takes over two seconds, which a slow machine has more of.
    lines = [line for line in lines if not re.match(r"· .*: \d+ of \d+$", line)]
    position, anywhere = 0, False
    for wanted in filter(str.strip, expected.splitlines()):
        if wanted.strip() == "…":
            anywhere = True
            continue
        shape = re.compile(pattern(wanted))
        reached = next(
            (n for n in range(position, len(lines) if anywhere else position + 1) if n < len(lines)
             and shape.fullmatch(lines[n])), None,
        )  # fmt: skip
        if reached is None:
            return f"{wanted!r} ({shape.pattern}) is not there, in:\n{output}"
        position, anywhere = reached + 1, False
    rest = lines[position:] if not anywhere else []
    return f"not in the tour: {rest}" if rest else ""


def test_said_can_fail() -> None:
    assert not said("a  1\n…\nb", "a     1\nx\ny\nb\n")
    assert said("a  1\nb", "a  1\nx\nb")
    assert said("a", "a\nb")
    assert said("a\n…\nc", "a\nb")
    assert not said(
        "run manual__2026-01-01T00:00:00.1+00:00  2.5 s", "run manual__2030-12-31T23:59:59.99+00:00   10.0 s"
    )
    assert said("2.5 rows", "2.6 rows")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of its own with a running stack, because the tour begins with an empty lake."""
    root = tmp_path_factory.mktemp("tour")
    for folder in ("dags/flights", "sql/flights", "spark_jobs/flights", "include/flights", "plugins"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / ".gitignore", root)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "flights"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    started = command(root, "up", "--free-ports")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield root
    finally:
        lifecycle.down(Stack(root, root / ".forebay"))


def settled(root: Path) -> None:
    """Waits until jobs that a published table started have ended."""

    def ended() -> bool:
        shown: list[dict[str, Any]] = json.loads(command(root, "runs", "--output", "json").stdout)
        own = [run for run in shown if run["job"] == "flights.daily_delays" and run["state"] == "published"]
        built = [run for run in shown if run["job"] == "flights.carrier_months"]
        return len(own) <= len(built) and all(run["state"] == "published" for run in built)

    eventually(90, ended, "carrier_months ran after daily_delays")


def test_the_tour(project: Path) -> None:
    found = steps()
    assert len(found) >= 8, "the tour is not where it was"
    for text, expected in found:
        arguments = shlex.split(text)[1:]
        done = command(project, *arguments)
        problem = said(expected, done.stdout + done.stderr)
        assert not problem, f"{text}: {problem}"
        failed = "Error:" in expected or "failed after" in expected
        assert done.returncode == (1 if failed else 0), text
        if arguments[0] == "run" and not failed:
            settled(project)
