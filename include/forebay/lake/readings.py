"""What a run read, task by task, from the snapshots it left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from forebay.lake.branch import snapshots
from forebay.lake.history import Made
from forebay.lake.identity import Run
from forebay.lake.reversal import made_by


class Readings:
    """Collects from every table that shows something of the run; its own tables are no inputs."""

    def __init__(self, run: Run, own: Iterable[str]) -> None:
        self.run = run
        self._own = set(own)
        self._made: list[Made] = []

    def add(self, table: str, metadata: Mapping[str, Any]) -> None:
        """A table that the run wrote."""
        self._own.add(table)
        self._made += [Made.of(each) for each in snapshots(metadata).values() if made_by(each, self.run)]

    @property
    def found(self) -> bool:
        return bool(self._made)

    @property
    def complete(self) -> bool:
        return all(made.complete for made in self._last())

    @property
    def commits(self) -> set[str]:
        return {made.commit for made in self._last() if made.commit}

    @property
    def inputs(self) -> dict[str, list[str]]:
        """By task the tables as it last read them, as table@snapshot."""
        read: dict[str, dict[str, str]] = {}
        for made in self._last():
            # An index of a mapped task reads as its siblings do.
            tables = read.setdefault(made.task.partition("[")[0], {})
            tables.update((each.table, str(each)) for each in made.inputs if each.table not in self._own)
        return {task: [tables[name] for name in sorted(tables)] for task, tables in sorted(read.items())}

    def _last(self) -> list[Made]:
        """Of each task what its last try made, oldest first."""
        tries: dict[str, int] = {}
        for made in self._made:
            tries[made.task] = max(made.number, tries.get(made.task, 0))
        return sorted(
            (made for made in self._made if made.number == tries[made.task]), key=lambda made: made.at
        )
