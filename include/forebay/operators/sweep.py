"""What Forebay's own dag does each night: drops the branches of runs that ended long ago without publishing."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from forebay.errors import ForebayError

log = logging.getLogger(__name__)

# No dot in it: it is no job of a workspace.
DAG_ID = "forebay_sweep_branches"
TASK = "sweep"
CATALOG = "lake_catalog"
_NAMED = 10


def sweep_lake(ti: Any) -> dict[str, int]:
    """Looks at every table of the lake; how many branches were dropped.

    A branch stays as long as its run's workspace said when it ran, so that it needs neither workspace nor job to be
    there still. A table that cannot be swept keeps no other from it; in the end they are named.
    """
    from forebay.lake.connection import CatalogConfig
    from forebay.lake.history import sweep
    from forebay.lake.rest import Rest
    from forebay.operators.base import ForebayOperator
    from forebay.operators.tidy import at_work
    from forebay.spec.workspace import WorkspaceSpec

    found = ForebayOperator.connection(CATALOG)
    config = CatalogConfig.from_connection(found.host, found.login, found.password, found.extra_dejson)
    usual, now = WorkspaceSpec(owner="nobody").keep_failed_runs, datetime.now(UTC)
    dropped, failed = 0, []
    with Rest(config.main()) as rest:
        tables = rest.all_names()
        for table in tables:
            try:
                gone = sweep(rest, [table], usual, now, lambda run: at_work(ti, run), own=True)
            except Exception as error:  # noqa: BLE001  the next table may be all right
                failed.append(table)
                log.warning("%s: %s", table, config.redact(str(error) or type(error).__name__))
                continue
            dropped += len(gone)
            for _, run in gone:
                log.info("%s: the branch of %s is older than keep_failed_runs: dropped", table, run)
    log.info("%s tables looked at, %s branches dropped", f"{len(tables):,}", f"{dropped:,}")
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise ForebayError(
            f"old branches of {', '.join(failed[:_NAMED])}{more} were not dropped: the task's log says why. It is tried "
            "again each night; forebay discard --older-than 7d does it now"
        )
    return {"tables": len(tables), "branches": dropped}
