"""Translated SQL run by DuckDB gives what Trino's documentation says (https://trino.io/docs/current/)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from forebay.sqltext import MACROS, SqlError, parse, to_duckdb

AGG = "FROM (VALUES (1, 1), (NULL, 2), (3, 3)) t(x, y)"

ROWS: list[tuple[str, Any]] = [
    # arithmetic
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("7 / 2.0", Decimal("3.5")),
    ("7e0 / 2", 3.5),
    ("10.00 / 3", Decimal("3.33")),
    ("1.0 / 8", Decimal("0.1")),
    ("9007199254740993 / 1", 9007199254740993),
    ("(7 + 2) / 2 * 2", 8),
    ("1 - (7 / 2)", -2),
    ("1e0 / 0", float("inf")),
    ("try(1 / 0)", None),
    ("NULL / 2", None),
    ("-5 % 3", -2),
    ("mod(5, -3)", 2),
    ("try(5 % 0)", None),
    ("round(2.5e0)", 3.0),
    ("round(-2.5e0)", -3.0),
    ("truncate(-2.5)", Decimal("-2")),
    ("log(2, 8)", 3.0),
    ("bitwise_and(6, 3) + bitwise_or(4, 1)", 7),
    ("bitwise_xor(6, 3)", 5),
    ("bitwise_not(1)", -2),
    ("ceil(7) / 2", 3),
    ("floor(-1.5)", Decimal("-2")),
    ("ceil(9.5)", Decimal("10")),
    ("sign(2.5e0) / 2", 0.5),
    ("round(1.2345, 2)", Decimal("1.2300")),
    ("is_nan(nan())", True),
    ("is_infinite(infinity())", True),
    # casts
    ("cast(2.5e0 AS bigint)", 3),
    ("cast(-2.5e0 AS integer)", -3),
    ("cast(3.5e0 AS integer)", 4),
    ("cast(2.5 AS integer)", 3),
    ("cast('12' AS bigint)", 12),
    ("try_cast('1.5' AS integer)", None),
    ("try_cast('x' AS double)", None),
    ("try_cast('300' AS tinyint)", None),
    ("cast(true AS integer)", 1),
    ("cast(1e0 AS varchar)", "1.0E0"),
    ("cast(123.456e0 AS varchar)", "1.23456E2"),
    ("cast(0.00123e0 AS varchar)", "1.23E-3"),
    ("cast(-1.5e-10 AS varchar)", "-1.5E-10"),
    ("cast(1e20 AS varchar)", "1.0E20"),
    ("cast(0e0 AS varchar)", "0E0"),
    ("cast(nan() AS varchar)", "NaN"),
    ("cast(-infinity() AS varchar)", "-Infinity"),
    ("cast(1.50 AS varchar)", "1.50"),
    ("cast(true AS varchar)", "true"),
    ("cast(date '2020-01-02' AS varchar)", "2020-01-02"),
    ("cast(cast('2020-01-02 03:04:05' AS timestamp(6)) AS varchar)", "2020-01-02 03:04:05.000000"),
    ("cast(cast('2020-01-02 03:04:05.25' AS timestamp(6)) AS varchar)", "2020-01-02 03:04:05.250000"),
    ("cast('abcdef' AS varchar(3))", "abc"),
    ("cast(12.5 AS decimal)", Decimal("13")),
    ("decimal '1.50'", Decimal("1.50")),
    ("cast('2020-01-01 10:00:00.1236' AS timestamp)", datetime(2020, 1, 1, 10, 0, 0, 124000)),
    ("timestamp '2020-01-01 10:00:00.123456'", datetime(2020, 1, 1, 10, 0, 0, 123456)),
    ("cast(json '\"abc\"' AS varchar)", "abc"),
    ("cast(json '5' AS bigint)", 5),
    ("cast('abc' AS json)", '"abc"'),
    ("cast(row(1, 'a') AS row(x integer, y varchar)).y", "a"),
    # null rules
    ("greatest(1, NULL)", None),
    ("greatest(1, 3, 2)", 3),
    ("least(1, 3, NULL)", None),
    ("concat('a', NULL)", None),
    ("concat('a', 'b', 'c')", "abc"),
    ("concat(ARRAY[1], ARRAY[2])", [1, 2]),
    ("'a' || NULL", None),
    ("coalesce(NULL, 2)", 2),
    ("nullif(1, 1)", None),
    ("if(1 > 2, 'a')", None),
    ("concat_ws(',', 'a', NULL, 'b')", "a,b"),
    ("1 IS DISTINCT FROM NULL", True),
    ("1 NOT IN (2, NULL)", None),
    # dates
    ("date '2020-01-31' + interval '1' month", date(2020, 2, 29)),
    ("date '2020-03-31' - interval '1' month", date(2020, 2, 29)),
    ("interval '2' day + date '2020-01-01'", date(2020, 1, 3)),
    ("timestamp '2020-01-01 00:00:00' + 2 * interval '1' hour", datetime(2020, 1, 1, 2)),
    ("date_add('month', 1, date '2020-01-31')", date(2020, 2, 29)),
    ("date_add('day', -1, timestamp '2020-01-01 00:00:00')", datetime(2019, 12, 31)),
    ("date_add('quarter', 1, date '2020-01-01')", date(2020, 4, 1)),
    ("date_add('week', 1, date '2020-01-01')", date(2020, 1, 8)),
    ("date_diff('day', timestamp '2020-01-01 23:00:00', timestamp '2020-01-02 01:00:00')", 0),
    ("date_diff('day', date '2020-03-01', date '2020-03-02')", 1),
    ("date_diff('month', date '2020-01-15', date '2020-03-14')", 1),
    ("date_diff('hour', timestamp '2020-01-01 00:30:00', timestamp '2020-01-01 02:00:00')", 1),
    ("date_diff('day', date '2020-03-02', date '2020-03-01')", -1),
    ("date_trunc('month', date '2020-01-31')", date(2020, 1, 1)),
    ("date_trunc('week', date '2026-11-22')", date(2026, 11, 16)),
    ("date_trunc('hour', timestamp '2020-01-01 10:20:30')", datetime(2020, 1, 1, 10)),
    ("day_of_week(date '2026-11-22')", 7),
    ("dow(date '2026-11-23')", 1),
    ("extract(day_of_week FROM date '2026-11-22')", 7),
    ("extract(year FROM date '2026-11-22')", 2026),
    ("week(date '2021-01-03')", 53),
    ("year_of_week(date '2021-01-03')", 2020),
    ("quarter(date '2021-12-03')", 4),
    ("day_of_year(date '2021-02-01')", 32),
    ("millisecond(timestamp '2020-01-01 00:00:05.250')", 250),
    ("last_day_of_month(date '2020-02-03')", date(2020, 2, 29)),
    ("date('2020-02-03')", date(2020, 2, 3)),
    ("to_unixtime(timestamp '1970-01-01 00:00:01.5')", 1.5),
    ("to_unixtime(from_unixtime(86400))", 86400.0),
    ("date_format(timestamp '2020-01-05 03:04:05', '%Y-%m-%d %H:%i:%s')", "2020-01-05 03:04:05"),
    ("date_format(timestamp '2020-01-05 03:04:05', '%c/%e/%y %l:%i %p')", "1/5/20 3:04 AM"),
    ("date_format(timestamp '2020-01-05 03:04:05.25', '%W %M %f')", "Sunday January 250000"),
    ("date_parse('2020-01-05 13:14', '%Y-%m-%d %H:%i')", datetime(2020, 1, 5, 13, 14)),
    (
        "format_datetime(timestamp '2020-01-05 03:04:05.6', 'yyyy-MM-dd''T''HH:mm:ss.SSS')",
        "2020-01-05T03:04:05.600",
    ),
    ("cast(parse_datetime('05/01/2020', 'dd/MM/yyyy') AS date)", date(2020, 1, 5)),
    ("hour(timestamp '2020-01-01 00:00:00' AT TIME ZONE 'America/New_York')", 19),
    ("cast(timestamp '2020-01-01 00:00:00 UTC' AT TIME ZONE 'America/New_York' AS date)", date(2019, 12, 31)),
    ("hour(at_timezone(timestamp '2020-07-01 12:00:00 UTC', 'Europe/Berlin'))", 14),
    (
        "cast(with_timezone(timestamp '2013-07-01 10:00:00', 'US/Eastern') AT TIME ZONE 'UTC' AS timestamp)",
        datetime(2013, 7, 1, 14),
    ),
    ("hour(date_trunc('day', timestamp '2020-01-01 03:00:00 UTC' AT TIME ZONE 'America/New_York'))", 0),
    ("hour(timestamp '2024-01-01 00:30:00 +02:00')", 0),
    ("hour(timestamp '2024-01-01 00:30:00 Europe/Berlin')", 0),
    ("hour(timestamp '2024-01-01 00:30:00 +02:00' AT TIME ZONE 'UTC')", 22),
    ("cast(timestamp '2024-01-01 00:30:00+02:00' AS date)", date(2024, 1, 1)),
    ("cast(date_trunc('day', timestamp '2024-01-01 00:30:00 +02:00') AS date)", date(2024, 1, 1)),
    ("cast(from_iso8601_timestamp('2024-01-01T00:30:00+02:00') AS date)", date(2024, 1, 1)),
    ("date_trunc('day', timestamp '2024-01-01 00:30:00 UTC') = timestamp '2024-01-01 01:00:00 +01:00'", True),
    (
        "timestamp '2024-01-01 00:30:00 +02:00' - interval '1' hour < timestamp '2023-12-31 21:31:00 UTC'",
        True,
    ),
    # text
    ("substr('abc', 0)", ""),
    ("substr('abc', -2)", "bc"),
    ("substr('abc', -5)", ""),
    ("substr('abc', 2, 1)", "b"),
    ("substr(cast(NULL AS varchar), 0)", None),
    ("substring('abc' FROM 2 FOR 1)", "b"),
    ("split_part('a,b', ',', 2)", "b"),
    ("split_part('a,b', ',', 3)", None),
    ("split('a,b', ',')", ["a", "b"]),
    ("strpos('abc', 'c')", 3),
    ("position('c' IN 'abc')", 3),
    ("trim('  a\t')", "a"),
    ("ltrim('  a ')", "a "),
    ("trim(LEADING 'x' FROM 'xxa')", "a"),
    ("lpad('abc', 2, 'x')", "ab"),
    ("replace('abab', 'a')", "bb"),
    ("length('äö')", 2),
    ("upper('ä')", "Ä"),
    ("reverse('abc')", "cba"),
    ("'it''s'", "it's"),
    ("'a\\b'", "a\\b"),
    ("'a%b' LIKE 'a!%b' ESCAPE '!'", True),
    ("'axb' LIKE 'a!%b' ESCAPE '!'", False),
    ("'a\\b' LIKE 'a\\b'", True),
    ("codepoint('a')", 97),
    ("levenshtein_distance('kitten', 'sitting')", 3),
    ("regexp_like('abc', 'b')", True),
    ("regexp_extract('abc', 'z')", None),
    ("regexp_extract('a1b22', '([a-z])(\\d+)', 2)", "1"),
    ("regexp_extract_all('a1b22', '\\d+')", ["1", "22"]),
    ("regexp_replace('abab', 'a')", "bb"),
    ("regexp_replace('abab', '(a)b', '$1x')", "axax"),
    ("regexp_replace('a', 'a', '\\$1')", "$1"),
    ("regexp_count('abab', 'a')", 2),
    ("regexp_split('a1b2c', '\\d')", ["a", "b", "c"]),
    ("to_hex(md5(to_utf8('a')))", "0CC175B9C0F1B6A831C399E269772661"),
    (
        "lower(to_hex(sha256(to_utf8(''))))",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    ("from_utf8(from_hex('41'))", "A"),
    ("to_base64(to_utf8('a'))", "YQ=="),
    # arrays and maps
    ("ARRAY[5, 6][1]", 5),
    ("element_at(ARRAY[5, 6], 2)", 6),
    ("element_at(ARRAY[5, 6], 3)", None),
    ("element_at(ARRAY[5, 6], -1)", 6),
    ("element_at(map(ARRAY['a'], ARRAY[1]), 'a')", 1),
    ("map(ARRAY['a'], ARRAY[1])['a']", 1),
    ("cardinality(ARRAY[1, NULL])", 2),
    ("cardinality(map(ARRAY['a'], ARRAY[1]))", 1),
    ("contains(ARRAY[1, NULL], 1)", True),
    ("contains(ARRAY[1, NULL], 2)", None),
    ("contains(ARRAY[1, 3], 2)", False),
    ("array_distinct(ARRAY[3, NULL, 3, NULL, 1])", [3, None, 1]),
    ("array_position(ARRAY[1, 2], 5)", 0),
    ("array_remove(ARRAY[1, NULL, 2], 1)", [None, 2]),
    ("array_sort(ARRAY[3, NULL, 1])", [1, 3, None]),
    ("array_max(ARRAY[1, NULL])", None),
    ("array_min(ARRAY[2, 1])", 1),
    ("array_join(ARRAY['a', NULL, 'b'], ',')", "a,b"),
    ("array_join(ARRAY['a', NULL], ',', '?')", "a,?"),
    ("array_intersect(ARRAY[1, 2, 2], ARRAY[2])", [2]),
    ("array_except(ARRAY[1, 2, 1], ARRAY[2])", [1]),
    ("array_union(ARRAY[1, 2], ARRAY[2, 3])", [1, 2, 3]),
    ("slice(ARRAY[1, 2, 3], 2, 2)", [2, 3]),
    ("slice(ARRAY[1, 2, 3], -2, 2)", [2, 3]),
    ("sequence(1, 3)", [1, 2, 3]),
    ("sequence(3, 1)", [3, 2, 1]),
    ("sequence(1, 5, 2)", [1, 3, 5]),
    (
        "sequence(date '2020-01-30', date '2020-02-01', interval '1' day)",
        [date(2020, 1, 30), date(2020, 1, 31), date(2020, 2, 1)],
    ),
    ("repeat('a', 2)", ["a", "a"]),
    ("transform(ARRAY[1, 2], x -> x / 2)", [0, 1]),
    ("filter(ARRAY[1, NULL, 3], x -> x > 1)", [3]),
    ("any_match(ARRAY[1, NULL], x -> x > 1)", None),
    ("all_match(ARRAY[1, 2], x -> x > 0)", True),
    ("none_match(ARRAY[], x -> x > 0)", True),
    ("flatten(ARRAY[ARRAY[1], ARRAY[2]])", [1, 2]),
    # JSON
    ("json_extract_scalar('{\"a\": {\"b\": 1}}', '$.a.b')", "1"),
    ("json_extract_scalar('{\"a\": {\"b\": 1}}', '$.a')", None),
    ("json_extract_scalar('not json', '$.a')", None),
    ("json_extract_scalar('{\"a b\": [7]}', '$[\"a b\"][0]')", "7"),
    ("json_format(json_extract('{\"a\": [1]}', '$.a'))", "[1]"),
    ("json_array_length('[1, 2]')", 2),
    ("json_format(json_parse('{ \"a\" : 1 }'))", '{"a":1}'),
    # aggregates
    (f"avg(x) {AGG}", 2.0),
    ("avg(x) FROM (VALUES 1.00, 2.01, 2.01) t(x)", Decimal("1.67")),
    (f"avg(x) FILTER (WHERE y > 1) {AGG}", 3.0),
    (f"avg(x) {AGG} WHERE false", None),
    (f"sum(x) / count(*) {AGG}", 1),
    (f"count(x) {AGG}", 2),
    (f"count(DISTINCT x) {AGG}", 2),
    (f"count_if(y > 1) {AGG}", 2),
    ("count_if(x) FROM (VALUES cast(null AS boolean)) t(x)", 0),
    (f"count_if(y > 1) FILTER (WHERE y > 2) {AGG}", 1),
    (f"array_agg(x ORDER BY y DESC) {AGG}", [3, None, 1]),
    (f"listagg(cast(y AS varchar), '-') WITHIN GROUP (ORDER BY y DESC) {AGG}", "3-2-1"),
    (f"max_by(x, -abs(y - 2)) {AGG}", None),
    (f"min_by(y, x) {AGG}", 1),
    (f"bool_or(y > 2) {AGG}", True),
    (f"approx_distinct(y) {AGG}", 3),
    (f"max(date '2020-01-31' + interval '1' month) {AGG}", date(2020, 2, 29)),
    (f"map_from_entries(array_agg(row(y, x) ORDER BY y)) {AGG}", {1: 1, 2: None, 3: 3}),
]


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("SET TimeZone = 'UTC'")
    for macro in MACROS:
        made.execute(macro)
    return made


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    script = parse(sql, "q.sql")
    assert script.mistakes == ()
    return connection.execute(to_duckdb(script.statements[0])).fetchall()


@pytest.mark.parametrize(("sql", "expected"), ROWS, ids=[row[0][:70] for row in ROWS])
def test_value_is_trinos(connection: duckdb.DuckDBPyConnection, sql: str, expected: Any) -> None:
    value = run(connection, f"SELECT {sql}")[0][0]
    assert value == expected
    assert isinstance(value, type(expected)), f"{value!r} is no {type(expected).__name__}"


QUERIES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("SELECT x FROM (VALUES 1, NULL, 2) t(x) ORDER BY x", [(1,), (2,), (None,)]),
    ("SELECT x FROM (VALUES 1, NULL, 2) t(x) ORDER BY x DESC", [(2,), (1,), (None,)]),
    ("SELECT x FROM (VALUES 1, NULL, 2) t(x) ORDER BY x DESC NULLS FIRST", [(None,), (2,), (1,)]),
    ("SELECT row_number() OVER (ORDER BY x DESC) FROM (VALUES NULL, 2) t(x) ORDER BY x", [(1,), (2,)]),
    (f"SELECT lag(x) IGNORE NULLS OVER (ORDER BY y) {AGG} ORDER BY y", [(None,), (1,), (1,)]),
    (f"SELECT last_value(x) OVER (ORDER BY y) {AGG} ORDER BY y", [(1,), (None,), (3,)]),
    (
        f"SELECT avg(y) OVER (ORDER BY y ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) {AGG} ORDER BY y",
        [(1.0,), (1.5,), (2.5,)],
    ),
    (f"SELECT sum(y) OVER w {AGG} WINDOW w AS (ORDER BY y) ORDER BY y", [(1,), (3,), (6,)]),
    ("SELECT v, o FROM UNNEST(ARRAY[5, 6]) WITH ORDINALITY AS u(v, o) ORDER BY o", [(5, 1), (6, 2)]),
    (
        "SELECT t.a, u.v FROM (VALUES (1, ARRAY[5, 6])) t(a, b) CROSS JOIN UNNEST(b) AS u(v) ORDER BY v",
        [(1, 5), (1, 6)],
    ),
    (
        "SELECT a, count(*), grouping(a) FROM (VALUES 1, 2) t(a) GROUP BY ROLLUP (a) ORDER BY a",
        [(1, 1, 0), (2, 1, 0), (None, 2, 1)],
    ),
    (
        "SELECT a, b, count(*) FROM (VALUES (1, 2)) t(a, b) GROUP BY GROUPING SETS ((a), (b)) ORDER BY a",
        [(1, None, 1), (None, 2, 1)],
    ),
    ("WITH t(a) AS (SELECT 7), u AS (SELECT a / 2 AS b FROM t) SELECT b FROM u", [(3,)]),
    (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t WHERE n<3) SELECT n FROM t ORDER BY 1",
        [(1,), (2,), (3,)],
    ),
    ("SELECT x FROM (VALUES 1, 2, 3) t(x) ORDER BY x OFFSET 1 ROWS FETCH FIRST 1 ROWS ONLY", [(2,)]),
    ("SELECT 1 UNION SELECT 1 UNION ALL SELECT 1", [(1,), (1,)]),
    ("SELECT x FROM (VALUES 1, 2) t(x) EXCEPT SELECT 1", [(2,)]),
    ("SELECT CASE WHEN x > 1 THEN 'b' ELSE 'a' END FROM (VALUES 1, 2) t(x) ORDER BY 1", [("a",), ("b",)]),
    ("SELECT x FROM (VALUES 1, 2) t(x) WHERE x = ANY (SELECT 2)", [(2,)]),
]


@pytest.mark.parametrize(("sql", "expected"), QUERIES, ids=[row[0][:70] for row in QUERIES])
def test_query_is_trinos(
    connection: duckdb.DuckDBPyConnection, sql: str, expected: list[tuple[Any, ...]]
) -> None:
    assert run(connection, sql) == expected


@pytest.mark.parametrize(
    "sql", ["1 / 0", "5 % 0", "cast('1.5' AS integer)", "split_part('a', ',', 0)", "1.5 / 0"]
)
def test_what_fails_in_trino_fails_here(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(duckdb.Error):
        run(connection, f"SELECT {sql}")


REFUSALS = [
    ("xxhash64(to_utf8('a'))", 8, "xxhash64 is not available on the embedded engine; use md5"),
    ("1, flor(2)", 11, "unknown function flor. Did you mean 'floor'?"),
    ("getenv('HOME')", 8, "unknown function getenv"),
    ("read_text('/etc/passwd')", 8, "unknown function read_text"),
    ("typeof(1)", 8, "typeof is not available"),
    ("date_format(now(), '%D')", 8, "'%D' in the pattern of date_format"),
    ("format_datetime(now(), 'zzz')", 8, "'zzz' in the pattern of format_datetime"),
    ("now() AT TIME ZONE 'UTC'", 27, "values keep no time zone here"),
    ("hour(with_timezone(now(), 'UTC'))", 13, "values keep no time zone here"),
    ("date_trunc('day', timestamp '2024-01-01 00:30:00 +02:00')", 36, "this needs the moment's own (+02:00)"),
    (
        "cast(timestamp '2024-01-01 00:30:00 Europe/Berlin' AS varchar)",
        23,
        "the moment's own (Europe/Berlin)",
    ),
    ("timestamp '2024-01-31 00:30:00 +02:00' + interval '1' month", 18, "this needs the moment's own"),
    ("date_add('day', 1, timestamp '2024-01-31 00:30:00 +02:00')", 37, "this needs the moment's own"),
    ("hour(greatest(timestamp '2024-01-31 00:30:00 -05:00', now()))", 32, "this needs the moment's own"),
    (
        "date_trunc('day', from_iso8601_timestamp('2024-01-01T00:30:00+02:00'))",
        26,
        "this needs the moment's own",
    ),
    ("cast('a' AS char(3))", 13, "the type CHAR(3) is not available"),
    ("cast('a' AS timestamp(9))", 13, "a timestamp is (0), (3) or (6) here"),
    ("interval '1-2' year to month", 17, "write an interval with one unit"),
    ("json_extract('{}', '$..a')", 8, "the path of json_extract"),
    ("strpos('a', 'b', 2)", 8, "strpos takes 2 arguments here, not 3"),
    ("greatest(1) OVER ()", 8, "cannot carry OVER"),
    ("count(DISTINCT 1, 2)", 23, "DISTINCT inside a function takes one column"),
]


@pytest.mark.parametrize(("sql", "column", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_refused_at_its_place(sql: str, column: int, message: str) -> None:
    script = parse(f"SELECT {sql}", "q.sql")
    assert script.mistakes == ()
    with pytest.raises(SqlError) as caught:
        to_duckdb(script.statements[0])
    [mistake] = caught.value.mistakes
    assert message in mistake.message
    assert (mistake.file, mistake.line, mistake.column) == ("q.sql", 1, column)


def test_interval_between_timestamps(connection: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT timestamp '2020-01-02 00:00:00' - timestamp '2020-01-01 00:00:00'"
    assert run(connection, sql) == [(timedelta(days=1),)]
