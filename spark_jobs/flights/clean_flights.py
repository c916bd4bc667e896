"""Cleans the landed flights: types, local departure times, and the weather at the hour of departure."""

import argparse

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def local_time(clock: str) -> "F.Column":
    """A clock such as 517 (5:17) on the flight's date, as local time of New York without a zone."""
    minutes = F.floor(F.col(clock) / 100) * 60 + F.col(clock) % 100
    midnight = F.make_timestamp_ntz("year", "month", "day", F.lit(0), F.lit(0), F.lit(0))
    return midnight + F.make_dt_interval(mins=minutes.cast("int"))


def clean(flights: DataFrame, weather: DataFrame) -> DataFrame:
    """One row per planned departure, with the weather at its origin and hour where it is known."""
    scheduled = local_time("sched_dep_time")
    departed = scheduled + F.make_dt_interval(mins=F.col("dep_delay").cast("int"))
    typed = flights.select(
        "carrier",
        F.col("flight").cast("int").alias("flight"),
        F.make_date("year", "month", "day").alias("flight_date"),
        "tailnum",
        "origin",
        F.col("dest").alias("destination"),
        scheduled.alias("scheduled_at"),
        departed.alias("departed_at"),
        F.col("dep_delay").cast("int").alias("departure_delay"),
        F.col("arr_delay").cast("int").alias("arrival_delay"),
        F.col("air_time").cast("int").alias("air_time"),
        F.col("distance").cast("int").alias("distance"),
        F.col("dep_time").isNull().alias("cancelled"),
        "time_hour",
    )
    hourly = weather.select(
        "origin",
        "time_hour",
        F.col("temp").cast("double").alias("temperature"),
        F.col("wind_speed").cast("double").alias("wind_speed"),
        F.col("precip").cast("double").alias("precipitation"),
        F.col("visib").cast("double").alias("visibility"),
    )
    return typed.join(hourly, ["origin", "time_hour"], "left")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--year", type=int, required=True)
    year = parser.parse_args().year
    spark = SparkSession.builder.appName("clean_flights").getOrCreate()
    flights = spark.table("lake.flights.bronze_flights").where(F.col("year") == year)
    cleaned = clean(flights, spark.table("lake.flights.bronze_weather"))
    cleaned.writeTo("lake.flights.silver_flights").using("iceberg").createOrReplace()
    print(f"silver_flights: {spark.table('lake.flights.silver_flights').count():,} rows")


if __name__ == "__main__":
    main()
