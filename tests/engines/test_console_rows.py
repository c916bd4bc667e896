"""What the console reads beyond a table's document: rows and files, and a sentence where they are not to be had."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from lake import Lake
from pyarrow.fs import S3FileSystem
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
)  # fmt: skip
from pyiceberg.table import Table
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.transforms import IdentityTransform, MonthTransform
from pyiceberg.typedef import Record
from pyiceberg.types import StringType
from store import free_ports

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.checks.results import TABLE as CHECK_RESULTS
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.branch import snapshots
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.describe import describe
from forebay.lake.diff import between
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition
from forebay.stack.compare import difference
from forebay_ui import first_rows, rows
from forebay_ui.rows import FileSummary, check_results, files, sample


def table(lake: Lake, select: str = "SELECT i AS n FROM range(3) AS t(i)", by: tuple[str, ...] = ()) -> Table:
    name = lake.name("t")
    with DuckDBEngine(lake.config) as engine:
        engine.write(select, TableDefinition(name, by))
    return lake.config.pyiceberg().load_table(name)


def summary(config: CatalogConfig, name: str, **more: int) -> FileSummary:
    with Rest(config) as rest:
        document = rest.table(name)
    assert document is not None
    return files(config, name, describe(name, document).size, **more)


def remove(config: CatalogConfig, path: str) -> None:
    store = S3FileSystem(
        access_key=config.access_key, secret_key=config.secret_key, endpoint_override=config.s3_endpoint, region="us-east-1"
    )  # fmt: skip
    store.delete_file(path.removeprefix("s3://"))


def test_a_file_that_is_gone_is_named(lake: Lake, tmp_path: Path) -> None:
    made = table(lake)
    (task,) = made.scan().plan_files()
    remove(lake.config, task.file.file_path)
    name = lake.name("t")
    path = task.file.file_path.removeprefix("s3://")
    with pytest.raises(LakeError, match=f"has no file {path}, which the table needs"):
        sample(lake.config, name)
    assert summary(lake.config, name).files == 1
    with Rest(lake.config) as rest:
        document = rest.table(name)
    assert document is not None
    (only,) = snapshots(document)
    with pytest.raises(LakeError, match="has no file"):
        difference(tmp_path, lake.config, "w.job", document, between(name, document, None, only))
    snapshot = made.current_snapshot()
    assert snapshot is not None
    remove(lake.config, snapshot.manifests(made.io)[0].manifest_path)
    with pytest.raises(LakeError, match="has no file"):
        summary(lake.config, name)


def test_a_file_that_is_none_is_no_riddle(lake: Lake) -> None:
    made = table(lake)
    (task,) = made.scan().plan_files()
    with made.io.new_output(task.file.file_path).create(overwrite=True) as file:
        file.write(b"no Parquet at all")
    with pytest.raises(LakeError, match="A file of the table cannot be read"):
        sample(lake.config, lake.name("t"))


def test_a_store_that_is_away_is_named(lake: Lake) -> None:
    table(lake)
    kept = f"SELECT now() AS checked_at, '{lake.name('t')}' AS table_name"
    with DuckDBEngine(lake.config) as engine:
        engine.write(kept, TableDefinition(lake.name(CHECK_RESULTS)))
    assert len(check_results(lake.config, lake.name("t"), 10)) == 1
    dead = replace(lake.config, s3_endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")
    began = time.monotonic()
    for asked in (sample, summary, lambda config, name: check_results(config, name, 10)):
        with pytest.raises(LakeError, match=f"The store at {dead.s3_endpoint} does not answer") as error:
            asked(dead, lake.name("t"))
        assert dead.secret_key not in str(error.value)
    assert time.monotonic() - began < 30


def test_a_login_that_is_refused_is_told(lake: Lake) -> None:
    table(lake)
    with pytest.raises(LakeError, match=r"catalog at .* refuses \(OAuthError\)"):
        sample(replace(lake.config, secret_key="another"), lake.name("t"))
    store_only = lake.config.pyiceberg_properties() | {"s3.secret-access-key": "another"}
    from pyiceberg.catalog.rest import RestCatalog

    with lake.config.reached():
        found = RestCatalog("other", **store_only).load_table(lake.name("t"))
    with pytest.raises(LakeError, match=r"cannot be read: .*ACCESS_DENIED"), lake.config.reached():
        found.scan().to_arrow()


def test_files_of_an_older_partitioning_are_told_apart(lake: Lake) -> None:
    select = (
        "SELECT i AS n, DATE '2024-01-31' + CAST(i AS INTEGER) AS day, 'a' AS word FROM range({}, {}) AS t(i)"
    )
    made = table(lake, select.format(0, 2))
    name = lake.name("t")
    with made.update_spec() as spec:
        spec.add_field("word", IdentityTransform(), "word")
    with DuckDBEngine(lake.config) as engine:
        engine.write(select.format(2, 4), TableDefinition(name), "append")
    with made.update_spec() as spec:
        spec.remove_field("word")
        spec.add_field("day", MonthTransform(), "month")
    with made.update_schema(allow_incompatible_changes=True) as schema:
        schema.delete_column("word")
    with DuckDBEngine(lake.config) as engine:
        engine.write("SELECT 9 AS n, DATE '2024-03-01' AS day", TableDefinition(name), "append")
    found = summary(lake.config, name)
    assert {each.name: each.rows for each in found.partitions} == {
        "written before it was partitioned": 2, "word=a": 2, "month=2024-03": 1,
    }  # fmt: skip


def test_sizes_and_skew_are_counted(lake: Lake) -> None:
    table(lake, "SELECT i AS n, i // 900 AS part FROM range(1000) AS t(i)", ("part",))
    found = summary(lake.config, lake.name("t"))
    assert (found.files, found.small, found.delete_files, found.delete_share) == (2, 2, 0, 0.0)
    assert dict(found.buckets) == {"< 1 MB": 2, "1–8 MB": 0, "8–64 MB": 0, "64–256 MB": 0, "≥ 256 MB": 0}
    assert [(each.name, each.rows, each.files) for each in found.partitions] == [
        ("part=0", 900, 1),
        ("part=1", 100, 1),
    ]
    first, second = (each.bytes for each in found.partitions)
    assert found.bytes == first + second
    assert found.skew == pytest.approx(first / ((first + second) / 2))
    assert first > second


def test_deletes_have_their_share_of_the_files(lake: Lake) -> None:
    table(lake)
    with DuckDBEngine(lake.config) as engine:
        for number in (3, 4, 5):
            engine.write(f"SELECT {number} AS n", TableDefinition(lake.name("t")), "append")
        engine.execute([f"DELETE FROM lake.{lake.name('t')} WHERE n = 1"])
    found = summary(lake.config, lake.name("t"))
    assert (found.files, found.delete_files, found.delete_share) == (4, 1, 0.2)


def test_of_very_many_files_the_totals_are_shown(lake: Lake) -> None:
    table(lake)
    lake.directly("t", "(7)")
    lake.directly("t", "(8)")
    known = summary(lake.config, lake.name("t"))
    found = summary(lake.config, lake.name("t"), most=2)
    assert (
        (found.files, found.bytes, found.delete_files) == (known.files, known.bytes, 0) == (3, known.bytes, 0)
    )
    assert (found.small, found.partition_count, found.skew, found.buckets, found.partitions) == (
        None,
        None,
        None,
        [],
        [],
    )
    assert found.only_totals == "It has more than 2, which takes long."


class ByValue(ManifestWriterV2):
    """Deletes, which PyIceberg has no writer of."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class WithDeletes(_FastAppendFiles):
    """A commit of one file of deletes by value."""

    def _manifests(self) -> list:  # type: ignore[type-arg]
        io, metadata = self._io, self._transaction.table_metadata
        path = f"{metadata.location}/metadata/deletes-{self.snapshot_id}.avro"
        file = DataFile.from_args(
            content=DataFileContent.EQUALITY_DELETES, file_path=f"{metadata.location}/data/deletes.parquet",
            file_format=FileFormat.PARQUET, partition=Record(), record_count=1, file_size_in_bytes=100, column_sizes={},
            value_counts={}, null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={},
            key_metadata=None, split_offsets=None, equality_ids=[1], sort_order_id=None,
        )  # fmt: skip
        file.spec_id = 0
        with ByValue(
            metadata.spec(), metadata.schema(), io.new_output(path), self.snapshot_id, "null"
        ) as writer:
            writer.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=self.snapshot_id, sequence_number=None,
                    file_sequence_number=None, data_file=file,
                )
            )  # fmt: skip
        return [writer.to_manifest_file(), *self._existing_manifests()]


