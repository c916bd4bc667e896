"""Functions of the lab's python tasks."""

import time
from pathlib import Path


def append(table: str, folder: str) -> None:
    """Appends twice, and waits between for the file `go`."""
    import pyarrow as pa

    from forebay.lake import catalog

    lake, where = catalog(), Path(folder)
    for number in (1, 2):
        lake.load_table(table).append(pa.table({"n": pa.array([number], pa.int64())}))
        (where / f"appended-{number}").touch()
        while number == 1 and not (where / "go").exists():
            time.sleep(0.1)
