"""What histories of runs must come to, in memory: every answer is worked out before the lake is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["append", "overwrite", "replace"]
"""`replace` is CREATE OR REPLACE: it looks at nothing that was there."""
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
    together: frozenset[str]
    """The tables that were to be published in the same commit."""


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
    before: frozenset[Task] = frozenset()
    """Whose rows were on main until the table was written anew on top of them."""
    branches: dict[str, Branch] = field(default_factory=dict)
    record: Published | None = None

    def shown(self, run: str) -> Line:
        return self.branches[run].line if run in self.branches else self.main

    def look(self, run: str) -> Look:
        return Look(self.shown(run), self.added, self.made)

    def create(self, run: str, task: str) -> None:
        self.gone, self.made, self.main, self.record = False, self.made + 1, (), None
        self.before = frozenset()
        self.branches = {run: Branch(creator=task)}

    def drop_branch(self, run: str) -> None:
        """With the table, where the run made it and nobody else has rows in it."""
        branch = self.branches.pop(run)
        self.gone = bool(branch.creator) and not self.main and not self.branches

    def has(self, run: str, task: str = "") -> bool:
        """Whether rows of a run, or of one task of it, are on main."""
        there = {(each.run, each.task) for each in self.main} | self.before
        return any(one == run and task in ("", other) for one, other in there)


@dataclass
class Model:
    """Tables, and the newest try of each task."""

    tables: dict[str, Table]
    tries: dict[Task, int] = field(default_factory=dict)
    dead: set[Task] = field(default_factory=set)
    """Tasks whose newest try died before it had begun with its own work."""
    heard: dict[Task, int] = field(default_factory=dict)
    """The newest try of each task that the lens has heard of."""
    first: dict[tuple[str, str, int, str], Line] = field(default_factory=dict)
    """What the lens has shown a try of a table first, which is where a commit begins that does not say it."""

    def has_worked(self, run: str) -> bool:
        """Whether there is anything of a run to publish or to discard."""
        return any(run in table.branches or table.has(run) for table in self.tables.values())

    def hears(self, run: str, task: str, number: int) -> None:
        self.heard[run, task] = max(number, self.heard.get((run, task), 0))

    def looks(self, name: str, run: str, task: str, number: int) -> None:
        """A try is shown a table."""
        self.hears(run, task, number)
        self.first.setdefault((run, task, number, name), self.tables[name].shown(run))

    def forgets(self) -> None:
        """A lens is started anew."""
        self.heard.clear()
        self.first.clear()

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
                base: Line | None = look.line
                if entry.kind == "replace":
                    base = self.first.get((entry.run, entry.task, entry.number, name))
                if base is None or table.main[: len(base)] != base:
                    return {403} if entry.kind == "replace" else {409}
                branch = Branch(base)
            elif branch.line != look.line and entry.kind != "replace":
                return {409}
            # What was replaced is not there any more, also not to be put back.
            kept = () if entry.kind == "replace" else branch.entries
            table.branches[entry.run] = replace(branch, entries=(*kept, entry))
        table.added += 1
        return {200}

    def puts_back(
        self, name: str, run: str, task: str
    ) -> Literal["nothing", "changed", "published", "built on"]:
        """What a new try of a task finds of its earlier ones on a table; done in the model."""
        table = self.tables[name]
        branch = table.branches.get(run)
        if not table.gone and table.has(run, task):
            return "published"
        if table.gone or branch is None:
            return "nothing"
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

    def publishes(self, run: str, first: int) -> Literal["done", "conflict", "partial"]:
        """What publishing comes to that breaks off after so many tables; done in the model."""
        there = {name: table for name, table in self.tables.items() if not table.gone}
        mine = {name: table for name, table in there.items() if run in table.branches}
        before = [table for name, table in there.items() if name not in mine and table.has(run)]
        if any(
            self._left_over(each.branches[run]) or clash(each, each.branches[run]) for each in mine.values()
        ):
            # What a publish that broke off had done is taken back, where nobody has built on it.
            half = [
                each
                for each in before
                if each.record is None or each.record.run != run or each.record.together & mine.keys()
            ]
            taken = [self._takes_back(each, run) for each in half]
            return "conflict" if all(taken) else "partial"
        for name in list(self.tables)[:first]:
            if name not in mine:
                continue
            table = mine[name]
            branch = table.branches.pop(run)
            if branch.entries:
                before_it, anew = table.main, branch.entries[0].kind == "replace"
                table.main = branch.entries if anew else table.main + branch.entries
                if anew:
                    table.before |= {(each.run, each.task) for each in before_it if each.run}
                table.record = Published(run, before_it, table.main, branch, frozenset(mine))
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
        or any(each.kind == "overwrite" for each in theirs)
        or not all(each.repeats for each in branch.entries)
    )


def rows(line: Line) -> Counter[str]:
    """What a table holds after these commits."""
    found: Counter[str] = Counter()
    for entry in line:
        if entry.kind != "append":
            found.clear()
        found[entry.row] += 1
    return found
