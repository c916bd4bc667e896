"""Refused rows leave their table for its quarantine, moved by Trino as they are by DuckDB."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from trino_server import TrinoServer

from forebay.checks import quarantine
from forebay.checks.rules import Rule, rules_of
from forebay.checks.run import check
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.engines.trino import TrinoEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.tables import TableDefinition, load
from forebay.sqltext import MACROS
from forebay.tasks.checks import Expectation

RULES: list[dict[str, Any]] = [
    {"rule": "not_null", "column": "kind", "severity": "quarantine"},
    {"rule": "between", "column": "amount", "min": 0, "max": 10, "severity": "quarantine"},
    {"rule": "unique", "column": "v0", "severity": "quarantine"},
    {"rule": "sql", "name": "it's small", "sql": "amount < 9 OR kind = 'b'", "severity": "quarantine"},
]
KINDS = ["NULL", "'a'", "'b'"]


@pytest.fixture
def duck(config: CatalogConfig) -> Iterator[DuckDBEngine]:
    with DuckDBEngine(config, macros=MACROS) as made:
        yield made


@pytest.fixture
def engine(config: CatalogConfig, trino: TrinoServer) -> Iterator[TrinoEngine]:
    with trino.engine(config) as made:
        yield made


def rules(*given: dict[str, Any]) -> list[Rule]:
    return rules_of([Expectation.model_validate(one) for one in given])


def rows(duck: DuckDBEngine, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    found = duck.query(f"SELECT {columns} FROM {lake_name(table)} ORDER BY ALL")
    return [tuple(row.values()) for row in found.to_pylist()]


def fill(duck: DuckDBEngine, table: str, values: list[str], layout: tuple[str, ...] = ()) -> None:
    for part in values:
        # A column is called as the checks' own helpers are.
        select = f"SELECT v0, CAST(kind AS VARCHAR) AS kind, CAST(amount AS INTEGER) AS amount FROM (VALUES {part}) v(v0, kind, amount)"
        duck.write(select, TableDefinition(table, partitioned_by=layout), "append")


@pytest.mark.parametrize("layout", [(), ("kind",)], ids=["flat", "partitioned"])
def test_the_same_rows_move_as_on_duckdb(
    duck: DuckDBEngine, engine: TrinoEngine, namespace: str, layout: tuple[str, ...]
) -> None:
    chance = random.Random(7)
    for number in range(4):
        parts = [
            ", ".join(
                f"({chance.randint(0, 30)}, {chance.choice(KINDS)}, {chance.choice(['NULL', *map(str, range(-2, 13))])})"
                for _ in range(8)
            )
            for _ in range(3)
        ]
        chosen = rules(*chance.sample(RULES, chance.randint(1, 4)))
        seen = []
        for name, counter in (("duckdb", None), ("trino", engine)):
            table = f"{namespace}.{name}_{number}"
            fill(duck, table, parts, layout)
            input_rows = Counter(rows(duck, table))
            found = check(duck, table, chosen, run="run_1", counter=counter)
            held = f"{table}__quarantine"
            moved = (
                rows(duck, held, "* EXCLUDE (_source_snapshot, _quarantined_at)")
                if load(duck.config, held)
                else []
            )
            left = rows(duck, table)
            assert Counter(left) + Counter(row[:3] for row in moved) == input_rows
            told = [
                (one.table.removeprefix(table), one.rows, one.inserted, one.deleted) for one in found.tables
            ]
            seen.append((left, moved, [one.word for one in found.verdicts], told))
            # Nothing is left to move, nor to finish.
            assert check(duck, table, chosen, counter=counter).tables == []
        assert seen[0] == seen[1]


def test_the_quarantine_says_where_its_rows_come_from(
    duck: DuckDBEngine, engine: TrinoEngine, namespace: str
) -> None:
    table = f"{namespace}.t"
    fill(duck, table, ["(1, 'a', 5), (2, NULL, 50)", "(3, 'a', 1)"])
    source = load(duck.config, table)
    assert source is not None
    files = {str(task.file.file_path) for task in source.scan().plan_files()}
    check(duck, table, rules(*RULES), run="it's a run", counter=engine)
    assert rows(duck, f"{table}__quarantine", "v0, _rule, _run, _source_snapshot") == [
        (2, "not_null(kind),between(amount)", "it's a run", source.metadata.current_snapshot_id)
    ]
    after, held = load(duck.config, table), load(duck.config, f"{table}__quarantine")
    assert after is not None
    assert held is not None
    assert quarantine.unfinished(held, after) is None
    assert held.properties["comment"] == f"Rows of {table} that its checks refused."
    assert {field.name: field.doc for field in held.schema().fields}["_run"] == "The run that moved it."
    # The file without a refused row stays.
    assert len(files & {str(task.file.file_path) for task in after.scan().plan_files()}) == 1


def test_a_table_of_refused_rows_is_empty_afterwards(
    duck: DuckDBEngine, engine: TrinoEngine, namespace: str
) -> None:
    table = f"{namespace}.t"
    fill(duck, table, ["(1, NULL, 5), (2, NULL, 5)"])
    found = check(duck, table, rules(RULES[0]), counter=engine)
    assert [(one.rows, one.inserted, one.deleted) for one in found.tables] == [(0, 0, 2), (2, 2, 0)]
    assert rows(duck, table) == []


def test_it_is_part_of_the_run(
    config: CatalogConfig, lens: str, duck: DuckDBEngine, trino: TrinoServer, namespace: str
) -> None:
    table, held = f"{namespace}.t", f"{namespace}.t__quarantine"
    fill(duck, table, ["(1, 'a', 5), (2, NULL, 50)"])
    who = TaskTry(
        f"{namespace}.job", "r", task="trust", writes=(table, held), exclusive=(table, held), began=1.0
    )
    seen = replace(config, lens=lens).seen_by(who)
    with DuckDBEngine(seen, macros=MACROS) as one, trino.engine(seen, who) as other:
        check(one, table, rules(*RULES), counter=other)
    assert len(rows(duck, table)) == 2
    with Rest(config) as rest:
        publish(rest, who, who.writes, {"trust": 1}, who.writes)
    assert (rows(duck, table, "v0"), rows(duck, held, "v0")) == ([(1,)], [(2,)])
