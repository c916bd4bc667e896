"""Iceberg tables behind the REST catalog: connect, describe, create, write and commit.

In the function of a `python` task, `catalog()` is the lake:

    from forebay.lake import catalog

    def count() -> int:
        return catalog().load_table("flights.daily_delays").scan().count()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.catalog.rest import RestCatalog

    from forebay.lake.connection import CatalogConfig

_current: CatalogConfig | None = None


def use(config: CatalogConfig) -> None:
    """Makes this the lake of the process; called before the function of a `python` task."""
    global _current
    _current = config


def catalog() -> RestCatalog:
    """The lake as this task sees it: what it writes is on its run's branch until the run is published.

    Only tables that the task lists under `writes` can be written. Raises LakeError outside of a task.
    """
    from forebay.lake.connection import LakeError

    if _current is None:
        raise LakeError("forebay.lake.catalog() is for the function of a python task in a run.")
    return _current.pyiceberg()
