"""A checks task on a real table: what it finds, keeps, moves into quarantine and puts back."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from forebay.checks import quarantine, results
from forebay.checks import replay as replaying
from forebay.checks.replay import replay
from forebay.checks.rules import Rule, rules_of
from forebay.checks.run import check, failure
from forebay.engines.background import Cancelled
from forebay.engines.duckdb import DuckDBEngine, lake_name
from forebay.errors import ForebayError
from forebay.lake.built_on import NOBODY, Lake, plan, plan_to
from forebay.lake.commit import Draft
from forebay.lake.connection import CatalogConfig
from forebay.lake.history import blame, on_main
from forebay.lake.identity import Run, TaskTry
from forebay.lake.lineage import Graph
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.state import RunsOf
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.operators.checks import ChecksOperator
from forebay.sqltext import MACROS
from forebay.tasks.checks import Expectation

Rows = list[tuple[Any, ...]]


@pytest.fixture
def engine(config: CatalogConfig) -> Iterator[DuckDBEngine]:
    with DuckDBEngine(config, macros=MACROS) as made:
        yield made


def rules(*given: dict[str, Any]) -> list[Rule]:
    return rules_of([Expectation.model_validate(one) for one in given])


def rows(engine: DuckDBEngine, table: str, columns: str = "*") -> Rows:
    found = engine.query(f"SELECT {columns} FROM {lake_name(table)} ORDER BY ALL")
    return [tuple(row.values()) for row in found.to_pylist()]


def make(engine: DuckDBEngine, table: str, values: str, mode: str = "append", **layout: Any) -> None:
    select = f"SELECT * FROM (VALUES {values}) v(id, kind, amount)"
    engine.write(select, TableDefinition(table, **layout), mode)  # type: ignore[arg-type]


NOT_NULL = {"rule": "not_null", "column": "kind", "severity": "quarantine"}
BETWEEN = {"rule": "between", "column": "amount", "min": 0, "max": 10, "severity": "quarantine"}
UNIQUE = {"rule": "unique", "column": "id", "severity": "quarantine"}


def test_refused_rows_move_once_with_all_their_rules(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, NULL, 50), (3, 'b', -1), (4, NULL, NULL), (5, 'c', NULL)")
    source = load(engine.config, table)
    assert source is not None
    found = check(engine, table, rules(NOT_NULL, BETWEEN), run="run_1")
    assert [one.word for one in found.verdicts] == ["quarantined", "quarantined"]
    assert rows(engine, table) == [(1, "a", 5), (5, "c", None)]
    columns = "id, kind, amount, _rule, _run, _source_snapshot"
    snapshot = source.metadata.current_snapshot_id
    assert rows(engine, f"{table}__quarantine", columns) == [
        (2, None, 50, "not_null(kind),between(amount)", "run_1", snapshot),
        (3, "b", -1, "between(amount)", "run_1", snapshot),
        (4, None, None, "not_null(kind)", "run_1", snapshot),
    ]
    assert [(one.table, one.inserted, one.deleted) for one in found.tables] == [
        (table, 0, 3),
        (f"{table}__quarantine", 3, 0),
    ]
    again = check(engine, table, rules(NOT_NULL, BETWEEN), run="run_2")
    assert [one.word for one in again.verdicts] == ["passed", "passed"]
    assert again.tables == []


def test_only_files_with_refused_rows_are_written_anew(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    for number in range(3):
        make(
            engine, table, f"({number}, 'a', {number}), ({number + 10}, 'a', {'50' if number == 1 else '1'})"
        )

    def files() -> set[str]:
        found = load(engine.config, table)
        assert found is not None
        return {str(task.file.file_path) for task in found.scan().plan_files()}

    before = files()
    check(engine, table, rules(BETWEEN))
    assert len(before & files()) == 2


@pytest.mark.parametrize("partitioned", [(), ("kind",)], ids=["flat", "partitioned"])
def test_random_tables_are_conserved(
    engine: DuckDBEngine, namespace: str, partitioned: tuple[str, ...]
) -> None:
    value = st.none() | st.integers(-3, 14)
    row = st.tuples(st.integers(0, 6), st.none() | st.sampled_from(["a", "z"]), value)
    some = st.lists(st.sampled_from([NOT_NULL, BETWEEN, UNIQUE]), min_size=1, max_size=3, unique_by=str)

    @settings(
        max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip
    @given(parts=st.lists(st.lists(row, min_size=1, max_size=8), min_size=1, max_size=3), chosen=some)
    def conserved(parts: list[list[tuple[Any, ...]]], chosen: list[dict[str, Any]]) -> None:
        table = f"{namespace}.t{uuid.uuid4().hex[:8]}"
        for part in parts:
            values = ", ".join("({}, {}, {})".format(*map(literal, each)) for each in part)
            select = f"SELECT id, CAST(kind AS VARCHAR) AS kind, CAST(amount AS INTEGER) AS amount FROM (VALUES {values}) v(id, kind, amount)"
            engine.write(select, TableDefinition(table, partitioned_by=partitioned), "append")
        given_rows = Counter(each for part in parts for each in part)
        check(engine, table, rules(*chosen))
        held = f"{table}__quarantine"
        moved = rows(engine, held, "id, kind, amount") if load(engine.config, held) else []
        assert Counter(rows(engine, table)) + Counter(moved) == given_rows
        expected = refused(given_rows, [one["rule"] for one in chosen])
        assert Counter(moved) == expected

    conserved()


def literal(value: Any) -> str:
    return "NULL" if value is None else repr(value)


def refused(given_rows: Counter[tuple[Any, ...]], chosen: list[str]) -> Counter[tuple[Any, ...]]:
    ids = Counter(row[0] for row in given_rows.elements())
    return Counter(
        row
        for row in given_rows.elements()
        if ("not_null" in chosen and row[1] is None)
        or ("between" in chosen and row[2] is not None and not 0 <= row[2] <= 10)
        or ("unique" in chosen and ids[row[0]] > 1)
    )


def test_rows_that_gx_refuses_move_too(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, '[', 5), (3, NULL, 5)")
    gx = {
        "expectation": "expect_column_values_to_be_json_parseable",
        "column": "kind",
        "severity": "quarantine",
    }
    found = check(engine, table, rules({**gx, "where": "id < 10"}, BETWEEN), run="r")
    assert found.verdicts[0].by_gx
    assert rows(engine, table) == [(3, None, 5)]
    assert [row[3] for row in rows(engine, f"{table}__quarantine")] == [
        "expect_column_values_to_be_json_parseable(kind)"
    ] * 2


def test_mostly_and_failing_rules_keep_everything_in_place(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, 'b', 50), (3, 'c', 60), (4, 'd', 7)")
    found = check(engine, table, rules({**BETWEEN, "mostly": 0.9}))
    assert [one.word for one in found.verdicts] == ["failed"]
    message = failure(table, found.failed)
    assert "between(amount): 2 of 4 rows refused, where 0.9 of them must be good; one is 50" in message
    check(engine, table, rules(BETWEEN, {"rule": "row_count", "min": 100}))
    assert len(rows(engine, table)) == 4
    assert load(engine.config, f"{table}__quarantine") is None
    check(engine, table, rules({**BETWEEN, "mostly": 0.5}))
    assert len(rows(engine, table)) == 2


def test_a_move_that_ended_half_way_is_not_doubled(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, 'b', 50)")
    with pytest.MonkeyPatch.context() as patch:
        stop_at_commit(patch, table)
        with pytest.raises(KeyboardInterrupt):
            check(engine, table, rules(BETWEEN), run="first")
    assert len(rows(engine, table)) == 2
    assert len(rows(engine, f"{table}__quarantine")) == 1
    # Another writer comes between, so that the source is not the table's newest snapshot any more.
    make(engine, table, "(3, 'c', 70)")
    check(engine, table, rules(BETWEEN), run="second")
    assert rows(engine, table) == [(1, "a", 5)]
    held = rows(engine, f"{table}__quarantine", "id, _run")
    assert held == [(2, "second"), (3, "second")]


def test_a_half_move_is_set_right_when_nothing_is_refused_any_more(
    engine: DuckDBEngine, namespace: str
) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, 'b', 50)")
    with pytest.MonkeyPatch.context() as patch:
        stop_at_commit(patch, table)
        with pytest.raises(KeyboardInterrupt):
            check(engine, table, rules(BETWEEN), run="first")
    check(engine, table, rules({**BETWEEN, "max": 100}), run="second")
    assert len(rows(engine, table)) == 2
    assert rows(engine, f"{table}__quarantine") == []


def stop_at_commit(patch: pytest.MonkeyPatch, table: str, count: int = 1) -> None:
    """The process ends when it is about to commit to this table for the nth time."""
    commit, seen = Draft.commit, [0]

    def stopping(self: Draft, *given: Any, **named: Any) -> Any:
        if self.definition.name == table:
            seen[0] += 1
            if seen[0] == count:
                raise KeyboardInterrupt
        return commit(self, *given, **named)

    patch.setattr(Draft, "commit", stopping)


def test_a_new_column_reaches_the_quarantine(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 50)")
    check(engine, table, rules(BETWEEN))
    engine.write(
        "SELECT 2 AS id, 'b' AS kind, 60 AS amount, 'new' AS extra", TableDefinition(table), "append"
    )
    check(engine, table, rules(BETWEEN))
    assert rows(engine, f"{table}__quarantine", "id, extra") == [(1, None), (2, "new")]


def test_replay_puts_back_what_passes_now(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, NULL, 50), (3, 'b', 50), (4, 'c', 500)")
    check(engine, table, rules(NOT_NULL, BETWEEN))
    today = rules(NOT_NULL, {**BETWEEN, "max": 100})
    planned = replay(engine, table, today, dry_run=True)
    assert (planned.returned, planned.kept) == (1, {"between(amount)": 1, "not_null(kind)": 1})
    assert len(rows(engine, table)) == 1
    done = replay(engine, table, today)
    assert (done.returned, done.kept, done.finished) == (1, planned.kept, 0)
    assert rows(engine, table) == [(1, "a", 5), (3, "b", 50)]
    assert rows(engine, f"{table}__quarantine", "id, _rule") == [
        (2, "not_null(kind)"),
        (4, "between(amount)"),
    ]
    snapshots = len(load(engine.config, f"{table}__quarantine").metadata.snapshots)  # type: ignore[union-attr]
    assert replay(engine, table, today).returned == 0
    assert len(load(engine.config, f"{table}__quarantine").metadata.snapshots) == snapshots  # type: ignore[union-attr]


def test_replay_looks_at_the_table_for_uniqueness(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 50), (2, 'b', 50)")
    check(engine, table, rules(BETWEEN))
    make(engine, table, "(1, 'newer', 5)")
    done = replay(engine, table, rules(UNIQUE, {**BETWEEN, "max": 100}))
    assert (done.returned, done.kept) == (1, {"unique(id)": 1})
    assert rows(engine, table) == [(1, "newer", 5), (2, "b", 50)]


def test_replay_merges_on_the_key(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'old', 50), (NULL, 'none', 50)")
    check(engine, table, rules(BETWEEN))
    make(engine, table, "(1, 'newest', 60), (1, 'here', 5)")
    check(engine, table, rules(BETWEEN))
    done = replay(engine, table, rules({**BETWEEN, "max": 100}), merge_key=["id"])
    assert (done.returned, done.kept) == (1, {replaying.NO_KEY: 1, replaying.SUPERSEDED: 1})
    assert rows(engine, table) == [(1, "newest", 60)]


@pytest.mark.parametrize("stop", ["table", "quarantine"])
def test_a_replay_that_was_stopped_is_finished(engine: DuckDBEngine, namespace: str, stop: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, 'b', 50), (3, 'c', 500)")
    check(engine, table, rules(BETWEEN))
    today = rules({**BETWEEN, "max": 100})
    with pytest.MonkeyPatch.context() as patch:
        # Before its rows reach the table, and before they leave the quarantine.
        stop_at_commit(patch, *((table, 1) if stop == "table" else (f"{table}__quarantine", 2)))
        with pytest.raises(KeyboardInterrupt):
            replay(engine, table, today)
    # Stricter rules meanwhile: rows on their way back are not called to order again.
    done = replay(engine, table, rules(BETWEEN))
    assert (done.finished, done.returned, done.kept) == (1, 0, {"between(amount)": 1})
    assert rows(engine, table) == [(1, "a", 5), (2, "b", 50)]
    assert rows(engine, f"{table}__quarantine", "id") == [(3,)]


def test_replay_needs_a_quarantine(engine: DuckDBEngine, namespace: str) -> None:
    make(engine, f"{namespace}.t", "(1, 'a', 5)")
    with pytest.raises(ForebayError, match="has no quarantine: there is no table"):
        replay(engine, f"{namespace}.t", rules(BETWEEN))


def test_wrong_columns_values_and_tables_are_named(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5)")
    with pytest.raises(ForebayError) as wrong:
        check(engine, table, rules({"rule": "null", "column": "kinds"}, {"rule": "null", "column": "idd"}))
    assert str(wrong.value) == (
        f"{table} has no column 'kinds'. Did you mean 'kind'? {table} has no column 'idd'. Did you mean 'id'? "
        "Its columns: id, kind, amount."
    )
    for given_rule, message in (
        ({"rule": "sql", "sql": "amout > 3"}, "has no column 'amout'"),
        ({"rule": "between", "column": "id", "min": "a"}, "between(id): min: 'a' is no value of column id"),
        (
            {"rule": "references", "column": "id", "to": {"table": f"{namespace}.x", "column": "id"}},
            f"there is no table {namespace}.x",
        ),
    ):
        with pytest.raises(ForebayError) as wrong:
            check(engine, table, rules(given_rule))
        assert message in str(wrong.value)
    with pytest.raises(ForebayError, match="there is no table"):
        check(engine, f"{namespace}.none", rules(BETWEEN))
    make(engine, table, "(1, 'a', 5)")
    with pytest.raises(ForebayError, match="more than 1 rows, too many"):
        check(engine, table, rules({"rule": "median", "column": "amount", "min": 1}), gx_rows=1)


def test_rules_of_our_own(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, 'b', NULL), (3, NULL, 7)")
    make(engine, f"{namespace}.kinds", "(1, 'a', 1), (2, NULL, 1)")
    found = check(
        engine,
        table,
        rules(
            {"rule": "sql", "sql": "amount < :most"},
            {"rule": "references", "column": "kind", "to": {"table": f"{namespace}.kinds", "column": "kind"}},
            {"rule": "type", "column": "kind", "type": "VARCHAR"},
            {"rule": "type", "column": "id", "type": "bigint"},
            {
                "expectation": "expect_column_values_to_match_like_pattern",
                "column": "kind",
                "arguments": {"like_pattern": "a%"},
            },
        ),
        {"most": 6},
    )
    counts = [(one.success, one.unexpected, one.result.get("missing_count")) for one in found.verdicts]
    assert counts == [(False, 1, 1), (False, 1, 1), (True, 0, None), (False, 0, None), (False, 1, 1)]


def test_an_empty_table_can_be_checked(engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    engine.execute([f"CREATE SCHEMA IF NOT EXISTS lake.{namespace}"])
    engine.execute([f"CREATE TABLE {lake_name(table)} (id INTEGER, kind VARCHAR, amount INTEGER)"])
    found = check(engine, table, rules(NOT_NULL, UNIQUE, {"rule": "row_count", "max": 0}))
    assert [one.word for one in found.verdicts] == ["passed"] * 3


def operator(
    config: CatalogConfig, table: str, expect: list[Rule], who: TaskTry | None = None
) -> ChecksOperator:
    """The operator in this process, whose connection leads to the tests' store."""

    class Here(ChecksOperator):
        def catalog(self, engine: Any = None, *, main: bool = False, exclusive: Any = ()) -> CatalogConfig:
            return config.seen_by(replace(who, exclusive=tuple(exclusive))) if who and not main else config

        @staticmethod
        def connection(conn_id: str) -> Any:
            return SimpleNamespace(conn_type="duckdb", extra_dejson={"threads": 1})

    made = Here(
        task_id="trust",
        table=table,
        rules=[one.as_dict() for one in expect],
        conn_id="lake_sql",
        job_name="lab.job",
    )
    made._who = who or TaskTry("lab.job", "run_1", task="trust", engine="duckdb")
    return made


