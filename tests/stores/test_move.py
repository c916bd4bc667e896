"""A lake is moved from MinIO to SeaweedFS: copied while it is written to, proven, and gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lake import Lake
from second_stack import ReferenceCatalog
from store import running_lens

from forebay.buckets import copy as copying
from forebay.buckets.client import Store, StoreError
from forebay.buckets.copy import compare, copy
from forebay.cli.store import command
from forebay.errors import ForebayError
from forebay.lake.branch import Branch
from forebay.lake.history import every
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.rollback import roll_back

BUCKET = "lake"


@pytest.fixture(autouse=True)
def _buckets(minio: Store, seaweedfs: Store) -> None:
    for store in (minio, seaweedfs):
        if not store.exists(BUCKET):
            store.make(BUCKET)


@pytest.fixture
def catalog(minio: Store, tmp_path: Path) -> Iterator[ReferenceCatalog]:
    (folder := tmp_path / "catalog").mkdir()
    catalog = ReferenceCatalog(folder, minio.s3)
    try:
        catalog.start()
        yield catalog
    finally:
        catalog.stop()


def move(minio: Store, seaweedfs: Store, catalog: ReferenceCatalog | None, *options: str) -> Result:
    values = {}
    for name, store in (("OLD_S3", minio), ("NEW_S3", seaweedfs)):
        values[f"AIRFLOW_CONN_{name}"] = {
            "conn_type": "aws", "login": store.s3.access_key, "password": store.s3.secret_key,
            "extra": {"endpoint_url": store.s3.endpoint},
        }  # fmt: skip
    if catalog is not None:
        config, (login, password) = catalog.config, catalog.config.credential
        values["AIRFLOW_CONN_THE_CATALOG"] = {
            "conn_type": "iceberg", "host": config.uri, "login": login, "password": password,
            "extra": {
                "warehouse": config.warehouse, "s3.endpoint": config.s3_endpoint,
                "s3.access-key-id": config.access_key, "s3.secret-access-key": config.secret_key,
            },
        }  # fmt: skip
    return CliRunner().invoke(
        command,
        ["move", "--from", "old_s3", "--to", "new_s3", "--bucket", BUCKET, *options],
        env={name: json.dumps(value) for name, value in values.items()},
    )


def test_a_lake_goes_on_in_its_new_store(
    minio: Store, seaweedfs: Store, catalog: ReferenceCatalog, tmp_path: Path
) -> None:
    with running_lens(catalog.config, tmp_path / "lens") as lens, Rest(catalog.config) as rest:
        lake = Lake(catalog.config, lens, "moved")
        lake.directly("t", "(1)")
        who = lake.who("published", "t", "made")
        lake.write(who, "t", "(2), (3)", "overwrite")
        lake.write(who, "made", "(4)")
        publish(rest, lake.run("published"), who.writes)
        first = move(minio, seaweedfs, None, "--copy-only")
        assert first.exit_code == 0, first.output
        # Meanwhile work goes on.
        opened = lake.who("open", "t")
        lake.write(opened, "t", "(5)")

        early = move(minio, seaweedfs, catalog, "--check-only", "--catalog", "the_catalog", "-o", "json")
        assert isinstance(early.exception, ForebayError)
        assert "is not the lake yet" in str(early.exception)
        said = json.loads(early.stdout)
        assert said["compared"][0]["missing"]
        assert said["tables"]["missing"]
        assert all(each.startswith("moved.t: s3://lake/") for each in said["tables"]["missing"])

        done = move(minio, seaweedfs, catalog, "--catalog", "the_catalog")
        assert done.exit_code == 0, done.output
        assert "lake: the same: " in done.stdout
        assert "tables: 2, " in done.stdout
        assert "0 of them are not as they should be" in done.stdout
        before = {table: rest.table(lake.name(table)) for table in ("t", "made")}

    # The catalog is told the new address, as step 5 of the runbook says.
    catalog.stop()
    catalog.moved_to(seaweedfs.s3)
    for each in minio.objects(BUCKET):
        minio.send("DELETE", BUCKET, each.key)
    catalog.start()
    with running_lens(catalog.config, tmp_path / "lens2") as lens, Rest(catalog.config) as rest:
        lake = Lake(catalog.config, lens, "moved")
        assert {table: rest.table(lake.name(table)) for table in ("t", "made")} == before
        assert (lake.rows("t"), lake.rows("made"), lake.rows("t", opened)) == ([2, 3], [4], [2, 3, 5])
        # History, open branches and the way back came along.
        publish(rest, lake.run("open"), opened.writes)
        assert lake.rows("t") == [2, 3, 5]
        from forebay.lake.built_on import Lake as Known
        from forebay.lake.built_on import plan

        def known() -> Known:
            return Known(every(rest, rest.names("moved")), [])

        roll_back(rest, known, plan(known(), lake.run("open")))
        roll_back(rest, known, plan(known(), lake.run("published")))
        assert (lake.rows("t"), lake.rows("made")) == ([1], [])
        lake.directly("t", "(9)")
        assert lake.rows("t") == [1, 9]
        document = rest.table(lake.name("t"))
        assert document is not None
        assert Branch.all(document) == []


KEYS = (
    "plain",
    "a b/ä+ü'\"&<>%2F=?#.parquet",
    "x=1/y=2020-01-01 00%3A00/part.parquet",
    "empty",
)


def test_odd_names_and_what_is_written_about_an_object(minio: Store, seaweedfs: Store) -> None:
    for key in KEYS:
        about = {"content-type": "text/x-odd", "x-amz-meta-who": "me"}
        minio.write(BUCKET, key, b"" if key == "empty" else key.encode(), about)
    # SeaweedFS tells whole seconds: what was copied within the second of its original is copied again, to be sure.
    time.sleep(1.1)
    copy(minio, seaweedfs, BUCKET)
    found = compare(minio, seaweedfs, BUCKET)
    assert found.same, found
    assert {each.key for each in seaweedfs.objects(BUCKET)} >= set(KEYS)
    for key in KEYS:
        about = seaweedfs.about(BUCKET, key)
        assert (about["content-type"], about["x-amz-meta-who"]) == ("text/x-odd", "me")
    again = copy(minio, seaweedfs, BUCKET)
    assert again.objects == 0
    assert again.before >= len(KEYS)


def test_objects_in_parts(minio: Store, seaweedfs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # S3's smallest part.
    monkeypatch.setattr(copying, "PART", 5 << 20)
    body = bytes(range(256)) * (12 << 12)
    minio.write(BUCKET, "large", body)
    assert copy(minio, seaweedfs, BUCKET).bytes >= len(body)
    assert seaweedfs.read(BUCKET, "large", 0, len(body)) == body
    assert compare(minio, seaweedfs, BUCKET).same


def test_what_differs_is_found_and_mended(minio: Store, seaweedfs: Store) -> None:
    for key in ("same", "changed", "gone", "grown"):
        minio.write(BUCKET, f"d/{key}", b"0123456789")
    copy(minio, seaweedfs, BUCKET)
    # SeaweedFS tells whole seconds: what was written within one is copied again.
    time.sleep(1.5)
    seaweedfs.write(BUCKET, "d/changed", b"0123456780")
    seaweedfs.send("DELETE", BUCKET, "d/gone")
    minio.write(BUCKET, "d/grown", b"0123456789+")
    seaweedfs.write(BUCKET, "d/more", b"")
    found = compare(minio, seaweedfs, BUCKET)
    assert (found.missing, found.different, found.same) == (["d/gone"], ["d/changed", "d/grown"], False)
    assert "d/more" in found.more
    refused = move(minio, seaweedfs, None)
    assert isinstance(refused.exception, ForebayError)
    assert "different: d/changed" in refused.stdout
    assert "delete it there" in str(refused.exception)
    seaweedfs.send("DELETE", BUCKET, "d/changed")
    mended = move(minio, seaweedfs, None)
    assert mended.exit_code == 0, mended.output
    # An object that was replaced with one of the same size is copied again.
    time.sleep(1.5)
    minio.write(BUCKET, "d/same", b"9876543210")
    copy(minio, seaweedfs, BUCKET)
    assert seaweedfs.read(BUCKET, "d/same", 0, 10) == b"9876543210"


def test_a_bucket_that_is_not_there(minio: Store, seaweedfs: Store) -> None:
    refused = move(minio, seaweedfs, None, "--bucket", "nowhere")
    assert isinstance(refused.exception, StoreError)
    assert "has no bucket nowhere" in str(refused.exception)
    itself = move(minio, minio, None)
    assert "are one store" in str(itself.exception)
