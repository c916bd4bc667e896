"""Statements, tables, places of mistakes, and values bound as literals."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from forebay.errors import ForebayError
from forebay.sqltext import MACROS, SqlError, macros_for, parse, to_duckdb, untranslatable
from forebay.sqltext.duckdb import functions_of, translated
from forebay.sqltext.functions import MACRO, REFUSED, RENAMED, REWRITTEN, SAME
from forebay.sqltext.reference import reference

ROOT = Path(__file__).parents[2]

KINDS = [
    ("SELECT * FROM a.b, lake.c.d", "select", ("a.b", "c.d"), ()),
    ("WITH x AS (SELECT 1 FROM a.b) SELECT * FROM x JOIN A.C ON true", "select", ("a.c", "a.b"), ()),
    ("VALUES (1)", "select", (), ()),
    ("(SELECT 1) UNION ALL (SELECT 2 FROM a.b)", "select", ("a.b",), ()),
    ("INSERT INTO a.b SELECT * FROM c.d", "insert", ("c.d",), ("a.b",)),
    ("INSERT INTO a.b (x) VALUES (1)", "insert", (), ("a.b",)),
    ("INSERT INTO a.b SELECT * FROM a.b", "insert", ("a.b",), ("a.b",)),
    ("UPDATE a.b SET x = (SELECT max(y) FROM c.d) WHERE x = 2", "update", ("c.d",), ("a.b",)),
    ("DELETE FROM a.b WHERE x IN (SELECT y FROM c.d)", "delete", ("c.d",), ("a.b",)),
    (
        "MERGE INTO a.b t USING c.d s ON t.k = s.k WHEN MATCHED THEN UPDATE SET v = s.v "
        "WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, s.v)",
        "merge",
        ("c.d",),
        ("a.b",),
    ),
    ("CREATE TABLE a.b AS SELECT 1 AS x FROM c.d", "create table as", ("c.d",), ("a.b",)),
    ("CREATE TABLE IF NOT EXISTS a.b (x integer NOT NULL, y varchar(3))", "create table", (), ("a.b",)),
    ("DROP TABLE IF EXISTS a.b", "drop table", (), ("a.b",)),
    ("TRUNCATE TABLE a.b", "truncate", (), ("a.b",)),
    ("ALTER TABLE a.b ADD COLUMN c integer", "alter table", (), ("a.b",)),
    ("ALTER TABLE a.b DROP COLUMN c", "alter table", (), ("a.b",)),
    ("ALTER TABLE a.b RENAME COLUMN c TO d", "alter table", (), ("a.b",)),
]


@pytest.mark.parametrize(("sql", "kind", "reads", "writes"), KINDS, ids=[row[0][:40] for row in KINDS])
def test_kind_and_tables(sql: str, kind: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
    script = parse(sql, "q.sql")
    assert script.mistakes == ()
    [statement] = script.statements
    assert (statement.kind, set(statement.reads), statement.writes) == (kind, set(reads), writes)
    duck = to_duckdb(statement)
    assert all(f"lake.{name}" in duck.lower() for name in (*reads, *writes))


REFUSED_TEXTS = [
    ("", "q.sql:1:1: there is no statement"),
    (" ; \n;", "q.sql:1:1: there is no statement"),
    ("-- nothing", "q.sql:1:1: there is no statement"),
    ("SELECT 1\nFROM x.y WHERE a = 'open", "q.sql:2:20: this string is never closed"),
    ("SELECT 1 /* open", "q.sql:1:10: this comment is never closed"),
    ('SELECT "open', "q.sql:1:8: this quoted name is never closed"),
    ("SELECT 1 +", "q.sql:1:10: syntax error: the statement ends too early"),
    ("SELECT a b c", "q.sql:1:12: syntax error at 'c'"),
    ("SELEC 1", "q.sql:1:1: SELEC is not allowed here"),
    ("FROM a.b", "q.sql:1:1: FROM is not allowed here"),
    ("SELECT * FROM t", "q.sql:1:15: write namespace.table: 't' names no namespace"),
    ("SELECT * FROM x.y.z", "q.sql:1:15: unknown catalog 'x'"),
    ("SELECT * FROM 'data.csv'", "write namespace.table"),
    ('SELECT * FROM "data.csv"', "write namespace.table"),
    ('SELECT * FROM lake."/etc"."x.csv"', "is not a table's name"),
    ("SELECT * FROM read_csv('x')", "table functions are not available here"),
    ("SELECT * FROM a.read_csv('x')", "table functions are not available here"),
    ("SELECT * FROM glob('*')", "syntax error"),
    ("SELECT * FROM TABLE(x(1))", "table functions are not available here"),
    ('SELECT * FROM a."b$snapshots"', "metadata tables"),
    ("SELECT * FROM a.b FOR VERSION AS OF 5", "time travel"),
    ("SELECT * FROM a.b TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE is not available"),
    ("SELECT * EXCLUDE (a) FROM a.b", "Trino has no * EXCLUDE"),
    ("SELECT a ILIKE 'b' FROM a.b", "Trino has no ILIKE"),
    ("SELECT a.f(1)", "functions of a schema are not available here"),
    ("SELECT x AS :name FROM a.b", "stands where only a name can stand"),
    ("SELECT * FROM :name", ""),
    ("SELECT a[-1] FROM a.b", "arrays begin at [1]"),
    ("SELECT 1 UNION BY NAME SELECT 2", "Trino has no UNION BY NAME"),
    ("SELECT 1 FROM a.b ASOF JOIN a.c USING (x)", "Trino has no ASOF JOIN"),
    ("SELECT * FROM information_schema.tables", "information_schema is not available here"),
    ("SELECT " + "(" * 500 + "1" + ")" * 500, "nested more than 100 deep"),
    ("SELECT 1" + "[1]" * 500, "nested more than 100 deep"),
    ("SELECT " + "not " * 20000 + "true", "nested too deeply"),
    ("SELECT ?", "'?' has no name"),
    ("CREATE OR REPLACE TABLE a.b AS SELECT 1 AS x", "CREATE OR REPLACE TABLE"),
    ("CREATE TABLE a.b (x integer) WITH (format = 'ORC')", "WITH (…) is not available here"),
    ("CREATE VIEW a.b AS SELECT 1", "CREATE VIEW is not allowed here"),
    ("CREATE SCHEMA a", "CREATE SCHEMA is not allowed here"),
    ("CREATE FUNCTION f() RETURNS integer RETURN 1", ""),
    ("DROP VIEW a.b", "DROP VIEW is not allowed here"),
    ("SELECT 1\x00", "NUL"),
    ("SELECT 1 FROM a.b JOIN a.c WHERE 1 = 1", "q.sql:1:19: this JOIN has neither ON nor USING"),
    ("SELECT 1 FROM a.b JOIN a.c JOIN a.d ON true", "q.sql:1:19: this JOIN has neither ON nor USING"),
    ("SELECT 1 FROM (a.b\nLEFT JOIN a.c) CROSS JOIN a.d", "q.sql:2:6: this JOIN has neither ON nor USING"),
]
REFUSED_WORDS = """
COPY a.b TO 'x'
ATTACH 'x'
DETACH x
PRAGMA x
SET x = 1
SET SESSION a = 1
RESET x
CALL a.b()
USE a.b
GRANT x
INSTALL httpfs
LOAD httpfs
EXPORT DATABASE 'x'
IMPORT DATABASE 'x'
SHOW TABLES
DESCRIBE a.b
EXPLAIN SELECT 1
BEGIN
COMMIT
VACUUM
CHECKPOINT
EXECUTE x
PREPARE x
SUMMARIZE a.b
PIVOT a.b ON x
COMMENT ON TABLE a.b IS 'x'
"""


@pytest.mark.parametrize(
    ("sql", "message"), REFUSED_TEXTS, ids=[row[0][:40] or "empty" for row in REFUSED_TEXTS]
)
def test_refused_text(sql: str, message: str) -> None:
    script = parse(sql, "q.sql")
    assert script.mistakes
    assert message in "\n".join(map(str, script.mistakes))


@pytest.mark.parametrize("sql", REFUSED_WORDS.strip().splitlines())
def test_statement_that_is_no_work_on_tables(sql: str) -> None:
    [mistake] = parse(f"SELECT 1;\n  {sql}", "q.sql").mistakes
    assert str(mistake).startswith("q.sql:2:3: ")
    assert "is not allowed here" in mistake.message


def test_every_statement_reports_its_mistakes() -> None:
    script = parse("SELECT a b c;\nSELECT 1;\nSELECT * FROM t, u;\nSELECT (", "q.sql")
    assert [(m.line, m.column) for m in script.mistakes] == [(1, 12), (3, 15), (3, 18), (4, 8)]


def test_sql_inside_yaml_counts_from_the_yaml() -> None:
    [mistake] = parse("SELECT 1\nFROM t", "job.yaml", line_offset=6, column_offset=4).mistakes
    assert (mistake.line, mistake.column) == (8, 10)


def test_cte_is_seen_only_where_it_is_known() -> None:
    assert parse("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y").mistakes == ()
    assert parse("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y, x").mistakes
    assert parse("WITH y AS (SELECT * FROM x), x AS (SELECT 1) SELECT * FROM y").mistakes
    assert parse("WITH x AS (SELECT * FROM x) SELECT * FROM x").mistakes


def test_placeholders_and_reserved_words() -> None:
    script = parse("SELECT :day,\n  :from AS f FROM a.b\nWHERE x BETWEEN :from AND :to LIMIT :limit", "q.sql")
    assert script.mistakes == ()
    marks = [(mark.name, mark.line, mark.column) for mark in script.placeholders]
    assert marks == [("day", 1, 8), ("from", 2, 3), ("from", 3, 17), ("to", 3, 27), ("limit", 3, 37)]
    with pytest.raises(SqlError, match=r"q\.sql:1:8: :day has no value yet"):
        to_duckdb(script.statements[0])
    with pytest.raises(ForebayError, match=r"no value for :from\. Did you mean 'form'\?"):
        script.statements[0].bind({"day": 1, "form": 2, "to": 3, "limit": 1})
    bound = script.statements[0].bind({"day": 1, "from": 2, "to": 3, "limit": 1})
    assert to_duckdb(bound) == "SELECT 1, 2 AS f FROM lake.a.b WHERE x BETWEEN 2 AND 3 LIMIT 1"


VALUES: list[Any] = [
    *(None, True, False, 0, -5, 2**31, -(2**63), 2**63 - 1, 1.5, -0.25, 1e300, float("inf"), float("-inf")),
    *(
        Decimal("0"),
        Decimal("0E+3000000000"),
        Decimal("1.50"),
        Decimal("-0.001"),
        Decimal("12345678901234567890.12"),
        Decimal("1E+3"),
    ),
    *(
        "",
        "it's",
        "a\\'b",
        "'; DROP TABLE x; --",
        '"',
        "$$",
        "\n\t",
        "ünï 🛫",
        "{x}",
        ":day",
        "%s",
        "' || 1 || '",
    ),
    *("\\", "\\n", "E'\\''", "/*", "--", "x' OR '1'='1", "\u2028", "''", "'" * 7),
    *(date(2020, 2, 29), date(1, 1, 1), datetime(2020, 1, 2, 3, 4, 5), datetime(2020, 1, 2, 3, 4, 5, 678901)),
]


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET TimeZone = 'UTC'")
    for macro in MACROS:
        made.execute(macro)
    return made


@pytest.mark.parametrize("macro", MACROS, ids=lambda macro: macro.split()[5])
def test_a_statement_gets_the_macros_that_its_own_call(macro: str) -> None:
    with duckdb.connect() as fresh:
        for needed in macros_for([macro]):
            fresh.execute(needed)
        fresh.execute(macro)
    # As statements are written for DuckDB.
    text = to_duckdb(parse("SELECT avg(x), date_trunc('day', y) FROM a.b").statements[0])
    assert {made.split()[5].partition("(")[0] for made in macros_for([text])} >= {
        "trino_avg_of",
        "trino_date_trunc",
    }
    assert macros_for(["SELECT round(1.5), 'trino' AS trino_"]) == ()
    called = re.search(r"MACRO (\w+)", macro)
    assert called is not None
    for text in (called[1], called[1].upper()):
        assert macro in macros_for([f"SELECT {text}(1)"])


def test_a_statement_runs_with_the_macros_named_for_it() -> None:
    text = "SELECT 7 / n AS a, date_parse('2020-01-02', '%Y-%m-%d') AS b, json_extract_scalar('{}', '$.a') AS c FROM (VALUES 2) AS t(n)"
    statement = to_duckdb(parse(text).statements[0])
    with duckdb.connect() as fresh:
        for needed in macros_for([statement]):
            fresh.execute(needed)
        assert fresh.execute(statement).fetchall() == [(3, datetime(2020, 1, 2), None)]


def back(connection: duckdb.DuckDBPyConnection, value: Any) -> Any:
    [statement] = parse("SELECT :v").statements
    [(got,)] = connection.execute(to_duckdb(statement.bind({"v": value}))).fetchall()
    return got


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_comes_back_as_it_went(connection: duckdb.DuckDBPyConnection, value: Any) -> None:
    got = back(connection, value)
    assert got == value
    assert type(got) is type(value)


def test_any_text_comes_back_as_it_went(connection: duckdb.DuckDBPyConnection) -> None:
    chance = random.Random(7)
    alphabet = "'\"\\;-/*$%{}:?()[]\n\r\t abcEeXx0é\u200b🛫"
    for _ in range(300):
        text = "".join(chance.choices(alphabet, k=chance.randint(0, 30)))
        assert back(connection, text) == text
    assert back(connection, ["a", "'", None]) == ["a", "'", None]


def test_moment_with_a_zone(connection: duckdb.DuckDBPyConnection) -> None:
    [statement] = parse("SELECT to_unixtime(:v)").statements
    for moment in (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ):
        bound = statement.bind({"v": moment})
        assert connection.execute(to_duckdb(bound)).fetchall() == [(moment.timestamp(),)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a\x00b", "NUL"),
        ("\ud800", "surrogate"),
        (2**63, "too large"),
        (Decimal("NaN"), "NaN"),
        (Decimal(10) ** 40, "more than the 38"),
        (Decimal("1e3000000000"), "more than the 38"),
        (Decimal("-1e-3000000000"), "more than the 38"),
        (Decimal("1." + "1" * 38), "39 digits"),
        ({}, "cannot be a dict"),
        (b"x", "cannot be a bytes"),
    ],
)
def test_value_no_engine_can_hold(value: Any, message: str) -> None:
    with pytest.raises(ForebayError, match=message):
        parse("SELECT :v").statements[0].bind({"v": value})


def test_negative_value_keeps_its_meaning(connection: duckdb.DuckDBPyConnection) -> None:
    [statement] = parse("SELECT 1-:v, -:v").statements
    assert connection.execute(to_duckdb(statement.bind({"v": -2}))).fetchall() == [(3, 2)]


def test_many_cases_side_by_side_are_not_nesting() -> None:
    sql = "SELECT " + ", ".join(f"CASE WHEN (x > {n}) THEN a[1] END" for n in range(300)) + " FROM a.b"
    [statement] = parse(sql).statements
    assert untranslatable(statement) == []


@pytest.mark.parametrize(
    ("begin", "again", "end"),
    [
        ("SELECT 1 FROM a.b", " JOIN a.b", ""),
        ("SELECT 1 FROM a.b", " LEFT JOIN a.b CROSS JOIN a.b", ""),
        ("SELECT 1 FROM a.b", " JOIN a.b", " ON true" * 30),
        ("SELECT 1 FROM a.b", ", a.b JOIN a.b", ""),
        ("SELECT 1 FROM a.b", " JOIN (a.b JOIN a.b", ""),
        ("SELECT ", "ARRAY[", "1" + "]" * 30),
        ("SELECT ", "ROW(", "1" + ")" * 30),
        ("SELECT ", "decimal(", "1" + ")" * 30),
        ("SELECT CAST(1 AS ", "ROW(", "integer" + ")" * 31),
    ],
)  # fmt: skip
def test_what_the_parser_would_read_over_and_over_is_refused_at_once(
    begin: str, again: str, end: str
) -> None:
    """Each of them took twice as long with each further word: days, for these."""
    began = time.process_time()
    [mistake] = parse(begin + again * 30 + end, "q.sql").mistakes
    assert "neither ON nor USING" in mistake.message or "nested too deeply" in mistake.message
    assert mistake.column > len(begin)
    assert time.process_time() - began < 2


def test_joins_whose_on_comes_later_are_joins() -> None:
    assert parse("SELECT 1 FROM a.b JOIN a.c JOIN a.d ON true ON true").mistakes == ()
    assert parse("SELECT 1 FROM a.b NATURAL LEFT JOIN a.c CROSS JOIN a.d JOIN a.e USING (x)").mistakes == ()
    assert parse("SELECT 1 FROM a.b" + " JOIN a.c ON true" * 500).mistakes == ()
    assert parse(f"SELECT ARRAY[{', '.join(['ROW(1, 2)'] * 5000)}]").mistakes == ()


def test_a_text_of_mistakes_is_given_up_soon() -> None:
    began = time.process_time()
    assert 0 < len(parse("SELECT a" + " COLLATE x" * 5000).mistakes) <= 100
    assert time.process_time() - began < 3


def test_every_duckdb_function_exists(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    exist = {name for (name,) in rows} | {"coalesce", "nullif", "grouping"}
    assert {RENAMED.get(name, name) for name in SAME | set(RENAMED)} <= exist
    assert {f"trino_{name}" for name in MACRO} <= exist


def test_lists_do_not_overlap() -> None:
    lists = (SAME, frozenset(RENAMED), REWRITTEN, MACRO, frozenset(REFUSED))
    assert sum(map(len, lists)) == len(frozenset.union(*lists))


def test_what_is_left_on_the_tree_is_duckdbs(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    exist = {name for (name,) in rows} | {"coalesce", "nullif", "grouping", "try"}
    text = (ROOT / "tests/unit/test_sqltext_semantics.py").read_text()
    used = set()
    for sql in re.findall(r'^    \(f?"(.*?)", ', text, re.MULTILINE):
        sql = sql.replace("{AGG}", "FROM a.b").replace('\\"', '"')
        for statement in parse(f"SELECT {sql}").statements:
            if not untranslatable(statement):
                used |= set(functions_of(translated(statement)))
    assert used - exist == set()


def test_reference_is_current() -> None:
    page = ROOT / "docs/reference/trino-functions.md"
    assert page.read_text() == reference(), (
        "run: python -m forebay.sqltext.reference > docs/reference/trino-functions.md"
    )


def test_loads_without_engines() -> None:
    code = (
        "import sys, forebay.sqltext as s; s.untranslatable(s.parse('SELECT 1').statements[0]); "
        "print([m for m in ('airflow', 'duckdb', 'pyspark', 'pyiceberg', 'pydantic') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
