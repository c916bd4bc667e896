"""10,000 random histories of runs on three tables against a model in memory, of which none may fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from harness import Row, say

HISTORIES, AT_ONCE = 10_000, 2
TEST = Path(__file__).parents[1] / "tests/engines/test_histories.py"


def measure(rounds: int) -> list[Row]:
    began = time.monotonic()
    say(f"{HISTORIES:,} histories, {AT_ONCE} processes; this takes about half an hour")
    each = {**os.environ, "FOREBAY_HISTORIES": str(HISTORIES // AT_ONCE)}
    tests = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", str(TEST)],
            env=each,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(AT_ONCE)
    ]
    output = [test.communicate()[0].decode() for test in tests]
    failed = [text for test, text in zip(tests, output, strict=True) if test.returncode]
    for text in failed:
        say(text)
    minutes = (time.monotonic() - began) / 60
    what = f"{HISTORIES:,} random histories of runs, retries and conflicts"
    return [(what, f"{len(failed)} failed ({minutes:.0f} min)", "0 failed", not failed)]
