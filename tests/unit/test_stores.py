"""What is known of a store or catalog before it is asked: declared buckets, a catalog's capabilities, its login."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebay.buckets.client import StoreError, connection
from forebay.buckets.declared import read
from forebay.engines.background import EngineError
from forebay.engines.openings import snippets
from forebay.engines.trino_catalog import catalog_properties
from forebay.errors import JobSpecError
from forebay.lake.capabilities import NEEDED, TRANSACTIONS, Capabilities
from forebay.lake.connection import CatalogConfig

ROOT = Path(__file__).parents[2]
EXTRA = {"warehouse": "lake", "s3.endpoint": "http://s3"}
OWN = {**EXTRA, "s3.access-key-id": "key", "s3.secret-access-key": "secret", "scope": "PRINCIPAL_ROLE:ALL"}


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("", ""),
        ("lake", "lake/"),
        ("main|lake", "main%7Clake/"),
        ("main%7Clake", "main%7Clake/"),
        ("a/b", "a/b/"),
    ],
)
def test_a_prefix_is_encoded_once(prefix: str, path: str) -> None:
    assert Capabilities.of({"defaults": {"prefix": "x"}, "overrides": {"prefix": prefix}}).prefix == path


def test_a_catalog_that_does_not_say_what_it_can() -> None:
    found = Capabilities.of({"defaults": {}, "overrides": {}})
    assert (found.told, found.transactions, found.missing) == (False, True, ())


@pytest.mark.parametrize("slash", ["/", ""])
def test_a_catalog_that_says_what_it_can(slash: str) -> None:
    def named(endpoint: str) -> str:
        # Each catalog names the parts of a path in its own way.
        method, _, path = endpoint.partition(" ")
        return f"{method} {slash}{path[1:]}".replace("{table}", "{name}")

    every = [*map(named, NEEDED), named(TRANSACTIONS), "POST /v1/{prefix}/tables/rename"]
    assert Capabilities.of({"endpoints": every}) == Capabilities("", True, True, ())
    some = [each for each in every if "transactions" not in each and not each.startswith("DELETE")]
    found = Capabilities.of({"endpoints": some})
    assert (found.transactions, found.missing) == (False, (NEEDED[-1],))


def test_a_catalog_with_a_login_of_its_own() -> None:
    config = CatalogConfig.from_connection("http://catalog", "client", "client-secret", OWN)
    assert (config.credential, config.access_key, config.secret_key) == (
        ("client", "client-secret"),
        "key",
        "secret",
    )
    assert config.login()["scope"] == "PRINCIPAL_ROLE:ALL"
    assert config.redact("secret client-secret") == "*** ***"
    iceberg, spark = config.pyiceberg_properties(), config.spark_conf()
    for values, before in ((iceberg, ""), (spark, "spark.sql.catalog.lake.")):
        assert values[f"{before}credential"] == "client:client-secret"
        assert values[f"{before}scope"] == "PRINCIPAL_ROLE:ALL"
        assert values[f"{before}s3.access-key-id"] == "key"
        assert values[f"{before}s3.secret-access-key"] == "secret"
    s3, catalog, _ = config.duckdb_statements()
    assert "KEY_ID 'key', SECRET 'secret'" in s3
    assert "CLIENT_ID 'client', CLIENT_SECRET 'client-secret'" in catalog
    assert "OAUTH2_SCOPE 'PRINCIPAL_ROLE:ALL'" in catalog
    assert "secret" not in repr(config)
    for each in snippets(config):
        assert "client-secret" not in each.text, each.engine
        assert "YOUR_CLIENT" in each.text or "LAKE_CLIENT" in each.text, each.engine


def test_trino_has_both_logins() -> None:
    config = CatalogConfig.from_connection("http://catalog", "client", "client-secret", OWN)
    with pytest.raises(EngineError, match="names no client_id and client_secret"):
        catalog_properties(config, "${ENV:KEY}", "${ENV:SECRET}")
    with pytest.raises(EngineError, match="no usable client_secret"):
        catalog_properties(config, "${ENV:KEY}", "${ENV:SECRET}", "${ENV:CLIENT}", "client-secret")
    found = catalog_properties(config, "${ENV:KEY}", "${ENV:SECRET}", "${ENV:CLIENT}", "${ENV:CLIENT_SECRET}")
    assert found["iceberg.rest-catalog.oauth2.credential"] == "${ENV:CLIENT}:${ENV:CLIENT_SECRET}"
    assert found["iceberg.rest-catalog.oauth2.scope"] == "PRINCIPAL_ROLE:ALL"
    assert (found["s3.aws-access-key"], found["s3.aws-secret-key"]) == ("${ENV:KEY}", "${ENV:SECRET}")


def test_one_login_for_both() -> None:
    config = CatalogConfig.from_connection("http://catalog", "key", "secret", EXTRA)
    assert config.credential == (config.access_key, config.secret_key) == ("key", "secret")
    assert config.login()["scope"] == "catalog"


def test_the_platforms_buckets_can_be_read() -> None:
    found = read(ROOT / "helm" / "buckets.yaml").buckets
    assert found["lake"].tables
    assert found["logs"].delete_after_days == {"airflow/": 90, "spark/": 30}
    assert found["backups"].keep is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "buckets: {lake: {tables: true, delete_after_days: {'*': 30}}}",
            "holds tables, so that deleting by age",
        ),
        ("buckets: {lake: {version_days: 3}}", "Did you mean 'versions_days'?"),
        ("buckets: {Lake_1: {}}", "Lake_1"),
        ("buckets: {lake: {versions_days: 0}}", "must be at least 1"),
        ("buckets: {lake: {keep: {days: 1, mode: strict}}}", "governance"),
        ("buckets: {}", "buckets"),
    ],
)
def test_mistakes_in_a_file_of_buckets(tmp_path: Path, text: str, said: str) -> None:
    (file := tmp_path / "buckets.yaml").write_text(text)
    with pytest.raises(JobSpecError) as refused:
        read(file)
    assert "buckets.yaml:1:" in str(refused.value)
    assert said in str(refused.value)


def test_a_connection_of_the_environment() -> None:
    values: dict[str, Any] = {"conn_type": "aws", "login": "me", "extra": {"endpoint_url": "http://s3"}}
    found = connection("old_s3", {"AIRFLOW_CONN_OLD_S3": json.dumps(values)})
    assert found is not None
    assert (found.conn_type, found.login, found.extra["endpoint_url"]) == ("aws", "me", "http://s3")
    assert connection("old_s3", {}) is None
    for text in ("aws://me:secret@s3", "[]"):
        with pytest.raises(StoreError, match="AIRFLOW_CONN_OLD_S3 is not a connection as JSON") as refused:
            connection("old_s3", {"AIRFLOW_CONN_OLD_S3": text})
        assert "secret" not in str(refused.value)