def context() -> dict[str, Any]:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    ti = SimpleNamespace(try_number=2)
    run = SimpleNamespace(run_id="run_1", start_date=moment, logical_date=None, run_after=moment)
    return {"dag_run": run, "params": {}, "ti": ti}


def test_results_are_kept_whatever_they_are(
    config: CatalogConfig, engine: DuckDBEngine, namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5), (2, NULL, 50)")
    expect = rules(
        {"rule": "not_null", "column": "kind"},
        {"rule": "between", "column": "amount", "max": 10, "severity": "warn"},
        {"rule": "row_count", "min": 1},
    )
    task = operator(config, table, expect)
    with pytest.raises(AirflowFailException) as failed:
        task.execute(context())  # type: ignore[arg-type]
    assert f"{table}: a rule failed.\n  not_null(kind): 1 of 2 rows refused" in str(failed.value)
    kept = rows(
        engine, f"{namespace}.{results.TABLE}",
        "rule, job, task, run_id, try_number, table_name, verdict, unexpected_count, observed_value",
    )  # fmt: skip
    who = ("lab.job", "trust", "run_1", 2, table)
    assert kept == [
        ("between(amount)", *who, "warned", 1, None),
        ("not_null(kind)", *who, "failed", 1, None),
        ("row_count", *who, "passed", None, "2"),
    ]
    details = json.loads(rows(engine, f"{namespace}.{results.TABLE}", "details")[0][0])
    assert set(details) == {"success", "expectation_config", "result", "meta", "exception_info"}
    summary = (
        f"{table}: 1 passed, 1 failed, 1 warned\n"
        "rule             severity  verdict  refused        examples\n"
        "not_null(kind)   fail      failed   1 of 2 (50 %)  null\n"
        "between(amount)  warn      warned   1 of 2 (50 %)  50\n"
        "row_count        fail      passed   saw 2"
    )
    assert summary in capfd.readouterr().out


