"""A check of ten common rules on a table of 1,000,000 rows, its results kept. Peer: GX on pandas, same rules, same rows."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from forebay.checks import results
from forebay.checks.evaluate import evaluate
from forebay.checks.rules import Rule, rules_of
from forebay.checks.run import check
from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import TableDefinition
from forebay.sqltext import MACROS
from forebay.stack.connections import connections
from forebay.stack.layout import Stack
from forebay.tasks.checks import Expectation
from harness import Row, folder, median, running, say

ROWS = 1_000_000
TABLE = "bench.flights"
SOURCE = f"""
SELECT range AS id, 'C' || (range * 7 % 16) AS carrier, DATE '2013-01-01' + CAST(range % 365 AS INTEGER) AS day,
       CASE WHEN range % 50 = 0 THEN NULL WHEN range % 997 = 0 THEN 'nan' ELSE (range * 31 % 4000) / 7.0 - 60 END AS delay,
       'N' || (range % 4000) || 'UA' AS tail, range % 900 AS distance
FROM range({ROWS})
"""
RULES: list[dict[str, Any]] = [
    {"rule": "not_null", "column": "carrier"},
    {"rule": "not_null", "column": "day"},
    {"rule": "unique", "column": "id"},
    {"rule": "between", "column": "delay", "min": -60, "max": 500, "mostly": 0.9},
    {"rule": "between", "column": "day", "min": "2013-01-01", "max": "2013-12-31"},
    {"rule": "in", "column": "carrier", "values": [f"C{number}" for number in range(16)]},
    {"rule": "matches", "column": "tail", "pattern": r"^N\d{1,4}UA$"},
    {"rule": "length", "column": "tail", "min": 4, "max": 7},
    {"rule": "row_count", "min": 1},
    {"rule": "mean", "column": "delay", "min": 0, "max": 1000},
]


def measure(rounds: int) -> list[Row]:
    with folder() as root, running(root) as stack:
        config = _catalog(stack)
        expect = rules_of(Expectation.model_validate(one) for one in RULES)
        with DuckDBEngine(config, macros=MACROS) as engine:
            engine.write(SOURCE, TableDefinition(TABLE))
            ours = [_ours(engine, expect) for _ in range(max(rounds, 3) + 1)][1:]
            say("importing Great Expectations")
            began = time.monotonic()
            import great_expectations  # noqa: F401

            imported = time.monotonic() - began
            theirs = [_gx(engine, expect) for _ in range(2)]
    own, gx = median(ours), median(theirs)
    what = f"check of {len(RULES)} rules on {ROWS:,} rows"
    return [
        (f"{what}, results kept", f"{own:.2f} s", "≤ 1 s", own <= 1),
        (f"{what} by GX on pandas, imported", f"{gx:.2f} s", f"+ {imported:.1f} s of import", True),
    ]


def _catalog(stack: Stack) -> CatalogConfig:
    found = next(each for each in connections(stack) if each["connection_id"] == "lake_catalog")
    return CatalogConfig.from_connection(
        str(found["host"]), str(found["login"]), str(found["password"]), json.loads(str(found["extra"]))
    )


def _ours(engine: DuckDBEngine, expect: list[Rule]) -> float:
    began = time.monotonic()
    outcome = check(engine, TABLE, expect)
    looked = time.monotonic() - began
    origin = results.Origin("bench.job", "trust", "run", 1, TABLE)
    rows = results.result_rows(outcome.verdicts, origin, outcome.checked.snapshot_id, datetime.now(UTC))
    looked_at = {TABLE: outcome.checked.snapshot_id}
    results.keep(engine.config, "bench", rows, TaskTry(job="bench.job", run="run", task="trust"), looked_at)
    if outcome.failed:
        raise SystemExit(results.summary(TABLE, outcome.verdicts))
    seconds = time.monotonic() - began
    say(f"compiled: {seconds:.2f} s, of which {seconds - looked:.2f} s keep the results")
    return seconds


def _gx(engine: DuckDBEngine, expect: list[Rule]) -> float:
    began = time.monotonic()
    evaluate(engine, TABLE, expect, all_by_gx=True)
    seconds = time.monotonic() - began
    say(f"GX: {seconds:.2f} s")
    return seconds
