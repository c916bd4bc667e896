"""Publish a run's branches: all its tables in one commit, or none. And the way back before that: discard.

Nothing is remembered outside the catalog, so that both can be repeated after a crash at any point: a table whose
main leads to the run's head is done, one whose main is still the base is to do, anything else is a conflict.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from forebay.lake import replay
from forebay.lake.branch import (
    MAIN,
    PUBLISHED_PROPERTY,
    Branch,
    Json,
    Shape,
    ancestry,
    moment,
    ref,
    snapshots,
    stamp,
)
from forebay.lake.connection import LakeError
from forebay.lake.identity import Run, TaskTry
from forebay.lake.rest import Change, CommitConflict, CommitUnknown, NoTransactions, Rest
from forebay.lake.reversal import (
    Published,
    at_refs,
    broke_off,
    published,
    published_record,
    reshaped,
    result,
    reversal,
)

ATTEMPTS = 30


class PublishConflict(LakeError):
    """Main moved under a run, in a way that cannot be repeated on top of it. Nothing of the run is on main."""


@dataclass(frozen=True)
class _Step:
    change: Change
    result: Published
    reshaped: bool


def publish(
    rest: Rest,
    run: Run,
    tables: Sequence[str],
    tries: Mapping[str, int] | None = None,
    wrote: Sequence[str] = (),
    began: Mapping[str, float] | None = None,
) -> list[Published]:
    """Publishes the run's branches of these tables; tables that the run did not change are left out.

    `tries` has the try of each task that counts, `began` when it began: rows of another one are refused. `wrote` are tables that the run is
    known to have changed: one of them that is not there, or has no branch, is a conflict. A run that is published as a
    whole stays as it is.
    Raises PublishConflict, or LakeError where the catalog cannot be asked.
    """
    with rest.turn(tables):
        return _publish(rest, run, tables, tries or {}, wrote, began or {})


def _publish(
    rest: Rest,
    run: Run,
    tables: Sequence[str],
    tries: Mapping[str, int],
    wrote: Sequence[str],
    began: Mapping[str, float],
) -> list[Published]:
    last: LakeError | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.01, min(0.05 * attempt, 0.5)))
        found = rest.tables(tables)
        branches = {
            table: branch
            for table, metadata in found.items()
            if (branch := Branch.find(metadata, run.branch)) is not None
        }
        done = [
            before
            for table, metadata in found.items()
            if table not in branches and (before := published(table, metadata, run)) is not None
        ]
        before_that = {each.table for each in done}
        if not branches and (before_that & set(wrote) or not wrote):
            # Published as a whole. What has become of its tables since is not this run's any more.
            return done
        try:
            steps = []
            for table, branch in branches.items():
                _of_one_try(table, found[table], branch, run, tries, began)
                steps.append(_step(rest, run, table, found[table], branch, sorted(branches)))
            _all_there(run, wrote, found, before_that)
        except PublishConflict as error:
            half = {table: found[table] for table in before_that if broke_off(found[table], run, branches)}
            _take_back(rest, run, half, error)
            if stays := sorted(before_that - half.keys()):
                raise PublishConflict(f"{error}. Published before, and still: {', '.join(stays)}") from None
            raise
        if not steps:
            return done
        try:
            commit_all(rest, [step.change for step in steps])
        except (CommitConflict, CommitUnknown) as error:
            last = error
            continue
        return [*done, *(step.result for step in steps if _changes(step))]
    raise LakeError(
        f"Publishing {run.run} met another writer {ATTEMPTS} times in a row. Nothing of it is lost: clear the task "
        f"publish, or run forebay publish again. Last answer: {last}"
    )


def discard(rest: Rest, run: Run, tables: Sequence[str]) -> list[str]:
    """Drops the run's branches, and tables that exist on no other branch; the tables it had branches of."""
    dropped = []
    for table in tables:
        for _ in range(ATTEMPTS):
            metadata = rest.table(table)
            branch = Branch.find(metadata, run.branch) if metadata is not None else None
            if metadata is None or branch is None:
                break
            try:
                drop_branch(rest, table, metadata, branch)
            except (CommitConflict, CommitUnknown):
                continue
            dropped.append(table)
            break
        else:
            raise LakeError(f"{table}: other writers came first {ATTEMPTS} times in a row. Discard again.")
    return dropped


