"""A catalog that asks nobody for a login, as Lakekeeper without a provider of identities: a real one whose door is held open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lake import Lake
from spark_session import running_spark
from store import running_lens
from writers import PyIceberg, Spark, Sql, Writer

from catalog_proxy import Watch, proxy
from forebay.engines.openings import snippets
from forebay.engines.trino_catalog import catalog_properties
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.publish import publish
from forebay.lake.rest import Rest


@pytest.fixture(scope="module")
def unlocked(config: CatalogConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogConfig]:
    with Rest(config) as rest:
        rest.tables([])
        login = {"Authorization": rest._client.headers["Authorization"]}
        with proxy(config.uri, Watch(), lambda: login) as address:
            shown = replace(config, uri=address, oauth_uri="", no_login=True)
            with running_lens(shown, tmp_path_factory.mktemp("open") / "log") as lens:
                yield replace(shown, lens=lens)


@pytest.fixture(params=["duckdb", "pyiceberg", "spark"])
def writer(request: pytest.FixtureRequest, unlocked: CatalogConfig, tmp_path: Path) -> Iterator[Writer]:
    match request.param:
        case "spark":
            with running_spark(unlocked, tmp_path) as warm:
                yield Spark(warm)
        case "pyiceberg":
            yield PyIceberg()
        case _:
            yield Sql()


def test_runs_are_published(unlocked: CatalogConfig, namespace: str, writer: Writer) -> None:
    lake = Lake(unlocked, unlocked.lens, f"{namespace}_{writer.name}")
    who = replace(lake.who("r", "t"), engine=writer.name)
    writer.create(lake.view(who), lake.name("t"), [1])
    writer.append(lake.view(who), lake.name("t"), [2])
    with Rest(unlocked) as rest:
        assert [each.added for each in publish(rest, who, who.writes)] == [2]
        many = [lake.name(f"t{number}") for number in range(100)]
        assert rest.tables([*many, lake.name("t")]).keys() == {lake.name("t")}
    assert lake.rows("t") == writer.read(unlocked.published(), lake.name("t")) == [1, 2]


def test_nothing_of_a_login_is_in_the_settings(unlocked: CatalogConfig) -> None:
    trino = catalog_properties(unlocked, "${ENV:KEY}", "${ENV:SECRET}")
    shown = " ".join(
        [
            *trino,
            *unlocked.pyiceberg_properties(),
            *unlocked.spark_conf(),
            *(s.text for s in snippets(unlocked)),
        ]
    )
    for word in ("oauth2", "credential=", ".credential", "CLIENT_ID", "scope"):
        assert word not in shown
    assert unlocked.spark_conf()["spark.sql.catalog.lake.rest.auth.type"] == "none"


def test_the_connection_says_it() -> None:
    fields = ("http://catalog", "key", "secret")
    extra = {"warehouse": "lake", "s3.endpoint": "http://store"}
    assert CatalogConfig.from_connection(*fields, {**extra, "rest.auth.type": "none"}).token_uri == ""
    assert CatalogConfig.from_connection(*fields, extra).token_uri == "http://catalog/v1/oauth/tokens"
    with pytest.raises(LakeError, match=r"rest\.auth\.type is 'kerberos'\. Known: oauth2, none"):
        CatalogConfig.from_connection(*fields, {**extra, "rest.auth.type": "kerberos"})