def test_results_that_cannot_be_kept_hide_no_verdict(
    config: CatalogConfig, engine: DuckDBEngine, namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    table = f"{namespace}.t"
    make(engine, table, "(1, 'a', 5)")
    task = operator(config, table, rules({"rule": "row_count", "max": 0}))
    # A name the catalog refuses.
    task.results_namespace = "Not A Namespace!"
    with pytest.raises(AirflowFailException, match="row_count: saw 1"):
        task.execute(context())  # type: ignore[arg-type]
    out = capfd.readouterr().out
    assert "The results could not be kept" in out
    assert config.secret_key not in out


def test_results_of_four_at_a_time_are_all_kept(config: CatalogConfig, lens: str, namespace: str) -> None:
    def keep(number: int) -> str:
        row = {"checked_at": datetime.now(UTC), "job": f"job_{number}", "rule": "r", "success": True}
        who = TaskTry(f"lab.job_{number}", "run_1", task="trust")
        return results.keep(replace(config, lens=lens).main(), f"{namespace}_new", [row], who, {})

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(keep, range(8)))
    table = load(config, names[0])
    assert table is not None
    assert sorted(table.scan().to_arrow()["job"].to_pylist()) == [f"job_{number}" for number in range(8)]


def test_a_run_s_rows_move_on_its_branch_and_are_published_together(
    config: CatalogConfig, lens: str, engine: DuckDBEngine, namespace: str
) -> None:
    table, held = f"{namespace}.t", f"{namespace}.t__quarantine"
    make(engine, table, "(1, 'a', 5)")
    seen = replace(config, lens=lens)

    def who(task: str) -> TaskTry:
        return TaskTry(
            job="lab.job", run="run_1", task=task, number=1, writes=(table, held), began=time.time()
        )

    with DuckDBEngine(seen.seen_by(who("write")), macros=MACROS) as inside:
        make(inside, table, "(2, 'b', 50)")
    task = operator(seen, table, rules(BETWEEN), who("trust"))
    found = task.execute(context())  # type: ignore[arg-type]
    assert found["tables"][table]["deleted"] == 1
    assert row_count(load(config, table)) == 1  # type: ignore[arg-type]
    assert row_count(load(config, f"{namespace}.{results.TABLE}")) == 1  # type: ignore[arg-type]
    with Rest(seen) as rest:
        publish(rest, who("publish"), (table, held), {"write": 1, "trust": 1}, (table, held))
    assert rows(engine, table) == [(1, "a", 5)]
    assert rows(engine, held, "id, _run") == [(2, "run_1")]
    assert quarantine.unfinished(load(config, held), load(config, table)) is None  # type: ignore[arg-type]


