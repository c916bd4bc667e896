"""One operator in a process of its own, as a task has it: see `killed_task.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from given_connection import catalog_fields

from forebay.lake.connection import CatalogConfig


class Start:
    """Starts operators on a lake: their kind, their arguments, and what is different in the Spark connection."""

    def __init__(self, config: CatalogConfig, lens: str) -> None:
        self.config, self.lens = config, lens
        self._started: list[subprocess.Popen[str]] = []

    def __call__(
        self, kind: str, arguments: dict[str, Any], spark: Mapping[str, Any] | None = None
    ) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("killed_task.py")
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps([kind, arguments, self.connections(spark or {})])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kills those that are still there; what they started ends with them."""
        for process in self._started:
            process.kill()
            process.wait()

    def connections(self, spark: Mapping[str, Any] = {}) -> dict[str, dict[str, Any]]:
        return {
            "lake_catalog": catalog_fields(self.config, self.lens),
            "lake_sql": {
                "conn_type": "duckdb",
                "extra_dejson": {"catalog": "lake_catalog", "memory_limit": "500MB", "threads": 1},
            },
            "lake_spark": {
                "host": "local[1]",
                "extra_dejson": {"catalog": "lake_catalog", "driver_memory": "700m"},
                **spark,
            },
        }


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))
