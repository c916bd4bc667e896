"""Each engine's own way to do what the shared suite of runs asks for, on tables of one column `n`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, NestedField, StringType
from spark_session import WarmSpark
from trino_server import TrinoServer

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import TableDefinition, ensure_namespace


class Writer(Protocol):
    """What a task does to the lake that `config` shows, in one client. Tables are namespace.table."""

    name: str

    def create(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        """Makes the table with these rows."""

    def append(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None: ...

    def overwrite(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None: ...

    def widen(self, config: CatalogConfig, table: str, row: int, extra: str) -> None:
        """Adds the column `extra` and a row that has it."""

    def copy(self, config: CatalogConfig, source: str, table: str) -> None:
        """Appends the rows of one table to another."""

    def read(self, config: CatalogConfig, table: str) -> list[int]:
        """What the table holds, sorted."""


class Sql:
    """Engines that are Forebay's own, with the modes of a task."""

    def __init__(self, trino: TrinoServer | None = None) -> None:
        self.name = "duckdb" if trino is None else "trino"
        self._trino = trino

    def _engine(self, config: CatalogConfig) -> AbstractContextManager[Any]:
        return DuckDBEngine(config) if self._trino is None else self._trino.engine(config)

    def _write(self, config: CatalogConfig, table: str, select: str, mode: str) -> None:
        with self._engine(config) as engine:
            engine.write(select, TableDefinition(table), mode)

    def create(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        self._write(config, table, _select(rows), "overwrite")

    def append(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        self._write(config, table, _select(rows), "append")

    def overwrite(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        self._write(config, table, _select(rows), "overwrite")

    def widen(self, config: CatalogConfig, table: str, row: int, extra: str) -> None:
        self._write(config, table, f"SELECT {row} AS n, CAST('{extra}' AS VARCHAR) AS extra", "append")

    def copy(self, config: CatalogConfig, source: str, table: str) -> None:
        self._write(config, table, f"SELECT n FROM {self._named(source)}", "append")

    def read(self, config: CatalogConfig, table: str) -> list[int]:
        with self._engine(config) as engine:
            found: list[int] = engine.query(f"SELECT n FROM {self._named(table)} ORDER BY n")["n"].to_pylist()
        return found

    def _named(self, table: str) -> str:
        return table if self._trino is not None else f"lake.{table}"


class PyIceberg:
    """The library as a `python` task uses it."""

    name = "pyiceberg"
    _SCHEMA = Schema(NestedField(1, "n", IntegerType()))

    def create(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        ensure_namespace(config, table)
        config.pyiceberg().create_table(table, self._SCHEMA).append(_arrow(rows))

    def append(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        config.pyiceberg().load_table(table).append(_arrow(rows))

    def overwrite(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        config.pyiceberg().load_table(table).overwrite(_arrow(rows))

    def widen(self, config: CatalogConfig, table: str, row: int, extra: str) -> None:
        found = config.pyiceberg().load_table(table)
        with found.update_schema() as update:
            update.add_column("extra", StringType())
        found.append(_arrow([row]).append_column("extra", pa.array([extra])))

    def copy(self, config: CatalogConfig, source: str, table: str) -> None:
        rows = config.pyiceberg().load_table(source).scan().to_arrow()
        config.pyiceberg().load_table(table).append(rows)

    def read(self, config: CatalogConfig, table: str) -> list[int]:
        return sorted(config.pyiceberg().load_table(table).scan().to_arrow()["n"].to_pylist())


class Spark:
    """Spark's SQL, as a program has it."""

    name = "spark"

    def __init__(self, spark: WarmSpark) -> None:
        self._spark = spark

    def create(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        namespace = table.rpartition(".")[0]
        self._spark.sql(
            config,
            f"CREATE NAMESPACE IF NOT EXISTS {namespace}",
            f"CREATE TABLE {table} AS {_select(rows)}",
        )

    def append(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        self._spark.sql(config, f"INSERT INTO {table} {_select(rows)}")

    def overwrite(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        self._spark.sql(config, f"INSERT OVERWRITE {table} {_select(rows)}")

    def renew(self, config: CatalogConfig, table: str, rows: Sequence[int]) -> None:
        """As a DataFrame's createOrReplace does."""
        self._spark.sql(config, f"CREATE OR REPLACE TABLE {table} USING iceberg AS {_select(rows)}")

    def widen(self, config: CatalogConfig, table: str, row: int, extra: str) -> None:
        self._spark.sql(
            config,
            f"ALTER TABLE {table} ADD COLUMN extra STRING",
            f"INSERT INTO {table} VALUES ({row}, '{extra}')",
        )

    def copy(self, config: CatalogConfig, source: str, table: str) -> None:
        self._spark.sql(config, f"INSERT INTO {table} SELECT n FROM {source}")

    def read(self, config: CatalogConfig, table: str) -> list[int]:
        return [int(n) for (n,) in self._spark.sql(config, f"SELECT n FROM {table} ORDER BY n")]


def _select(rows: Sequence[int]) -> str:
    return " UNION ALL ".join(f"SELECT {row} AS n" for row in rows)


def _arrow(rows: Sequence[int]) -> pa.Table:
    return pa.table({"n": pa.array(rows, pa.int32())})