def drop_branch(rest: Rest, table: str, metadata: Json, branch: Branch) -> None:
    """Takes one branch away, with the table when the branch created it and nobody else has rows in it."""
    others = [each for each in Branch.all(metadata) if each.name != branch.name]
    if branch.created_by and ref(metadata, MAIN) is None and not others:
        rest.drop(table, only=branch.name)
        return
    rest.commit([Change(table, at_refs(metadata, {branch.name: branch.head}), without(branch))])


def commit_all(rest: Rest, changes: Sequence[Change]) -> None:
    """All changes in one commit, where the catalog has that; one after the other where it has not."""
    if rest.transactions:
        try:
            rest.commit(changes)
            return
        except NoTransactions:
            pass
    # One by one: what is done when one is refused is seen, and taken back or finished, by the next look.
    for change in changes:
        rest.commit([change])


def _step(rest: Rest, run: Run, table: str, metadata: Json, branch: Branch, together: Sequence[str]) -> _Step:
    main = ref(metadata, MAIN)
    line = list(ancestry(snapshots(metadata), branch.head, branch.base))
    updates: list[Json] = []
    head, replayed = branch.head, False
    if main != branch.base and main != head:
        updates, head = _replayed(rest, run, table, metadata, branch, line)
        replayed = True
    elif head != main:
        updates.append(
            {"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": head}
            if head is not None
            else {"action": "remove-snapshot-ref", "ref-name": MAIN}
        )
    updates += _shape(table, metadata, branch) + without(branch)
    record = {
        "job": run.job,
        "run": run.run,
        "head": head,
        "base": main,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "branch": branch.text(),
        "branch_head": branch.head,
        "together": list(together),
    }
    notes = reshaped(metadata, branch, run, head)
    if head != main or notes:
        told = {PUBLISHED_PROPERTY: json.dumps(record, sort_keys=True)}
        updates.append({"action": "set-properties", "updates": notes | told})
    requirements = at_refs(metadata, {MAIN: main, branch.name: branch.head})
    base = branch.base if main == head else main
    return _Step(Change(table, requirements, updates), result(table, head, base, line, replayed), bool(notes))


def _changes(step: _Step) -> bool:
    """Whether main changed: a branch that nobody wrote a row on is only taken away."""
    return step.reshaped or step.result.snapshot_id != step.result.base


def _replayed(
    rest: Rest, run: Run, table: str, metadata: Json, branch: Branch, line: Sequence[Json]
) -> tuple[list[Json], int | None]:
    """Updates that put the branch's rows on top of today's main; raises PublishConflict where that is unsafe."""
    known, main = snapshots(metadata), ref(metadata, MAIN)
    theirs = list(ancestry(known, main, branch.base))
    if main is None:
        why = "its rows were taken away"
    elif (line[-1].get("parent-snapshot-id") if line else branch.head) != branch.base:
        why = "this run wrote it anew, or put it back"
    elif branch.base is not None and (not theirs or theirs[-1].get("parent-snapshot-id") != branch.base):
        why = "main was put back or written anew"
    elif branch.shape is not None and not branch.shape == branch.main_shape == Shape.of(metadata):
        why = "its columns, partitioning or sort order changed"
    else:
        why = replay.obstacle(line, theirs)
        if why and replay.form_only(line):
            why = replay.moved_files(theirs)
        elif why and replay.by_partition(line):
            why = replay.overlap(rest.config, table, line, theirs)
    if not why:
        updates, head = replay.replayed(rest.config, table, line[::-1], main)
        set_main = {"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": head}
        return [*updates, set_main], head
    raise PublishConflict(
        f"{table} was changed on main by {_who(theirs)} after this run began from snapshot {branch.base}, and {why}. "
        "Nothing of this run was published. Start the job again: it begins from the tables as they are now "
        f"(forebay run {run.job}); look at what it made with forebay diff {run.run}"
    )


def _who(theirs: Sequence[Json]) -> str:
    for snapshot in theirs:
        at, number = moment(snapshot["timestamp-ms"] / 1000), snapshot["snapshot-id"]
        if stamp(snapshot, "run"):
            return f"the run {stamp(snapshot, 'run')} of {stamp(snapshot, 'job')} (snapshot {number}, {at})"
        return f"a writer outside of Forebay's runs (snapshot {number}, {at})"
    return "somebody"


