"""What happened to a table, and who did it: from the snapshots themselves, and the stamps the lens put on them.

Nothing here is remembered by Forebay: a table that other programs write too has a history as well, with gaps
where they said nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from forebay.lake.branch import MAIN, Branch, Json, ancestry, ref, roll_backs, snapshots, stamp, whole
from forebay.lake.identity import RECORD, STAMP, Run
from forebay.lake.publish import ATTEMPTS, drop_branch
from forebay.lake.rest import CommitConflict, CommitUnknown, Rest
from forebay.lake.reversal import made_by, published_record

_TOLD = 256


@dataclass(frozen=True, slots=True)
class Input:
    """A table as a task read it; `snapshot` is None where it was empty."""

    table: str
    snapshot: int | None

    @classmethod
    def parse(cls, text: str) -> Input:
        table, _, number = text.partition("@")
        return cls(table, whole(number))

    def __str__(self) -> str:
        return f"{self.table}@{'' if self.snapshot is None else self.snapshot}"


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot and what is known of who made it; `run` is empty for one that no run made."""

    snapshot: int
    parent: int | None
    at: float
    """When it was made, in seconds since 1970."""
    operation: str
    added: int | None
    """Rows, as the writer says; None where it does not."""
    removed: int | None
    job: str
    run: str
    task: str
    number: int
    commit: str
    user: str
    engine: str
    inputs: tuple[Input, ...]
    complete: bool
    """Whether the inputs are known to be all that was read."""
    replay_of: int | None
    """The snapshot whose rows these are, repeated on top of another writer's."""
    record: bool = False
    """Whether it is a record about the run, which stays whatever becomes of the run."""

    @property
    def by(self) -> Run | None:
        """The run that it is part of, which goes or stays as a whole."""
        return Run(self.job, self.run) if self.run and not self.record else None

    @property
    def kept_rows(self) -> bool:
        """Whether it only put files together."""
        return self.operation == "replace"

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Made:
        summary = snapshot.get("summary") or {}
        parent = snapshot.get("parent-snapshot-id")

        def told(name: str) -> str:
            # As `stamp` has it, for one summary.
            return str(summary.get(f"{STAMP}{name}") or "")

        run = told("run")
        return cls(
            snapshot=int(snapshot["snapshot-id"]),
            parent=None if parent is None else int(parent),
            at=int(snapshot["timestamp-ms"]) / 1000,
            operation=str(summary.get("operation") or "?"),
            added=_count(summary, "added-records"),
            removed=_count(summary, "deleted-records", "added-position-deletes"),
            job=told("job"),
            run=run,
            task=told("task"),
            number=whole(told("try")) or 0,
            commit=told("commit"),
            user=told("user"),
            engine=told("engine") or _engine(summary),
            inputs=tuple(Input.parse(text) for text in told("inputs").split(",") if text),
            complete=bool(run) and told("inputs-complete") != "false",
            replay_of=whole(told("replay-of")),
            record=bool(told(RECORD)),
        )


@dataclass(frozen=True, slots=True)
class OnMain:
    """What a run has on a table's main: main would be `base` without it and without what came after it."""

    head: int | None
    base: int | None
    snapshots: tuple[int, ...]
    """Its own, newest first."""
    others: tuple[Made, ...]
    """What others put on top of them, newest first."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a table's main."""

    at: float
    """When it was seen on main, in seconds since 1970."""
    operation: str
    """The snapshot's, or `roll back`."""
    snapshot: int | None
    """Main's snapshot after it."""
    made: Made | None = None
    """None for a roll back."""
    on_main: bool = True
    """False where a roll back has taken it out again."""
    note: str = ""


def on_main(metadata: Mapping[str, Any], run: Run) -> OnMain | None:
    """What the run has on main; None where there is nothing of it."""
    known, main = snapshots(metadata), ref(metadata, MAIN)
    line = list(ancestry(known, main))
    mine = [index for index, each in enumerate(line) if made_by(each, run)]
    if mine:
        first = line[mine[-1]]
        # One that replaced the table has no parent, but knows where its branch began.
        base = first.get("parent-snapshot-id") or stamp(first, "base") or None
        above = line[: mine[-1] + 1]
        return OnMain(
            head=int(line[mine[0]]["snapshot-id"]),
            base=whole(base),
            snapshots=tuple(int(line[index]["snapshot-id"]) for index in mine),
            others=tuple(Made.of(each) for each in above if not made_by(each, run)),
        )
    record = published_record(dict(metadata))
    if record is not None and (record["job"], record["run"]) == (run.job, run.run):
        return OnMain(record["head"], record["base"], (), ())
    return None


def rolled_back(metadata: Mapping[str, Any], run: Run) -> Json | None:
    """How the run's rows were taken off the table's main, None where they were not."""
    return next(
        (each for each in roll_backs(metadata) if (each["job"], each["run"]) == (run.job, run.run)), None
    )


