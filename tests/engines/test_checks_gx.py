"""Compiled rules and Great Expectations say the same of random tables: verdict, counts, figures."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from forebay.checks.evaluate import evaluate
from forebay.checks.rules import Rule, rules_of
from forebay.checks.verdict import Verdict
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.tables import TableDefinition
from forebay.sqltext import MACROS
from forebay.tasks.checks import Expectation

COUNTS = ("element_count", "unexpected_count", "missing_count")
DAY = date(2024, 1, 1)
MOMENT = datetime(2024, 1, 1, 12)
TEXTS = ["", "a", "ab", "Abc", "b1", "1", "12\n", "٣", "é!", "a b", "a.b", "v_1", "NaN", "x" * 7]
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "i": (pa.int32(), st.integers(-4, 4)),
    "l": (pa.int64(), st.sampled_from([0, 1, -1, 2**53 + 1, 2**53 + 3, -(2**62)])),
    "f": (
        pa.float64(),
        st.sampled_from([0.0, -0.0, 0.5, -1.5, 3.25, 1e300, math.nan, math.inf, -math.inf]),
    ),
    "g": (pa.float64(), st.sampled_from([0.0, 0.5, -1.5, 3.25, math.nan])),
    "n": (pa.decimal128(9, 2), st.integers(-300, 300).map(lambda cents: Decimal(cents) / 100)),
    "s": (pa.string(), st.sampled_from(TEXTS)),
    "b": (pa.bool_(), st.booleans()),
    "d": (pa.date32(), st.integers(0, 5).map(lambda days: DAY + timedelta(days))),
    "t": (pa.timestamp("us"), st.integers(0, 5).map(lambda hours: MOMENT + timedelta(hours=hours))),
    "z": (pa.timestamp("us", "UTC"), st.integers(0, 5).map(lambda hours: MOMENT + timedelta(hours=hours))),
}
BOUNDS: dict[str, st.SearchStrategy[Any]] = {
    "i": st.integers(-5, 5) | st.sampled_from([0.5, -2.5]),
    "l": st.sampled_from([0, 1, 2**40]),
    "f": st.sampled_from([0, 0.5, -1.5, 1e300]),
    "g": st.sampled_from([0, 0.5, -1.5, 3.25]),
    "n": st.sampled_from([0, 1, -1.5, 0.25]),
    "d": st.integers(0, 5).map(lambda days: (DAY + timedelta(days)).isoformat()),
    "t": st.integers(0, 5).map(lambda hours: (MOMENT + timedelta(hours=hours)).isoformat()),
    "z": st.integers(0, 5).map(lambda hours: (MOMENT + timedelta(hours=hours)).isoformat()),
}
PATTERNS = [
    "a", "^a", "b$", "^[a-z]+$", r"\d", r"^\w+$", r"\s", "^$", "(a|b)1?", "[^a]", "a.b", r"a\.b",
    r"\D$", "^.{2,3}$", "x{7}", "é", r"[\w.]+", r"^\S+$", r"\d$",
]  # fmt: skip
WHERE = [None, "i > 0", "s <> 'a'", "b", "d < DATE '2024-01-03' OR i IS NULL"]


@pytest.fixture
def engine(config: CatalogConfig) -> Iterator[DuckDBEngine]:
    with DuckDBEngine(config, macros=MACROS) as made:
        yield made


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A few rows over every type; small ranges, so that values repeat."""
    size = draw(st.integers(1, 14))
    return pa.table(
        {
            name: pa.array(
                draw(st.lists(st.none() | values, min_size=size, max_size=size)), kind, from_pandas=False
            )
            for name, (kind, values) in KINDS.items()
        }
    )


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    rule = draw(
        st.sampled_from(
            ["not_null", "null", "unique", "compound", "between", "in", "not_in", "matches", "not_matches",
             "length", "row_count", "column_exists", "columns", "min", "max", "mean", "sum", "distinct"]
        )
    )  # fmt: skip
    given: dict[str, Any] = {"rule": "unique" if rule == "compound" else rule}
    where = draw(st.sampled_from(WHERE))
    if rule not in ("column_exists", "columns") and where:
        given["where"] = where
    mostly = draw(st.sampled_from([None, 0.3, 0.5, 0.75, 0.9]))
    if (
        rule in ("not_null", "null", "unique", "compound", "between", "in", "not_in", "matches", "length")
        and mostly
    ):
        given["mostly"] = mostly
    names = list(KINDS)
    if rule in ("not_null", "null", "unique"):
        given["column"] = draw(st.sampled_from(names))
    elif rule == "compound":
        given["columns"] = draw(st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True))
    elif rule in ("between", "min", "max"):
        name = given["column"] = draw(st.sampled_from(list(BOUNDS)))
        _bounds(draw, given, BOUNDS[name])
    elif rule in ("in", "not_in"):
        name = given["column"] = draw(st.sampled_from([*BOUNDS, "s", "b"]))
        values = {**BOUNDS, "s": st.sampled_from(TEXTS), "b": st.booleans()}[name]
        given["values"] = draw(st.lists(values, min_size=1, max_size=4))
    elif rule in ("matches", "not_matches"):
        given |= {"column": "s", "pattern": draw(st.sampled_from(PATTERNS))}
    elif rule == "length":
        given["column"] = "s"
        _bounds(draw, given, st.integers(0, 4))
    elif rule == "row_count":
        _bounds(draw, given, st.integers(0, 15))
    elif rule == "column_exists":
        given["column"] = draw(st.sampled_from(["a", "i", "s"]))
    elif rule == "columns":
        given |= {
            "columns": draw(st.sampled_from([names, names[1:], [*names, "a"]])),
            "exact": draw(st.booleans()),
        }
    else:
        given["column"] = draw(st.sampled_from(["i", "g", "f"] if rule != "distinct" else names))
        _bounds(draw, given, st.integers(-3, 6))
    return Expectation.model_validate(given)


