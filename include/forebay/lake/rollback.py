"""Take a published run off main again: all its tables in one commit, with what others built on it or not at all.

Like publishing, it remembers nothing outside the catalog: what is done is seen on the tables, so that it can be
repeated after a crash at any point.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from forebay.lake.branch import (
    MAIN,
    PUBLISHED_PROPERTY,
    RESHAPED_PROPERTY,
    ROLLED_BACK_PROPERTY,
    Branch,
    Json,
    ref,
    roll_backs,
)
from forebay.lake.built_on import NOBODY, Lake, Plan, TablePlan, again
from forebay.lake.connection import LakeError
from forebay.lake.history import on_main
from forebay.lake.identity import Run
from forebay.lake.publish import ATTEMPTS, commit_all, without
from forebay.lake.rest import Change, CommitConflict, CommitUnknown, Rest
from forebay.lake.reversal import KEPT, set_back


class BuiltOn(LakeError):
    """Others built on a run, so that it is not taken out alone."""

    def __init__(self, found: Plan) -> None:
        self.plan = found
        listed = "".join(f"\n  {each}" for each in found.dependents)
        super().__init__(
            f"Nothing was rolled back: later work builds on {found.run.run}.{listed}\n"
            f"See what would go with it: forebay rollback {found.run.job}/{found.run.run} --cascade"
        )


def roll_back(rest: Rest, read: Callable[[], Lake], wanted: Plan, *, cascade: bool = False) -> Plan:
    """Carries a plan out; `read` looks at the lake anew. What was done.

    Raises BuiltOn where the plan has dependents and `cascade` was not asked for, and LakeError where the lake
    is not any more as the plan says.
    """
    if wanted.dependents and not cascade:
        raise BuiltOn(wanted)
    if wanted.running:
        raise LakeError(
            f"Nothing was rolled back: {', '.join(wanted.running)} still runs. Wait for it, or stop it."
        )
    last: LakeError | None = None
    lake: Lake | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.01, min(0.05 * attempt, 0.5)))
        lake = read()
        now = again(lake, wanted)
        if not now.tables and not now.branches:
            return wanted if attempt else now
        if strange := now.taken - wanted.taken:
            raise LakeError(
                f"Nothing was rolled back: meanwhile {', '.join(sorted(strange))} built on {wanted.run.run or 'it'}. "
                f"Look at the plan again{_command(wanted)}"
            )
        try:
            commit_all(rest, changes(lake, now))
            drop_empty(rest, lake, now)
            return now
        except (CommitConflict, CommitUnknown) as error:
            last = error
    raise LakeError(
        f"Rolling back {wanted.run.run or wanted.cause} met another writer {ATTEMPTS} times in a row. Run it again: what was done is "
        f"kept, the rest follows. Last answer: {last}"
    )


def _command(wanted: Plan) -> str:
    return f": forebay rollback {wanted.cause} --cascade" if wanted.to is None else "."


def changes(lake: Lake, found: Plan) -> list[Change]:
    """The commit of a plan. The run's own tables come last: while one is left, the plan can be found again."""
    tables = {table.table: table for table in found.tables}
    own = {table for table, each in tables.items() if found.run in each.runs or _itself(found, table)}
    names = sorted({*tables, *found.branches}, key=lambda name: (name in own, name))
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    return [_change(lake.documents[name], name, tables.get(name), found, moment) for name in names]


def _change(metadata: Json, name: str, table: TablePlan | None, found: Plan, moment: str) -> Change:
    requirements: list[Json] = [{"type": "assert-table-uuid", "uuid": metadata["table-uuid"]}]
    updates: list[Json] = []
    if table is not None:
        requirements.append({"type": "assert-ref-snapshot-id", "ref": MAIN, "snapshot-id": table.head})
        if table.base is None and table.head is not None:
            updates.append({"action": "remove-snapshot-ref", "ref-name": MAIN})
        elif table.base != table.head:
            updates.append(
                {"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": table.base}
            )
        if table.shape is not None:
            updates += [
                {"action": "set-current-schema", "schema-id": table.shape.schema},
                {"action": "set-default-spec", "spec-id": table.shape.spec},
                {"action": "set-default-sort-order", "sort-order-id": table.shape.order},
            ]
        updates += set_back(table.properties)
        if PUBLISHED_PROPERTY in metadata["properties"]:
            updates.append({"action": "remove-properties", "removals": [PUBLISHED_PROPERTY]})
        updates.append({"action": "set-properties", "updates": _notes(metadata, table, found, moment)})
    for branch in found.branches.get(name, ()):
        requirements.append(
            {"type": "assert-ref-snapshot-id", "ref": branch.name, "snapshot-id": branch.head}
        )
        updates += without(branch)
    return Change(name, requirements, updates)


def _notes(metadata: Json, table: TablePlan, found: Plan, moment: str) -> dict[str, str]:
    """The properties that tell of a roll back."""
    cause = found.cause
    told: list[Json] = []
    for run in table.runs:
        stay = on_main(metadata, run)
        assert stay is not None
        told.append(_note(run, stay.head, stay.base, table, moment, "" if run == found.run else cause))
    if table.others:
        own = found.run == NOBODY and _itself(found, table.table)
        told.append(_note(NOBODY, table.head, table.base, table, moment, "" if own else cause))
    notes = {ROLLED_BACK_PROPERTY: json.dumps([*told, *roll_backs(metadata)][:KEPT], sort_keys=True)}
    if table.reshaped is not None:
        notes[RESHAPED_PROPERTY] = json.dumps(table.reshaped, sort_keys=True)
    return notes


def _itself(found: Plan, table: str) -> bool:
    return found.to is not None and found.to[0] == table


def _note(run: Run, head: int | None, base: int | None, table: TablePlan, moment: str, cause: str) -> Json:
    note = {"job": run.job, "run": run.run, "head": head, "base": base, "to": table.base, "at": moment}
    return {**note, "with": cause} if cause else note


def drop_empty(rest: Rest, lake: Lake, done: Plan) -> None:
    """Drops tables that only a dropped branch had made, as discarding does."""
    for name in done.branches.keys() - {table.table for table in done.tables}:
        metadata, taken = lake.documents[name], done.branches[name]
        left = {branch.name for branch in Branch.all(metadata)} - {branch.name for branch in taken}
        if ref(metadata, MAIN) is None and not left and any(branch.created_by for branch in taken):
            # Another run may have begun to write it: then it stays.
            with suppress(CommitConflict):
                rest.drop(name, only="")
