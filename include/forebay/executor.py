"""Airflow's LocalExecutor with the engines' libraries loaded before its workers are forked."""

from __future__ import annotations

import gc
from importlib import import_module

from airflow.executors.local_executor import LocalExecutor

# What a sql or ingest task would import: 1 s of each task's time, paid once by the scheduler instead.
_MODULES = (
    "duckdb",
    "pyarrow.compute",
    "pyarrow.fs",
    "pyarrow.parquet",
    "pyiceberg.catalog.rest",
    "pyiceberg.io.pyarrow",
    "pyiceberg.table",
    "forebay.dag",
    "forebay.engines.duckdb",
    "forebay.engines.ingest",
    "forebay.operators.ingest",
    "forebay.operators.publish",
    "forebay.operators.python",
    "forebay.operators.run_job",
    "forebay.operators.spark",
    "forebay.operators.sql",
    "forebay.lake.replay",
    "forebay.lake.retry",
    "forebay.sqltext",
)


class WarmLocalExecutor(LocalExecutor):
    """Runs tasks on this machine; their processes share the libraries in memory and start at once."""

    def start(self) -> None:
        for name in _MODULES:
            import_module(name)
        super().start()
        # Airflow's own freeze ends with the fork. Kept, the scheduler's collector does not write to, and so copy,
        # the pages it shares with its workers: 150 MB.
        gc.freeze()
