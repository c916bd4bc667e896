"""A run that failed made a table; the next run, which is mended, is told how to be rid of its shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake import Lake

from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.ingest import Ingest
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import TaskTry
from forebay.lake.publish import discard, publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load

TEXT, NUMBER = "SELECT 'x' AS a, 1 AS b", "SELECT 1 AS a, 2 AS b"


def write(lake: Lake, run: str, select: str, number: int = 1, **layout: tuple[str, ...]) -> TaskTry:
    who = lake.who(run, "t", number=number)
    with DuckDBEngine(seen(lake, who)) as engine:
        engine.write(select, TableDefinition(lake.name("t"), **layout))  # type: ignore[arg-type]
    return who


def seen(lake: Lake, who: TaskTry) -> CatalogConfig:
    return replace(lake.config, lens=lake.lens).seen_by(who)


def test_types_of_a_run_that_was_never_published(lake: Lake, rest: Rest) -> None:
    write(lake, "spoiled", TEXT)
    write(lake, "spoiled_too", TEXT)
    job, name = f"{lake.namespace}.job", lake.name("t")
    with pytest.raises(LakeError) as refused:
        write(lake, "mended", NUMBER)
    commands = f"forebay discard {job}/spoiled_too; forebay discard {job}/spoiled"
    assert "column 'a' is varchar in the table and integer in the SELECT" in str(refused.value)
    assert "were never published. Drop them, in this order, and the next run makes it anew" in str(
        refused.value
    )
    assert str(refused.value).endswith(commands)
    # As it says.
    for command in commands.split("; "):
        assert discard(rest, lake.run(command.rpartition("/")[2]), [name]) == [name]
    who = write(lake, "mended", NUMBER)
    publish(rest, who, who.writes)
    found = load(lake.config, name)
    assert found is not None
    assert str(found.schema().find_type("a")) == "int"


def test_layout_of_a_run_that_was_never_published(lake: Lake, rest: Rest) -> None:
    write(lake, "spoiled", NUMBER, partitioned_by=("a",), sorted_by=("b desc",))
    # The same is no hindrance.
    same = write(lake, "same", NUMBER, partitioned_by=("a",), sorted_by=("B DESC",))
    discard(rest, same, same.writes)
    for columns in ((), ("b",), ("a",), ("c",)):
        with pytest.raises(LakeError, match="partitioned_by or sorted_by are not the table's"):
            write(lake, "mended", f"{NUMBER}, 3 AS c", partitioned_by=columns)
    discard(rest, lake.run("spoiled"), [lake.name("t")])
    who = write(lake, "mended", NUMBER, partitioned_by=("bucket(4, b)",))
    # The run's own table is its own matter, as is one that others see.
    write(lake, "mended", NUMBER, partitioned_by=("a",))
    publish(rest, who, who.writes)
    write(lake, "later", NUMBER, partitioned_by=("a",))
    with pytest.raises(LakeError) as refused:
        write(lake, "later", TEXT, number=2)
    assert "discard" not in str(refused.value)


def test_an_ingest_is_told_as_well(lake: Lake, tmp_path: Path) -> None:
    write(lake, "spoiled", TEXT)
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "one.parquet")
    ingest = Ingest(seen(lake, lake.who("mended", "t")), root=tmp_path)
    with pytest.raises(LakeError, match=r"forebay discard .*/spoiled$"):
        ingest.run(["one.parquet"], TableDefinition(lake.name("t")))