def test_deletes_by_value_are_said(lake: Lake) -> None:
    made = table(lake)
    with made.transaction() as change, WithDeletes("append", change, made.io, branch="main"):
        pass
    with pytest.raises(LakeError, match="deletes by value, which only Spark and Trino read"):
        sample(lake.config, lake.name("t"))
    found = summary(lake.config, lake.name("t"))
    assert (found.files, found.delete_files, found.delete_share, found.small) == (1, 1, 0.5, None)
    assert "deletes by value" in found.only_totals


def test_a_sample_reads_first_rows_and_not_whole_files(lake: Lake) -> None:
    name = lake.name("t")
    with DuckDBEngine(lake.config) as engine:
        engine.write(
            "SELECT i AS n, repeat('x', 100) || i AS text FROM range(600000) AS t(i)", TableDefinition(name)
        )
        engine.write("SELECT i AS n, 'later' AS text FROM range(5) AS t(i)", TableDefinition(name), "append")
    made = lake.config.pyiceberg().load_table(name)
    before = pyarrow.total_allocated_bytes()
    tasks = sorted(made.scan().plan_files(), key=lambda task: -task.file.record_count)
    found = first_rows.batches(made, tasks[0], made.scan().projection(), 20)
    assert next(found).num_rows == 20
    assert pyarrow.total_allocated_bytes() - before < 16_000_000, "its rows are 60 MB"
    found.close()
    assert len(sample(lake.config, name).rows) == 20


