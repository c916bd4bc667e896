"""Adds up the orders of each country."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

spark = SparkSession.builder.getOrCreate()

orders = spark.table("lake.$workspace.${job}_orders")
totals = orders.groupBy("country").agg(f.sum("amount").alias("amount"), f.count("*").alias("orders"))
totals.writeTo("lake.$workspace.${job}_totals").using("iceberg").createOrReplace()
