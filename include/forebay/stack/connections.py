"""The Airflow connections through which jobs reach the embedded stack."""

from __future__ import annotations

import json

from forebay.stack import trino, trino_access
from forebay.stack.layout import Stack


def connections(stack: Stack) -> list[dict[str, object]]:
    """Bodies for Airflow's connections API: catalog, object store, SQL engine and Spark."""
    access, secret, region = stack.secrets["access_key"], stack.secrets["secret_key"], "us-east-1"
    catalog = {
        "warehouse": "warehouse",
        "s3.endpoint": stack.url("s3"),
        "s3.region": region,
        "s3.path-style-access": "true",
        "lens": stack.url("lens"),
    }
    # Where Airflow's own S3 hook looks for the bucket.
    bucket = {"s3": {"bucket_name": "lake"}}
    store: dict[str, object] = {
        "endpoint_url": stack.url("s3"), "region_name": region, "service_config": bucket,
    }  # fmt: skip
    return [
        _connection("lake_catalog", "iceberg", "Iceberg REST catalog of the lake", catalog, stack.url("catalog"), access, secret),
        _connection(
            "lake_s3", "aws", "Object store of the lake (S3)", store, None, access, secret,
        ),
        _sql(stack),
        _connection(
            "lake_spark", "spark", "Spark of the lake: local here, Kubernetes in production",
            {"catalog": "lake_catalog", "driver_memory": "1g"}, "local[*]",
        ),
    ]  # fmt: skip


def _sql(stack: Stack) -> dict[str, object]:
    if "trino" not in stack.parts:
        return _connection(
            "lake_sql", "duckdb", "SQL engine of the lake: DuckDB here, Trino in production",
            {"catalog": "lake_catalog", "memory_limit": "1GB", "threads": 2},
        )  # fmt: skip
    # Trino itself fills these in, so that no secret is in its history of queries.
    access, secret = (f"${{ENV:{name}}}" for name in trino.secrets(stack))
    made = _connection(
        "lake_sql", "trino", "SQL engine of the lake: Trino, as in production",
        {
            "catalog": "lake_catalog", "access_key": access, "secret_key": secret,
            "http_scheme": "https", "verify": str(trino_access.certificate(stack)),
            # Queries of the SQL page: Trino's own access control lets this user read, and no more.
            "worksheet_user": trino_access.WORKSHEET, "worksheet_catalog": trino.WORKSHEET,
            "worksheet_password": stack.secrets["trino_worksheet_password"],
        },
        "127.0.0.1", trino_access.TASKS, stack.secrets["trino_password"],
    )  # fmt: skip
    return {**made, "port": stack.ports["trino"]}


def _connection(
    conn_id: str,
    conn_type: str,
    description: str,
    extra: dict[str, object] | dict[str, str],
    host: str | None = None,
    login: str | None = None,
    password: str | None = None,
) -> dict[str, object]:
    return {
        "connection_id": conn_id,
        "conn_type": conn_type,
        "description": description,
        "host": host,
        "login": login,
        "password": password,
        "extra": json.dumps(extra),
    }
