"""A run's branch of one table, read from the table's metadata document as the REST catalog gives it.

The head is an Iceberg branch. What Iceberg keeps per table and not per branch (which schema, partitioning, sort
order and properties are current) and where the branch began is kept in one table property beside it, written in
the commit that forks the branch and removed in the commit that publishes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from forebay.lake.identity import STAMP

Json = dict[str, Any]
MAIN = "main"
BRANCH_PROPERTY = f"{STAMP}branch."
PUBLISHED_PROPERTY = f"{STAMP}published"
RESHAPED_PROPERTY = f"{STAMP}reshaped"
"""A table's property: the last publishes that changed its shape or its properties, newest first, as a JSON list of job,
run, head, from, to and properties, which has of each the value before and after; null stands for none."""
ROLLED_BACK_PROPERTY = f"{STAMP}rolled-back"
"""A table's property: the last roll backs, newest first, as a JSON list of job, run, head, base, to, at, with."""
REPLAY = f"{STAMP}replay"
"""In a snapshot's summary: `no` where its rows depend on what the table held, though it only appends; `partitions`
where it replaced partitions whole and looked at nothing outside of them; `unsure` where the lens cannot tell whether an
append depends on what was there; `yes` where the writer says that it does not."""
PARTITIONS, UNSURE = "partitions", "unsure"
ONLY_BRANCH = "x-forebay-only-branch"
"""Header of a request to the lens's /main that drops a table if nobody has rows in it but this branch."""
LANDED = f"{STAMP}ingest.files"
"""In a snapshot's summary: the files whose rows it brought, as a JSON list."""
NO_ORDER = 0