def test_a_sample_has_the_tables_columns_and_no_deleted_rows(lake: Lake) -> None:
    """Columns that came later, were renamed or lie in a struct; files that lack them; rows that a merge deleted."""
    name = lake.name("t")
    with DuckDBEngine(lake.config) as engine:
        engine.write(
            "SELECT i AS n, {'a': i, 'b': [i]} AS s, map {'k': i} AS m FROM range(3) AS t(i)",
            TableDefinition(name),
        )
    made = lake.config.pyiceberg().load_table(name)
    with made.update_schema() as update:
        update.rename_column("n", "number")
        update.add_column("late", StringType())
    found = sample(lake.config, name)
    assert found.columns == ["number", "s", "m", "late"]
    assert [row[0] for row in found.rows] == ["0", "1", "2"]
    assert {row[3] for row in found.rows} == {None}
    assert found.rows[1][1] == str({"a": 1, "b": [1]})
    plain = lake.config.pyiceberg().load_table(name).scan().to_arrow().to_pylist()
    assert [[None if value is None else str(value) for value in row.values()] for row in plain] == found.rows


def test_a_sample_of_rows_that_are_too_large_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    table(lake, "SELECT repeat('x', 10000) || i AS text FROM range(100) AS t(i)")
    monkeypatch.setattr(first_rows, "MOST", 2_000)
    with pytest.raises(LakeError, match="query the columns that you need"):
        sample(lake.config, lake.name("t"))


def test_only_the_newest_check_results_are_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_RESULT_STEP", 1)
    name, kept = lake.name("t"), lake.name(CHECK_RESULTS)
    with DuckDBEngine(lake.config) as engine:
        for day in (1, 3, 2):
            select = f"SELECT TIMESTAMPTZ '2026-01-0{day} 00:00:00Z' AS checked_at, '{name}' AS table_name"
            engine.write(select, TableDefinition(kept), "append")
    assert [each["checked_at"].day for each in check_results(lake.config, name, 10)] == [3, 2, 1]
    field = lake.config.pyiceberg().load_table(kept).schema().find_field("checked_at")
    tasks = lake.config.pyiceberg().load_table(kept).scan().plan_files()
    oldest = min(tasks, key=lambda task: rows._latest(task.file, field))
    remove(lake.config, oldest.file.file_path)
    assert [each["checked_at"].day for each in check_results(lake.config, name, 2)] == [3, 2]
