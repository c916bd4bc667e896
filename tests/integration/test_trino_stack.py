"""Trino added to a stack that runs: the same job text gives the same figures, and goes back to DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from forebay.stack.trino_access import certificate

if TYPE_CHECKING:
    from conftest import Lab

JOB = "flights.daily_delays"
FIGURES = (
    "SELECT count(*) AS days, sum(flights) AS flights, sum(departed) AS departed, sum(cancelled) AS cancelled, "
    "sum(total_delay) AS delay FROM flights.daily_delays"
)


@pytest.fixture(scope="module")
def on_trino(lab: Lab) -> Iterator[Lab]:
    added = lab.forebay("up", "--with", "trino", "--free-ports")
    try:
        assert added.returncode == 0, added.stdout + added.stderr
        lab.stack.__dict__.pop("ports", None)
        lab.stack.__dict__.pop("parts", None)
        yield lab
    finally:
        lab.forebay("up", "--without", "trino")
        lab.stack.__dict__.pop("parts", None)


def test_status_shows_it_and_lake_sql_is_it(on_trino: Lab) -> None:
    services = {one["name"]: one for one in on_trino.json("status")["services"]}
    assert services["trino"]["state"] == "up"
    assert services["trino"]["port"] == on_trino.stack.ports["trino"]
    connection: Any = on_trino.api.get("/connections/lake_sql")
    assert (connection["conn_type"], connection["port"]) == ("trino", on_trino.stack.ports["trino"])
    assert on_trino.stack.secrets["secret_key"] not in json.dumps(connection)


def test_the_flights_figures_are_the_same(on_trino: Lab) -> None:
    # Other rows first, so that the run has something to set right.
    run, tasks = on_trino.run(JOB, {"until": "2013-06-30"}, seconds=400)
    assert run["state"] == "success", {key: [t["state"] for t in found] for key, found in tasks.items()}
    run, tasks = on_trino.run(JOB, seconds=400)
    assert run["state"] == "success", {key: [t["state"] for t in found] for key, found in tasks.items()}
    found = on_trino.json("sql", FIGURES)["rows"]
    assert [[int(value) for value in row] for row in found] == [[5_432, 336_776, 328_521, 8_255, 4_152_200]]
    routes = on_trino.lake.pyiceberg().load_table("flights.routes").current_snapshot()
    assert routes is not None
    assert routes.summary is not None
    assert routes.summary.additional_properties["forebay.engine"] == "trino"
    left = [path.name for path in (on_trino.stack.state / "trino/etc/catalog").iterdir()]
    assert left == ["lake.properties"]


def test_commands_and_people_log_in(on_trino: Lab) -> None:
    address, trusted = on_trino.stack.url("trino"), str(certificate(on_trino.stack))
    asked = {"headers": {"X-Trino-User": "admin"}, "verify": trusted, "timeout": 10}
    assert requests.post(f"{address}/v1/statement", data="SELECT 1", **asked).status_code == 401
    password = on_trino.forebay("password").stdout.strip()
    answer = requests.post(f"{address}/v1/statement", data="SELECT 1", auth=("admin", password), **asked)
    assert answer.json()["stats"]["state"] in ("QUEUED", "RUNNING", "FINISHED")
    assert on_trino.json("sql", "SELECT 7 AS n")["rows"] == [[7]]


def test_without_it_sql_runs_on_duckdb_again(on_trino: Lab) -> None:
    assert on_trino.forebay("up", "--without", "trino").returncode == 0
    assert "trino" not in {one["name"] for one in on_trino.json("status")["services"]}
    connection: Any = on_trino.api.get("/connections/lake_sql")
    assert connection["conn_type"] == "duckdb"
    found = on_trino.json("sql", FIGURES)["rows"]
    assert [[int(value) for value in row] for row in found] == [[5_432, 336_776, 328_521, 8_255, 4_152_200]]
