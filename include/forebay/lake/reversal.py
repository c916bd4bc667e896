"""What a publish did to a table: the record it leaves there, and the change that takes it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forebay.lake.branch import (
    MAIN,
    PUBLISHED_PROPERTY,
    RESHAPED_PROPERTY,
    Branch,
    Json,
    Shape,
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

KEPT = 20
"""How many of the last changes of shape and properties, and of the last roll backs, a table keeps."""


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
    form: bool = False
    """Whether it put files together and did nothing else."""

    @property
    def words(self) -> str:
        """What it did to the table's rows."""
        if self.form:
            return "its files, with the rows as they were"
        return f"{self.added:,} rows added, {self.removed:,} removed"


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


def broke_off(metadata: Json, run: Run, branches: Mapping[str, Branch]) -> bool:
    """Whether this table was published in one commit with tables that are still open; also where nobody knows."""
    record = next(iter(records(metadata, PUBLISHED_PROPERTY)), {})
    together = record.get("together")
    if (record.get("job"), record.get("run")) != (run.job, run.run) or not isinstance(together, list):
        return True
    return not branches.keys().isdisjoint(map(str, together))


def made_by(snapshot: Mapping[str, Any], run: Run) -> bool:
    """Whether a snapshot is part of a run; records about it are not."""
    made = (stamp(snapshot, "job"), stamp(snapshot, "run"))
    return made == (run.job, run.run) and not stamp(snapshot, RECORD)


def result(
    table: str, head: int | None, base: int | None, line: Sequence[Json], replayed: bool, again: bool = False
) -> Published:
    # Files that were put together have the rows of those that went.
    summaries = [
        summary for each in line if (summary := each.get("summary") or {}).get("operation") != "replace"
    ]

    def total(name: str) -> int:
        return sum(whole(summary.get(name)) or 0 for summary in summaries)

    form = bool(line) and not summaries
    return Published(
        table, head, base, total("added-records"), total("deleted-records"), replayed, again, form
    )


def published_record(metadata: Json) -> Json | None:
    """What the last publish left in the table's properties, None where main moved since."""
    record = next(iter(records(metadata, PUBLISHED_PROPERTY)), None)
    return record if record is not None and record["head"] == ref(metadata, MAIN) else None


def reshaped(metadata: Json, branch: Branch, run: Run, head: int | None) -> dict[str, str]:
    """The property that keeps what a publish changed besides rows, for the way back; nothing where it is rows alone."""
    present = metadata.get("properties") or {}
    wanted: dict[str, str | None] = {**branch.properties, **dict.fromkeys(branch.removed)}
    properties = {
        name: [present.get(name), value] for name, value in wanted.items() if present.get(name) != value
    }
    old = new = Shape.of(metadata)
    if branch.shape is not None and branch.main_shape is not None and branch.shape != branch.main_shape:
        old, new = branch.main_shape, branch.shape
    if old == new and not properties:
        return {}
    change = {
        "job": run.job, "run": run.run, "head": head, "from": asdict(old), "to": asdict(new), "properties": properties,
    }  # fmt: skip
    return {
        RESHAPED_PROPERTY: json.dumps([change, *records(metadata, RESHAPED_PROPERTY)][:KEPT], sort_keys=True)
    }


def earlier(metadata: Json, changes: Sequence[Json]) -> tuple[dict[str, str | None], list[str]]:
    """What properties were before the newest changes, None for those that were not there; and those that stay.

    A property that somebody else has set since stays as it is.
    """
    was: dict[str, str | None] = {}
    left: dict[str, str | None] = {}
    for each in changes:
        for name, (before, after) in each.get("properties", {}).items():
            was[name] = before
            left.setdefault(name, after)
    present = metadata.get("properties") or {}
    stay = sorted(name for name, value in left.items() if present.get(name) != value)
    return {name: value for name, value in was.items() if name not in stay and value != left[name]}, stay


def way_back(
    metadata: Json, gone: set[int], runs: Sequence[Run]
) -> tuple[Shape | None, dict[str, str | None], list[Json] | None, str]:
    """Shape and properties before the oldest change that goes, if nobody else changed them since.

    With them what is left of RESHAPED_PROPERTY, None where it stays as it is, and what is to say of it.
    """
    kept = records(metadata, RESHAPED_PROPERTY)
    names = {(run.job, run.run) for run in runs}
    theirs = [
        number
        for number, each in enumerate(kept)
        if each["head"] in gone or (each["job"], each["run"]) in names
    ]
    if not theirs:
        return None, {}, None, ""
    going, notes = kept[: theirs[-1] + 1], []
    shape: Shape | None = None
    left: list[Json] | None = kept[theirs[-1] + 1 :]
    if changed := [each for each in going if each["from"] != each["to"]]:
        if Shape(**changed[0]["to"]) != Shape.of(metadata):
            notes.append("its columns, partitioning and sort order stay: somebody changed them since")
            left = None
        else:
            shape = Shape(**changed[-1]["from"])
            notes.append("columns, partitioning and sort order go back")
    properties, stay = earlier(metadata, going)
    if properties:
        notes.append(f"properties go back: {', '.join(sorted(properties))}")
    if stay:
        notes.append(f"properties stay, as somebody changed them since: {', '.join(stay)}")
    return shape, properties, left, "; ".join(notes)


def set_back(properties: Mapping[str, str | None]) -> list[Json]:
    """Updates that make properties what they were."""
    updates: list[Json] = []
    if values := {name: value for name, value in properties.items() if value is not None}:
        updates.append({"action": "set-properties", "updates": values})
    if gone := [name for name, value in properties.items() if value is None]:
        updates.append({"action": "remove-properties", "removals": gone})
    return updates


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
    changes = records(metadata, RESHAPED_PROPERTY)
    if changes and (changes[0]["job"], changes[0]["run"]) == (run.job, run.run):
        kept[RESHAPED_PROPERTY] = json.dumps(changes[1:], sort_keys=True)
        updates += set_back(earlier(metadata, changes[:1])[0])
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
