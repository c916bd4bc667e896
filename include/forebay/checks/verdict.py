"""What a rule found: a result in GX's format, and what it means for the task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from forebay.checks.columns import plain
from forebay.checks.compile import Compiled, Figure, RowTest, Shape
from forebay.checks.rules import Rule


@dataclass
class Verdict:
    """A rule's outcome. `result` is GX's: element_count, unexpected_count, observed_value and so on."""

    rule: Rule
    success: bool
    result: dict[str, Any] = field(default_factory=dict)
    by_gx: bool = False
    """Whether Great Expectations itself looked."""
    positions: Sequence[tuple[str, int]] = ()
    """The file and place of each row GX refused, where they are to be moved."""

    @property
    def unexpected(self) -> int:
        return int(self.result.get("unexpected_count") or 0)

    @property
    def word(self) -> str:
        """passed, failed, warned or quarantined."""
        if self.rule.severity == "quarantine" and self.success:
            return "quarantined" if self.unexpected else "passed"
        if self.success:
            return "passed"
        return "warned" if self.rule.severity == "warn" else "failed"

    def as_gx(self) -> dict[str, Any]:
        """As an ExpectationValidationResult's dictionary, all values plain."""
        return {
            "success": self.success,
            "expectation_config": {
                "type": self.rule.kind,
                "kwargs": json_value({**self.rule.arguments, **self._mostly()}),
                "meta": {"rule": self.rule.label, "where": self.rule.where or None},
            },
            "result": json_value(self.result),
            "meta": {"engine": "great_expectations" if self.by_gx else "sql"},
            "exception_info": {
                "raised_exception": False,
                "exception_message": None,
                "exception_traceback": None,
            },
        }

    def _mostly(self) -> dict[str, float]:
        return {"mostly": self.rule.mostly} if self.rule.row_level else {}


def verdict(test: Compiled, number: int, found: Mapping[str, Any]) -> Verdict:
    """The outcome of the compiled rule at position `number`, from the one row that was counted."""
    if isinstance(test, Shape):
        return Verdict(test.rule, test.success, {"observed_value": test.observed})
    if isinstance(test, Figure):
        success, observed = test.judge({name: found[f"r{number}_{name}"] for name in test.sums})
        return Verdict(test.rule, success, {"observed_value": observed})
    return _rows(test, number, found)


def _rows(test: RowTest, number: int, found: Mapping[str, Any]) -> Verdict:
    elements = int(found[f"r{number}_n"] if test.where is not None else found["n"])
    unexpected = int(found[f"r{number}_unexpected"])
    missing = None if test.missing is None else int(found[f"r{number}_missing"])
    looked_at = elements - (missing or 0)
    # GX's own arithmetic, so that a share at the very edge of `mostly` falls to the same side.
    success = not looked_at or (float(looked_at) - float(unexpected)) / float(looked_at) >= test.rule.mostly
    result: dict[str, Any] = {
        "element_count": elements,
        "unexpected_count": unexpected,
        "unexpected_percent": _percent(unexpected, looked_at),
        "partial_unexpected_list": [],
    }
    if missing is not None:
        result |= {
            "missing_count": missing,
            "missing_percent": _percent(missing, elements),
            "unexpected_percent_total": _percent(unexpected, elements),
            "unexpected_percent_nonmissing": _percent(unexpected, looked_at),
        }
    return Verdict(test.rule, success, result)


def _percent(part: int, whole: int) -> float | None:
    return part / whole * 100 if whole else None


def json_value(value: Any) -> Any:
    """A value as JSON can hold it; NaN and the infinities become text."""
    if isinstance(value, Mapping):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(each) for each in value]
    if isinstance(value, Decimal):
        whole = plain(value)
        return whole if isinstance(whole, int) else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json_value(value.item()) if hasattr(value, "item") else str(value)
