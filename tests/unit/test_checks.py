"""Rules of checks tasks: their names, what they become, and that GX's own names are those of the pinned GX."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, DoubleType, LongType, NestedField, StringType

from forebay import sqltext
from forebay.checks import queries
from forebay.checks.columns import Columns
from forebay.checks.compile import Figure, Inner, RowTest
from forebay.checks.conditions import Condition
from forebay.checks.kinds import KINDS, compiled
from forebay.checks.names import RULES, camel, gx_expectations, snake
from forebay.checks.regex import portable
from forebay.checks.rules import Rule, from_dicts, rules_of
from forebay.project import Project
from forebay.tasks.checks import Expectation, RuleName

ROOT = Path(__file__).resolve().parents[2]


def rules(*given_rules: dict[str, Any]) -> list[Rule]:
    return rules_of([Expectation.model_validate(one) for one in given_rules])


def test_the_list_of_gx_is_that_of_the_pinned_gx() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools/gx_expectations.py"), "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, f"{run.stderr}\nrun: python tools/gx_expectations.py"


def test_names_lead_to_gx_and_back() -> None:
    known = gx_expectations()
    assert {snake(camel(name)) for name in known} == set(known)
    assert (
        snake("ExpectColumnPairValuesAToBeGreaterThanB") == "expect_column_pair_values_a_to_be_greater_than_b"
    )
    for name, short in RULES.items():
        assert not short.gx or short.gx in known, name
        assert not short.gx or set(short.keys.values()) - {"column_list"} <= set(known[short.gx].arguments), (
            name
        )
        assert not short.gx or short.row_level == known[short.gx].row_level, name
        assert set(short.keys) <= set(Expectation.model_fields), name
    assert get_args(RuleName) == tuple(RULES)
    assert set(KINDS) <= set(known) | set(RULES)


def test_checking_jobs_imports_no_great_expectations() -> None:
    program = (
        "import sys, forebay.tasks.checks as c, forebay.checks.names as n; n.gx_expectations()\n"
        "print(sorted({'great_expectations', 'pandas', 'sqlglot', 'duckdb', 'airflow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_rules_get_names_of_their_own() -> None:
    found = rules(
        {"rule": "not_null", "column": "a"},
        {"rule": "not_null", "column": "a", "where": "b > 1"},
        {"rule": "unique", "columns": ["a", "b"], "severity": "quarantine"},
        {"rule": "unique", "columns": ["a"]},
        {"name": "few", "rule": "row_count", "max": 3},
        {"expectation": "ExpectColumnMedianToBeBetween", "column": "a", "arguments": {"min_value": 3}},
    )
    assert [rule.label for rule in found] == [
        "not_null(a)", "not_null(a)#2", "unique(a+b)", "unique(a)", "few", "expect_column_median_to_be_between(a)",
    ]  # fmt: skip
    assert [rule.mostly for rule in found] == [1, 1, 0, 1, 1, 1]
    assert found[3].expectation == "expect_column_values_to_be_unique"
    assert found[5].arguments == {"min_value": 3, "column": "a"}
    assert from_dicts(rule.as_dict() for rule in found) == found


PATTERNS = [
    "a", "^a", "b$", "(a|b)$", "^[a-z]+$", r"\d", r"^\w+$", r"\s", "^$", "(ab)+", "[^a]", "a.b", r"a\.b", r"\D$",
    "^.{2,3}$", "x{2}", "é", r"[\w.]+", r"^\S+$", r"\d$", "a*?b", r"[\]\-^]", r"\Aa|b\Z", "[a-b-]", r"[^\s\d]", r"\W",
]  # fmt: skip
SUBJECT = st.text(st.sampled_from("ab1. \n\t\x0b\x1f\x85\u00a0\u2028é٣^-]x_Z²Ⅷ"), max_size=5)


@settings(max_examples=300, deadline=None)
@given(pattern=st.sampled_from(PATTERNS), subject=SUBJECT)
def test_regular_expressions_mean_what_python_means(pattern: str, subject: str) -> None:
    ours = portable(pattern)
    assert ours is not None
    row = duckdb.execute("SELECT regexp_matches(?, ?)", [subject, ours]).fetchone()
    assert row is not None
    assert row[0] == (re.search(pattern, subject) is not None), (pattern, ours, subject)


@pytest.mark.parametrize(
    "pattern", ["(?=a)", r"(a)\1", r"\bword", "(?i)a", "a$b", "a{2000}", "(?P<n>a)(?P=n)"]
)
def test_what_engines_read_differently_goes_to_gx(pattern: str) -> None:
    assert portable(pattern) is None


def columns() -> Columns:
    types = {"carrier": StringType(), "day": DateType(), "delay": DoubleType(), "n": LongType()}
    fields = [NestedField(i, name, kind, required=False) for i, (name, kind) in enumerate(types.items(), 1)]
    return Columns("ns.t", Schema(*fields))


def test_all_rules_are_one_statement_in_trino_s_dialect() -> None:
    inner = Inner(columns(), {"day": 3})
    found = rules(
        {"rule": "not_null", "column": "delay"},
        {"rule": "between", "column": "day", "min": "2013-01-01", "where": "n > :day"},
        {"rule": "in", "column": "carrier", "values": ["O'Hare", "x; DROP TABLE a.b"]},
        {"rule": "unique", "column": "carrier"},
        {"rule": "sum", "column": "n", "max": 3},
    )
    tests = [compiled(rule, inner) for rule in found]
    query = queries.counts([test for test in tests if isinstance(test, RowTest | Figure)], inner)
    text = query.sql(dialect="trino")
    assert text == (
        "SELECT * FROM (SELECT COUNT(*) AS n, COUNT_IF((v0 IS NULL)) AS r0_unexpected, COUNT_IF(v2) AS "
        "r1_n, COUNT_IF((v2 AND v1 IS NULL)) AS r1_missing, COUNT_IF((v2 AND (v1 < CAST('2013-01-01' AS "
        "DATE)))) AS r1_unexpected, COUNT_IF((v3 IS NULL)) AS r2_missing, COUNT_IF(((NOT v3 IS NULL AND "
        "NOT v3 IN ('O''Hare', 'x; DROP TABLE a.b')))) AS r2_unexpected, COUNT_IF(((v3 IS NULL))) AS "
        'r3_missing, SUM(CAST(v4 AS DECIMAL(38, 0))) AS r4_n FROM (SELECT CASE WHEN IS_NAN("delay") THEN'
        ' NULL ELSE "delay" END AS v0, "day" AS v1, (n > 3) AS v2, "carrier" AS v3, "n" AS v4 FROM '
        "forebay_rows) AS t) AS a CROSS JOIN (SELECT COALESCE(SUM(k), 0) AS r3_unexpected FROM (SELECT "
        'COUNT(*) AS k FROM (SELECT "carrier" AS v3 FROM forebay_rows) AS t WHERE (NOT (v3 IS NULL)) '
        "GROUP BY v3 HAVING COUNT(*) > 1) AS g) AS u3"
    )
    assert "O''Hare" in sqltext.to_duckdb(query)


def test_conditions_are_about_one_row() -> None:
    assert Condition("delay < 3 AND any_match(tags, x -> x = carrier)").columns == [
        "delay",
        "tags",
        "carrier",
    ]
    for text in (
        "1) OR (1",
        "a; b",
        "",
        "count(*) > 1",
        "a IN (SELECT 1)",
        "row_number() OVER () > 1",
        "a -- )",
    ):
        assert Condition(text).mistakes or text == "a -- )", text


def test_who_writes_what(tmp_path: Path) -> None:
    folder = tmp_path / "dags/sales"
    folder.mkdir(parents=True)
    (folder / "workspace.yaml").write_text("owner: sales\n")
    (folder / "a.yaml").write_text(
        "tasks:\n"
        "  - {key: make, type: sql, sql: SELECT 1 AS id, table: sales.t}\n"
        "  - {key: look, type: checks, table: sales.t, expect: [{rule: row_count, min: 1}]}\n"
        "  - key: move\n    type: checks\n    table: sales.t\n    expect:\n"
        "      - {rule: not_null, column: id, severity: quarantine}\n"
    )
    make, look, move = Project(tmp_path).load_job("sales", "a").spec.tasks
    assert make.writes == ("sales.t",)
    assert (look.writes, look.reads) == ((), ("sales.t",))
    assert move.writes == ("sales.t", "sales.t__quarantine")
