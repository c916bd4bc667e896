"""What was built on a run: what taking it out would take along, found in what tasks were seen to read and write."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.lake.branch import (
    MAIN,
    PUBLISHED_PROPERTY,
    RESHAPED_PROPERTY,
    Branch,
    Json,
    Shape,
    ancestry,
    moment,
    records,
    ref,
    roll_backs,
    snapshots,
)
from forebay.lake.connection import LakeError
from forebay.lake.history import Made, on_main
from forebay.lake.identity import STAMP, Run
from forebay.lake.reversal import way_back

NOBODY = Run("", "")
"""In place of a run where another writer's rows are taken out."""


class NotBetweenRuns(LakeError):
    """A table was to go back to a place where it never stood: not on main, or in the middle of a run."""


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that builds on the run."""

    name: str
    """<job>/<run>, or that of a table with another writer."""
    run: Run | None
    table: str
    why: str
    at: float
    published: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.why} ({moment(self.at)}{'' if self.published else ', not published'})"


@dataclass(frozen=True, slots=True)
class TablePlan:
    """Where main of a table goes."""

    table: str
    head: int | None
    base: int | None
    """None: to no rows at all, for before the runs there were none."""
    runs: tuple[Run, ...]
    """The runs whose rows go."""
    snapshots: int
    others: int
    """How many of the snapshots are another writer's."""
    shape: Shape | None
    """Columns, partitioning and sort order to go back to; None where they stay."""
    properties: Mapping[str, str | None]
    """Properties to go back to; None for those that were not there."""
    reshaped: list[Json] | None
    note: str


@dataclass(frozen=True)
class Plan:
    """Everything that taking one run out comes to, or taking one table back."""

    run: Run
    """The run; where a table goes back, the oldest that wrote it since, NOBODY where that was another writer."""
    tables: tuple[TablePlan, ...]
    branches: Mapping[str, tuple[Branch, ...]]
    dependents: tuple[Dependent, ...]
    doubts: tuple[str, ...]
    """Runs that may have read its rows: not all that they read is known."""
    running: tuple[str, ...] = ()
    to: tuple[str, int | None] | None = None
    """The table that goes back and its snapshot; None where a run was named."""

    @property
    def cause(self) -> str:
        """What tables that go along say of why."""
        return _cause(self.run, self.to)

    @property
    def taken(self) -> set[str]:
        """What goes besides the run itself; how much other writers have added counts, for they have no names."""
        foreign = {
            f"{each.others} of another writer's snapshots of {each.table}"
            for each in self.tables
            if each.others
        }
        return {each.name for each in self.dependents} | foreign


class Lake:
    """What is known of all tables, without what plays no part here, so that a big lake fits in memory."""

    def __init__(
        self, documents: Iterable[tuple[str, Mapping[str, Any]]], running: Iterable[Run] = ()
    ) -> None:
        self.documents = {name: _trimmed(metadata) for name, metadata in documents}
        self.running = frozenset(running)
        self.main: dict[str, list[Made]] = {}
        self.own: dict[tuple[str, str], list[Made]] = {}
        self.tables: dict[Run, set[str]] = defaultdict(set)
        for name, metadata in self.documents.items():
            known = snapshots(metadata)
            self.main[name] = [Made.of(each) for each in ancestry(known, ref(metadata, MAIN))]
            for made in self.main[name]:
                if made.by is not None:
                    self.tables[made.by].add(name)
            for record in records(metadata, PUBLISHED_PROPERTY):
                if on_main(metadata, by := Run(record["job"], record["run"])) is not None:
                    self.tables[by].add(name)
            for branch in Branch.all(metadata):
                line = ancestry(known, branch.head, branch.base)
                self.own[name, branch.name] = [Made.of(each) for each in line]


