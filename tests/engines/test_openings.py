"""The texts under "Open from…" do what they say: each engine is given its own, word for word but for the reader's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from flink import running_flink
from lake import Lake
from store import KEY, SECRET
from trino_server import ACCESS, TrinoServer
from trino_server import SECRET as TRINO_SECRET

from forebay.engines import openings
from forebay.engines.openings import snippets
from forebay.engines.session import extension
from forebay.engines.spark import SparkEngine
from forebay.engines.trino_catalog import create_statement
from forebay.engines.trino_client import TrinoClient
from forebay.lake.connection import CatalogConfig
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.machine import jars
from forebay.sqlquote import literal

ROWS = [(1, "one"), (2, "it's two")]


@pytest.fixture
def rows(lake: Lake) -> str:
    """A table with two published rows, and one more that nobody published."""
    published, open_run = lake.who("r1", "rows"), lake.who("r2", "rows")
    lake.write(published, "rows", ", ".join(f"({n}, {literal(word)})" for n, word in ROWS))
    with Rest(lake.config) as rest:
        publish(rest, published, published.writes)
    lake.write(open_run, "rows", "(3, 'not published')")
    return lake.name("rows")


def text(lake: Lake, engine: str, table: str = "") -> str:
    """What the pages of a table and of a connection print for an engine."""
    found = snippets(replace(lake.config, lens=lake.lens), table)
    return next(each.text for each in found if each.engine == engine)


def filled(said: str, secret: str = SECRET) -> str:
    assert KEY not in said
    return said.replace(openings.KEY, KEY).replace(openings.SECRET, secret)


@pytest.mark.parametrize("page", ["table", "connection"])
def test_duckdb(lake: Lake, rows: str, page: str) -> None:
    first, _, rest = filled(
        text(lake, "DuckDB", rows if page == "table" else ""), SECRET.replace("'", "''")
    ).partition("\n")
    assert first == "INSTALL iceberg; LOAD iceberg;"
    # As those lines do, from where the tests' extensions are.
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        for name in ("avro", "httpfs", "iceberg"):
            connection.execute(f"LOAD '{extension(name)}'")
        if page == "connection":
            connection.execute(rest)
            rest = f"FROM lake.{rows}"
        assert sorted(connection.execute(rest).fetchall()) == ROWS


@pytest.mark.parametrize("page", ["table", "connection"])
def test_pyiceberg(lake: Lake, rows: str, page: str) -> None:
    program = filled(text(lake, "PyIceberg", rows if page == "table" else ""))
    names: dict[str, Any] = {}
    if page == "table":
        program, _, last = program.rpartition("\n")
    else:
        last = f'lake.load_table("{rows}").scan().to_arrow()'
    exec(program, names)
    found = eval(last, names).to_pylist()
    assert sorted(tuple(row.values()) for row in found) == ROWS


@dataclass(frozen=True)
class Pasted(CatalogConfig):
    """A lake that Spark is told of by these lines and nothing else."""

    lines: Mapping[str, str] = field(default_factory=dict)

    def spark_conf(self) -> dict[str, str]:
        return dict(self.lines)


def test_spark(lake: Lake, rows: str, tmp_path: Path) -> None:
    said = filled(text(lake, "Spark", rows))
    settings, _, program = said.partition("\n\n# then, in PySpark\n")
    assert settings == filled(text(lake, "Spark")), "a connection's page says the same"
    lines = dict(line.split(None, 1) for line in settings.splitlines())
    # Spark would fetch these; they are here already.
    packages = lines.pop("spark.jars.packages")
    assert packages == ",".join(f"{jar.group}:{jar.artifact}:{jar.version}" for jar in jars.pinned())
    (tmp_path / "read.py").write_text(
        f"from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n{program}\n"
    )
    given = Pasted(**vars(lake.config), lines=lines)
    engine = SparkEngine(given, jars=str(jars.folder()), master="local[1]", driver_memory="600m")
    printed: list[str] = []
    engine.run(str(tmp_path / "read.py"), log=printed.append)
    found = [
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in printed if line.startswith("|")
    ]
    assert sorted(found[1:]) == [(str(n), word) for n, word in ROWS]


def test_trino(lake: Lake, rows: str, trino: TrinoServer) -> None:
    said = text(lake, "Trino", rows)
    properties, _, statement = said.partition("\n\n-- then, in Trino\n")
    assert properties == text(lake, "Trino"), "a connection's page says the same"
    keys = properties.replace("${ENV:LAKE_KEY}", ACCESS).replace("${ENV:LAKE_SECRET}", TRINO_SECRET)
    values = dict(line.split("=", 1) for line in keys.splitlines())
    assert values.pop("connector.name") == "iceberg"
    # What a file's name says elsewhere; there is a catalog `lake` already.
    client = TrinoClient(trino.server)
    try:
        client.run(create_statement("opened", values))
        try:
            answer = client.run(statement.rstrip(";").replace("FROM lake.", "FROM opened."))
        finally:
            client.run("DROP CATALOG opened")
    finally:
        client.close()
    assert sorted(map(tuple, answer.rows)) == ROWS


def test_flink(lake: Lake, rows: str, tmp_path: Path) -> None:
    said = filled(text(lake, "Flink", rows), SECRET.replace("'", "''"))
    made, _, read = said.partition(";\n")
    assert f"{made};" == filled(text(lake, "Flink"), SECRET.replace("'", "''")), (
        "a connection's page says the same"
    )
    with running_flink(tmp_path) as run:
        run(made)
        assert sorted(run(read.rstrip(";"))) == ROWS


def test_a_wrong_key_opens_nothing(lake: Lake, rows: str) -> None:
    program, _, last = filled(text(lake, "PyIceberg", rows), "wrong").rpartition("\n")
    with pytest.raises(Exception, match=r"(?i)oauth|unauthorized|denied|credential"):
        exec(f"{program}\n{last}", {})
