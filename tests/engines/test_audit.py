"""audit: true on a real lake: which run wrote a row, and when, in every mode and for landed files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.ingest import Ingest
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import Audit, TableDefinition

MOMENTS = {
    name: datetime(2026, 1, day, 3, 4, 5, 678901, UTC) for day, name in enumerate(("one", "two's", "3"), 1)
}


def table(namespace: str, run: str | None, **layout: Any) -> TableDefinition:
    return TableDefinition(f"{namespace}.t", audit=Audit(run, MOMENTS[run]) if run else None, **layout)


def rows(engine: DuckDBEngine, namespace: str) -> dict[int, tuple[str | None, str | None]]:
    """Word and run by number; the moment is the run's."""
    found = engine.query(f"SELECT n, word, _run_id, _loaded_at FROM lake.{namespace}.t").to_pylist()
    assert all(row["_loaded_at"] == MOMENTS.get(row["_run_id"]) for row in found)
    return {row["n"]: (row["word"], row["_run_id"]) for row in found}


def values(*pairs: tuple[int, str]) -> str:
    return f"SELECT * FROM (VALUES {', '.join(map(str, pairs))}) AS v(n, word)"


def test_every_mode(engine: DuckDBEngine, namespace: str) -> None:
    first = table(namespace, "one", partitioned_by=("n",))
    made = engine.write(values((1, "a"), (2, "b")), first, "append")
    assert made.created
    columns = engine.config.pyiceberg().load_table(f"{namespace}.t").schema()
    assert [(field.name, str(field.field_type)) for field in columns.fields][2:] == [
        ("_run_id", "string"), ("_loaded_at", "timestamptz"),
    ]  # fmt: skip
    engine.write(
        values((2, "c"), (3, "c")),
        replace(first, audit=Audit("two's", MOMENTS["two's"])),
        "overwrite_partitions",
    )
    assert rows(engine, namespace) == {1: ("a", "one"), 2: ("c", "two's"), 3: ("c", "two's")}
    third = replace(first, audit=Audit("3", MOMENTS["3"]))
    engine.write(values((4, "d")), third, "append")
    assert rows(engine, namespace)[4] == ("d", "3")
    engine.write(values((4, "e")), first, "overwrite")
    assert rows(engine, namespace) == {4: ("e", "one")}


def test_merge_marks_what_it_changed_only(engine: DuckDBEngine, namespace: str) -> None:
    engine.write(values((1, "a"), (2, "b"), (3, "c")), table(namespace, "one"), "merge", ["n"])
    # One file holds all rows: those that are equal are written again, and stay the first run's.
    result = engine.write(values((1, "a"), (2, "x"), (4, "d")), table(namespace, "two's"), "merge", ["n"])
    assert (result.inserted, result.updated) == (1, 1)
    assert rows(engine, namespace) == {
        1: ("a", "one"), 2: ("x", "two's"), 3: ("c", "one"), 4: ("d", "two's"),
    }  # fmt: skip
    again = engine.write(values((1, "a"), (2, "x")), table(namespace, "3"), "merge", ["n"])
    assert not again.changed
    assert rows(engine, namespace)[2] == ("x", "two's")


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_table_from_before(engine: DuckDBEngine, namespace: str, mode: Any) -> None:
    engine.write(values((1, "a"), (2, "b")), table(namespace, None))
    new = values((2, "x"), (3, "c")) if mode == "merge" else values((3, "c"))
    engine.write(new, table(namespace, "one"), mode, ["n"] if mode == "merge" else [])
    changed = {2: ("x", "one")} if mode == "merge" else {2: ("b", None)}
    assert rows(engine, namespace) == {1: ("a", None), **changed, 3: ("c", "one")}
    # And without audit from then on.
    engine.write(values((4, "d")), table(namespace, None), "append")
    assert rows(engine, namespace)[4] == ("d", None)


@pytest.mark.parametrize("column", ["_run_id", "_Loaded_At"])
def test_a_select_that_has_such_a_column(engine: DuckDBEngine, namespace: str, column: str) -> None:
    with pytest.raises(LakeError, match=rf"adds {column.lower()}, and the SELECT brings such a column"):
        engine.write(f"SELECT 1 AS n, 'x' AS {column}", table(namespace, "one"))
    engine.write(f"SELECT 1 AS n, 'x' AS {column}", table(namespace, None))


def test_landed_files(config: CatalogConfig, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("n,word\n1,a\n")
    ingest = Ingest(config, root=tmp_path)
    ingest.run(["in/*.csv"], table(namespace, "one"))
    (tmp_path / "in/b.csv").write_text("n,word\n2,b\n")
    ingest.run(["in/*.csv"], table(namespace, "two's"))
    with DuckDBEngine(config) as engine:
        assert rows(engine, namespace) == {1: ("a", "one"), 2: ("b", "two's")}
    (tmp_path / "in/c.csv").write_text("n,word,_run_id\n3,c,me\n")
    with pytest.raises(LakeError, match="adds _run_id, and a file brings such a column"):
        ingest.run(["in/*.csv"], table(namespace, "3"))
