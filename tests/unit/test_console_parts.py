"""Parts of the console that need no stack: CSV for spreadsheets, pictures of lineage and of numbers, drift."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.lake.lineage import Edge
from forebay_ui.charts import WIDTH as CHART
from forebay_ui.charts import over_time
from forebay_ui.csvtext import lines
from forebay_ui.lineage_picture import WIDTH, draw


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"),
        ("  =1", "'  =1"), ("\r=1", "'\r=1"), ("＝1", "'＝1"), ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
        ("plain", "plain"), ("a=b", "a=b"), (-5, "-5"), (1.5, "1.5"), (None, ""), ('say "hi", you', 'say "hi", you'),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(value: object, cell: str) -> None:
    text = "".join(lines([["first", value]]))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["first", cell]]


def edge(source: str, target: str, **more: Any) -> Edge:
    values = {"job": "w.j", "task": "t", "run": "r", "snapshot": 1, "read": None, "at": 1.0, "complete": True}
    return Edge(source, target, **{**values, **more})


def test_lineage_goes_from_left_to_right() -> None:
    edges = [edge("a.x", "a.y"), edge("a.y", "a.z"), edge("a.x", "a.z", complete=False), edge("b.w", "a.x")]
    picture = draw("a.y", edges, {"a.y": "3 rows"})
    place = {box.table: box.x for box in picture.boxes}
    assert place["b.w"] < place["a.x"] < place["a.y"] < place["a.z"]
    assert [box.table for box in picture.boxes if box.here] == ["a.y"]
    assert {box.below for box in picture.boxes} == {"", "3 rows"}
    assert sorted(line.complete for line in picture.lines) == [False, True, True, True]
    assert all(0 <= box.x <= picture.width - WIDTH for box in picture.boxes)
    boxes = [(box.x, box.y) for box in picture.boxes]
    assert len(set(boxes)) == len(boxes)


def test_a_circle_and_a_crowd_have_room() -> None:
    edges = [
        edge("a.x", "a.y"),
        edge("a.y", "a.x"),
        *(edge("a.y", f"a.t{number:03}") for number in range(40)),
    ]
    picture = draw("a.y", edges, {})
    assert [box.shown for box in picture.boxes if box.more] == ["26 more"]
    assert picture.height < 1000


def test_a_chart_says_what_it_shows() -> None:
    chart = over_time([(0.0, 10.0), (60.0, 30.0)], " rows", lambda value: f"{value:.0f}")
    assert chart is not None
    assert chart.said == "from 10 to 30 rows"
    assert chart.bars[1].height == 3 * chart.bars[0].height
    assert all(bar.x + bar.width <= CHART for bar in chart.bars)
    assert over_time([(0.0, 1.0)], "", str) is None
    assert over_time([(0.0, 0.0), (1.0, 0.0)], "", str) is not None
