"""Functions of the lab's python tasks."""

import os
import time
from pathlib import Path

NOTES = Path(os.environ["FOREBAY_ROOT"]) / "notes"


def names(count: int, label: str, day: object) -> list[str]:
    print("label", label, "day", day)
    return [f"{label}{number}" for number in range(count)]


def nothing() -> None:
    """Does nothing."""


def looks_like_a_report() -> dict[str, object]:
    return {"tables": {"a": 3, "b": {"inserted": 1}}, "checks": {"passed": "all"}, "published": ["x"]}


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


def append(table: str, run: str, fail_at: str = "") -> None:
    """Appends twice; the first try fails after the first append, or before anything."""
    import pyarrow as pa

    from forebay.lake import catalog

    NOTES.mkdir(exist_ok=True)
    seen = NOTES / f"append-{run.replace('/', '_')}"
    lake = catalog()
    for number in (1, 2):
        lake.load_table(table).append(pa.table({"n": pa.array([number], pa.int64())}))
        if fail_at == "between" and not seen.exists():
            seen.touch()
            raise RuntimeError("the first try fails half way")


def append_and_fail(table: str) -> None:
    append(table, "never")
    raise RuntimeError("this task always fails")


def append_elsewhere() -> None:
    append("lab.tx_first", "never")
