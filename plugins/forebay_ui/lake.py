"""The lake as the console reaches it: through the connection `lake_catalog`, like the jobs do."""

import threading
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module

from airflow.models.connection import Connection

from forebay.lake.built_on import Lake as Whole
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.history import every
from forebay.lake.identity import Run
from forebay.lake.index import Index
from forebay.lake.rest import Rest
from forebay.lake.state import UNDER_WAY

CATALOG = "lake_catalog"


def connection(conn_id: str, team: str | None = None) -> Connection | None:
    """An Airflow connection, from wherever Airflow keeps it; None where there is none of that name.

    One of a team is found with that `team` alone: name it only for somebody who may see it.
    """
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

    try:
        return Connection.get_connection_from_secrets(conn_id, team_name=team)
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
    return Index(lake, published)


def published(since: float) -> list[str]:
    """Tables that a run has published since a moment: Airflow keeps an event of each."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    asked = (
        select(AssetModel.name)
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .where(AssetEvent.timestamp >= datetime.fromtimestamp(since, UTC))
        .distinct()
    )
    with create_session() as session:
        return list(session.scalars(asked))


def at_work() -> list[Run]:
    """Every run that has not ended, also of workspaces that a visitor may not see."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    asked = select(DagRun.dag_id, DagRun.run_id, DagRun.conf).where(DagRun.state.in_(UNDER_WAY))
    with create_session() as session:
        return [Run.named(job, run, conf) for job, run, conf in session.execute(asked)]


def whole(rest: Rest) -> Whole:
    """All tables as they are now, and the runs that are at work: what a roll back looks at."""
    names = rest.all_names()
    return Whole(every(rest, names), at_work())


def _import() -> None:
    for name in ("pyiceberg.catalog.rest", "pyiceberg.io.pyarrow", "duckdb"):
        import_module(name)
