"""What a publish did to a table: the record it leaves there, and the change that takes it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.lake.branch import (
    MAIN,
    PUBLISHED_PROPERTY,
    RESHAPED_PROPERTY,
    Branch,
    Json,
    ancestry,
    on_main_before,
    records,
    ref,
    snapshots,
    stamp,
    whole,
)
from forebay.lake.identity import RECORD, Run
from forebay.lake.rest import Change


@dataclass(frozen=True)
class Published:
    """What publishing did to one table."""

    table: str
    snapshot_id: int | None
    """The run's newest snapshot on main."""
    base: int | None
    added: int = 0
    removed: int = 0
    """Rows, as the snapshots' writers say."""
    replayed: bool = False
    """Whether the rows were repeated on top of what another writer had added meanwhile."""
    again: bool = False
    """Whether it had been published before."""


def published(table: str, metadata: Json, run: Run) -> Published | None:
    """What the run has on main already."""
    known = snapshots(metadata)
    record = published_record(metadata)
    if record is not None and (record["job"], record["run"]) == (run.job, run.run):
        line = list(ancestry(known, record["head"], record["base"]))
        return result(table, record["head"], record["base"], line, False, again=True)
    line = [each for each in ancestry(known, ref(metadata, MAIN)) if made_by(each, run)]
    line = line or [each for each in on_main_before(metadata) if made_by(each, run)]
    if not line:
        return None
    parent = line[-1].get("parent-snapshot-id")
    return result(table, int(line[0]["snapshot-id"]), parent, line, False, again=True)


def made_by(snapshot: Mapping[str, Any], run: Run) -> bool:
    """Whether a snapshot is part of a run; records about it are not."""
    made = (stamp(snapshot, "job"), stamp(snapshot, "run"))
    return made == (run.job, run.run) and not stamp(snapshot, RECORD)


def result(
    table: str, head: int | None, base: int | None, line: Sequence[Json], replayed: bool, again: bool = False
) -> Published:
    def total(name: str) -> int:
        return sum(whole((each.get("summary") or {}).get(name)) or 0 for each in line)

    return Published(table, head, base, total("added-records"), total("deleted-records"), replayed, again)


def published_record(metadata: Json) -> Json | None:
    """What the last publish left in the table's properties, None where main moved since."""
    record = next(iter(records(metadata, PUBLISHED_PROPERTY)), None)
    return record if record is not None and record["head"] == ref(metadata, MAIN) else None


def reversal(table: str, metadata: Json, record: Json, run: Run) -> Change:
    """Main as it was before a publish, and the branch as it was."""
    text, head, base = str(record["branch"]), record["branch_head"], record["base"]
    name = run.branch
    branch = Branch.find({**metadata, "properties": {f"forebay.branch.{name}": text}}, name)
    assert branch is not None
    updates: list[Json] = [
        {"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": base}
        if base is not None
        else {"action": "remove-snapshot-ref", "ref-name": MAIN}
    ]
    if head is not None:
        updates.append(
            {"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": head}
        )
    if branch.main_shape is not None and branch.main_shape != branch.shape:
        updates += [
            {"action": "set-current-schema", "schema-id": branch.main_shape.schema},
            {"action": "set-default-spec", "spec-id": branch.main_shape.spec},
            {"action": "set-default-sort-order", "sort-order-id": branch.main_shape.order},
        ]
    kept = {branch.key: text}
    reshaped = records(metadata, RESHAPED_PROPERTY)
    if reshaped and (reshaped[0]["job"], reshaped[0]["run"]) == (run.job, run.run):
        kept[RESHAPED_PROPERTY] = json.dumps(reshaped[1:], sort_keys=True)
    updates += [
        {"action": "remove-properties", "removals": [PUBLISHED_PROPERTY]},
        {"action": "set-properties", "updates": kept},
    ]
    return Change(table, at_refs(metadata, {MAIN: ref(metadata, MAIN), name: None}), updates)


def at_refs(metadata: Json, refs: Mapping[str, int | None]) -> list[Json]:
    """Requirements: the same table, and its refs where they were seen."""
    return [
        {"type": "assert-table-uuid", "uuid": metadata["table-uuid"]},
        *({"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": at} for name, at in refs.items()),
    ]
