"""Spark reads the lake's folders by path, small files and closed ones, as DuckDB does. Needs Java 17 or newer."""

import json
import os
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bird_webhooks.simulator.batches import Batch, BatchMaker
from process import closing
from process.columns import COLUMNS
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_parquet

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 23)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BATCHES = 25
TYPES = {
    "TEXT": "string",
    "JSON": "string",
    "BIGINT": "bigint",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp",
}
VERSION = "0001-0123456789ab"

type Read = dict[str, dict[str, Any]]


def small_file(batch: Batch) -> bytes:
    rows = Rows()
    rows.add(StoredBatch(batch.batch_id, f"raw/{batch.batch_id}.json", int(NOON.timestamp()) * 1000, batch.body))
    [(_, table, _)] = rows.take_days()
    return to_parquet(table)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A date as small files, a few of them twice, and as a closed version. All 27 types come."""
    folder = tmp_path_factory.mktemp("lake")
    maker = BatchMaker(3, NOON, spread_seconds=3_600)
    small = [small_file(maker.batch(number, events=40)) for number in range(BATCHES)]
    small += small[:3]
    for number, file in enumerate(small):
        put(folder / f"events/event_date={DAY}/{number:04}.parquet", file)
    held = closing.combined([rows for file in small for rows in closing.rows_of(file)])
    [rows] = closing.cut(closing.taken(held, closing.distinct(held)))
    put(folder / f"closed/event_date={DAY}/{VERSION}/0000-00.parquet", closing.to_file(rows))
    return folder


def put(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


@pytest.fixture(scope="module")
def spark(lake: Path) -> Read:
    places = {"events": f"events/event_date={DAY}", "closed": f"closed/event_date={DAY}/{VERSION}"}
    given = [str(part) for base, folder in places.items() for part in (lake / base, lake / folder)]
    environment = {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}
    ran = subprocess.run(
        [ROOT / ".venv-spark/bin/python", Path(__file__).with_name("read.py"), *given],
        env={**environment, "HOME": str(lake), "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2_000:]
    return dict(zip(places, map(json.loads, ran.stdout.splitlines()), strict=True))


def read_by_duckdb(folder: Path) -> list[tuple[Any, ...]]:
    names = [f"epoch_us({column.name})" if column.type == "TIMESTAMP" else f'"{column.name}"' for column in COLUMNS]
    files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {', '.join(names)}, event_date::text FROM {files}").fetchall()  # noqa: S608


@pytest.mark.parametrize("kind", ["events", "closed"])
def test_types_are_those_of_the_table(spark, kind):
    expected = [[column.name, TYPES[column.type]] for column in COLUMNS]
    assert spark[kind]["types"] == [*expected, ["event_date", "date"]]


@pytest.mark.parametrize(("kind", "rows"), [("events", (BATCHES + 3) * 40), ("closed", BATCHES * 40)])
def test_rows_are_those_that_duckdb_reads(lake, spark, kind, rows):
    found = [tuple(row) for row in spark[kind]["rows"]]
    assert len(found) == rows
    assert sorted(found, key=repr) == sorted(read_by_duckdb(lake / kind), key=repr)


def test_times_are_the_same_moments_in_any_time_zone(spark):
    place = [column.name for column in COLUMNS].index("received_at")
    moment = int(NOON.timestamp()) * 1_000_000
    assert {row[place] for read in spark.values() for row in read["rows"]} == {moment}
    assert timedelta(microseconds=moment) + datetime(1970, 1, 1, tzinfo=UTC) == NOON
