"""Before a new try of a task: the run's branches as they were before its earlier tries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from forebay.lake import replay
from forebay.lake.branch import MAIN, Branch, Json, ancestry, on_main_before, ref, snapshots, stamp, whole
from forebay.lake.connection import LakeError
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import ATTEMPTS, drop_branch
from forebay.lake.rest import Change, CommitConflict, CommitUnknown, Rest
from forebay.lake.reversal import at_refs

_AFTER_ALL = 1_000_000
"""A try later than any."""


class AlreadyPublished(LakeError):
    """What the task wrote in an earlier try is on main."""


def put_back(rest: Rest, who: TaskTry) -> list[str]:
    """Takes what earlier tries of this task wrote off the run's branches; the tables where there was something.

    Raises AlreadyPublished, and LakeError where another task has built on those rows in a way that cannot be
    repeated without them.
    """
    changed = []
    for table in who.writes:
        for _ in range(ATTEMPTS):
            metadata = rest.table(table)
            if metadata is None:
                break
            try:
                if _put_back(rest, who, table, metadata):
                    changed.append(table)
                break
            except (CommitConflict, CommitUnknown):
                continue
        else:
            raise LakeError(
                f"{table}: other writers came first {ATTEMPTS} times in a row. Run the task again."
            )
    return changed


def leave_out_failed(rest: Rest, run: Run, tables: Sequence[str], succeeded: set[str]) -> list[str]:
    """Takes what tasks wrote that did not succeed off the run's branches; the tables where there was something."""
    changed = []
    for table, metadata in rest.tables(tables).items():
        branch = Branch.find(metadata, run.branch)
        if branch is None:
            continue
        line = ancestry(snapshots(metadata), branch.head, branch.base)
        wrote = {stamp(each, "task") for each in line if stamp(each, "run") == run.run}
        if branch.created_by and not wrote:
            wrote = {branch.created_by.rpartition("/")[0]}
        for task in sorted(wrote - succeeded):
            after_all = TaskTry(job=run.job, run=run.run, task=task, number=_AFTER_ALL, writes=(table,))
            changed += put_back(rest, after_all)
    return changed


def _mine(snapshot: Json, who: TaskTry) -> bool:
    return (stamp(snapshot, "job"), stamp(snapshot, "run"), stamp(snapshot, "task")) == (
        who.job,
        who.run,
        who.task,
    )


def _put_back(rest: Rest, who: TaskTry, table: str, metadata: Json) -> bool:
    known = snapshots(metadata)
    branch = Branch.find(metadata, who.branch)
    if any(_mine(each, who) for each in [*ancestry(known, ref(metadata, MAIN)), *on_main_before(metadata)]):
        raise AlreadyPublished(
            f"{table} has been published by this run with the rows of {who.task}. Running the task again would "
            f"write them twice: start a new run, or undo this one first with forebay rollback {who.run}"
        )
    if branch is None:
        return False
    line = list(ancestry(known, branch.head, branch.base))[::-1]
    stale = [
        index
        for index, each in enumerate(line)
        if _mine(each, who) and (whole(stamp(each, "try")) or 0) < who.number
    ]
    creator, _, number = branch.created_by.rpartition("/")
    creates = creator == who.task and (whole(number) or 0) < who.number
    if not stale:
        if len(line) or not (creates or (not creator and branch.head == branch.base)):
            return False
        # Made, or given new columns, by a try that wrote no row.
        drop_branch(rest, table, metadata, branch)
        return True
    later = [each for each in line[stale[0] :] if not _mine(each, who)]
    if stale[0] == 0 and not later:
        if creator and not creates:
            # Another task of the run made the table: it stays, as that task left it.
            empty = {"action": "remove-snapshot-ref", "ref-name": branch.name}
            rest.commit([Change(table, at_refs(metadata, {branch.name: branch.head}), [empty])])
        else:
            drop_branch(rest, table, metadata, branch)
        return True
    _rebuild(rest, who, table, metadata, branch, line[: stale[0]], later)
    return True


def _rebuild(
    rest: Rest,
    who: TaskTry,
    table: str,
    metadata: Json,
    branch: Branch,
    before: Sequence[Json],
    later: Sequence[Json],
) -> None:
    """The branch with the rows of other tasks only: those before stay, those after are repeated."""
    if later and (why := replay.obstacle(later, [])):
        others = ", ".join(sorted({stamp(each, "task") for each in later}))
        raise LakeError(
            f"{table} was also written by {others} after an earlier try of {who.task}, and {why}, so the rows of "
            f"that try cannot be taken out alone. Clear {who.task} together with {others}, or let one task write "
            "the table"
        )
    head = int(before[-1]["snapshot-id"]) if before else branch.base
    updates: list[Json] = []
    if later:
        updates, head = replay.replayed(rest.config, table, later, head)
    if branch.shape is not None and before:
        schema = before[-1].get("schema-id", branch.shape.schema)
        branch = replace(branch, shape=replace(branch.shape, schema=int(schema)))
    assert head is not None
    assert branch.head is not None
    updates += [
        {"action": "set-snapshot-ref", "ref-name": branch.name, "type": "branch", "snapshot-id": head},
        {"action": "set-properties", "updates": {branch.key: branch.text()}},
    ]
    requirements = [
        {"type": "assert-table-uuid", "uuid": metadata["table-uuid"]},
        {"type": "assert-ref-snapshot-id", "ref": branch.name, "snapshot-id": branch.head},
    ]
    rest.commit([Change(table, requirements, updates)])
