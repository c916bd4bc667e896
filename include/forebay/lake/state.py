"""How a run stands: what Airflow says of it, and what the catalog's tables show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from forebay.lake.branch import MAIN, Branch, ancestry, on_main_before, ref, roll_backs, snapshots, stamp
from forebay.lake.identity import RECORD, Run
from forebay.lake.reversal import published_record

State = Literal[
    "running", "open", "failed", "published", "partial", "rolled back", "discarded", "nothing written", "gone"
]
OnTable = Literal["open", "published", "rolled back", "discarded"]

UNDER_WAY = frozenset(("queued", "running"))
"""Airflow's states of a run that has not ended."""


@dataclass(frozen=True)
class RunsOf:
    """Which runs left what in one table; read once, asked for many runs."""

    table: str
    branches: frozenset[str]
    main: frozenset[tuple[str, str]]
    back: frozenset[tuple[str, str]]
    made: frozenset[tuple[str, str]]

    @classmethod
    def read(cls, table: str, metadata: Mapping[str, Any]) -> RunsOf:
        known = snapshots(metadata)
        main = {_by(each) for each in [*ancestry(known, ref(metadata, MAIN)), *on_main_before(metadata)]}
        if (record := published_record(dict(metadata))) is not None:
            main.add((record["job"], record["run"]))
        return cls(
            table,
            frozenset(branch.name for branch in Branch.all(metadata)),
            frozenset(main),
            frozenset((each["job"], each["run"]) for each in roll_backs(metadata)),
            frozenset(map(_by, known.values())),
        )

    def words(self, run: Run) -> set[OnTable]:
        """What the table shows of a run: both `open` and `published` where it published and wrote again."""
        key = (run.job, run.run)
        words: set[OnTable] = set()
        if run.branch in self.branches:
            words.add("open")
        if key in self.main:
            words.add("published")
        if not words and key in self.back:
            words.add("rolled back")
        if not words and key in self.made:
            # Its snapshots are there, and nothing leads to them.
            words.add("discarded")
        return words


def state(airflow: str, words: Iterable[OnTable], *, waits: bool = False, wrote: bool = False) -> State:
    """A run's state from Airflow's and from what its tables show.

    `waits` says that it waits for a person's approval; `wrote` that its tasks reported rows, which tells a
    discarded table that is gone from one that was never written.
    """
    found = set(words)
    if airflow in UNDER_WAY:
        return "open" if waits and "open" in found else "running"
    if "published" in found:
        return "partial" if found & {"open", "rolled back"} else "published"
    if "open" in found:
        return "failed" if airflow == "failed" else "open"
    if "rolled back" in found:
        return "rolled back"
    return "discarded" if found or wrote else "nothing written"


def _by(snapshot: Mapping[str, Any]) -> tuple[str, str]:
    # A record about a run is there whatever becomes of the run.
    return ("", "") if stamp(snapshot, RECORD) else (stamp(snapshot, "job"), stamp(snapshot, "run"))
