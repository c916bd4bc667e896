"""What histories of runs must come to, in memory: every answer is worked out before the lake is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["append", "overwrite"]
Task = tuple[str, str]
"""A run and a task of it."""


@dataclass(frozen=True)
class Entry:
    """One commit: what it did, and who did it. Its row is there once, so lines of entries are told apart by it."""

    kind: Kind
    row: str
    run: str = ""
    task: str = ""
    number: int = 0
    unsure: bool = False
    """Whether the lens was started after the try, so that it cannot tell what the try has read."""

    @property
    def repeats(self) -> bool:
        """Whether the commit can be repeated after others."""
        return self.kind == "append" and not self.unsure


Line = tuple[Entry, ...]


@dataclass(frozen=True)
class Branch:
    """A run's branch of a table: where it began, and what the run did since."""

    base: Line = ()
    entries: Line = ()
    creator: str = ""
    """The task that made the table in this run."""

    @property
    def line(self) -> Line:
        return self.base + self.entries


@dataclass(frozen=True)
class Published:
    """What the last publish of a table did, for the way back."""

    run: str
    before: Line
    after: Line
    branch: Branch


@dataclass(frozen=True)
class Look:
    """What a client saw of a table when it began its commit."""

    line: Line
    added: int
    """Snapshots that the table had got by then."""
    made: int


@dataclass
class Table:
    """One table. `made` counts how often it was; it is not there where `gone`."""

    gone: bool = False
    made: int = 0
    added: int = 0
    main: Line = ()
    branches: dict[str, Branch] = field(default_factory=dict)
    record: Published | None = None

    def shown(self, run: str) -> Line:
        return self.branches[run].line if run in self.branches else self.main

    def look(self, run: str) -> Look:
        return Look(self.shown(run), self.added, self.made)

    def create(self, run: str, task: str) -> None:
        self.gone, self.made, self.main, self.record = False, self.made + 1, (), None
        self.branches = {run: Branch(creator=task)}

    def drop_branch(self, run: str) -> None:
        """With the table, where the run made it and nobody else has rows in it."""
        branch = self.branches.pop(run)
        self.gone = bool(branch.creator) and not self.main and not self.branches

    def has(self, run: str, task: str = "") -> bool:
        """Whether rows of a run, or of one task of it, are on main."""
        return any(each.run == run and task in ("", each.task) for each in self.main)


@dataclass
class Model:
    """Tables, and the newest try of each task."""

    tables: dict[str, Table]
    tries: dict[Task, int] = field(default_factory=dict)
    dead: set[Task] = field(default_factory=set)
    """Tasks whose newest try died before it had begun with its own work."""
    heard: dict[Task, int] = field(default_factory=dict)
    """The newest try of each task that the lens has heard of."""

    def has_worked(self, run: str) -> bool:
        """Whether there is anything of a run to publish or to discard."""
        return any(run in table.branches or table.has(run) for table in self.tables.values())

    def hears(self, run: str, task: str, number: int) -> None:
        self.heard[run, task] = max(number, self.heard.get((run, task), 0))

    def commits(self, name: str, look: Look, entry: Entry) -> set[int]:
        """The statuses that a commit may be answered with; the commit is done in the model where it is 200."""
        table = self.tables[name]
        if entry.run:
            self.hears(entry.run, entry.task, entry.number)
        if table.gone or table.made != look.made:
            # Whether it is missing, or another one of the same name.
            return {403, 404, 409}
        if not entry.run:
            # The catalog takes a snapshot's number once, whatever branch has it.
            if look.line != table.main or look.added != table.added:
                return {409}
            table.main += (entry,)
        else:
            if self.heard[entry.run, entry.task] > entry.number:
                return {403}
            branch = table.branches.get(entry.run)
            if branch is None:
                if table.has(entry.run, entry.task):
                    return {403}
                if table.main[: len(look.line)] != look.line:
                    return {409}
                branch = Branch(look.line)
            elif branch.line != look.line:
                return {409}
            table.branches[entry.run] = replace(branch, entries=(*branch.entries, entry))
        table.added += 1
        return {200}

    def puts_back(
        self, name: str, run: str, task: str
    ) -> Literal["nothing", "changed", "published", "built on"]:
        """What a new try of a task finds of its earlier ones on a table; done in the model."""
        table = self.tables[name]
        branch = table.branches.get(run)
        if table.gone or branch is None:
            return "published" if not table.gone and table.has(run, task) else "nothing"
        stale = [index for index, each in enumerate(branch.entries) if each.task == task]
        if not stale:
            if branch.entries or branch.creator != task:
                return "nothing"
            table.drop_branch(run)
            return "changed"
        later = tuple(each for each in branch.entries[stale[0] :] if each.task != task)
        if not all(each.repeats for each in later):
            return "built on"
        kept = branch.entries[: stale[0]] + later
        if kept or branch.creator not in ("", task):
            table.branches[run] = replace(branch, entries=kept)
            table.added += len(later)
        else:
            table.drop_branch(run)
        return "changed"

    def publishes(self, run: str, names: Sequence[str]) -> Literal["done", "conflict", "partial"]:
        """What publishing these tables comes to; done in the model."""
        tables = [self.tables[name] for name in names if not self.tables[name].gone]
        mine = [table for table in tables if run in table.branches]
        before = [table for table in tables if run not in table.branches and table.has(run)]
        if any(self._left_over(table.branches[run]) or clash(table, table.branches[run]) for table in mine):
            # What a publish that broke off had done is taken back, where nobody has built on it.
            taken = [self._takes_back(table, run) for table in before]
            return "conflict" if all(taken) else "partial"
        for table in mine:
            branch = table.branches.pop(run)
            if branch.entries:
                before_it, table.main = table.main, table.main + branch.entries
                table.record = Published(run, before_it, table.main, branch)
                table.added += len(branch.entries) if before_it != branch.base else 0
        return "done"

    def _left_over(self, branch: Branch) -> bool:
        return any(each.number != self.tries[each.run, each.task] for each in branch.entries)

    def _takes_back(self, table: Table, run: str) -> bool:
        record = table.record
        if record is None or record.after != table.main or record.run != run:
            return False
        table.main, table.branches[run], table.record = record.before, record.branch, None
        return True

    def discards(self, run: str) -> None:
        for table in self.tables.values():
            if run in table.branches:
                table.drop_branch(run)


def clash(table: Table, branch: Branch) -> bool:
    """Whether main has moved in a way that the branch cannot follow."""
    if table.main == branch.base:
        return False
    theirs = table.main[len(branch.base) :]
    return (
        not table.main
        or not theirs
        or table.main[: len(branch.base)] != branch.base
        or any(each.kind != "append" for each in theirs)
        or not all(each.repeats for each in branch.entries)
    )


def rows(line: Line) -> Counter[str]:
    """What a table holds after these commits."""
    found: Counter[str] = Counter()
    for entry in line:
        if entry.kind == "overwrite":
            found.clear()
        found[entry.row] += 1
    return found
