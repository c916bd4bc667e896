"""Functions of the workspace's python tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path

NOTES = Path(os.environ["FOREBAY_ROOT"]) / "notes"
PATIENCE = 300


def append(table: str, run: str) -> None:
    """Appends 1, leaves word and waits until the test has made the file `go-on`; then appends 2."""
    import pyarrow as pa

    from forebay.lake import catalog

    lake = catalog()
    NOTES.mkdir(exist_ok=True)
    lake.load_table(table).append(pa.table({"n": pa.array([1], pa.int64())}))
    with (NOTES / f"half-{run.replace('/', '_')}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + PATIENCE
    while not (NOTES / f"go-on-{run.replace('/', '_')}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody said to go on")
        time.sleep(0.05)
    lake.load_table(table).append(pa.table({"n": pa.array([2], pa.int64())}))
