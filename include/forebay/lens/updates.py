"""What requirements and updates of the Iceberg REST specification are about: pure helpers of the rewriting of commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forebay.lake.branch import LANDED, MAIN, REPLAY, Json
from forebay.lake.identity import STAMP


def may_say(name: str) -> bool:
    """Whether a client may put this into a snapshot's summary: Forebay's own writers and programs do."""
    return name in (REPLAY, LANDED) or name.startswith(f"{STAMP}quarantine.")


PASSED = ("assert-table-uuid", "assert-last-assigned-field-id", "assert-last-assigned-partition-id")
"""Requirements that hold for a branch as they do for main."""
OF_SHAPE = {
    "assert-current-schema-id": ("current-schema-id", "schema"),
    "assert-default-spec-id": ("default-spec-id", "spec"),
    "assert-default-sort-order-id": ("default-sort-order-id", "order"),
}
"""Requirements about the shape: where the id stands, and which part it is of."""
SHAPES = {
    "add-schema": ("schema", "schema-id", True),
    "set-current-schema": ("schema", "schema-id", False),
    "add-spec": ("spec", "spec-id", True),
    "set-default-spec": ("spec", "spec-id", False),
    "add-sort-order": ("order", "order-id", True),
    "set-default-sort-order": ("order", "sort-order-id", False),
}
"""Which part of the shape an update is about, where its id stands, and whether it adds one."""

FREE = frozenset(
    ("set-statistics", "remove-statistics", "set-partition-statistics", "remove-partition-statistics")
)
"""Updates about snapshots by their id, whoever's branch they are on."""
REPEATED = {"set-location": "location", "upgrade-format-version": "format-version"}
"""Said again by clients that replace a table; harmless where nothing changes."""
AT_CREATION = frozenset(("assign-uuid", "upgrade-format-version", "set-location"))
"""Updates that make a table."""


def begins_anew(commit: Mapping[str, Any]) -> bool:
    """Whether a commit that does not say what it adds to takes main away, or puts rows there that follow none."""
    updates = commit.get("updates") or ()
    roots = {
        each["snapshot"]["snapshot-id"]
        for each in updates
        if each.get("action") == "add-snapshot" and each["snapshot"].get("parent-snapshot-id") is None
    }
    return any(
        each.get("ref-name") == MAIN
        and (each.get("action") == "remove-snapshot-ref" or each.get("snapshot-id") in roots)
        for each in updates
    )


def by_id(listed: Any, name: str) -> dict[int, Json]:
    """Schemas, specs or orders by their number, which stands under `name`."""
    return {int(one[name]): one for one in listed or ()}


def content(one: Mapping[str, Any]) -> Json:
    """A schema, spec or order without its number, for comparison."""
    return {
        key: value
        for key, value in one.items()
        if key not in ("schema-id", "spec-id", "order-id")
        and not (key == "identifier-field-ids" and not value)
    }


def is_about_main(requirement: Mapping[str, Any]) -> bool:
    """Whether a requirement says where main is."""
    return requirement.get("type") == "assert-ref-snapshot-id" and requirement.get("ref") == MAIN


def assert_ref(name: str, snapshot: int | None) -> Json:
    """The requirement that a branch is at a snapshot; at None it must not be there."""
    return {"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": snapshot}


def set_ref(name: str, snapshot: int) -> Json:
    """The update that puts a branch at a snapshot."""
    return {"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": snapshot}
