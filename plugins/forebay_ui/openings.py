"""How to open a table from the engines people use. No snippet holds a secret: it says where the caller's own goes."""

from dataclasses import dataclass

from forebay.lake.connection import CatalogConfig


@dataclass(frozen=True)
class Snippet:
    """Text to paste, and into what."""

    engine: str
    text: str
    note: str = ""


def snippets(config: CatalogConfig, table: str) -> list[Snippet]:
    """For DuckDB, PyIceberg, Spark and Trino."""
    # Readers do without the branches of runs under way.
    uri = config.published().uri
    style = str(config.path_style).lower()
    host = config.s3_endpoint.partition("://")[2]
    namespace, _, name = table.rpartition(".")
    quoted = f'"{namespace}"."{name}"'
    tls = str(config.s3_endpoint.startswith("https:")).lower()
    return [
        Snippet(
            "DuckDB",
            f"""INSTALL iceberg; LOAD iceberg;
CREATE SECRET lake_s3 (TYPE s3, KEY_ID 'YOUR_KEY', SECRET 'YOUR_SECRET',
  ENDPOINT '{host}', USE_SSL {tls}, URL_STYLE '{"path" if config.path_style else "vhost"}', REGION '{config.s3_region}');
CREATE SECRET lake_catalog (TYPE iceberg, CLIENT_ID 'YOUR_KEY', CLIENT_SECRET 'YOUR_SECRET',
  OAUTH2_SERVER_URI '{config.token_uri}', OAUTH2_SCOPE 'catalog');
ATTACH '{config.warehouse}' AS lake (TYPE iceberg, ENDPOINT '{uri}', SECRET lake_catalog);
FROM lake.{quoted} LIMIT 10;""",
        ),
        Snippet(
            "PyIceberg",
            f"""from pyiceberg.catalog.rest import RestCatalog

lake = RestCatalog("lake", **{{
    "uri": "{uri}",
    "warehouse": "{config.warehouse}",
    "credential": "YOUR_KEY:YOUR_SECRET",
    "scope": "catalog",
    "oauth2-server-uri": "{config.token_uri}",
    "s3.endpoint": "{config.s3_endpoint}",
    "s3.region": "{config.s3_region}",
    "s3.access-key-id": "YOUR_KEY",
    "s3.secret-access-key": "YOUR_SECRET",
}})
lake.load_table("{table}").scan(limit=10).to_arrow()""",
        ),
        Snippet(
            "Spark",
            f"""pyspark --packages org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.11.0,org.apache.iceberg:iceberg-aws-bundle:1.11.0 \\
  --conf spark.sql.catalog.lake=org.apache.iceberg.spark.SparkCatalog \\
  --conf spark.sql.catalog.lake.type=rest \\
  --conf spark.sql.catalog.lake.uri={uri} \\
  --conf spark.sql.catalog.lake.warehouse={config.warehouse} \\
  --conf spark.sql.catalog.lake.credential=YOUR_KEY:YOUR_SECRET \\
  --conf spark.sql.catalog.lake.scope=catalog \\
  --conf spark.sql.catalog.lake.oauth2-server-uri={config.token_uri} \\
  --conf spark.sql.catalog.lake.io-impl=org.apache.iceberg.aws.s3.S3FileIO \\
  --conf spark.sql.catalog.lake.s3.endpoint={config.s3_endpoint} \\
  --conf spark.sql.catalog.lake.s3.path-style-access={style} \\
  --conf spark.sql.catalog.lake.s3.access-key-id=YOUR_KEY \\
  --conf spark.sql.catalog.lake.s3.secret-access-key=YOUR_SECRET \\
  --conf spark.sql.catalog.lake.client.region={config.s3_region}

spark.table("lake.{namespace}.{name}").show(10)""",
        ),
        Snippet(
            "Trino",
            f"""# etc/catalog/lake.properties
connector.name=iceberg
iceberg.catalog.type=rest
iceberg.rest-catalog.uri={uri}
iceberg.rest-catalog.warehouse={config.warehouse}
iceberg.rest-catalog.security=OAUTH2
iceberg.rest-catalog.oauth2.credential=${{ENV:LAKE_KEY}}:${{ENV:LAKE_SECRET}}
iceberg.rest-catalog.oauth2.scope=catalog
iceberg.rest-catalog.oauth2.server-uri={config.token_uri}
fs.native-s3.enabled=true
s3.endpoint={config.s3_endpoint}
s3.region={config.s3_region}
s3.path-style-access={style}
s3.aws-access-key=${{ENV:LAKE_KEY}}
s3.aws-secret-key=${{ENV:LAKE_SECRET}}

-- then, in Trino
SELECT * FROM lake.{quoted} LIMIT 10;""",
        ),
    ]
