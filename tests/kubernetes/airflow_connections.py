"""The connections of a platform's lake, as variables of Airflow's environment."""

from __future__ import annotations

import json
from typing import Any

from forebay.lake.connection import CatalogConfig

DUCKDB = {"conn_type": "duckdb", "extra": {"catalog": "lake_catalog", "memory_limit": "1GB", "threads": 2}}


def of_lake(config: CatalogConfig, lens: str, **more: dict[str, Any]) -> dict[str, str]:
    """As in production the connection decides the engine, and no job: SQL is DuckDB's, unless `more` says otherwise."""
    made = {
        "lake_catalog": {
            "conn_type": "iceberg", "host": config.uri, "login": config.access_key, "password": config.secret_key,
            "extra": {"warehouse": config.warehouse, "s3.endpoint": config.s3_endpoint, "lens": lens},
        },
        "lake_s3": {
            "conn_type": "aws", "login": config.access_key, "password": config.secret_key,
            "extra": {"endpoint_url": config.s3_endpoint, "region_name": config.s3_region},
        },
        "lake_sql": DUCKDB,
        **more,
    }  # fmt: skip
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(each) for name, each in made.items()}
