"""The models: closed, described, found by name, and loaded without Airflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from pydantic import BaseModel

from forebay.rules import cron_problem, find_cycle, timezone_problem
from forebay.source import parse_document
from forebay.spec import base, notifications, parameters, schedule, table, task, workspace
from forebay.spec.base import duration_text, parse_duration, parse_size
from forebay.spec.job import JobSpec
from forebay.spec.mistakes import validate
from forebay.spec.parameters import Parameter, ParameterError
from forebay.spec.table import PartitionField, SortField, TableLayout
from forebay.spec.text import TextError, fill, names_in
from forebay.tasks import TASK_TYPES


def models() -> Iterator[type[BaseModel]]:
    for module in (base, notifications, parameters, schedule, table, task, workspace):
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, base.Closed)
                and value.__module__ == module.__name__
            ):
                yield value
    yield JobSpec
    yield from TASK_TYPES.values()


@pytest.mark.parametrize("model", list(models()), ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_models_are_closed_frozen_and_described(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"]
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no description"


@pytest.mark.parametrize("name", TASK_TYPES)
def test_task_types_have_a_docstring_and_an_example_that_builds(name: str) -> None:
    kind = TASK_TYPES[name]
    assert kind.__doc__
    assert kind.__doc__.splitlines()[0].endswith(".") or ";" in kind.__doc__.splitlines()[0]
    rows = kind.example.splitlines()
    text = "tasks:\n  - " + "\n    ".join(rows)
    spec, mistakes = validate(JobSpec, parse_document(text.encode(), "example.yaml"))
    assert mistakes == []
    assert spec is not None
    built = spec.tasks[0]
    assert isinstance(built, kind)
    assert built.type == name
    assert all(isinstance(tables, tuple) for tables in (built.writes, built.reads))
    assert set(kind.text_fields) <= set(kind.model_fields)


def test_the_spec_layer_loads_without_heavy_packages() -> None:
    program = (
        "import sys, forebay.project, forebay.check, forebay.rules, forebay.schema, forebay.tasks\n"
        "heavy = {'airflow', 'pyspark', 'trino', 'pyiceberg', 'kubernetes', 'boto3', 'duckdb', 'sqlglot'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "size"), [("1MB", 1 << 20), ("32MB", 32 << 20), ("1024MB", 1 << 30), ("1GB", 1 << 30)]
)
def test_sizes(value: str, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", [32, True, None, "", "32", "0MB", "1.5GB", "2GB", "1025MB", "32mb", "32 MB", "-1MB", "9" * 99]
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="must be a size such as 32MB"):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), (45, 45)]
)
def test_durations(value: object, seconds: int) -> None:
    assert parse_duration(value) == timedelta(seconds=seconds)
    assert parse_duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "5", "h", "1h 30m", "-5m", "1.5h", 0, -1, True, None, 1.5, "9999999d"])
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(value)


def test_schedules() -> None:
    def read(text: str) -> object:
        spec, mistakes = validate(JobSpec, parse_document(f"schedule: {text}\n{TASK}".encode(), "x"))
        assert mistakes == []
        assert spec is not None
        return spec.schedule

    assert read("none") is None
    assert read("") is None
    assert read("continuous") == schedule.ContinuousSchedule()
    assert read('"0 5 * * *"') == schedule.CronSchedule(cron="0 5 * * *")
    zoned = schedule.CronSchedule(cron="0 5 * * *", timezone="Europe/Berlin")
    assert read('{cron: "0 5 * * *", timezone: Europe/Berlin}') == zoned
    assert read("{after: [a.b], condition: any}") == schedule.AfterSchedule(after=("a.b",), condition="any")


TASK = (
    "tasks:\n  - {key: a, type: sql, sql: SELECT 1 AS one, table: a.b, for_each: [1, 2], run_if: ALL_DONE}\n"
)


def test_short_forms() -> None:
    spec, _ = validate(JobSpec, parse_document(f"deadline: 2h\n{TASK}".encode(), "x"))
    assert spec is not None
    assert spec.deadline is not None
    assert spec.deadline.after == timedelta(hours=2)
    assert spec.tasks[0].for_each == task.ForEach(inputs=(1, 2))
    assert spec.tasks[0].run_if == "all_done"


def test_a_file_full_of_mistakes_names_the_first_ones() -> None:
    text = "\n".join(f"key{number}: 1" for number in range(500))
    spec, mistakes = validate(JobSpec, parse_document(text.encode(), "x"))
    assert spec is None
    assert len(mistakes) == 21
    assert "more mistakes follow" in mistakes[-1].message


def test_table_layout() -> None:
    layout = TableLayout(
        partitioned_by=("day", "month(ts)", "bucket(16, carrier)", "truncate(4, zip)"),
        sorted_by=("a", "b desc"),
    )
    assert layout.partitions == (
        PartitionField("day", "identity", 0),
        PartitionField("ts", "month", 0),
        PartitionField("carrier", "bucket", 16),
        PartitionField("zip", "truncate", 4),
    )
    assert layout.sort_order == (SortField("a", False), SortField("b", True))


def test_parameters_know_what_fits() -> None:
    today = date(2026, 3, 1)
    day = Parameter(type="date", default="yesterday")
    assert day.resolve("yesterday", today) == date(2026, 2, 28)
    assert day.problem("2026-02-30") is not None
    count = Parameter(type="integer", minimum=1, maximum=5)
    assert count.required
    assert count.from_text("3") == 3
    for text in ("0", "6", "x", "1.5"):
        with pytest.raises(ParameterError):
            count.from_text(text)
    assert Parameter(type="boolean").from_text("true") is True
    assert Parameter(type="integer").problem(True) is not None
    assert Parameter(type="string", options=("S", "M")).problem("L") == "must be one of S, M, not 'L'"
    assert Parameter(type="string", pattern="[a-z]+").problem("a1") is not None


def test_text_values() -> None:
    assert names_in("s3://b/{day}/{{x}}/{run_id}") == ["day", "run_id"]
    assert fill("{{{day}}} {flag}", {"day": date(2026, 1, 2), "flag": True}) == "{2026-01-02} true"
    for text in ("{", "}", "{0}", "{a.b}", "{a!r}"):
        with pytest.raises(TextError):
            names_in(text)
    with pytest.raises(TextError, match="no value 'x'"):
        fill("{x}", {"day": 1})


def test_cycles() -> None:
    assert find_cycle({"a": ["b"], "b": [], "c": ["a", "b"]}) is None
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    chain = {str(number): [str(number + 1)] for number in range(5000)}
    assert find_cycle(chain) is None


def test_cron_and_time_zones() -> None:
    assert cron_problem("*/5 0-6 * * MON-FRI") is None
    assert cron_problem("@daily") is None
    assert cron_problem("61 * * * *") is not None
    assert timezone_problem("Europe/Berlin") is None
    for name in ("Europe", "../etc/passwd", "/etc/passwd", "", "Mars/Olympus"):
        assert timezone_problem(name) is not None
