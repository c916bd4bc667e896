"""A client's commit to `main` as a commit to its run's branch: pure functions over REST documents.

Requirements and updates are those of the Iceberg REST specification (CommitTableRequest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from forebay.lake.branch import (
    MAIN,
    REPLAY,
    UNSURE,
    Branch,
    Json,
    Shape,
    ancestry,
    on_main_before,
    ref,
    snapshots,
    stamp,
)
from forebay.lake.identity import STAMP, TaskTry
from forebay.lens.refused import Refused, conflict, forbidden
from forebay.lens.updates import (
    AT_CREATION,
    FREE,
    OF_SHAPE,
    PASSED,
    REPEATED,
    SHAPES,
    assert_ref,
    begins_anew,
    by_id,
    content,
    is_about_main,
    may_say,
    set_ref,
)

LAST_ADDED = -1


@dataclass(frozen=True)
class Asked:
    """Who commits to which table, what its task has read before, and what the lens last saw of the table."""

    who: TaskTry
    table: str
    metadata: Mapping[str, Any] | None
    """None when the table is created by this commit."""
    inputs: Mapping[str, int | None] = field(default_factory=dict)
    complete: bool = True
    """Whether `inputs` are all of them: a lens that was started after the task does not know."""
    scanned: bool = False
    """Whether the task said that it read rows of this table: its new rows may depend on them."""
    looked: bool = False
    """Whether the lens knows that the task was shown the table."""
    first_seen: int | None = None
    """The snapshot it was shown first, None for an empty table: where a commit without an assertion began."""


def rewrite(commit: Mapping[str, Any], asked: Asked) -> Json:
    """The commit for the run's branch. Raises Refused."""
    may_write(asked)
    return {**commit, **_Rewrite(commit, asked).result()}


def may_write(asked: Asked) -> None:
    """Raises Refused where the task did not declare the table."""
    who = asked.who
    if not who.task:
        raise forbidden(f"this address only shows the branch of the run {who.run}; nothing is written by it")
    if asked.table not in who.writes:
        raise forbidden(
            f"the task {who.task} of {who.job} does not declare that it writes {asked.table}. Add the table to "
            f"its writes in dags/{who.job.replace('.', '/', 1)}.yaml (declared: {', '.join(who.writes) or 'none'})"
        )


def created(who: TaskTry) -> Branch:
    """The branch of a table that this task creates."""
    return Branch(who.branch, None, None, created_by=f"{who.task}/{who.number}")


