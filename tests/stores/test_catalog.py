"""A catalog that is not SeaweedFS': what it says it can, keys that come with its tables, and its end in mid-publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from lake import Lake
from second_stack import ReferenceCatalog
from store import running_lens

from forebay.buckets.client import Store
from forebay.connections import doctor
from forebay.connections.model import Connection, Report
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.publish import PublishConflict, publish
from forebay.lake.rest import Change, Rest
from forebay.lake.state import RunsOf, state


@pytest.fixture(params=[True, False], ids=["together", "one by one"])
def catalog(request: pytest.FixtureRequest, minio: Store, tmp_path: Path) -> Iterator[ReferenceCatalog]:
    if not minio.exists("lake"):
        minio.make("lake")
    (folder := tmp_path / "catalog").mkdir()
    catalog = ReferenceCatalog(folder, minio.s3, transactions=request.param, vended=True)
    try:
        catalog.start()
        yield catalog
    finally:
        catalog.stop()


@pytest.fixture
def lake(catalog: ReferenceCatalog, tmp_path: Path) -> Iterator[Lake]:
    with running_lens(catalog.config, tmp_path / "lens") as lens:
        yield Lake(catalog.config, lens, "one")


def check(config: CatalogConfig, **more: str) -> Report:
    login, password = config.credential
    extra = {
        "warehouse": config.warehouse,
        "s3.endpoint": config.s3_endpoint,
        "s3.access-key-id": config.access_key,
        "s3.secret-access-key": config.secret_key,
        **more,
    }
    connection = Connection.of(
        "lake_catalog", "iceberg", host=config.uri, login=login, password=password, extra=extra
    )
    report = list(doctor.check_all([connection], timeout=20))[-1].report
    assert report is not None
    return report


def test_what_it_says_decides(
    catalog: ReferenceCatalog, lake: Lake, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = request.node.callspec.params["catalog"]
    lake.directly("t", "(1)")
    report = check(catalog.config, lens=lake.lens)
    assert report.state == "ok", report
    assert report.facts["prefix"] == "main%7Clake"
    assert report.facts["several tables in one commit"] == ("yes" if together else "no")

    sent: list[str] = []
    send = Rest._send

    def noted(self: Rest, method: str, path: str, at: str = "", **what: object) -> object:
        sent.append(f"{method} {path}")
        return send(self, method, path, at, **what)

    monkeypatch.setattr(Rest, "_send", noted)
    who = lake.who("r", "t", "u")
    lake.write(who, "t", "(2)")
    lake.write(who, "u", "(3)")
    with Rest(catalog.config) as rest:
        publish(rest, lake.run("r"), who.writes)
        assert rest.transactions is together
    # It is not asked for what it does not have.
    assert [each for each in sent if "transactions" in each] == (
        ["POST transactions/commit"] if together else []
    )
    assert (lake.rows("t"), lake.rows("u")) == ([1, 2], [3])


def test_keys_that_come_with_a_table_pass_the_lens(catalog: ReferenceCatalog, lake: Lake) -> None:
    """By them PyIceberg reads and writes where the connection's own key is wrong; DuckDB goes by the connection's."""
    keyless = replace(catalog.config, access_key="nobody", secret_key="nothing")
    own = Lake(keyless, lake.lens, lake.namespace)
    lake.directly("t", "(1)")
    who = own.who("r", "t")
    table = own.view(who).pyiceberg().load_table(own.name("t"))
    table.append(pa.table({"n": pa.array([2], pa.int32())}))
    lake.write(who, "t", "(3)")
    assert lake.rows("t", who) == [1, 2, 3]
    with Rest(keyless) as rest:
        publish(rest, own.run("r"), who.writes)
    assert lake.rows("t") == [1, 2, 3]


class Dies(Rest):
    """A client whose catalog is killed after its first commit."""

    catalog: ReferenceCatalog

    def commit(self, changes: Sequence[Change]) -> None:
        super().commit(changes)
        self.catalog.kill()


@pytest.mark.parametrize("catalog", [False], indirect=True, ids=["one by one"])
def test_it_dies_between_two_tables(catalog: ReferenceCatalog, lake: Lake) -> None:
    def broken_off(run: str, mode: str) -> list[str]:
        who = lake.who(run, "a", "b")
        for table in ("a", "b"):
            lake.write(who, table, "(2)", mode)
        with Dies(catalog.config) as rest:
            rest.catalog = catalog
            with pytest.raises(LakeError, match=r"does not answer|broke off"):
                publish(rest, lake.run(run), who.writes)
        catalog.start()
        with Rest(catalog.config) as rest:
            words = set()
            for table in who.writes:
                metadata = rest.table(table)
                assert metadata is not None
                words |= RunsOf.read(table, metadata).words(lake.run(run))
        # What everybody is told of it, until somebody finishes it.
        assert state("failed", words) == "partial"
        return list(who.writes)

    for table in ("a", "b"):
        lake.directly(table, "(1)")
    writes = broken_off("finished", "append")
    with Rest(catalog.config) as rest:
        done = publish(rest, lake.run("finished"), writes)
    assert [each.again for each in done] == [True, False]
    assert lake.rows("a") == lake.rows("b") == [1, 2]

    writes = broken_off("back", "overwrite")
    lake.directly("b", "(9)", "overwrite")
    with Rest(catalog.config) as rest, pytest.raises(PublishConflict):
        publish(rest, lake.run("back"), writes)
    assert (lake.rows("a"), lake.rows("b")) == ([1, 2], [9])
