"""Which table was made from which: from what tasks were seen to read, not from what their text says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.lake.branch import MAIN, Json, ancestry, ref, snapshots
from forebay.lake.history import Made


@dataclass(frozen=True, slots=True)
class Edge:
    """A job that read one table and wrote another, the last time it did."""

    source: str
    target: str
    job: str
    task: str
    run: str
    snapshot: int
    """Of the target."""
    read: int | None
    """Snapshot of the source."""
    at: float
    complete: bool
    """False where the task may have read more: the lens was restarted while it ran."""


@dataclass
class Graph:
    """The whole lake's edges, and the tables that others than runs have written."""

    edges: dict[tuple[str, str, str, str], Edge] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    incomplete: set[str] = field(default_factory=set)
    """Tables that a task wrote of which not all that it read is known."""
    _into: dict[str, set[Edge]] = field(default_factory=dict)
    _out_of: dict[str, set[Edge]] = field(default_factory=dict)

    def copy(self) -> Graph:
        """One that changes without changing this one."""
        return Graph(
            dict(self.edges),
            set(self.tables),
            set(self.foreign),
            set(self.incomplete),
            {name: set(edges) for name, edges in self._into.items()},
            {name: set(edges) for name, edges in self._out_of.items()},
        )

    def remove(self, table: str) -> None:
        """Forgets a table and the edges into it."""
        for edge in list(self._into.get(table, ())):
            self._drop(edge)
        for known in (self.tables, self.foreign, self.incomplete):
            known.discard(table)

    def _drop(self, edge: Edge) -> None:
        self.edges.pop((edge.source, edge.target, edge.job, edge.task), None)
        self._into[edge.target].discard(edge)
        self._out_of[edge.source].discard(edge)

    def add(self, table: str, metadata: Mapping[str, Any]) -> None:
        """The edges into a table, from the snapshots on its main."""
        self.tables.add(table)
        for each in ancestry(snapshots(metadata), ref(metadata, MAIN)):
            made = Made.of(each)
            if not made.run:
                self.foreign.add(table)
            elif not made.complete:
                self.incomplete.add(table)
            # Of what checks found nothing is made; a picture with it in would show little else.
            for source in () if made.record else made.inputs:
                key = (source.table, table, made.job, made.task)
                edge = Edge(
                    source.table, table, made.job, made.task, made.run, made.snapshot, source.snapshot, made.at,
                    made.complete,
                )  # fmt: skip
                before = self.edges.get(key)
                if before is None or before.at < edge.at:
                    if before is not None:
                        self._drop(before)
                    self.edges[key] = edge
                    self._into.setdefault(table, set()).add(edge)
                    self._out_of.setdefault(source.table, set()).add(edge)

    def up(self, table: str) -> list[Edge]:
        """Into the table, by source."""
        return sorted(self._into.get(table, ()), key=lambda e: (e.source, e.job))

    def down(self, table: str) -> list[Edge]:
        """Out of the table, by target."""
        return sorted(self._out_of.get(table, ()), key=lambda e: (e.target, e.job))

    def around(self, table: str, depth: int) -> list[Edge]:
        """Every edge on the way up from a table and on the way down, so many steps far."""
        found: dict[Edge, None] = {}
        for side, end in ((self.up, "source"), (self.down, "target")):
            reached, now = {table}, [table]
            for _ in range(depth):
                edges = [edge for name in now for edge in side(name)]
                found.update(dict.fromkeys(edges))
                now = list(
                    dict.fromkeys(getattr(edge, end) for edge in edges if getattr(edge, end) not in reached)
                )
                reached.update(now)
        return list(found)


def document(graph: Graph, table: str, edges: Iterable[Edge]) -> Json:
    """The graph around a table as nodes and edges."""
    edges = list(edges)
    names = sorted({table, *(e.source for e in edges), *(e.target for e in edges)})
    return {
        "table": table,
        "nodes": [
            {
                "table": name,
                "exists": name in graph.tables,
                "other_writers": name in graph.foreign,
                "inputs_complete": name not in graph.incomplete | graph.foreign,
            }
            for name in names
        ],
        "edges": [
            {
                "from": e.source,
                "to": e.target,
                "job": e.job,
                "task": e.task,
                "run_id": e.run,
                "snapshot_id": str(e.snapshot),
                "read_snapshot_id": None if e.read is None else str(e.read),
                "at": e.at,
                "complete": e.complete,
            }
            for e in edges
        ],
    }
