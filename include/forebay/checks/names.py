"""What a rule may be called and what it takes: the short names, and Great Expectations' own.

Loads without Great Expectations: its names and arguments are in gx_expectations.json, which
tools/gx_expectations.py writes and a test compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

_COLUMN = {"column": "column"}
_BOUNDS = {"min": "min_value", "max": "max_value", "strict_min": "strict_min", "strict_max": "strict_max"}
_EITHER = ("min", "max")


@dataclass(frozen=True, slots=True)
class Short:
    """A short name: what it asks for, GX's name for it, and GX's argument for each key of the YAML."""

    about: str
    gx: str = ""
    """Empty where GX has no such expectation."""
    keys: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    """At least one of these must be given."""
    row_level: bool = True
    """Whether it says of each row alone that it is refused, so that rows can go into quarantine."""


def _values(about: str, gx: str, **more: str) -> Short:
    required = ("column", *(key for key in more if key in ("values", "pattern")))
    return Short(about, gx, {**_COLUMN, **more}, required)


def _figure(about: str, gx: str) -> Short:
    return Short(about, gx, {**_COLUMN, **_BOUNDS}, ("column",), _EITHER, row_level=False)


RULES: dict[str, Short] = {
    "not_null": _values("every row has a value", "expect_column_values_to_not_be_null"),
    "null": _values("no row has a value", "expect_column_values_to_be_null"),
    "unique": Short(
        "no value, or combination of the values of several columns, occurs twice",
        "expect_column_values_to_be_unique",
        {**_COLUMN, "columns": "column_list"},
        (),
        ("column", "columns"),
    ),
    "between": Short(
        "values lie between min and max, both included unless strict_min or strict_max",
        "expect_column_values_to_be_between",
        {**_COLUMN, **_BOUNDS},
        ("column",),
        _EITHER,
    ),
    "in": _values("values are some of a list", "expect_column_values_to_be_in_set", values="value_set"),
    "not_in": _values(
        "values are none of a list", "expect_column_values_to_not_be_in_set", values="value_set"
    ),
    "matches": _values(
        "texts hold a match of a regular expression", "expect_column_values_to_match_regex", pattern="regex"
    ),
    "not_matches": _values(
        "texts hold no match of a regular expression",
        "expect_column_values_to_not_match_regex",
        pattern="regex",
    ),
    "length": Short(
        "texts have min to max characters",
        "expect_column_value_lengths_to_be_between",
        {**_COLUMN, **_BOUNDS},
        ("column",),
        _EITHER,
    ),
    "references": Short(
        "values occur in a column of another table", "", {**_COLUMN, "to": "to"}, ("column", "to")
    ),
    "sql": Short("a condition in Trino's SQL holds for every row", "", {"sql": "sql"}, ("sql",)),
    "row_count": Short(
        "the table has min to max rows",
        "expect_table_row_count_to_be_between",
        dict(_BOUNDS),
        (),
        _EITHER,
        row_level=False,
    ),
    "column_exists": Short(
        "the table has a column", "expect_column_to_exist", _COLUMN, ("column",), row_level=False
    ),
    "columns": Short(
        "the table has these columns, and with exact: true (the default) no other",
        "expect_table_columns_to_match_set",
        {"columns": "column_set", "exact": "exact_match"},
        ("columns",),
        row_level=False,
    ),
    "type": Short(
        "a column is of a type of Trino", "", {**_COLUMN, "type": "type"}, ("column", "type"), row_level=False
    ),
    "min": _figure("the smallest value lies between min and max", "expect_column_min_to_be_between"),
    "max": _figure("the largest value lies between min and max", "expect_column_max_to_be_between"),
    "mean": _figure("the mean lies between min and max", "expect_column_mean_to_be_between"),
    "median": _figure("the median lies between min and max", "expect_column_median_to_be_between"),
    "stddev": _figure("the standard deviation lies between min and max", "expect_column_stdev_to_be_between"),
    "sum": _figure("the sum lies between min and max", "expect_column_sum_to_be_between"),
    "distinct": _figure(
        "the number of different values lies between min and max",
        "expect_column_unique_value_count_to_be_between",
    ),
}
COMPOUND_UNIQUE = "expect_compound_columns_to_be_unique"
"""What `unique` with several columns is to GX."""
WITHOUT_WHERE = ("column_exists", "columns", "type")
"""Rules about the table's shape, to which a condition on rows means nothing."""


@dataclass(frozen=True, slots=True)
class GxExpectation:
    """An expectation of GX: `kind` is column_map, column_pair_map, multicolumn_map, column_aggregate or table."""

    kind: str
    arguments: tuple[str, ...]
    required: tuple[str, ...]
    note: str = ""
    """Why it cannot be used here, and what to write instead; empty where it can."""

    @property
    def row_level(self) -> bool:
        return self.kind.endswith("_map")


@lru_cache(maxsize=1)
def gx_expectations() -> dict[str, GxExpectation]:
    """Every expectation of the pinned GX by its name in snake_case."""
    text = Path(__file__).with_name("gx_expectations.json").read_text("utf-8")
    return {
        name: GxExpectation(
            each["kind"], tuple(each["arguments"]), tuple(each["required"]), each.get("note", "")
        )
        for name, each in json.loads(text).items()
    }


def snake(name: str) -> str:
    """ExpectColumnValuesToBeBetween as expect_column_values_to_be_between; a snake_case name as it is.

    Capital letters side by side stay one word: ExpectColumnPairValuesAToBeGreaterThanB has `a` and `b`.
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def camel(name: str) -> str:
    """expect_column_values_to_be_between as the name of GX's class."""
    return "".join(word.capitalize() for word in name.split("_"))
