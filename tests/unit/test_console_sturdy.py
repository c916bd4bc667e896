"""What the console bears: texts, stamps and answers that nobody in their senses would send."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.query.request import Given
from forebay_ui.html import ago, moment
from forebay_ui.pages.sql import Sheet


def test_only_who_may_query_has_a_text_read() -> None:
    text = "SELECT * FROM a.b WHERE day = :day"
    assert Sheet("w", text).parameters == {}
    assert Sheet("w", text, may=True).parameters == {"day": Given("")}


@pytest.mark.parametrize("at", [1e18, -1e18, float("nan"), float("inf")])
def test_a_moment_that_no_calendar_has_is_shown_as_none(at: float) -> None:
    assert moment(at) == "at no known time"
    assert "?" in ago(at)