class _Rewrite:
    def __init__(self, commit: Mapping[str, Any], asked: Asked) -> None:
        self.asked, self.who = asked, asked.who
        self.metadata = asked.metadata
        self._commit = commit
        self.requirements: list[Json] = []
        self.updates: list[Json] = []
        known = asked.metadata or {}
        self.before = Branch.find(known, self.who.branch)
        self.creates = asked.metadata is None
        if self.creates:
            self.branch = created(self.who)
        elif self.before is None:
            self._refuse_after_publish(known)
            self.branch = Branch.fork(known, self.who.branch, ref(known, MAIN))
        else:
            self.branch = self.before
            if self.before.shape is None and ref(known, MAIN) is not None:
                # The run made the table, and another one published to it first: now it has main's shape to keep.
                shape = Shape.of(known)
                self.branch = replace(self.before, shape=shape, main_shape=shape)
        self._ids = {
            "schema": by_id(known.get("schemas"), "schema-id"),
            "spec": by_id(known.get("partition-specs"), "spec-id"),
            "order": by_id(known.get("sort-orders"), "order-id"),
        }
        self._added: dict[str, int] = {}
        self._new_snapshots: list[Json] = []
        # Spark says CREATE for the first CREATE OR REPLACE of a table; our own writers create what they append to.
        self._anew = self.creates and self.who.engine == "spark"
        """Whether the rows take the place of all that were there, as CREATE OR REPLACE has it."""
        self._refuse_rows_of_its_double(known)

    def _refuse_after_publish(self, metadata: Mapping[str, Any]) -> None:
        for snapshot in [*ancestry(snapshots(metadata), ref(metadata, MAIN)), *on_main_before(metadata)]:
            if (stamp(snapshot, "job"), stamp(snapshot, "run"), stamp(snapshot, "task")) == (
                self.who.job,
                self.who.run,
                self.who.task,
            ):
                raise forbidden(
                    f"the run {self.who.run} has already published what {self.who.task} wrote to {self.asked.table}. "
                    f"Start a new run, or undo it first: forebay rollback {self.who.run}"
                )

    def _refuse_rows_of_its_double(self, metadata: Mapping[str, Any]) -> None:
        """A try has one process and one beginning. Airflow may have made a run of this name before, and given it up."""
        if self.before is None:
            return
        for snapshot in ancestry(snapshots(metadata), self.before.head, self.before.base):
            if self.who.has_double(snapshot.get("summary") or {}):
                raise forbidden(
                    f"{self.asked.table} has rows of another try {self.who.number} of {self.who.task}, from an earlier run "
                    f"of the same name or a second process of this one. They go when the task is tried again, or with "
                    f"forebay discard {self.who.job}/{self.who.run}"
                )

    def result(self) -> Json:
        """The rewritten requirements and updates."""
        requirements = self._commit.get("requirements") or ()
        self._anew |= not (self.creates or any(map(is_about_main, requirements))) and begins_anew(
            self._commit
        )
        for requirement in requirements:
            self._require(requirement)
        if self.before is not None and not any(map(is_about_main, requirements)):
            # What the lens remembers of the branch may be gone: a put-back asks the catalog itself.
            self.requirements.append(assert_ref(self.branch.name, self.before.head))
        if self.metadata is not None and self.before is None:
            self._begin()
        for update in self._commit.get("updates") or ():
            self._update(update)
        if not self.creates and self.before is None and self.branch.head is not None and not self._sets_ref():
            # A branch without a commit of rows yet: its head is where it began.
            self.updates.append(set_ref(self.branch.name, self.branch.head))
        if self.before is None or self.branch.text() != self.before.text():
            self.updates.append(
                {"action": "set-properties", "updates": {self.branch.key: self.branch.text()}}
            )
        for snapshot in self._new_snapshots:
            # What the lens alone may say is not taken from a client.
            given = snapshot.get("summary") or {}
            summary = {
                name: text for name, text in given.items() if not name.startswith(STAMP) or may_say(name)
            }
            snapshot["summary"] = summary
            summary.update(self.who.stamps(self.branch.base, self.asked.inputs, self.asked.complete))
            if self._anew:
                summary[REPLAY] = "no"
            elif self.asked.scanned or self.asked.table in self.who.exclusive or not self.asked.complete:
                said = summary.get(REPLAY)
                summary[REPLAY] = said if said in ("yes", "no") else "no" if said else UNSURE
        return {"requirements": self.requirements, "updates": self.updates}

    def _sets_ref(self) -> bool:
        return any(
            update["action"] == "set-snapshot-ref" and update["ref-name"] == self.branch.name
            for update in self.updates
        )

    def _begin(self) -> None:
        """The branch begins where the client stood, not where main is today."""
        asserted = [r for r in self._commit.get("requirements") or () if is_about_main(r)]
        assert self.metadata is not None
        known = snapshots(self.metadata)
        if asserted:
            base = asserted[0].get("snapshot-id")
        elif self.asked.looked:
            base = self.asked.first_seen
        elif any(
            str(update.get("action")).endswith("-snapshot-ref")
            for update in self._commit.get("updates") or ()
        ):
            # Today's main may hold rows that the client has not seen, and would take away.
            raise self._unknown_base()
        else:
            base = ref(self.metadata, MAIN)
        # One of main's, that is: of rows that another task of the run has put back nothing may be left.
        if base is not None and all(
            each["snapshot-id"] != int(base) for each in ancestry(known, ref(self.metadata, MAIN))
        ):
            if not asserted:
                raise self._unknown_base()
            raise conflict(f"{self.asked.table} is not at {base} any more")
        self.branch = replace(
            self.branch, base=None if base is None else int(base), head=None if base is None else int(base)
        )
        self.requirements.append(assert_ref(self.branch.name, None))

    def _unknown_base(self) -> Refused:
        return forbidden(
            f"{self.asked.table} is not any more as {self.who.task} saw it, or the lens was started anew since, so it "
            "cannot tell what this commit replaces. Try the task again"
        )

    def _require(self, requirement: Mapping[str, Any]) -> None:
        kind = requirement.get("type")
        if self.creates or kind in PASSED or (self.branch.shape is None and kind in OF_SHAPE):
            self.requirements.append(dict(requirement))
        elif self.branch.shape is not None and kind in OF_SHAPE:
            name, part = OF_SHAPE[kind]
            shown = getattr(self.branch.shape, part)
            if requirement.get(name) != shown:
                raise conflict(f"{self.asked.table}: {name} is {shown}, not {requirement.get(name)}")
            if self.before is None:
                # The fork takes main's: it must still be that.
                self.requirements.append(dict(requirement))
        elif kind == "assert-ref-snapshot-id" and requirement.get("ref") == MAIN:
            if self.before is not None:
                if requirement.get("snapshot-id") != self.before.head:
                    raise conflict(f"{self.asked.table} is at {self.before.head} on the run's branch")
                self.requirements.append(assert_ref(self.branch.name, self.before.head))
        elif kind == "assert-create":
            raise Refused(409, "AlreadyExistsException", f"{self.asked.table} exists already")
        else:
            raise forbidden(f"a run writes to its own branch only: {kind} {requirement.get('ref', '')}")

    def _update(self, update: Mapping[str, Any]) -> None:
        action = update.get("action")
        if action == "add-snapshot":
            snapshot = {**update["snapshot"], "summary": dict(update["snapshot"].get("summary") or {})}
            self._number(snapshot)
            self._new_snapshots.append(snapshot)
            self.updates.append({**update, "snapshot": snapshot})
        elif action in ("set-snapshot-ref", "remove-snapshot-ref"):
            self._move_ref(update, action)
        elif action in SHAPES:
            self._reshape(update, action)
        elif action in ("set-properties", "remove-properties"):
            self._properties(update, action)
        elif action in FREE or (self.creates and action in AT_CREATION):
            self.updates.append(dict(update))
        elif action in REPEATED and self._same(update, REPEATED[action]):
            return
        else:
            raise forbidden(
                f"{action} changes {self.asked.table} for everybody, so it is not done inside a run. "
                "Do it outside of one, at the catalog's own address"
            )

    def _number(self, snapshot: Json) -> None:
        """The table's next sequence number, where a run on another branch took the one the client chose.

        Sequence numbers order deletes after data along one line of snapshots, and the client's is above all on its
        line, which the assertion on the branch's head holds still. So only the table's count is behind, not the files.
        """
        known = self.metadata or {}
        last = int(known.get("last-sequence-number") or 0) + len(self._new_snapshots)
        if known.get("format-version") == 2 and int(snapshot.get("sequence-number") or 0) <= last:
            snapshot["sequence-number"] = last + 1

    def _same(self, update: Mapping[str, Any], name: str) -> bool:
        return self.metadata is not None and update.get(name) == self.metadata.get(name)

    def _move_ref(self, update: Mapping[str, Any], action: str) -> None:
        if update.get("ref-name") != MAIN:
            raise forbidden(
                f"a run writes to its own branch only; {action} {update.get('ref-name')} is not done inside a run"
            )
        if action == "set-snapshot-ref":
            self.branch = replace(self.branch, head=int(update["snapshot-id"]))
            self.updates.append({**update, "ref-name": self.branch.name})
        else:
            # CREATE OR REPLACE: empty from here on. There is no ref to remove where the branch has none yet.
            if self.before is not None and self.before.head is not None:
                self.updates.append({**update, "ref-name": self.branch.name})
            self.branch = replace(self.branch, head=None)

    def _reshape(self, update: Mapping[str, Any], action: str) -> None:
        part, name, adds = SHAPES[action]
        if self.branch.shape is None:
            self.updates.append(dict(update))
            return
        if adds:
            self._add(update, part, name)
            return
        wanted = int(update[name])
        number = self._added.get(part, LAST_ADDED) if wanted == LAST_ADDED else wanted
        if number == LAST_ADDED:
            raise Refused(400, "BadRequestException", f"{action} -1 without anything added before it")
        self.branch = self.branch.with_shape(**{part: number})

    def _add(self, update: Mapping[str, Any], part: str, name: str) -> None:
        given = update[{"schema": "schema", "spec": "spec", "order": "sort-order"}[part]]
        equal = [number for number, one in self._ids[part].items() if content(one) == content(given)]
        # As the reference implementation does: an equal one is used again, a new one gets the next number.
        number = equal[0] if equal else max(self._ids[part], default=-1) + 1
        self._added[part] = number
        if equal:
            return
        self._ids[part][number] = dict(given)
        assert self.branch.shape is not None
        schema = self.branch.shape.schema
        bound = part != "schema" and schema != self._main_schema()
        if bound:
            # The catalog looks a partition's or order's columns up in the current schema.
            self.updates.append({"action": "set-current-schema", "schema-id": schema})
        added = {key: {**value, name: number} if value is given else value for key, value in update.items()}
        self.updates.append(added)
        if bound:
            self.updates.append({"action": "set-current-schema", "schema-id": self._main_schema()})

    def _main_schema(self) -> int:
        assert self.metadata is not None
        return Shape.of(self.metadata).schema

    def _properties(self, update: Mapping[str, Any], action: str) -> None:
        names = update.get("updates") if action == "set-properties" else update.get("removals")
        if any(str(name).startswith(STAMP) for name in names or ()):
            raise forbidden(f"properties that begin with {STAMP} are kept by the lens")
        if self.branch.shape is None:
            self.updates.append(dict(update))
        elif action == "set-properties":
            given = {str(name): str(value) for name, value in update["updates"].items()}
            self.branch = self.branch.with_properties(given)
        else:
            self.branch = self.branch.with_properties({}, tuple(map(str, update["removals"])))
