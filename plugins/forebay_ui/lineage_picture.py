"""The tables around one as a picture: layers from left to right, drawn on the server, so that it needs no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from forebay.lake.lineage import Edge

WIDTH, HEIGHT = 210, 46
_ACROSS, _DOWN = 76, 14
_EDGE = 8
_IN_A_LAYER = 14
_LETTERS = 27


@dataclass(frozen=True)
class Box:
    """One table; `more` in place of one says how many have no room."""

    table: str
    x: float
    y: float
    shown: str
    below: str
    here: bool = False
    more: int = 0


@dataclass(frozen=True)
class Line:
    """A job that made one table from another."""

    path: str
    said: str
    complete: bool


@dataclass(frozen=True)
class Picture:
    """Boxes and lines, and how much room they take."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[Line]


def draw(table: str, edges: Sequence[Edge], below: Mapping[str, str]) -> Picture:
    """The picture around a table; `below` is what stands under a table's name."""
    layers = _layers(table, edges)
    order = sorted(set(layers.values()))
    columns = {
        layer: sorted((name for name, at in layers.items() if at == layer), key=lambda name: name)
        for layer in order
    }
    columns = _untangled(columns, edges, layers)
    boxes: dict[str, Box] = {}
    extra: list[Box] = []
    tallest = max(min(len(names), _IN_A_LAYER + 1) for names in columns.values())
    height = tallest * (HEIGHT + _DOWN) - _DOWN + 2 * _EDGE
    for place, layer in enumerate(order):
        names = columns[layer]
        shown, left = names[:_IN_A_LAYER], len(names) - _IN_A_LAYER
        count = len(shown) + (left > 0)
        top = (height - (count * (HEIGHT + _DOWN) - _DOWN)) / 2
        x = _EDGE + place * (WIDTH + _ACROSS)
        for number, name in enumerate(shown):
            y = top + number * (HEIGHT + _DOWN)
            boxes[name] = Box(
                name, x, y, _short(name.rpartition(".")[2]), _short(below.get(name, "")), name == table
            )
        if left > 0:
            y = top + len(shown) * (HEIGHT + _DOWN)
            extra.append(Box("", x, y, f"{left:,} more", "", more=left))
    width = len(order) * (WIDTH + _ACROSS) - _ACROSS + 2 * _EDGE
    return Picture(width, height, [*boxes.values(), *extra], _lines(boxes, edges))


def _layers(table: str, edges: Sequence[Edge]) -> dict[str, int]:
    """How many steps each table is before (negative) or after the one in the middle, by the shortest way."""
    found = {table: 0}
    for step, near, far in ((-1, "target", "source"), (1, "source", "target")):
        now = [table]
        layer = 0
        while now:
            layer += step
            reached = [getattr(e, far) for name in now for e in edges if getattr(e, near) == name]
            now = [name for name in dict.fromkeys(reached) if name not in found]
            found.update(dict.fromkeys(now, layer))
    return found


def _untangled(
    columns: Mapping[int, list[str]], edges: Iterable[Edge], layers: Mapping[str, int]
) -> dict[int, list[str]]:
    """Each layer's tables by where their neighbours nearer to the middle stand, so that fewer lines cross."""
    near: dict[str, list[str]] = {}
    for edge in edges:
        near.setdefault(edge.source, []).append(edge.target)
        near.setdefault(edge.target, []).append(edge.source)
    done = {0: list(columns[0])}
    for layer in sorted(columns, key=abs):
        if layer == 0:
            continue
        before = done.get(layer - (1 if layer > 0 else -1), [])
        place = {name: number for number, name in enumerate(before)}

        def middle(name: str, place: Mapping[str, int] = place) -> tuple[float, str]:
            at = [place[each] for each in near.get(name, ()) if each in place]
            return (sum(at) / len(at) if at else len(place), name)

        done[layer] = sorted(columns[layer], key=middle)
    return done


def _lines(boxes: Mapping[str, Box], edges: Iterable[Edge]) -> list[Line]:
    by: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        if edge.source in boxes and edge.target in boxes:
            by.setdefault((edge.source, edge.target), []).append(edge)
    found = []
    for (source, target), made in by.items():
        start, end = boxes[source], boxes[target]
        x1, y1 = start.x + WIDTH, start.y + HEIGHT / 2
        x2, y2 = end.x, end.y + HEIGHT / 2
        if x2 > x1:
            bend = (x2 - x1) / 2
            path = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
        else:
            # Back, or to itself: around below.
            low = max(y1, y2) + HEIGHT / 2 + _DOWN / 2
            path = f"M{x1:g} {y1:g}C{x1 + 40:g} {low:g} {x2 - 40:g} {low:g} {x2:g} {y2:g}"
        jobs = ", ".join(dict.fromkeys(edge.job for edge in made))
        found.append(Line(path, f"{jobs}: {source} → {target}", all(edge.complete for edge in made)))
    return found


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
