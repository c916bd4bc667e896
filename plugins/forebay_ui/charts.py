"""Small pictures of numbers over time, drawn on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebay_ui.html import moment

WIDTH, HEIGHT = 320, 84
_WIDEST = 26


@dataclass(frozen=True)
class Bar:
    """One bar; `said` is what it tells on hover."""

    x: float
    y: float
    width: float
    height: float
    said: str


@dataclass(frozen=True)
class Bars:
    """A row of bars of one colour."""

    bars: list[Bar]
    most: str
    """The tallest one's value."""
    said: str
    """The whole in one sentence."""
    first: float
    last: float
    width: int = WIDTH
    height: int = HEIGHT


def over_time(points: Sequence[tuple[float, float]], what: str, text: Callable[[float], str]) -> Bars | None:
    """Values at moments, oldest first; None for fewer than two."""
    if len(points) < 2:
        return None
    most = max(value for _, value in points) or 1
    width = min(WIDTH / len(points) * 0.8, _WIDEST)
    step = (WIDTH - width) / (len(points) - 1)
    bars = []
    for number, (at, value) in enumerate(points):
        height = max(HEIGHT * value / most, 1.5)
        said = f"{text(value)}{what}, {moment(at)}"
        bars.append(
            Bar(round(number * step, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2), said)
        )
    first, last = points[0][1], points[-1][1]
    return Bars(
        bars, f"{text(most)}{what}", f"from {text(first)} to {text(last)}{what}", points[0][0], points[-1][0]
    )
