"""What files hold when they are put together: old columns and partitionings, every type, deleted rows, NULL everywhere."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from trino_server import TrinoServer

from forebay.engines.compaction import compact, look
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.rest import Rest
from forebay.lake.tables import load

SMALL = 32 << 20

INNER = StructType(
    NestedField(30, "x", IntegerType(), required=False), NestedField(31, "y", StringType(), required=False)
)
SCHEMA = Schema(
    NestedField(1, "id", IntegerType(), required=True),
    NestedField(2, "part", StringType(), required=False),
    NestedField(3, "gone", StringType(), required=False),
    NestedField(4, "name", StringType(), required=False),
    NestedField(5, "ok", BooleanType(), required=False),
    NestedField(6, "f", FloatType(), required=False),
    NestedField(7, "d", DoubleType(), required=False),
    NestedField(8, "small", DecimalType(9, 2), required=False),
    NestedField(9, "big", DecimalType(38, 10), required=False),
    NestedField(10, "day", DateType(), required=False),
    NestedField(11, "clock", TimeType(), required=False),
    NestedField(12, "at", TimestampType(), required=False),
    NestedField(13, "atz", TimestamptzType(), required=False),
    NestedField(14, "bin", BinaryType(), required=False),
    NestedField(15, "key", UUIDType(), required=False),
    NestedField(16, "four", FixedType(4), required=False),
    NestedField(17, "inner", INNER, required=False),
    NestedField(18, "many", ListType(40, INNER, element_required=False), required=False),
    NestedField(20, "sure", ListType(60, IntegerType(), element_required=True), required=True),
    NestedField(21, "told", MapType(70, StringType(), 71, LongType(), value_required=True), required=False),
    NestedField(19, "by", MapType(50, StringType(), 51, INNER, value_required=False), required=False),
)

UNSORTED = ("key", "four")


def row(number: int, part: str | None, **more: Any) -> dict[str, Any]:
    """A row with a value of its own in every column, or with NULL in all but two."""
    if number % 5 == 4:
        return {"id": number, "part": part, "sure": []}
    inner = {"x": number, "y": None if number % 2 else f"y{number}"}
    values = {
        "id": number, "part": part, "gone": f"gone{number}", "name": f"näme {number}", "ok": bool(number % 2),
        "f": float("nan") if number == 2 else number / 4, "d": float("inf") if number == 3 else -0.0,
        "small": Decimal(number) / 100, "big": Decimal("1234567890123456789012345678.0123456789"),
        "day": date(1969, 12, 31), "clock": clock(23, 59, 59, number), "at": datetime(1900, 1, 1, 0, 0, 0, number),
        "atz": datetime(2026, 3, 29, 1, 30, 0, number, tzinfo=UTC), "bin": bytes([0, number]),
        "key": uuid.UUID(int=number).bytes, "four": bytes([number] * 4), "inner": inner,
        "many": [] if number % 3 == 0 else [inner, None], "by": {f"k{number}": inner, "none": None},
        "sure": [number, number], "told": {"": number},
    }  # fmt: skip
    return values | more


class Typed:
    """A table whose files were written under three schemas and two partitionings."""

    def __init__(self, config: CatalogConfig, name: str, *, ordered: bool) -> None:
        self.config, self.name, self.ordered = config, name, ordered
        catalog = config.pyiceberg()
        catalog.create_namespace_if_not_exists(name.partition(".")[0])
        # DuckDB, which sorts, has no type of its own for these.
        fields = [each for each in SCHEMA.fields if not (ordered and each.name in UNSORTED)]
        self.table = catalog.create_table(name, Schema(*fields), properties={"format-version": "2"})
        with self.table.update_spec() as spec:
            spec.add_identity("part")
        if ordered:
            with self.table.update_sort_order() as order:
                order.desc("id", IdentityTransform(), NullOrder.NULLS_LAST)
        for first in (0, 6):
            self.append([row(first + n, ("a", "b", None)[n % 3]) for n in range(6)])
        with self.table.update_schema() as schema:
            schema.delete_column("gone")
            schema.rename_column("name", "called")
            schema.update_column("id", LongType())
            schema.update_column("f", DoubleType())
            schema.update_column("small", DecimalType(18, 2))
            schema.add_column("new", StringType())
            schema.add_column(("inner", "z"), LongType())
            schema.add_column(("many", "element", "z"), StringType())
            schema.rename_column("inner.y", "why")
        for first in (12, 18):
            self.append([self._later(first + n, ("a", "b", None)[n % 3]) for n in range(6)])
        with DuckDBEngine(config) as engine:
            engine.execute([f"DELETE FROM {lake_name(name)} WHERE id IN (1, 2, 7, 13, 14)"])
        self.table.refresh()
        with self.table.update_spec() as spec:
            spec.add_identity("ok")
        for first in (24, 30):
            self.append([self._later(first + n, ("a", "b", None)[n % 3]) for n in range(6)])

    def _later(self, number: int, part: str | None) -> dict[str, Any]:
        values = row(number, part)
        values.pop("gone", None)
        if "name" in values:
            inner = values["inner"]
            values["called"] = values.pop("name")
            values["inner"] = {"x": inner["x"], "why": inner["y"], "z": 1 << 40}
            values["many"] = [each and each | {"z": "z"} for each in values["many"]]
            values["new"] = "new"
        return values

    def append(self, rows: list[dict[str, Any]]) -> None:
        columns = schema_to_pyarrow(self.table.schema(), include_field_ids=False)
        kept = [{name: value for name, value in each.items() if name in columns.names} for each in rows]
        self.table.append(pa.Table.from_pylist(kept, schema=columns))

    def rows(self) -> list[str]:
        """As PyIceberg reads them; as text, for NaN is not equal to itself, nor 0.0 other than -0.0."""
        table = load(self.config, self.name)
        assert table is not None
        return sorted(map(repr, table.scan().to_arrow().to_pylist()))

    def by_duckdb(self) -> list[str]:
        with DuckDBEngine(self.config) as engine:
            return sorted(map(repr, engine.query(f"SELECT * FROM {lake_name(self.name)}").to_pylist()))

    def files(self) -> list[Any]:
        table = load(self.config, self.name)
        assert table is not None
        return list(table.scan().plan_files())


def put_together(config: CatalogConfig, name: str, trino: TrinoServer | None, small: int = SMALL) -> bool:
    """Whether there was something to do."""
    kind = "trino" if trino else "duckdb"
    who = TaskTry("files.job", uuid.uuid4().hex, "t", engine=kind, writes=(name,), began=time.time())
    with Rest(config) as rest:
        if not look(rest, name, small).to_do:
            return False
        seen = config.seen_by(who)
        with trino.engine(seen, who) if trino else DuckDBEngine(seen) as engine:
            compact(engine, rest, who, name, small)
    return True


def test_files_grow_until_they_are_small_no_more(config: CatalogConfig, lens: str, namespace: str) -> None:
    config, name = replace(config, lens=lens), f"{namespace}.t"
    catalog = config.pyiceberg()
    catalog.create_namespace_if_not_exists(namespace)
    table = catalog.create_table(name, pa.schema([("n", pa.int64()), ("noise", pa.binary())]))
    for number in range(7):
        table.append(pa.table({"n": [number], "noise": [os.urandom(600_000)]}))
    assert put_together(config, name, None, 1 << 20)
    table.refresh()
    files = list(table.scan().plan_files())
    # Four are above twice the size, and the other three become one as well.
    assert sorted(each.file.record_count for each in files) == [3, 4]
    assert sorted(table.scan(selected_fields=("n",)).to_arrow()["n"].to_pylist()) == list(range(7))
    assert not put_together(config, name, None, 1 << 20)


def test_files_of_a_partitioning_by_a_dropped_column(
    config: CatalogConfig, lens: str, namespace: str
) -> None:
    """Trino does not open such a table."""
    config, name = replace(config, lens=lens), f"{namespace}.t"
    catalog = config.pyiceberg()
    catalog.create_namespace_if_not_exists(namespace)
    table = catalog.create_table(
        name, pa.schema([("n", pa.int64()), ("old", pa.string()), ("new", pa.string())])
    )
    with table.update_spec() as spec:
        spec.add_identity("old")
    for number in range(2):
        table.append(pa.table({"n": [number, number + 10], "old": ["a", "b"], "new": ["x", None]}))
    with table.update_spec() as spec:
        spec.remove_field("old")
        spec.add_identity("new")
    with table.update_schema() as schema:
        schema.delete_column("old")
    for number in range(2):
        table.append(pa.table({"n": [number + 100], "new": ["y"]}))
    put_together(config, name, None)
    with DuckDBEngine(config) as engine:
        found = engine.query(f"SELECT * FROM {lake_name(name)} ORDER BY n").to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (0, "x"), (1, "x"), (10, None), (11, None), (100, "y"), (101, "y")
    ]  # fmt: skip
    now = load(config, name)
    assert now is not None
    assert len([task for task in now.scan().plan_files() if "new=y" in task.file.file_path]) == 1


@pytest.mark.parametrize("ordered", [False, True], ids=["as they come", "ordered"])
@pytest.mark.parametrize("kind", ["duckdb", "trino"])
def test_rows_are_the_same(
    request: pytest.FixtureRequest, config: CatalogConfig, lens: str, namespace: str, kind: str, ordered: bool
) -> None:
    made = Typed(replace(config, lens=lens), f"{namespace}.t", ordered=ordered)
    rows, by_duckdb = made.rows(), made.by_duckdb()
    assert len(rows) == len(by_duckdb) == 31
    assert any(each.delete_files for each in made.files())
    trino = request.getfixturevalue("trino") if kind == "trino" else None
    for _ in range(3):
        to_do = put_together(made.config, made.name, trino)
        assert made.rows() == rows
        assert made.by_duckdb() == by_duckdb
    assert not to_do
    files = made.files()
    assert not any(each.delete_files for each in files)
    assert len(files) < 12
    for each in files if ordered else ():
        with made.table.io.new_input(each.file.file_path).open() as file:
            ids = pq.read_table(file, columns=["id"])["id"].to_pylist()
        assert ids == sorted(ids, reverse=True)
