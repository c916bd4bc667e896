"""Buckets as a file says, on MinIO and on SeaweedFS: made, changed, taken back, and what they then do to objects."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebay.buckets.apply import apply, differences
from forebay.buckets.client import Store, StoreError, text
from forebay.buckets.declared import Bucket, Buckets, Keep
from forebay.cli.store import command
from forebay.connections.s3 import S3


@pytest.fixture
def name() -> str:
    """A bucket no other test uses."""
    return f"b{uuid.uuid4().hex[:12]}"


def one(name: str, **settings: object) -> Buckets:
    return Buckets(buckets={name: Bucket(**settings)})  # type: ignore[arg-type]


def left(store: Store, declared: Buckets) -> list[tuple[str, str, str]]:
    return [(each.setting, each.now, each.wanted) for each in differences(store, declared)]


def test_made_and_changed_and_taken_back(store: Store, name: str) -> None:
    wanted = one(name, versions_days=30, delete_after_days={"airflow/": 90, "spark/": 30})
    assert left(store, wanted) == [("bucket", "missing", "there")]
    assert [each.setting for each in apply(store, wanted)] == ["bucket", "versions", "lifecycle"]
    assert apply(store, wanted) == differences(store, wanted) == []
    other = one(name, versions_days=30, delete_after_days={"airflow/": 7})
    assert left(store, other) == [
        (
            "lifecycle",
            "delete airflow/* after 90d, delete spark/* after 30d, delete old versions after 30d",
            "delete airflow/* after 7d, delete old versions after 30d",
        )
    ]
    apply(store, other)
    assert differences(store, other) == []
    apply(store, one(name))
    assert left(store, one(name)) == []
    assert left(store, one(name, versions_days=1))[0] == ("versions", "Suspended", "Enabled")


def test_an_old_version_stays(store: Store, name: str) -> None:
    apply(store, one(name, tables=True, versions_days=30))
    for body in (b"first", b"second"):
        store.write(name, "a", body)
    store.send("DELETE", name, "a")
    assert list(store.objects(name)) == []
    versions = list(store.document("GET", name, query={"versions": ""}).iter("Version"))
    assert len(versions) == 2
    old = text(versions[-1], "VersionId")
    assert store.send("GET", name, "a", query={"versionId": old}).content == b"first"


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_what_is_kept_is_not_deleted(store: Store, name: str, mode: str) -> None:
    wanted = one(name, keep=Keep(days=1, mode=mode))  # type: ignore[arg-type]
    apply(store, wanted)
    assert differences(store, wanted) == []
    store.write(name, "a", b"kept")
    version = store.send("HEAD", name, "a").headers["x-amz-version-id"]
    with pytest.raises(StoreError, match="HTTP 40"):
        store.send("DELETE", name, "a", query={"versionId": version})
    assert store.read(name, "a", 0, 4) == b"kept"


def test_a_bucket_that_is_there_gets_keep_where_the_store_gives_it(store: Store, name: str) -> None:
    apply(store, one(name))
    wanted = one(name, versions_days=3, keep=Keep(days=1))
    if store.name == "minio":
        with pytest.raises(StoreError, match="This store gives `keep` to a bucket when it is made"):
            apply(store, wanted)
    else:
        apply(store, wanted)
        assert differences(store, wanted) == []


def test_what_a_store_does_not_know_is_told(store: Store, name: str) -> None:
    """MinIO clears unfinished uploads up by itself, and has no rule for it."""
    wanted = one(name, uploads_days=7, versions_days=3)
    if store.name == "minio":
        with pytest.raises(StoreError, match=r"drop unfinished uploads after 7d|refused"):
            apply(store, wanted)
    else:
        apply(store, wanted)
        assert differences(store, wanted) == []


def ask(store: Store, *arguments: str) -> Result:
    connection = {
        "conn_type": "aws",
        "login": store.s3.access_key,
        "password": store.s3.secret_key,
        "extra": {"endpoint_url": store.s3.endpoint},
    }
    return CliRunner().invoke(
        command, arguments, env={"AIRFLOW_CONN_THE_STORE": json.dumps(connection)}, catch_exceptions=True
    )


def test_the_command(store: Store, name: str, tmp_path: Path) -> None:
    file = tmp_path / "buckets.yaml"
    file.write_text(f"buckets:\n  {name}:\n    versions_days: 30\n")
    plan = ask(store, "plan", str(file), "--store", "the_store")
    assert (plan.exit_code, plan.stdout.split()[-4:]) == (0, [name, "bucket", "missing", "there"])
    refused = ask(store, "apply", str(file), "--store", "the_store")
    assert "say --yes" in str(refused.exception)
    assert not store.exists(name)
    done = ask(store, "apply", str(file), "--store", "the_store", "--yes", "-o", "json")
    assert [each["setting"] for each in json.loads(done.stdout)] == ["bucket", "versions", "lifecycle"]
    again = ask(store, "plan", str(file), "--store", "the_store")
    assert again.stdout == "The buckets are as the file says.\n"


def test_a_store_that_refuses_or_is_away(store: Store, name: str) -> None:
    wrong = S3(store.s3.endpoint, "us-east-1", store.s3.access_key, "wrong")
    with Store(wrong, "mine") as client, pytest.raises(StoreError, match=r"mine at .* refused .*HTTP 403"):
        apply(client, one(name))