def blame(metadata: Mapping[str, Any]) -> list[Event]:
    """Everything that was seen on a table's main, newest first, with the roll backs."""
    known = snapshots(metadata)
    kept = {int(each["snapshot-id"]) for each in ancestry(known, ref(metadata, MAIN))}
    told = roll_backs(metadata)
    events: list[Event] = []
    seen: set[int] = set()

    def add(head: int | None, at: float | None) -> None:
        for each in reversed(list(ancestry(known, head))):
            made = Made.of(each)
            if made.snapshot not in seen:
                seen.add(made.snapshot)
                when = made.at if at is None else at
                events.append(Event(when, made.operation, made.snapshot, made, made.snapshot in kept))

    before: int | None = None
    for entry in metadata.get("snapshot-log") or ():
        number, at = int(entry["snapshot-id"]), int(entry["timestamp-ms"]) / 1000
        if number in seen and number != before:
            back = any(int(each["snapshot-id"]) == number for each in ancestry(known, before))
            ours = any(record["to"] == number and abs(_moment(record) - at) < 60 for record in told)
            if not ours:
                operation = "roll back" if back else "set"
                events.append(Event(at, operation, number, note="not by forebay rollback"))
        add(number, at)
        before = number
    add(ref(metadata, MAIN), None)
    for record in reversed(told):
        add(record["head"], None)
        cause = f", with {record['with']}" if record.get("with") else ""
        what = f"{record['job']}/{record['run']}" if record["run"] else "another writer's rows"
        note = f"took out {what}{cause}"
        events.append(Event(_moment(record), "roll back", record["to"], note=note))
    return sorted(events, key=lambda event: event.at)[::-1]


def every(
    rest: Rest, names: Sequence[str], tell: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[tuple[str, Json]]:
    """The documents of many tables, in the order in which they come; `tell` hears how far it is."""
    tell(0, len(names))
    for number, found in enumerate(rest.each(names), 1):
        yield found
        if number % _TOLD == 0:
            tell(number, len(names))


def sweep(
    rest: Rest,
    tables: Sequence[str],
    keep: timedelta,
    now: datetime,
    runs: Callable[[Run], bool] = lambda run: False,
    first: Callable[[Run, str], None] = lambda run, table: None,
    *,
    own: bool = False,
) -> list[tuple[str, str]]:
    """Drops branches whose newest snapshot is older than `keep`; (table, run) of each.

    `runs` says of a run whether it is still at work: its branches stay. `first` is called before the branch of a run in
    a table goes. A branch without a snapshot of its own says neither its age nor its run, so it counts from the table's
    last change. With `own` a branch stays as long as its run was told, and `keep` is for those that were told nothing.
    """

    def old(last: Json | None, at: float) -> bool:
        told = stamp(last, "keep") if own and last is not None else ""
        wanted = whole(told)
        return at <= now.timestamp() - (keep.total_seconds() if wanted is None else max(wanted, 0))

    dropped = []
    for table in tables:
        missed = 0
        while missed < ATTEMPTS:
            metadata = rest.table(table) or {}
            found = next(_swept(metadata, old, runs), None)
            if found is None:
                break
            branch, by = found
            if by is not None:
                first(by, table)
            try:
                drop_branch(rest, table, metadata, branch)
                dropped.append((table, by.run if by else branch.name))
            except (CommitConflict, CommitUnknown):
                missed += 1
    return dropped


def _swept(
    metadata: Json, old: Callable[[Json | None, float], bool], runs: Callable[[Run], bool]
) -> Iterator[tuple[Branch, Run | None]]:
    known, branches = snapshots(metadata), Branch.all(metadata)
    for branch in branches:
        if branch.created_by and ref(metadata, MAIN) is None and len(branches) > 1:
            # The table goes with the branch that made it, so that one goes last.
            continue
        last = next(ancestry(known, branch.head, branch.base), None)
        made = Made.of(last) if last is not None else None
        newest = made.at if made else int(metadata.get("last-updated-ms", 0)) / 1000
        by = made.by if made else None
        if old(last, newest) and not (by is not None and runs(by)):
            yield branch, by


def _moment(record: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(str(record["at"])).timestamp()


def _count(summary: Mapping[str, Any], *names: str) -> int | None:
    if summary.get("operation") == "replace":
        # Files that were put together have the rows of those that went.
        return 0
    if summary.get("operation") == "append" and names[0] != "added-records":
        return 0
    found = [number for name in names if (number := whole(summary.get(name))) is not None]
    return sum(found) if found else None if names[0] == "added-records" else 0


def _engine(summary: Mapping[str, Any]) -> str:
    """What the writer calls itself: Spark and Trino do."""
    return str(summary.get("engine-name") or (summary.get("spark.app.id") and "spark") or "")