def _bounds(draw: st.DrawFn, given: dict[str, Any], values: st.SearchStrategy[Any]) -> None:
    low, high = sorted((draw(values), draw(values)))
    keys = draw(st.sampled_from([("min",), ("max",), ("min", "max")]))
    for key, value in (("min", low), ("max", high)):
        if key in keys:
            given[key] = value
            given[f"strict_{key}"] = draw(st.booleans())


def write(engine: DuckDBEngine, name: str, rows: pa.Table) -> None:
    engine.connection.register("given_rows", rows)
    engine.write("SELECT * FROM given_rows", TableDefinition(name))
    engine.connection.unregister("given_rows")


def same(ours: Verdict, theirs: Verdict) -> None:
    rule = ours.rule
    assert ours.success == theirs.success, (rule, ours.result, theirs.result)
    for key in COUNTS:
        assert ours.result.get(key) == theirs.result.get(key), (rule, key, ours.result, theirs.result)
    for key in (
        "unexpected_percent",
        "missing_percent",
        "unexpected_percent_total",
        "unexpected_percent_nonmissing",
    ):
        one, two = ours.result.get(key), theirs.result.get(key)
        assert (one is None) == (two is None), (rule, key, ours.result, theirs.result)
        assert one is None or one == pytest.approx(two), (rule, key)
    if rule.rule in ("row_count", "mean", "sum", "distinct"):
        one, two = ours.result["observed_value"], theirs.result["observed_value"]
        assert (one is None) == (two is None), (rule, one, two)
        assert one is None or float(one) == pytest.approx(float(two)), (rule, one, two)


@settings(
    max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(rows=tables(), expect=st.lists(expectations(), min_size=15, max_size=25))
def test_compiled_rules_and_gx_agree(
    engine: DuckDBEngine, namespace: str, rows: pa.Table, expect: list[Expectation]
) -> None:
    name = f"{namespace}.t{uuid.uuid4().hex[:8]}"
    write(engine, name, rows)
    rules = rules_of(expect)
    ours = evaluate(engine, name, rules).verdicts
    theirs = evaluate(engine, name, rules, all_by_gx=True).verdicts
    assert not any(one.by_gx for one in ours)
    assert all(one.by_gx for one in theirs)
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)
        bad = one.result.get("unexpected_count", 0)
        assert min(bad, 20) == len(one.result.get("partial_unexpected_list", []))


def rule(name: str, **arguments: Any) -> Rule:
    return rules_of([Expectation.model_validate({"expectation": name, "arguments": arguments})])[0]


def test_gx_itself_looks_at_what_is_not_compiled(engine: DuckDBEngine, namespace: str) -> None:
    name = f"{namespace}.t"
    write(engine, name, pa.table({"s": ["{}", "[", None, "1"], "x": [1.0, 2.0, None, 50.0]}))
    rules = [
        rule("ExpectColumnValuesToBeJsonParseable", column="s"),
        rule("expect_column_median_to_be_between", column="x", min_value=1, max_value=3),
        rule("expect_column_values_to_match_regex", column="s", regex=r"(?=\{)"),
    ]
    lines: list[str] = []
    found = evaluate(engine, name, rules, log=lines.append).verdicts
    assert [one.by_gx for one in found] == [True, True, True]
    assert [one.success for one in found] == [False, True, False]
    assert found[0].result["unexpected_count"] == 1
    assert found[0].result["partial_unexpected_list"] == ["["]
    assert "importing it takes some seconds" in lines[0]
