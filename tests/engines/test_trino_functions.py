"""Every function of Trino: what is translated gives the same rows on both engines, and the page names all of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from trino_server import TrinoServer

from forebay import sqltext
from forebay.engines.duckdb import DuckDBEngine
from forebay.engines.trino import TrinoEngine
from forebay.engines.trino_client import TrinoClient
from forebay.engines.trino_errors import TrinoError
from forebay.lake.connection import CatalogConfig
from forebay.sqltext.functions import NOT_HERE, REFUSED, known_functions

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from test_sqltext_semantics import AGG, QUERIES, ROWS

PAIRS = "FROM (VALUES (1e0, 2e0), (2e0, 3.5e0), (4e0, 5e0), (NULL, 1e0)) t(x, y)"
BITS = "FROM (VALUES 7, 6, 12) t(x)"
WORDS = "FROM (VALUES ('a', 1), ('b', 2), ('b', 3), (NULL, 4)) t(k, n)"
RANKED = "OVER (ORDER BY k, n)"

MORE = [
    "SELECT acos(0.5e0), asin(0.5e0), atan(0.5e0), atan2(1e0, 2e0), cbrt(27e0), cos(1e0), cosh(1e0), degrees(1e0), exp(1e0)",
    "SELECT ln(2e0), log10(100e0), log2(8e0), pi(), e(), pow(2e0, 3e0), power(2e0, -1e0), radians(180e0), sin(1e0)",
    "SELECT sinh(1e0), sqrt(2e0), tan(1e0), tanh(1e0), is_finite(1e0), is_finite(infinity()), ceiling(1.2e0), ceiling(-1.2e0)",
    "SELECT any_value(k), arbitrary(k) FROM (VALUES 'x', 'x') t(k)",
    f"SELECT approx_percentile(y, 0.5e0) {AGG}",
    f"SELECT bitwise_and_agg(x), bitwise_or_agg(x), bitwise_xor_agg(x) {BITS}",
    f"SELECT bool_and(x > 1), every(x > 6), min(x) {BITS}",
    f"SELECT corr(y, x), covar_pop(y, x), covar_samp(y, x), regr_intercept(y, x), regr_slope(y, x) {PAIRS}",
    f"SELECT stddev(y), stddev_pop(y), stddev_samp(y), variance(y), var_pop(y), var_samp(y), geometric_mean(y) {PAIRS}",
    "SELECT stddev(x), variance(x), corr(x, x), avg(x), sum(x), min(x) FROM (VALUES 1e0) t(x) WHERE x > 5",
    f"SELECT histogram(k) {WORDS}",
    f"SELECT n, cume_dist() {RANKED}, dense_rank() {RANKED}, percent_rank() {RANKED}, rank() {RANKED}, ntile(3) {RANKED} {WORDS} ORDER BY n",
    f"SELECT n, rank() OVER (ORDER BY k), dense_rank() OVER (ORDER BY k DESC) {WORDS} ORDER BY n",
    f"SELECT n, first_value(k) {RANKED}, lead(n) {RANKED}, lead(n, 2, 0) {RANKED}, nth_value(n, 2) {RANKED} {WORDS} ORDER BY n",
    "SELECT chr(97), chr(8364), rpad('a', 3, 'xy'), rtrim(' a '), starts_with('abc', 'ab'), translate('abc', 'ab', 'x')",
    "SELECT hamming_distance('abc', 'abd'), from_utf8(from_base64('YQ==')), to_hex(sha1(to_utf8('a')))",
    "SELECT day(d), day_of_month(d), doy(d), month(d), year(d), week_of_year(d), yow(d) FROM (VALUES date '2021-01-03') t(d)",
    "SELECT minute(t), second(t), hour(t) FROM (VALUES timestamp '2021-01-03 04:05:06.789') t(t)",
    "SELECT from_iso8601_date('2020-05-17'), from_iso8601_timestamp('2020-05-17T10:20:30Z')",
    "SELECT map_concat(map(ARRAY['a'], ARRAY[1]), map(ARRAY['a', 'b'], ARRAY[2, 3]))",
    "SELECT map_keys(m), map_values(m), map_entries(m) FROM (VALUES map(ARRAY['a', 'b'], ARRAY[1, NULL])) t(m)",
    "SELECT now() > timestamp '2020-01-01 00:00:00 UTC', current_timestamp > timestamp '2020-01-01 00:00:00 UTC'",
    "SELECT localtimestamp > timestamp '2020-01-01 00:00:00', length(cast(uuid() AS varchar))",
    "SELECT random() BETWEEN 0 AND 1, rand() < 1, random(10) BETWEEN 0 AND 9, random(5, 6)",
    # Decimals: scale and rounding of every operator.
    "SELECT a + b, a - b, a * b, a / b, a % b, -a, abs(a), round(a, 1), floor(a), ceil(a), truncate(a) FROM (VALUES (decimal '12.345', decimal '-6.7')) t(a, b)",
    "SELECT sum(x), avg(x), min(x), max(x), count(x) FROM (VALUES decimal '0.10', decimal '0.20', NULL) t(x)",
    "SELECT cast(decimal '12345678901234567890.123' AS decimal(38, 2)), cast(1.005 AS decimal(3, 2)), cast('-0.005' AS decimal(5, 2))",
    "SELECT decimal '1.10' = decimal '1.1', decimal '1.10' < 1.2e0, greatest(decimal '1.1', 2)",
    # Timestamps with and without a zone.
    "SELECT timestamp '2020-10-25 03:30:00 Europe/Berlin', timestamp '2020-06-01 00:00:00.123456 UTC', timestamp '1969-12-31 23:59:59.999999'",
    "SELECT cast(timestamp '2020-10-25 00:30:00 UTC' AT TIME ZONE 'Europe/Berlin' AS timestamp), timestamp '2020-03-29 00:30:00 UTC' + interval '1' hour",
    "SELECT z FROM (VALUES timestamp '2020-01-01 00:00:00 UTC', NULL, timestamp '2019-01-01 00:00:00 +02:00') t(z) ORDER BY z DESC",
    "SELECT date_diff('hour', z, timestamp '2020-01-02 00:00:00 UTC'), to_unixtime(z) FROM (VALUES timestamp '2020-01-01 10:00:00 -05:00') t(z)",
    "SELECT hour(timestamp '2024-01-01 00:30:00 +02:00'), date_format(timestamp '2024-01-01 00:30:00 Europe/Berlin', '%H %d'), year(timestamp '2024-01-01 00:30:00 +02:00')",
    "SELECT cast(timestamp '2024-01-01 00:30:00 +02:00' AS date), cast(timestamp '2024-01-01 00:30:00 -05:00' AS timestamp), extract(day FROM timestamp '2024-01-01 00:30:00+02:00')",
    "SELECT cast(date_trunc('day', timestamp '2024-01-01 00:30:00 +02:00') AS timestamp), hour(timestamp '2024-01-01 00:30:00 +02:00' AT TIME ZONE 'UTC'), date(timestamp '2024-01-01 00:30:00 +02:00')",
    "SELECT date_trunc('day', timestamp '2024-01-01 00:30:00 UTC') = timestamp '2024-01-01 02:00:00 +02:00', timestamp '2024-01-01 00:30:00 +02:00' - interval '90' minute",
    "SELECT date_add('hour', 3, timestamp '2024-03-31 01:30:00 Europe/Berlin'), hour(from_iso8601_timestamp('2024-01-01T00:30:00+02:00')), max(timestamp '2024-01-01 00:30:00 +02:00')",
    # NULLs, and nested values.
    "SELECT x = NULL, x IN (1, NULL), NOT (x > 1), x IS NULL, coalesce(x, -1), nullif(x, 1) FROM (VALUES 1, NULL, 2) t(x) ORDER BY x",
    "SELECT k, sum(n), count(*), count(n) FROM (VALUES (NULL, 1), (NULL, NULL), ('a', 2)) t(k, n) GROUP BY k ORDER BY k",
    "SELECT a.k, b.k FROM (VALUES 1, NULL) a(k) FULL JOIN (VALUES NULL, 1) b(k) ON a.k = b.k ORDER BY a.k, b.k",
    "SELECT ARRAY[ARRAY[1, NULL], NULL, ARRAY[]], map(ARRAY['a'], ARRAY[ARRAY[1]]), cast(row(1, row('x', NULL)) AS row(a integer, b row(c varchar, d date)))",
    "SELECT array_agg(cast(row(n, k) AS row(a integer, b varchar)) ORDER BY n) FROM (VALUES ('a', 1), (NULL, 2)) t(k, n)",
    "SELECT r.a, r.b[2], r.m['k'] FROM (SELECT cast(row(1, ARRAY[5, 6], map(ARRAY['k'], ARRAY[7])) AS row(a integer, b array(integer), m map(varchar, integer))) AS r) t",
    "SELECT ARRAY[1, 2] = ARRAY[1, 2], row(1, 'a') = row(1, 'a'), ARRAY[1, 2] < ARRAY[1, 3]",
    # Order.
    "SELECT x FROM (VALUES 'b', 'A', NULL, 'ä', 'a', '', 'Z') t(x) ORDER BY x",
    "SELECT x FROM (VALUES nan(), 1e0, NULL, -infinity(), infinity()) t(x) ORDER BY x",
    "SELECT x FROM (VALUES 1e0, NULL, infinity()) t(x) ORDER BY x DESC NULLS FIRST",
    "SELECT x, y FROM (VALUES (1, NULL), (1, 'b'), (NULL, 'a'), (0, 'c')) t(x, y) ORDER BY x DESC, y NULLS FIRST LIMIT 3",
    "SELECT DISTINCT x FROM (VALUES true, false, NULL, true) t(x) ORDER BY x",
]  # fmt: skip
Both = tuple[TrinoEngine, DuckDBEngine]


@pytest.fixture(scope="module")
def both(config: CatalogConfig, lens: str, trino: TrinoServer) -> Iterator[Both]:
    seen = config.at(f"{lens}/main")
    with trino.engine(seen) as one, DuckDBEngine(seen, macros=sqltext.MACROS) as other:
        yield one, other


def rows(engine: TrinoEngine | DuckDBEngine, text: str) -> list[list[Any]]:
    script = sqltext.parse(text)
    assert not script.mistakes, script.mistakes
    found = engine.query(engine.dialect(script.statements[0]))
    return [[column[number].as_py() for column in found.columns] for number in range(found.num_rows)]


def alike(one: Any, other: Any) -> bool:
    """Equal, and of one type; floating point numbers to the last bits that Java and C round differently."""
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-13, abs=1e-13, nan_ok=True)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        # A row's fields; where it has no names, the engines give different ones, as the page says.
        return alike(list(one.values()), list(other.values()))
    if isinstance(one, int) and isinstance(other, Decimal):
        # DuckDB's sum of integers is a HUGEINT until it is written, as the page says.
        return one == other
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    "text", [f"SELECT {text}" for text, _ in ROWS] + [text for text, _ in QUERIES] + MORE
)
def test_both_engines_give_the_same_rows(both: Both, text: str) -> None:
    trino, duckdb = (rows(engine, text) for engine in both)
    assert alike(trino, duckdb), f"Trino {trino}\nDuckDB {duckdb}"


@pytest.mark.parametrize(
    "text", ["1 / 0", "5 % 0", "cast('1.5' AS integer)", "split_part('a', ',', 0)", "1.5 / 0"]
)
def test_what_fails_here_fails_in_trino(both: Both, text: str) -> None:
    with pytest.raises(TrinoError) as caught:
        rows(both[0], f"SELECT {text}")
    assert not caught.value.transient


def test_every_translated_function_is_compared() -> None:
    texts = " ".join([text for text, _ in ROWS] + [text for text, _ in QUERIES] + MORE).lower()
    called = set(re.findall(r"([a-z_0-9]+)\s*\(", texts)) | set(
        re.findall(r"\b(?:current|local)timestamp\b|current_timestamp", texts)
    )
    assert set(known_functions()) - called == set()


def test_the_page_names_every_function_of_trino(trino: TrinoServer) -> None:
    found = TrinoClient(trino.server).run("SHOW FUNCTIONS").rows
    # Words of the language that Trino does not list: they are calls in a text.
    language = {
        "coalesce", "current_date", "current_timestamp", "current_user", "format", "grouping", "if", "json_array",
        "json_exists", "json_object", "json_query", "json_value", "localtimestamp", "nullif", "row", "try", "version",
    }  # fmt: skip
    # Those of its Teradata plugin, which not every server has.
    language |= {"to_char", "to_date", "to_timestamp"}
    theirs = {str(row[0]).lower() for row in found} | language
    ours = set(known_functions()) | set(REFUSED)
    assert ours - theirs == set(), "not Trino's"
    assert ours & NOT_HERE == set()
    assert theirs - ours - language == NOT_HERE
