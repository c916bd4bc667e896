"""Shorthand for tests of runs and their branches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.typedef import Record

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import Run, TaskTry
from forebay.lake.rest import Change, Rest
from forebay.lake.tables import TableDefinition


class BrokeOff(Exception):
    """A commit that ended between two tables."""


@contextlib.contextmanager
def broken_off(rest: Rest, before: Collection[str]) -> Iterator[None]:
    """A catalog that does one table after the other, and goes before it does these."""
    commit = rest.commit

    def some(changes: Sequence[Change]) -> None:
        if any(each.table in before for each in changes):
            raise BrokeOff
        commit(changes)

    rest.transactions, rest.commit = False, some  # type: ignore[method-assign]
    try:
        with pytest.raises(BrokeOff):
            yield
    finally:
        rest.transactions, rest.commit = True, commit  # type: ignore[method-assign]


class Lake:
    """What the tests do to one namespace."""

    def __init__(self, config: CatalogConfig, lens: str, namespace: str) -> None:
        self.config, self.lens, self.namespace = config, lens, namespace
        self._began: dict[tuple[str, str, int], float] = {}

    @cached_property
    def prefix(self) -> str:
        """What the catalog's paths have after v1/, with the slash at its end."""
        with Rest(self.config) as rest:
            return rest._connect()

    def name(self, table: str) -> str:
        return f"{self.namespace}.{table}"

    def run(self, run: str) -> Run:
        return Run(f"{self.namespace}.job", run)

    def who(self, run: str, *tables: str, task: str = "write", number: int = 1) -> TaskTry:
        names = tuple(map(self.name, tables))
        return TaskTry(
            job=f"{self.namespace}.job",
            run=run,
            task=task,
            number=number,
            writes=names,
            # A try begins once.
            began=self._began.setdefault((run, task, number), time.time()),
        )

    def view(self, who: TaskTry) -> CatalogConfig:
        return self.config.at(f"{self.lens}/run/{who.segment()}")

    def write(self, who: TaskTry, table: str, values: str, mode: Any = "append") -> None:
        with DuckDBEngine(self.view(who)) as engine:
            engine.write(f"SELECT * FROM (VALUES {values}) AS t(n)", TableDefinition(self.name(table)), mode)

    def directly(self, table: str, values: str, mode: Any = "append") -> None:
        with DuckDBEngine(self.config) as engine:
            engine.write(f"SELECT * FROM (VALUES {values}) AS t(n)", TableDefinition(self.name(table)), mode)

    def rows(self, table: str, who: TaskTry | None = None) -> list[int]:
        config = self.config.at(f"{self.lens}/published") if who is None else self.view(who)
        with DuckDBEngine(config) as engine:
            found = engine.query(f"SELECT n FROM lake.{self.name(table)} ORDER BY n")
        numbers: list[int] = found.column("n").to_pylist()
        return numbers


def data_file(row: str) -> DataFile:
    """A file of one row that is never read."""
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"s3://warehouse/histories/{row}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
    )
    made.spec_id = PartitionSpec().spec_id
    return made
