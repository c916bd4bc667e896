"""Inputs as they were: a table shown at a snapshot, and the tags that keep such snapshots for a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from forebay.lake.branch import MAIN, Branch, Json, ancestry, ref, show, snapshots
from forebay.lake.connection import LakeError
from forebay.lake.history import Input, Made, on_main
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import ATTEMPTS
from forebay.lake.rest import Change, CommitConflict, CommitUnknown, Rest

TAG = "forebay_input_"
"""What tags of inputs begin with; the snapshot's id follows."""

# A tag is written anew only once it has lost this much of its time, so that busy tables are not tagged all day.
_SLACK = timedelta(days=1)


class SnapshotGone(LakeError):
    """A pinned snapshot is not there any more."""


def shown_to(metadata: Json, who: TaskTry, table: str) -> Json:
    """The table as a task sees it: its run's branch, else the snapshot it is pinned to, else main."""
    pin = who.pin(table)
    if pin is None or Branch.find(metadata, who.branch) is not None:
        return show(metadata, who.branch)
    return as_of(metadata, table, int(pin) if pin else None)


def as_of(metadata: Json, table: str, snapshot: int | None) -> Json:
    """The document as it was when `snapshot` was main's, with the columns of then. Raises SnapshotGone."""
    known = snapshots(metadata)
    if snapshot is not None and snapshot not in known:
        raise SnapshotGone(
            f"{table} has no snapshot {snapshot} any more: it expired (keep_inputs in workspace.yaml says how long "
            "inputs are kept). Run the job on today's tables: forebay rerun without --as-of"
        )
    past = dict(metadata)
    past["refs"] = {} if snapshot is None else {MAIN: {"type": "branch", "snapshot-id": snapshot}}
    past["snapshot-log"] = [
        {"snapshot-id": int(each["snapshot-id"]), "timestamp-ms": each["timestamp-ms"]}
        for each in reversed(list(ancestry(known, snapshot)))
    ]
    past.pop("current-snapshot-id", None)
    if snapshot is not None:
        past["current-snapshot-id"] = snapshot
        past["current-schema-id"] = known[snapshot].get("schema-id", metadata.get("current-schema-id"))
    return show(past, "")


def keep_inputs(
    rest: Rest, run: Run, published: Iterable[str], own: Sequence[str], keep: timedelta, now: datetime
) -> list[Input]:
    """Tags what a run read for the tables it published, so that it can be done again; which tags are new.

    Tables of the run itself (`own`) are left out: a new run makes them anew. Tags that have run out are taken away.
    """
    read: set[Input] = set()
    for metadata in rest.tables(list(published)).values():
        known, stay = snapshots(metadata), on_main(metadata, run)
        for number in stay.snapshots if stay else ():
            read.update(each for each in Made.of(known[number]).inputs if each.table not in own)
    tagged = []
    for table in sorted({each.table for each in read}):
        wanted = {each.snapshot for each in read if each.table == table and each.snapshot is not None}
        tagged += [Input(table, number) for number in _tag(rest, table, wanted, keep, now)]
    return tagged


def _tag(rest: Rest, table: str, wanted: set[int], keep: timedelta, now: datetime) -> list[int]:
    for _ in range(ATTEMPTS):
        metadata = rest.table(table)
        if metadata is None:
            return []
        known, refs, moment = snapshots(metadata), metadata.get("refs") or {}, int(now.timestamp() * 1000)
        requirements: list[Json] = [{"type": "assert-table-uuid", "uuid": metadata["table-uuid"]}]
        updates: list[Json] = []
        made = []
        for number in sorted(wanted & known.keys()):
            # Iceberg counts a tag's age from its snapshot, not from when it was made.
            age = moment - int(known[number]["timestamp-ms"])
            most = age + int(keep.total_seconds() * 1000)
            name = f"{TAG}{number}"
            if int((refs.get(name) or {}).get("max-ref-age-ms") or 0) >= most - _SLACK.total_seconds() * 1000:
                continue
            requirements.append(
                {"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": ref(metadata, name)}
            )
            updates.append(
                {"action": "set-snapshot-ref", "ref-name": name, "type": "tag", "snapshot-id": number,
                 "max-ref-age-ms": most}
            )  # fmt: skip
            made.append(number)
        for name, each in refs.items():
            number, most = int(each["snapshot-id"]), int(each.get("max-ref-age-ms") or 0)
            ours = name.startswith(TAG) and number not in wanted and number in known
            if ours and moment - int(known[number]["timestamp-ms"]) > most:
                updates.append({"action": "remove-snapshot-ref", "ref-name": name})
        if not updates:
            return []
        try:
            rest.commit([Change(table, requirements, updates)])
            return made
        except (CommitConflict, CommitUnknown):
            continue
    return []
