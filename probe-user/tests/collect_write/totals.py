# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Totals of a directory of Parquet files, as DuckDB or Spark read it without being told anything.

Usage: totals.py duckdb|spark DIRECTORY. Prints one JSON object: the number of flows, their packets and octets,
the same for each date and hour, one flow as it is read, and the type of each column.
"""

import json
import sys

TOTALS = "count(*), sum(packetDeltaCount), sum(octetDeltaCount)"
# DuckDB keeps the leading zero of `hour=05` by taking it for text.
HOURS = f"SELECT date, CAST(hour AS INTEGER), {TOTALS} FROM flows GROUP BY date, hour ORDER BY date, hour"
# Casts to text are spelt alike in both.
SAMPLE = """SELECT sourceIPv4Address, destinationIPv6Address, CAST(flowEndMilliseconds AS VARCHAR(30)), ingressInterface,
    sourceTransportPort, vlanId, sourceMacAddress, layer2SegmentId, other, exportProtocolVersion
    FROM flows WHERE octetDeltaCount = (SELECT max(octetDeltaCount) FROM flows)"""
# In Unix time, so that nobody's time zone matters.
MISPLACED = {
    "duckdb": """SELECT count(*) FROM flows
        WHERE epoch_ms(flowEndMilliseconds) // 3600000 <> (date - DATE '1970-01-01') * 24 + CAST(hour AS INTEGER)""",
    "spark": """SELECT count(*) FROM flows
        WHERE unix_millis(flowEndMilliseconds) div 3600000 <> datediff(date, DATE '1970-01-01') * 24 + hour""",
}


def duckdb_query(directory):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    files = f"'{directory}/**/*.parquet'"
    connection.execute(f"CREATE VIEW flows AS SELECT * FROM read_parquet({files}, hive_partitioning = true)")
    return lambda query: connection.execute(query).fetchall()


def spark_query(directory):
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    # The other formats may lie in the same directory.
    session.read.option("pathGlobFilter", "*.parquet").parquet(directory).createOrReplaceTempView("flows")
    return lambda query: [tuple(row) for row in session.sql(query).collect()]


def main():
    engine, directory = sys.argv[1:]
    query = {"duckdb": duckdb_query, "spark": spark_query}[engine](directory)
    result = {
        "totals": query(f"SELECT {TOTALS} FROM flows")[0],
        "hours": [[str(date), hour, *rest] for date, hour, *rest in query(HOURS)],
        "sample": query(SAMPLE),
        "types": {row[0]: row[1] for row in query("DESCRIBE flows")},
        "misplaced": query(MISPLACED[engine])[0][0],
    }
    # Sums are decimals or integers of 128 bits there.
    print(json.dumps(result, default=int))


main()