def _shape(table: str, metadata: Json, branch: Branch) -> list[Json]:
    """Updates that make the branch's columns, partitioning, order and properties main's."""
    updates: list[Json] = []
    if branch.shape is not None and branch.shape != branch.main_shape:
        if Shape.of(metadata) != branch.main_shape:
            raise PublishConflict(
                f"{table}: its columns, partitioning or sort order were changed on main after this run began, and by "
                "this run as well. Nothing of it was published. Start the job again"
            )
        updates += [
            {"action": "set-current-schema", "schema-id": branch.shape.schema},
            {"action": "set-default-spec", "spec-id": branch.shape.spec},
            {"action": "set-default-sort-order", "sort-order-id": branch.shape.order},
        ]
    if branch.properties:
        updates.append({"action": "set-properties", "updates": dict(branch.properties)})
    present = metadata.get("properties") or {}
    if removed := [name for name in branch.removed if name in present]:
        updates.append({"action": "remove-properties", "removals": removed})
    return updates


def without(branch: Branch) -> list[Json]:
    """Updates that take a branch away."""
    updates: list[Json] = []
    if branch.head is not None:
        updates.append({"action": "remove-snapshot-ref", "ref-name": branch.name})
    return [*updates, {"action": "remove-properties", "removals": [branch.key]}]


def _of_one_try(
    table: str, metadata: Json, branch: Branch, run: Run, tries: Mapping[str, int], began: Mapping[str, float]
) -> None:
    for snapshot in ancestry(snapshots(metadata), branch.head, branch.base):
        task, number = stamp(snapshot, "task"), stamp(snapshot, "try")
        one = TaskTry(run.job, run.run, task, tries.get(task, 0), began=began.get(task, 0.0))
        if one.has_double(snapshot.get("summary") or {}):
            raise PublishConflict(
                f"{table} has rows of an earlier run that was called {run.run} too. Nothing of this one was published. "
                f"Discard both and start the job again: forebay discard {run.job}/{run.run}, forebay run {run.job}"
            )
        if stamp(snapshot, "run") == run.run and task in tries and number != str(tries[task]):
            raise PublishConflict(
                f"{table} has rows of try {number} of {task}, written after its try {tries[task]} had begun: a "
                f"leftover process of the earlier try is still at work. Stop it, then clear {task} and run it again"
            )


def _all_there(run: Run, wrote: Sequence[str], found: Mapping[str, Json], done: set[str]) -> None:
    for table in wrote:
        if table not in found:
            happened = "was dropped"
        elif table not in done and Branch.find(found[table], run.branch) is None:
            happened = "was dropped and made anew, or this run's branch of it was discarded,"
        else:
            continue
        raise PublishConflict(
            f"{table} {happened} after this run had written it. Nothing of this run was published. Start the job "
            f"again: forebay run {run.job}"
        )


def take_back(rest: Rest, run: Run, tables: Sequence[str]) -> bool:
    """Puts main back before what the run published last, its branches being there again; whether all could be."""
    found = rest.tables(tables)
    changes = []
    for table, metadata in found.items():
        if Branch.find(metadata, run.branch) is not None:
            continue
        record = published_record(metadata)
        if record is None or (record["job"], record["run"]) != (run.job, run.run):
            if published(table, metadata, run) is not None:
                return False
            continue
        changes.append(reversal(table, metadata, record, run))
    if changes:
        commit_all(rest, changes)
    return True


def _take_back(rest: Rest, run: Run, half: Mapping[str, Json], conflict: PublishConflict) -> None:
    """Undoes what a broken-off publish had put on main, now that the rest of it cannot follow."""
    stuck = []
    for table, metadata in half.items():
        record = published_record(metadata)
        if record is None or (record["job"], record["run"]) != (run.job, run.run):
            stuck.append(table)
            continue
        try:
            rest.commit([reversal(table, metadata, record, run)])
        except (CommitConflict, CommitUnknown):
            stuck.append(table)
    if stuck:
        raise LakeError(
            f"{conflict} The publish is PARTIAL: {', '.join(stuck)} had been published before it broke off, and others "
            f"have built on that since. Put them back with forebay rollback {run.run} --cascade, or start the job again."
        ) from conflict
