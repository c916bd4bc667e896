"""Adds up the orders of each country: an ordinary PySpark program."""

import argparse

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

parser = argparse.ArgumentParser()
parser.add_argument("--day", required=True)
day = parser.parse_args().day

spark = SparkSession.builder.getOrCreate()

rows = [(1, "NO", 12.50), (2, "NO", 7.25), (3, "PT", 99.00)]
orders = spark.createDataFrame(rows, "order_id int, country string, amount double")

totals = orders.groupBy("country").agg(f.sum("amount").alias("amount"), f.count("*").alias("orders"))
totals = totals.withColumn("day", f.lit(day).cast("date"))

# `lake` is the catalog of Iceberg tables. It is configured already.
totals.writeTo("lake.$workspace.$job").using("iceberg").createOrReplace()
