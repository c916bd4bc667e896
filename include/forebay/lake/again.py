"""A published run that a backfill does again: what it had written must be replaced, not doubled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebay.lake.branch import LANDED, MAIN, PARTITIONS, REPLAY, Json, ancestry, ref, snapshots, stamp
from forebay.lake.identity import Run, TaskTry
from forebay.lake.rest import Rest
from forebay.lake.retry import AlreadyPublished


def earlier(metadata: Json, run: Run) -> list[Json]:
    """What main has of the same Airflow run under other names, newest first."""
    return [
        each
        for each in ancestry(snapshots(metadata), ref(metadata, MAIN))
        if stamp(each, "job") == run.job
        and stamp(each, "run") != run.run
        and stamp(each, "run").partition("#")[0] == run.airflow
    ]


def appended(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of these snapshots only added rows, so that doing the same again would add them twice.

    Landed files are not landed twice, and what replaces rows says so in its summary.
    """
    summaries = [each.get("summary") or {} for each in found]
    return any(
        summary.get("operation") == "append"
        and summary.get(REPLAY) not in ("no", PARTITIONS)
        and LANDED not in summary
        for summary in summaries
    )


def refuse_doubling(rest: Rest, who: TaskTry, appends: bool) -> None:
    """Raises AlreadyPublished where rows that this run published once would be there twice.

    `appends` says that the task adds rows now, whatever it did then.
    """
    for table, metadata in rest.tables(who.writes).items():
        found = earlier(metadata, who)
        if found and (appends or appended(found)):
            raise AlreadyPublished(
                f"{table} has rows that {who.airflow} published before and that are added to, not replaced: doing it "
                "again would write them twice. Undo that run first with forebay rollback "
                f"{who.job}/{stamp(found[0], 'run')}, or let the task replace what it writes (mode: "
                "overwrite_partitions or merge)"
            )
