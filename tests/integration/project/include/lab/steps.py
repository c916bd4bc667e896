"""Functions of the lab's python tasks."""

import os
import time
from pathlib import Path

NOTES = Path(os.environ["FOREBAY_ROOT"]) / "notes"


def names(count: int, label: str, day: object) -> list[str]:
    print("label", label, "day", day)
    return [f"{label}{number}" for number in range(count)]


def shout(name: str) -> str:
    return name.upper()


def fail() -> None:
    raise RuntimeError("this task always fails")


def fail_first(run: str) -> str:
    NOTES.mkdir(exist_ok=True)
    seen = NOTES / run.replace("/", "_")
    if not seen.exists():
        seen.touch()
        raise RuntimeError("the first try fails")
    return "second try"


def sleep(seconds: int) -> None:
    time.sleep(seconds)
