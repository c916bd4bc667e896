"""Landing files: once each, whole or not at all, with an error that names file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forebay.engines.background import EngineError
from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.files import matcher
from forebay.engines.ingest import Ingest
from forebay.lake.commit import Draft
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import TableDefinition, load


@pytest.fixture
def table(namespace: str) -> TableDefinition:
    return TableDefinition(f"{namespace}.bronze")


@pytest.fixture
def ingest(config: CatalogConfig, tmp_path: Path) -> Ingest:
    (tmp_path / "in").mkdir()
    return Ingest(config, root=tmp_path)


def rows(config: CatalogConfig, table: TableDefinition, columns: str = "*") -> list[dict[str, object]]:
    with DuckDBEngine(config) as engine:
        found: list[dict[str, object]] = engine.query(
            f"SELECT {columns} FROM lake.{table.name} ORDER BY ALL"
        ).to_pylist()
        return found


def test_files_land_once(
    ingest: Ingest, config: CatalogConfig, table: TableDefinition, tmp_path: Path
) -> None:
    (tmp_path / "in/a.csv").write_text("id,name\n1,x\n2,\n")
    with gzip.open(tmp_path / "in/b.csv.gz", "wt") as file:
        file.write("id,name,extra\n3,y,9\n")
    (tmp_path / "in/empty.csv").write_text("")
    (tmp_path / "in/header.csv").write_text("id,name\n")
    (tmp_path / "in/half.csv.part").write_text("id,name\n9")
    first = ingest.run(["in/*.csv*"], table)
    assert (first.inserted, first.rows, first.created) == (3, 3, True)
    assert rows(config, table, "id, name, extra, _source_file") == [
        {"id": 1, "name": "x", "extra": None, "_source_file": "in/a.csv"},
        {"id": 2, "name": None, "extra": None, "_source_file": "in/a.csv"},
        {"id": 3, "name": "y", "extra": 9, "_source_file": "in/b.csv.gz"},
    ]
    again = Ingest(config, root=tmp_path).run(["in"], table)
    assert (again.inserted, again.rows) == (0, 3)
    (tmp_path / "in/c.csv").write_text("ID,later\n4,true\n")
    assert Ingest(config, root=tmp_path).run(["in"], table).inserted == 1
    assert rows(config, table, "id, later")[-1] == {"id": 4, "later": True}


def test_landed_files_are_known_from_rows_when_snapshots_are_gone(
    ingest: Ingest,
    config: CatalogConfig,
    table: TableDefinition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in/a.csv").write_text("id\n1\n")
    ingest.run(["in"], table)
    monkeypatch.setattr("forebay.engines.ingest.LANDED", "none")
    assert Ingest(config, root=tmp_path).run(["in"], table).inserted == 0
    found = load(config, table.name)
    assert found is not None
    summary = found.metadata.snapshots[0].summary
    assert summary is not None
    assert json.loads(str(summary.get("forebay.ingest.files"))) == ["in/a.csv"]


def test_from_s3(ingest: Ingest, config: CatalogConfig, table: TableDefinition) -> None:
    store = ingest.access.filesystem()
    for name, text in (
        ("a.csv", "id,t\n1,2020-01-01 05:00:00\n"),
        ("deep/b.csv", "id,t\n2,2020-01-01 06:00:00\n"),
    ):
        with store.open_output_stream(f"lake/{table.name}/{name}") as stream:
            stream.write(text.encode())
    assert ingest.run([f"s3://lake/{table.name}/*.csv"], table).inserted == 1
    assert Ingest(config, root=".").run([f"s3://lake/{table.name}/**/*.csv"], table).inserted == 1
    assert Ingest(config, root=".").run([f"s3://lake/{table.name}/nothing/*.csv"], table).inserted == 0
    with pytest.raises(EngineError, match="no bucket 'no-such-bucket'"):
        Ingest(config, root=".").run(["s3://no-such-bucket/*.csv"], table)


def test_json_and_parquet(
    ingest: Ingest, config: CatalogConfig, table: TableDefinition, tmp_path: Path
) -> None:
    (tmp_path / "in/a.json").write_text('{"id": 1, "tags": ["x"], "spot": {"x": 1}}\n{"id": 2}\n')
    pq.write_table(pa.table({"id": [3], "amount": ["4.20"]}), tmp_path / "in/b.parquet")
    result = ingest.run(["in"], table, columns={"amount": "decimal(12, 2)"})
    assert result.inserted == 3
    found = rows(config, table, "id, tags, spot, amount")
    assert found[0]["tags"] == ["x"]
    assert found[0]["spot"] == {"x": 1}
    assert str(found[2]["amount"]) == "4.20"


def test_bad_line_names_file_and_line(
    ingest: Ingest, config: CatalogConfig, table: TableDefinition, tmp_path: Path
) -> None:
    (tmp_path / "in/a.csv").write_text("id,name\n1,x\n")
    ingest.run(["in"], table)
    (tmp_path / "in/b.csv").write_text("id,name\n2,y\nthree,z\n")
    with pytest.raises(EngineError, match=r"in/b\.csv:3: .*id"):
        Ingest(config, root=tmp_path).run(["in"], table)
    assert len(rows(config, table)) == 1
    (tmp_path / "in/b.csv").write_text("id,name\n2,y\n3,z,4,5\n")
    with pytest.raises(EngineError, match=r"in/b\.csv:3: 4 fields where the first line has 2"):
        Ingest(config, root=tmp_path).run(["in"], table)


def test_type_conflict_names_file_and_column(
    ingest: Ingest, config: CatalogConfig, table: TableDefinition, tmp_path: Path
) -> None:
    (tmp_path / "in/a.json").write_text('{"id": 1}\n')
    ingest.run(["in"], table)
    (tmp_path / "in/b.json").write_text('{"id": 2}\n')
    (tmp_path / "in/c.json").write_text('{"id": "three"}\n')
    with pytest.raises(LakeError, match=r"'id' is bigint in the table and varchar in in/c\.json"):
        Ingest(config, root=tmp_path).run(["in"], table)


def test_options_and_folders(
    ingest: Ingest, config: CatalogConfig, table: TableDefinition, tmp_path: Path
) -> None:
    (tmp_path / "in/a.csv").write_text("id;n\n007;NA\n008;3\n")
    ingest.run(["in"], table, csv={"delimiter": ";", "null_text": "NA"}, columns={"id": "varchar"})
    assert rows(config, table, "id, n") == [{"id": "007", "n": None}, {"id": "008", "n": 3}]
    for pattern, said in (
        ("../x/*.csv", "inside the repository"),
        ("/etc", "inside"),
        ("nowhere", "no folder"),
    ):
        with pytest.raises(EngineError, match=said):
            Ingest(config, root=tmp_path).run([pattern], table)


def test_batches_commit_one_by_one(config: CatalogConfig, table: TableDefinition, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text(f"id\n{number}\n")
    assert Ingest(config, root=tmp_path, batch_files=2).run(["*.csv"], table).inserted == 5
    found = load(config, table.name)
    assert found is not None
    assert len(found.metadata.snapshots) == 3


def test_a_file_that_another_task_lands_meanwhile_is_landed_once(
    config: CatalogConfig, table: TableDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("before", "both", "own"):
        (tmp_path / f"{name}.csv").write_text("id\n1\n")
    Ingest(config, root=tmp_path).run(["before.csv"], table)
    plain = Draft.commit
    others = iter([["both.csv"]])

    def commit(draft: Draft, *arguments: Any, **named: Any) -> Any:
        for patterns in others:
            Ingest(config, root=tmp_path).run(patterns, table)
        return plain(draft, *arguments, **named)

    monkeypatch.setattr(Draft, "commit", commit)
    assert Ingest(config, root=tmp_path).run(["*.csv"], table).inserted == 1
    found = [row["_source_file"] for row in rows(config, table, "_source_file")]
    assert found == ["before.csv", "both.csv", "own.csv"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("b/*.csv", "b/x.csv", True),
        ("b/*.csv", "b/c/x.csv", False),
        ("b/**/*.csv", "b/x.csv", True),
        ("b/**/*.csv", "b/c/d/x.csv", True),
        ("b/[ab].csv", "b/a.csv", True),
        ("b/[!ab].csv", "b/a.csv", False),
        ("b/(x)+.csv", "b/(x)+.csv", True),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    assert bool(matcher(pattern).fullmatch(path)) is matches
