"""Ready configuration: how the engines people use open the lake, from the same values that tasks get.

No text holds a secret: it says where the reader's own goes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from forebay.engines.trino_catalog import catalog_properties
from forebay.lake.connection import CATALOG, CatalogConfig
from forebay.machine.jars import pinned
from forebay.sqlquote import literal

KEY, SECRET = "YOUR_KEY", "YOUR_SECRET"
CLIENT, CLIENT_SECRET = "YOUR_CLIENT", "YOUR_CLIENT_SECRET"
"""For a catalog with a login of its own."""


@dataclass(frozen=True)
class Snippet:
    """Text to paste, and into what."""

    engine: str
    text: str
    file: str = ""
    """Where it goes; empty for a session's first lines."""


def snippets(config: CatalogConfig, table: str = "") -> list[Snippet]:
    """For DuckDB, PyIceberg, Spark, Trino and Flink; with a table also how its rows are read."""
    # Readers do without the branches of runs under way.
    shown = replace(config.published(), access_key=KEY, secret_key=SECRET)
    if config.client_id:
        shown = replace(shown, client_id=CLIENT, client_secret=CLIENT_SECRET)
    namespace, _, name = table.rpartition(".")
    return [
        Snippet("DuckDB", _duckdb(shown, f'"{namespace}"."{name}"' if table else "")),
        Snippet("PyIceberg", _pyiceberg(shown, table)),
        Snippet("Spark", _spark(shown, table), "spark-defaults.conf"),
        Snippet("Trino", _trino(shown, f'"{namespace}"."{name}"' if table else ""), "etc/catalog/lake.properties"),
        Snippet("Flink", _flink(shown, f"`{namespace}`.`{name}`" if table else "")),
    ]  # fmt: skip


def _duckdb(config: CatalogConfig, table: str) -> str:
    lines = [f"{statement};" for statement in config.duckdb_statements(read_only=True)]
    end = [f"FROM {CATALOG}.{table} LIMIT 10;"] if table else []
    return "\n".join(("INSTALL iceberg; LOAD iceberg;", *lines, *end))


def _pyiceberg(config: CatalogConfig, table: str) -> str:
    values = "".join(
        f"    {json.dumps(name)}: {json.dumps(value)},\n"
        for name, value in config.pyiceberg_properties().items()
    )
    end = f"{CATALOG}.load_table({json.dumps(table)}).scan(limit=10).to_arrow()\n" if table else ""
    return (
        "from pyiceberg.catalog.rest import RestCatalog\n\n"
        f'{CATALOG} = RestCatalog("{CATALOG}", **{{\n{values}}})\n{end}'
    ).rstrip()


def _spark(config: CatalogConfig, table: str) -> str:
    packages = ",".join(f"{jar.group}:{jar.artifact}:{jar.version}" for jar in pinned())
    values = {"spark.jars.packages": packages, **config.spark_conf()}
    lines = [f"{name:<48} {value}" for name, value in values.items()]
    end = ["", "# then, in PySpark", f'spark.table("{CATALOG}.{table}").show(10)'] if table else []
    return "\n".join((*lines, *end))


def _trino(config: CatalogConfig, table: str) -> str:
    client = ("${ENV:LAKE_CLIENT}", "${ENV:LAKE_CLIENT_SECRET}") if config.client_id else ("", "")
    values = catalog_properties(config, "${ENV:LAKE_KEY}", "${ENV:LAKE_SECRET}", *client)
    lines = [f"{name}={value}" for name, value in {"connector.name": "iceberg", **values}.items()]
    end = ["", "-- then, in Trino", f"SELECT * FROM {CATALOG}.{table} LIMIT 10;"] if table else []
    return "\n".join((*lines, *end))


def _flink(config: CatalogConfig, table: str) -> str:
    # Iceberg's own names, which Spark takes behind the name of its catalog.
    prefix = f"spark.sql.catalog.{CATALOG}."
    values = {"type": "iceberg", "catalog-type": "rest"}
    for name, value in config.spark_conf().items():
        if name.startswith(prefix) and name != f"{prefix}type":
            values[name.removeprefix(prefix)] = value
    lines = ",\n".join(f"  {literal(name)} = {literal(value)}" for name, value in values.items())
    end = f"\nSELECT * FROM {CATALOG}.{table} LIMIT 10;" if table else ""
    # Iceberg's version is Spark's too; the part of Flink in the name is the reader's own.
    version = pinned()[0].version
    jars = f"iceberg-flink-runtime-FLINKS_VERSION-{version}.jar, iceberg-aws-bundle-{version}.jar, Hadoop's client"
    return f"-- in Flink's lib: {jars}\nCREATE CATALOG {CATALOG} WITH (\n{lines}\n);{end}"
