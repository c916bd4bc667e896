"""A connection of Airflow's that a test gives: what operators look at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from forebay.lake.connection import CatalogConfig


def connection(fields: dict[str, Any]) -> SimpleNamespace:
    """These fields, and nothing in the others."""
    empty = dict.fromkeys(("host", "port", "login", "password"))
    return SimpleNamespace(**{"conn_type": "", "extra_dejson": {}, **empty, **fields})


def catalog_fields(config: CatalogConfig, lens: str) -> dict[str, Any]:
    """The connection of this catalog, with its lens."""
    login, password = config.credential
    return {
        "host": config.uri, "login": login, "password": password,
        "extra_dejson": {
            "warehouse": config.warehouse, "s3.endpoint": config.s3_endpoint, "lens": lens,
            "s3.access-key-id": config.access_key, "s3.secret-access-key": config.secret_key,
        },
    }  # fmt: skip
