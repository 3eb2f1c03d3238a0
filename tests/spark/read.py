"""Run by .venv-spark's Python: for each folder given, a line of JSON with Spark's schema and rows of it.

python read.py BASE FOLDER [BASE FOLDER ...]    BASE: where the folders of dates lie
"""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, unix_micros

SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    # Not UTC: a time that were no instant would be another one here.
    "spark.sql.session.timeZone": "America/New_York",
}

builder = SparkSession.builder.master("local[1]")
for name, value in SETTINGS.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
given = sys.argv[1:]
for base, folder in zip(given[::2], given[1::2], strict=True):
    read = spark.read.option("basePath", base).option("mergeSchema", "false").parquet(folder)
    columns = [
        unix_micros(col(name)) if kind == "timestamp" else col(name).cast("string") if kind == "date" else col(name)
        for name, kind in read.dtypes
    ]
    rows = [list(row) for row in read.select(columns).collect()]
    sys.stdout.write(json.dumps({"types": read.dtypes, "rows": rows}) + "\n")
spark.stop()