@dataclass
class _Search:
    lake: Lake
    run: Run
    to: tuple[str, int | None] | None = None
    taken: dict[Run, None] = field(default_factory=dict)
    cut: dict[str, list[Made]] = field(default_factory=dict)
    """Of each table, the snapshots on main that go, newest first."""
    base: dict[str, int | None] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)
    found: dict[str, Dependent] = field(default_factory=dict)
    nameless: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Branches of runs that cannot be told, by table."""

    def run_all(self) -> None:
        self.taken[self.run] = None
        size = -1
        while size != len(self.taken) + len(self.gone) + len(self.found):
            size = len(self.taken) + len(self.gone) + len(self.found)
            for run in list(self.taken):
                for table in self.lake.tables.get(run, ()):
                    self._take_out(run, table)
            self._half_done()
            self._on_top()
            self._readers()
            self._branches()

    def _take_out(self, run: Run, table: str) -> None:
        stay = on_main(self.lake.documents[table], run)
        if stay is None:
            return
        line = self.lake.main[table]
        last = max(
            (number for number, made in enumerate(line) if made.snapshot in stay.snapshots), default=-1
        )
        if table not in self.cut or last + 1 > len(self.cut[table]):
            self.cut[table], self.base[table] = line[: last + 1], stay.base
            self.gone.update((table, made.snapshot) for made in self.cut[table])

    def _half_done(self) -> None:
        """What a roll back of this run that broke off was to take along."""
        cause = _cause(self.run, self.to)
        for table, metadata in self.lake.documents.items():
            for note in roll_backs(metadata):
                run = Run(note["job"], note["run"])
                left = self.lake.tables.get(run, set())
                if note.get("with") == cause and note["run"] and left and table not in left:
                    self._add(run, table, f"was being rolled back with it, and {table} is done", 0, True)

    def _on_top(self) -> None:
        for table, line in self.cut.items():
            for made in line:
                why = f"wrote {table} after it"
                if made.by is not None and made.kept_rows:
                    # It put files together, so its rows go as they came, and its other tables stay.
                    continue
                if made.by is not None:
                    self._add(made.by, table, why, made.at, True)
                else:
                    name = f"another writer of {table}"
                    self.found.setdefault(
                        name, Dependent(name, None, table, f"{why}, snapshot {made.snapshot}", made.at, True)
                    )

    def _readers(self) -> None:
        for table, line in self.lake.main.items():
            for made in line:
                self._read(table, made, True)
        for (table, _), line in self.lake.own.items():
            for made in line:
                self._read(table, made, False)

    def _read(self, table: str, made: Made, published: bool) -> None:
        if made.by is None or made.by in self.taken:
            return
        for source in made.inputs:
            if (source.table, source.snapshot) in self.gone:
                self._add(made.by, table, f"read {source.table} to write {table}", made.at, published)

    def _branches(self) -> None:
        for (table, name), line in self.lake.own.items():
            branch = Branch.find(self.lake.documents[table], name)
            if branch is None or (table, branch.base) not in self.gone or name == self.run.branch:
                continue
            if line and line[0].by is not None:
                self._add(line[0].by, table, f"began to write {table} after it", line[0].at, False)
            else:
                self.nameless[table].add(name)
                at = int(self.lake.documents[table].get("last-updated-ms") or 0) / 1000
                why = f"began to write {table} after it"
                self.found.setdefault(name, Dependent(f"the branch {name}", None, table, why, at, False))

    def _add(self, run: Run, table: str, why: str, at: float, published: bool) -> None:
        if run not in self.taken:
            self.taken[run] = None
            name = f"{run.job}/{run.run}"
            self.found[name] = Dependent(name, run, table, why, at, published)


def plan(lake: Lake, run: Run) -> Plan:
    """What rolling a run back comes to, with everything that was built on it, directly or not."""
    return _plan(_Search(lake, run))


def plan_to(lake: Lake, table: str, snapshot: int | None) -> Plan:
    """What taking a table back to a snapshot of main comes to; None is to no rows at all.

    Runs that wrote it since go whole, with all their tables, and so does everything that was built on them.
    Raises NotBetweenRuns where main never ended at that snapshot between two runs.
    """
    line = lake.main.get(table, [])
    to = (table, snapshot)
    above = list(itertools.takewhile(lambda made: made.snapshot != snapshot, line))
    if not above:
        return Plan(NOBODY, (), {}, (), (), to=to)
    first = above[-1].by
    if snapshot is not None and len(above) == len(line):
        # One that replaced the table has no parent, but knows where its branch began.
        stay = on_main(lake.documents[table], first) if first is not None else None
        if stay is None or stay.base != snapshot:
            raise NotBetweenRuns(f"{table} has no snapshot {snapshot} on main.")
    search = _Search(lake, first or NOBODY, to)
    if search.run is NOBODY:
        search.cut[table], search.base[table] = above, snapshot
        search.gone.update((table, made.snapshot) for made in above)
    found = _plan(search)
    if search.base.get(table) != snapshot:
        place = search.base.get(table)
        raise NotBetweenRuns(
            f"{table} cannot go back to {snapshot or 'no rows'}: that is in the middle of a run, and a run goes as a "
            f"whole. Go back to {place or 'no rows'} instead."
        )
    return found


def again(lake: Lake, found: Plan) -> Plan:
    """The same plan, as the lake is now."""
    return plan(lake, found.run) if found.to is None else plan_to(lake, *found.to)


def _cause(run: Run, to: tuple[str, int | None] | None) -> str:
    if run.run or to is None:
        return f"{run.job}/{run.run}"
    return f"{to[0]} back to {to[1] or 'no rows'}"


def _plan(search: _Search) -> Plan:
    search.run_all()
    lake = search.lake
    branches: dict[str, tuple[Branch, ...]] = {}
    dropped = {taken.branch for taken in search.taken}
    for table, metadata in lake.documents.items() if search.cut else ():
        mine = [b for b in Branch.all(metadata) if b.name in dropped | search.nameless[table]]
        if mine:
            branches[table] = tuple(mine)
    return Plan(
        search.run,
        tuple(_table(lake, search, table) for table in sorted(search.cut)),
        branches,
        tuple(sorted(search.found.values(), key=lambda each: each.at)),
        tuple(sorted(_doubts(lake, search))),
        tuple(f"{taken.job}/{taken.run}" for taken in search.taken if taken in lake.running),
        search.to,
    )


def _table(lake: Lake, search: _Search, table: str) -> TablePlan:
    metadata, line = lake.documents[table], search.cut[table]
    runs = [run for run in search.taken if table in lake.tables.get(run, ())]
    return TablePlan(
        table,
        ref(metadata, MAIN),
        search.base[table],
        tuple(runs),
        len(line),
        sum(made.by is None for made in line),
        *way_back(metadata, {made.snapshot for made in line}, runs),
    )


def _doubts(lake: Lake, search: _Search) -> set[str]:
    """Runs that wrote after it without its being known what they read."""
    began = min((made.at for line in search.cut.values() for made in line), default=float("inf"))
    lines = [*lake.main.values(), *lake.own.values()]
    return {
        f"{made.job}/{made.run}"
        for line in lines
        for made in line
        if made.by is not None and not made.complete and made.at >= began and made.by not in search.taken
    }


def _trimmed(metadata: Mapping[str, Any]) -> Json:
    kept = (
        "table-uuid", "refs", "current-snapshot-id", "last-updated-ms", "current-schema-id", "default-spec-id",
        "default-sort-order-id",
    )  # fmt: skip
    trimmed = {name: metadata[name] for name in kept if name in metadata}
    properties = metadata.get("properties") or {}
    named = {name for each in records(metadata, RESHAPED_PROPERTY) for name in each.get("properties", {})}
    trimmed["properties"] = {
        name: value for name, value in properties.items() if name.startswith(STAMP) or name in named
    }
    trimmed["snapshots"] = [
        {
            **{
                name: each[name]
                for name in ("snapshot-id", "parent-snapshot-id", "timestamp-ms")
                if name in each
            },
            "summary": {
                name: value
                for name, value in (each.get("summary") or {}).items()
                if name == "operation" or (name.startswith(STAMP) and name != f"{STAMP}ingest.files")
            },
        }
        for each in metadata.get("snapshots") or ()
    ]
    return trimmed
