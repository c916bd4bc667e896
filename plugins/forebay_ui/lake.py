"""The lake as the console reaches it: through the connection `lake_catalog`, like the jobs do."""

import threading
from functools import lru_cache
from importlib import import_module

from airflow.models.connection import Connection

from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.index import Index

CATALOG = "lake_catalog"


def connection(conn_id: str) -> Connection | None:
    """An Airflow connection, from wherever Airflow keeps it; None where there is none of that name."""
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

    try:
        return Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return None


def lake() -> CatalogConfig:
    """Raises LakeError where the connection is missing or incomplete."""
    found = connection(CATALOG)
    if found is None:
        raise LakeError(
            f"Airflow has no connection '{CATALOG}'. Make one of type iceberg, or run `forebay up`."
        )
    return CatalogConfig.from_connection(found.host, found.login, found.password, found.extra_dejson)


@lru_cache(maxsize=1)
def index() -> Index:
    """The index of this process. The first to ask also sets off what the pages with rows import."""
    threading.Thread(target=_import, name="forebay-imports", daemon=True).start()
    return Index(lake)


def _import() -> None:
    for name in ("pyiceberg.catalog.rest", "pyiceberg.io.pyarrow", "duckdb"):
        import_module(name)
