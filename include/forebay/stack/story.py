"""What a run did, as it is told: its tasks, its tables, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from forebay.engines.trino_progress import Progress
from forebay.lake.diff import Sides
from forebay.lake.history import Made
from forebay.lake.state import OnTable, State
from forebay.stack.runs import GONE, KnownRun

Stands = Literal["main", "branch", "rolled back", "gone"]


@dataclass(frozen=True)
class Written:
    """One snapshot that the run made."""

    table: str
    made: Made
    bytes: int | None
    stands: Stands


@dataclass(frozen=True)
class Step:
    """One task of the run, or one index of a mapped task."""

    key: str
    state: str
    """Airflow's; `wrote` where only its snapshots tell of it, empty where it was not reached."""
    kind: str
    """What did the work: an engine, or the task's type."""
    at: float | None = None
    seconds: float | None = None
    tries: int = 0
    wrote: tuple[Written, ...] = ()
    read: tuple[str, ...] = ()
    """Tables as it read them, as table@snapshot."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Rows of each table after it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What became of the files of each table that it was to put together."""
    checks: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    """The last lines of a failed task's log."""
    query: str = ""
    """The id of its query or application in its engine, while the task's state keeps it."""
    progress: Progress | None = None
    """How far that query was when Trino last said so."""
    page: str = ""
    """Where its engine shows it while it runs."""

    @property
    def task(self) -> str:
        return self.key.partition("[")[0]


@dataclass(frozen=True)
class OneTable:
    """A table that shows something of the run."""

    table: str
    words: tuple[OnTable, ...]
    written: tuple[Written, ...]
    sides: Sides | None
    metadata: Mapping[str, Any] = field(repr=False)

    @property
    def added(self) -> int | None:
        return _sum(each.made.added for each in self._standing)

    @property
    def removed(self) -> int | None:
        return _sum(each.made.removed for each in self._standing)

    @property
    def bytes(self) -> int | None:
        return _sum(each.bytes for each in self._standing)

    @property
    def _standing(self) -> Sequence[Written]:
        return [each for each in self.written if each.stands != "gone"] or self.written


@dataclass(frozen=True)
class Story:
    """Everything that is known of a run."""

    run: KnownRun
    state: State
    waits: bool
    """Whether a person is asked to approve it."""
    steps: tuple[Step, ...]
    tables: tuple[OneTable, ...]
    commits: tuple[str, ...]
    user: str
    began: float | None
    seconds: float | None
    complete: bool
    """Whether all that it read is known."""

    @property
    def remembered(self) -> bool:
        """Whether Airflow still knows the run."""
        return self.run.airflow != GONE

    @property
    def failed(self) -> list[Step]:
        return [each for each in self.steps if each.state == "failed"]

    @property
    def inputs(self) -> dict[str, list[str]]:
        """The tables as they were read, and by which tasks; those the run wrote itself are left out."""
        own, found = {each.table for each in self.tables}, dict[str, list[str]]()
        for step in self.steps:
            for name in step.read:
                if name.partition("@")[0] not in own:
                    found.setdefault(name, []).append(step.key)
        return dict(sorted(found.items()))

    @property
    def acts(self) -> list[Literal["publish", "discard", "rollback"]]:
        """What may be done with it now."""
        if not self.run.ended:
            return []
        shown = {word for each in self.tables for word in each.words}
        acts: list[Literal["publish", "discard", "rollback"]] = []
        if "open" in shown:
            acts.append("publish")
            if "published" not in shown:
                acts.append("discard")
        if "published" in shown:
            acts.append("rollback")
        return acts

    @property
    def headline(self) -> tuple[str, str]:
        """How it stands in one word, and what that means in half a sentence."""
        number = len(self.tables)
        tables = self.tables[0].table if number == 1 else f"{number} tables"
        blame = _listed([each.key for each in self.failed])
        match self.state:
            case "running":
                work = _listed([each.key for each in self.steps if each.state == "running"])
                waiting = "waits to start" if self.run.airflow == "queued" else "between tasks"
                return ("Queued" if self.run.airflow == "queued" else "Running"), (
                    f"{work} is at work" if work else waiting
                ) + ("; nobody else sees what it writes" if number else "")
            case "open":
                asked = (
                    "a person is asked whether to publish it" if self.waits else "it ended without publishing"
                )
                return (
                    "Waits for approval" if self.waits else "Not published"
                ), f"{asked}; nobody else sees {tables} yet"
            case "failed":
                return (
                    "Not published",
                    f"{blame or 'the run'} failed; what it wrote to {tables} is on its branch",
                )
            case "published":
                return "Published", f"everybody sees what it wrote to {tables}"
            case "partial":
                return (
                    "Partly published",
                    "some of its tables are published and some are not: publish or roll back",
                )
            case "rolled back":
                return "Rolled back", f"what it had published to {tables} was taken off again"
            case "discarded":
                return "Discarded", "its branch was dropped; what it wrote was never seen by others"
        if self.run.airflow == "failed":
            return "Failed", f"{blame or 'it'} failed, and no table was written"
        return "Nothing written", "it changed no table"


def _sum(found: Any) -> int | None:
    """The sum of what is known; None where nothing is."""
    numbers = [each for each in found if each is not None]
    return sum(numbers) if numbers else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