def test_what_checks_found_says_who_looked_and_is_no_part_of_the_run(
    config: CatalogConfig, lens: str, engine: DuckDBEngine, namespace: str
) -> None:
    table, kept, held = f"{namespace}.t", f"{namespace}.{results.TABLE}", f"{namespace}.t__quarantine"
    seen = replace(config, lens=lens)

    def looked(run: str, values: str) -> TaskTry:
        who = TaskTry(
            job="lab.job", run=run, task="trust", number=2, writes=(table, held), user="ann", engine="duckdb"
        )
        with DuckDBEngine(seen.seen_by(replace(who, task="write")), macros=MACROS) as inside:
            make(inside, table, values)
        with suppress(AirflowFailException):
            operator(seen, table, rules({"rule": "row_count", "max": 1}), who).execute(context())  # type: ignore[arg-type]
        return who

    published, failed = looked("one", "(1, 'a', 5)"), looked("two", "(1, 'a', 5), (2, 'b', 6)")
    with Rest(seen) as rest:
        publish(rest, published, (table, held), {"write": 2, "trust": 2}, (table,))
        found = rest.tables([table, kept])
    events = [each.made for each in blame(found[kept])]
    assert [(made.job, made.run, made.task, made.number, made.user, made.engine) for made in events if made] == [
        ("lab.job", run, "trust", 2, "ann", "duckdb") for run in ("two", "one")
    ]  # fmt: skip
    (read,) = events[1].inputs if events[1] else ()
    assert (read.table, read.snapshot) == (table, on_main(found[table], published).head)  # type: ignore[union-attr]
    # The run of a check that refused its rows has failed, and is not half published.
    assert RunsOf.read(kept, found[kept]).words(failed) == set()
    assert RunsOf.read(table, found[table]).words(failed) == {"open"}
    # Taking a run out leaves what was found, and nobody's check keeps a run from being taken out.
    lake = Lake(found.items())
    taken = plan(lake, Run("lab.job", "one"))
    assert ([each.table for each in taken.tables], taken.dependents) == ([table], ())
    assert plan_to(lake, kept, None).run == NOBODY
    graph = Graph()
    for name, document in found.items():
        graph.add(name, document)
    assert (graph.edges, graph.foreign) == ({}, set())


def test_a_killed_check_stops(config: CatalogConfig, engine: DuckDBEngine, namespace: str) -> None:
    table = f"{namespace}.t"
    engine.write("SELECT range AS id, 'a' AS kind, 1 AS amount FROM range(300000)", TableDefinition(table))
    slow = "cardinality(filter(sequence(1, 2000), x -> x % (id + 3) = 1)) >= 0"
    task = operator(config, table, rules({"rule": "sql", "sql": slow}))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(task.execute, context())  # type: ignore[arg-type]
        time.sleep(3)
        assert not running.done()
        killed = time.monotonic()
        task.on_kill()
        with pytest.raises(Cancelled):
            running.result(5)
        assert time.monotonic() - killed < 5
    assert load(config, f"{namespace}.{results.TABLE}") is None
