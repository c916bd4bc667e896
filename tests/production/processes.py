"""Programs that tests start, and that end with them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE = 600.0
"""Seconds for a server to answer: others may use the machine too."""


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 1800) -> None:
    """Fails with the last words of a command that fails."""
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path | None = None
) -> Iterator[Callable[[], int]]:
    """Gives what tells the process's id, or fails with the end of its log where it has ended."""
    with log.open("a") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=dict(env), cwd=cwd, start_new_session=True
        )

    def alive() -> int:
        assert process.poll() is None, f"{command[0]} ended: {log.read_text()[-3000:]}"
        return process.pid

    try:
        yield alive
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its group, with patience and then without."""
    for way, seconds in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0)):
        # What it started may have outlived it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, way)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
