import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print("spark is up", spark.version, flush=True)
time.sleep(300)