# Runs on other branches of a table take its sequence numbers too, so clients that repeat a commit must do so more
# often than the four times that are their default.
_PATIENCE = {
    "commit.retry.num-retries": "30",
    "commit.retry.min-wait-ms": "10",
    "commit.retry.max-wait-ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table looks like apart from its rows: ids of schema, partition spec and sort order."""

    schema: int
    spec: int
    order: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Shape:
        return cls(
            int(metadata.get("current-schema-id", 0)),
            int(metadata.get("default-spec-id", 0)),
            int(metadata.get("default-sort-order-id", NO_ORDER)),
        )

    @classmethod
    def told(cls, ids: Any) -> Shape:
        """A shape as it is kept in a property. Raises ValueError, KeyError or TypeError for what is none."""
        if not isinstance(ids, dict) or any(type(each) is not int for each in ids.values()):
            raise ValueError("no shape")
        return cls(ids["schema"], ids["spec"], ids["order"])


@dataclass(frozen=True, slots=True)
class Branch:
    """A run's branch of a table. `head` is None while the table is empty on it."""

    name: str
    base: int | None
    """The snapshot of main it began at; None where the table had none."""
    head: int | None
    shape: Shape | None = None
    """None for a table that the run created: its own shape is the branch's, for main has no rows yet."""
    main_shape: Shape | None = None
    """Main's shape when the branch began."""
    created_by: str = ""
    """`task/try` that created the table in this run; empty where it was there before."""
    properties: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{BRANCH_PROPERTY}{self.name}"

    def text(self) -> str:
        """The value of the table property; the head is not in it."""
        values = asdict(self)
        del values["name"], values["head"]
        return json.dumps(values, separators=(",", ":"), sort_keys=True)

    @classmethod
    def find(cls, metadata: Mapping[str, Any], name: str) -> Branch | None:
        """The branch of this name, None where the table has none."""
        text = (metadata.get("properties") or {}).get(f"{BRANCH_PROPERTY}{name}")
        return None if text is None else cls._read(metadata, name, str(text))

    @classmethod
    def all(cls, metadata: Mapping[str, Any]) -> list[Branch]:
        """Every run's branch of a table."""
        read = (
            cls._read(metadata, name.removeprefix(BRANCH_PROPERTY), str(text))
            for name, text in sorted((metadata.get("properties") or {}).items())
            if name.startswith(BRANCH_PROPERTY)
        )
        return [branch for branch in read if branch is not None]

    @classmethod
    def _read(cls, metadata: Mapping[str, Any], name: str, text: str) -> Branch | None:
        """None for a record that the lens did not write: others can set a table's properties too."""
        try:
            values = json.loads(text)
            base, created_by, properties = values["base"], values["created_by"], values["properties"]
            if not (base is None or type(base) is int) or not isinstance(created_by, str):
                return None
            return cls(
                name=name,
                head=ref(metadata, name),
                base=base,
                shape=Shape.told(values["shape"]) if values["shape"] else None,
                main_shape=Shape.told(values["main_shape"]) if values["main_shape"] else None,
                created_by=created_by,
                properties={str(key): str(value) for key, value in properties.items()},
                removed=tuple(map(str, values["removed"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @classmethod
    def fork(cls, metadata: Mapping[str, Any], name: str, base: int | None) -> Branch:
        """A new branch that begins at a snapshot of main."""
        shape = Shape.of(metadata)
        return cls(name, base, base, shape, shape)

    def with_shape(self, **ids: int) -> Branch:
        assert self.shape is not None
        return replace(self, shape=replace(self.shape, **ids))

    def with_properties(self, updates: Mapping[str, str], removals: tuple[str, ...] = ()) -> Branch:
        kept = {name: value for name, value in self.properties.items() if name not in removals}
        removed = (set(self.removed) | set(removals)) - updates.keys()
        return replace(self, properties={**kept, **updates}, removed=tuple(sorted(removed)))


def ref(metadata: Mapping[str, Any], name: str) -> int | None:
    """The snapshot a branch or tag points to."""
    found = (metadata.get("refs") or {}).get(name)
    if found is None:
        # Format version 1 and some catalogs leave main out of the refs.
        current = metadata.get("current-snapshot-id") if name == MAIN else None
        return None if current in (None, -1) else int(current)
    return int(found["snapshot-id"])


def snapshots(metadata: Mapping[str, Any]) -> dict[int, Json]:
    """All snapshots by id."""
    return {int(snapshot["snapshot-id"]): snapshot for snapshot in metadata.get("snapshots") or ()}


def ancestry(known: Mapping[int, Json], head: int | None, stop: int | None = None) -> Iterator[Json]:
    """Snapshots from `head` back to its first, newest first; `stop` and what is before it are left out."""
    seen: set[int] = set()
    while head is not None and head != stop and head in known and head not in seen:
        seen.add(head)
        yield known[head]
        parent = known[head].get("parent-snapshot-id")
        head = None if parent is None else int(parent)


def whole(text: object) -> int | None:
    """A number as a summary or a stamp writes it; None for what is none, whoever wrote it."""
    return int(str(text)) if _WHOLE.fullmatch(str(text)) else None


def moment(seconds: float) -> str:
    """A moment since 1970 to the second, in UTC; a table may name one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "at no known time"


def records(metadata: Mapping[str, Any], name: str) -> list[Json]:
    """What one of the properties above keeps of publishes and roll backs. What is no record of ours is left out."""
    text = (metadata.get("properties") or {}).get(name)
    try:
        found = json.loads(text) if text else []
    except (ValueError, TypeError, RecursionError):
        return []
    return [each for each in (found if isinstance(found, list) else [found]) if _is_record(each, name)]


def _is_record(each: Any, name: str) -> bool:
    try:
        known = all(isinstance(each[key], str) for key in ("job", "run"))
        known &= all(each[key] is None or type(each[key]) is int for key in _NUMBERS[name])
        if name == RESHAPED_PROPERTY:
            Shape.told(each["from"]), Shape.told(each["to"])
            for was, became in each.get("properties", {}).values():
                known &= all(value is None or isinstance(value, str) for value in (was, became))
        if name == ROLLED_BACK_PROPERTY:
            datetime.fromisoformat(each["at"]).timestamp()
        return known and (name != PUBLISHED_PROPERTY or isinstance(each["branch"], str))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False


_WHOLE = re.compile(r"-?[0-9]{1,19}")
_NUMBERS = {
    PUBLISHED_PROPERTY: ("head", "base", "branch_head"), RESHAPED_PROPERTY: ("head",),
    ROLLED_BACK_PROPERTY: ("head", "base", "to"),
}  # fmt: skip


def stamp(snapshot: Mapping[str, Any], name: str) -> str:
    """What the lens wrote into a snapshot's summary under `forebay.<name>`; empty where it did not."""
    return str((snapshot.get("summary") or {}).get(f"{STAMP}{name}") or "")


def roll_backs(metadata: Mapping[str, Any]) -> list[Json]:
    """The last roll backs of the table, newest first."""
    return records(metadata, ROLLED_BACK_PROPERTY)


def on_main_before(metadata: Mapping[str, Any]) -> list[Json]:
    """Snapshots that main no longer leads to, because the table was written anew on top of them; newest first.

    Those that a roll back took out, or that a publish put back itself, are not among them: main went back to what
    was there before, or a note tells of it.
    """
    known = snapshots(metadata)
    log = [
        number for each in metadata.get("snapshot-log") or () if (number := int(each["snapshot-id"])) in known
    ]
    there = {int(each["snapshot-id"]) for each in ancestry(known, ref(metadata, MAIN))}
    noted = {(each["job"], each["run"]) for each in roll_backs(metadata)}
    found: dict[int, Json] = {}
    if ref(metadata, MAIN) is None:
        return []
    for place in reversed(range(len(log))):
        if log[place] in there or log[place] in found:
            continue
        line = list(ancestry(known, log[place]))
        # One that replaced the table has no parent, but knows where its branch began.
        began = whole(stamp(line[-1], "base"))
        below = {int(each["snapshot-id"]) for each in line[1:]} | ({began} if began is not None else set())
        if below & set(log[place + 1 :]):
            continue
        for each in line:
            if (stamp(each, "job"), stamp(each, "run")) not in noted:
                found.setdefault(int(each["snapshot-id"]), each)
    return [each for number, each in found.items() if number not in there]


def show(metadata: Mapping[str, Any], name: str) -> Json:
    """The document as one who is on a run's branch sees it: that branch is `main`, others are not there.

    Without such a branch it is main as it is. Snapshots that no shown ref leads to are left out.
    """
    branch = Branch.find(metadata, name)
    shown = dict(metadata)
    refs = {
        ref_name: value
        for ref_name, value in (metadata.get("refs") or {}).items()
        if value.get("type") == "tag" or (ref_name == MAIN and branch is None)
    }
    head = ref(metadata, MAIN)
    properties = dict(metadata.get("properties") or {})
    if name:
        # Whatever anybody's commits left: no reader needs it, and PyIceberg copies it a dozen times in each of its own.
        shown["metadata-log"] = []
    if branch is not None:
        head = branch.head
        if branch.shape is not None:
            shown["current-schema-id"] = branch.shape.schema
            shown["default-spec-id"] = branch.shape.spec
            shown["default-sort-order-id"] = branch.shape.order
        properties = {key: value for key, value in properties.items() if key not in branch.removed}
        properties.update(branch.properties)
        if head is not None:
            refs[MAIN] = {"type": "branch", "snapshot-id": head}
    patient = _PATIENCE if name else {}
    shown["properties"] = patient | {
        key: value for key, value in properties.items() if not key.startswith(STAMP)
    }
    shown["refs"] = refs
    known = snapshots(metadata)
    line = list(ancestry(known, head))
    visible = {int(snapshot["snapshot-id"]) for snapshot in line}
    for value in refs.values():
        if int(value["snapshot-id"]) not in visible:
            visible.update(int(s["snapshot-id"]) for s in ancestry(known, int(value["snapshot-id"])))
    if head is None:
        # DuckDB takes the last snapshot there is where none is current: a roll back to no rows would not be one.
        visible, shown["refs"], shown["snapshot-log"] = set(), {}, []
    elif branch is None:
        # Main's history may hold what a roll back took out.
        visible.update(int(entry["snapshot-id"]) for entry in metadata.get("snapshot-log") or ())
    else:
        shown["snapshot-log"] = [
            {"snapshot-id": int(s["snapshot-id"]), "timestamp-ms": s["timestamp-ms"]} for s in reversed(line)
        ]
    shown["snapshots"] = [known[number] for number in known if number in visible]
    # Statistics of snapshots that are not shown would point nowhere.
    for part in ("statistics", "partition-statistics"):
        if part in shown:
            shown[part] = [each for each in shown[part] or () if int(each["snapshot-id"]) in visible]
    if head is None:
        shown.pop("current-snapshot-id", None)
    else:
        shown["current-snapshot-id"] = head
    return shown
