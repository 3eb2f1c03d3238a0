"""Columns that a release has published stay where and what they are, in every place that has them.

tests/data/published_columns.json says which columns came with which release: name, type in Parquet, in Glue and in
PostgreSQL. CSV files and Redshift's COPY go by position, and rows in S3 keep the columns that they were written with.
"""

import json
import re
import tarfile
from datetime import UTC, date, datetime

import duckdb
import pytest
from arro3.core import RecordBatch

from local_aws.yaml_text import yaml_parse
from maintain.check_template import ROOT, TEMPLATE
from maintain.generate.columns import view_sql
from process import closing
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import schema, to_csv, to_parquet

LIST = "tests/data/published_columns.json"
PUBLISHED: dict[str, list[list[str]]] = json.loads((ROOT / LIST).read_text())
COLUMNS = [column for columns in PUBLISHED.values() for column in columns]
NAMES = [name for name, *_ in COLUMNS]
# What parquet_schema() says of a column: type, repetition, converted type, logical type.
FOOTERS = {
    "BYTE_ARRAY UTF8": ("BYTE_ARRAY", "OPTIONAL", "UTF8", "StringType()"),
    "INT64": ("INT64", "OPTIONAL", None, None),
    "DOUBLE": ("DOUBLE", "OPTIONAL", None, None),
    "BOOLEAN": ("BOOLEAN", "OPTIONAL", None, None),
    "INT64 TIMESTAMP_MILLIS UTC": (
        *("INT64", "OPTIONAL", "TIMESTAMP_MILLIS"),
        "TimestampType(isAdjustedToUTC=1, unit=TimeUnit(MILLIS=MilliSeconds(), MICROS=<null>, NANOS=<null>))",
    ),
}
READ_AS = {
    "BYTE_ARRAY UTF8": "VARCHAR",
    "INT64": "BIGINT",
    "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "INT64 TIMESTAMP_MILLIS UTC": "TIMESTAMP WITH TIME ZONE",
}


def complaint(published: list[list[str]], now: list[list[str]]) -> str | None:
    """What a maintainer has to do, or None if the columns are those that were published."""
    for position, column in enumerate(published):
        found = now[position] if position < len(now) else None
        if found != column:
            return (
                f"Column {position + 1} was published as {' '.join(column)}, and is now {found and ' '.join(found)}. A "
                "published column is never renamed, moved, retyped or removed: put it back, and add new columns after "
                "the last one."
            )
    if len(now) > len(published):
        return f"Column {now[len(published)][0]} is new: append it to {LIST}, under the version that will publish it."
    return None


def rows(count: int) -> RecordBatch:
    """Of the samples' deliveries and opens, in turn."""
    samples = json.loads((ROOT / "events/samples/all-27-events.json").read_text())
    two = [one for one in samples if next(iter(one["msys"].values()))["type"] in ("delivery", "open")]
    events = [json.loads(json.dumps(two[number % 2])) for number in range(count)]
    for number, event in enumerate(events):
        next(iter(event["msys"].values()))["event_id"] = str(number)
    gathered = Rows()
    received_at = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp() * 1000
    gathered.add(StoredBatch("batch-1", "raw/batch-1.json", int(received_at), json.dumps(events).encode()))
    (day,) = gathered.take_days()
    return day.rows


@pytest.fixture(params=[2, 600], ids="{} rows".format)
def count(request):
    return request.param


@pytest.fixture(params=[to_parquet, closing.to_file], ids=["small", "closed"])
def file(request, count, tmp_path):
    path = tmp_path / "file.parquet"
    path.write_bytes(request.param(rows(count)))
    return path


def test_every_file_has_the_columns_as_published(file):
    asked = "SELECT name, type, repetition_type, converted_type, logical_type FROM parquet_schema(?)"
    with duckdb.connect() as connection:
        _, *found = connection.execute(asked, [str(file)]).fetchall()
    names = {footer: name for name, footer in FOOTERS.items()}
    given = [[name, names.get(tuple(footer), str(footer))] for name, *footer in found]
    assert complaint([column[:2] for column in COLUMNS], given) is None


def test_a_reader_finds_the_types_without_arrows_own_schema(file):
    with duckdb.connect() as connection:
        assert connection.execute("SELECT count(*) FROM parquet_kv_metadata(?)", [str(file)]).fetchall() == [(0,)]
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file)]).fetchall()
    assert [list(one[:2]) for one in described] == [[name, READ_AS[kind]] for name, kind, *_ in COLUMNS]
    assert all(batch.schema == schema() for batch in closing.rows_of(file.read_bytes()))


def test_a_file_of_two_rows_is_a_third_smaller_than_with_all_that_a_writer_adds():
    # 31,458 bytes with Arrow's schema in the footer, dictionaries and compressed pages of a few bytes.
    assert len(to_parquet(rows(2))) < 31_458 * 2 / 3


def test_small_files_are_compressed_by_what_costs_little_and_closed_ones_by_what_saves_most(file, count, request):
    wanted = "SNAPPY" if count == 2 and "small" in request.node.callspec.id else "ZSTD"
    with duckdb.connect() as connection:
        found = connection.execute("SELECT DISTINCT compression FROM parquet_metadata(?)", [str(file)]).fetchall()
    assert found == [(wanted,)]


def test_glue_has_the_columns_as_published():
    table = yaml_parse(TEMPLATE.read_text())["Resources"]["EventsTable"]["Properties"]["TableInput"]
    _, csv, parquet = table["StorageDescriptor"]["Columns"]["Fn::If"]
    published = [[name, glue] for name, _, glue, _ in COLUMNS]
    assert complaint(published, [[column["Name"], column["Type"]] for column in parquet]) is None
    assert complaint([[name, "string"] for name in NAMES], [[column["Name"], column["Type"]] for column in csv]) is None
    assert [(key["Name"], key["Type"]) for key in table["PartitionKeys"]] == [("event_date", "date")]


def test_csv_has_the_columns_in_the_published_order():
    header, _, _ = to_csv(rows(2)).decode().splitlines()
    assert complaint([[name] for name in NAMES], [[name] for name in header.split(",")]) is None


def test_postgresql_has_the_columns_as_published():
    listed = json.loads((ROOT / "functions/load_postgres/columns.json").read_text())
    published = [[name, postgres] for name, _, _, postgres in COLUMNS]
    assert complaint(published, [[name, kind] for name, kind, _ in listed]) is None


def test_the_view_has_the_columns_in_the_published_order(tmp_path):
    folder = tmp_path / f"event_date={date(2026, 11, 23)}"
    folder.mkdir()
    (folder / "file.parquet").write_bytes(to_parquet(rows(2)))
    with duckdb.connect() as connection:
        files = f"read_parquet('{folder}/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW events AS SELECT * FROM {files}")  # noqa: S608
        described = connection.execute(f"DESCRIBE {view_sql(csv=False)}").fetchall()
    assert complaint([[name] for name in [*NAMES, "event_date"]], [[one[0]] for one in described]) is None


@pytest.mark.parametrize("archive", sorted((ROOT / "releases").glob("*.tar.gz")), ids=lambda path: path.name)
def test_the_list_says_what_the_release_had(archive):
    version = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as files:
        template = files.extractfile(f"bird-webhooks-{version}/template.yaml")
        assert template is not None
        resources = yaml_parse(template.read().decode())["Resources"]
    _, _, columns = resources["EventsTable"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]["Fn::If"]
    until = [column for release in PUBLISHED for column in PUBLISHED[release] if numbers(release) <= numbers(version)]
    assert [(column["Name"], column["Type"]) for column in columns] == [(name, glue) for name, _, glue, _ in until]


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@pytest.mark.parametrize(
    ("now", "position", "found"),
    [
        pytest.param([], 1, None, id="all removed"),
        pytest.param(["a text"], 2, None, id="removed"),
        pytest.param(["b text", "a text"], 1, "b text", id="moved"),
        pytest.param(["a text", "b bigint"], 2, "b bigint", id="retyped"),
        pytest.param(["a text", "c text"], 2, "c text", id="renamed"),
        pytest.param(["a text", "c text", "b text"], 2, "c text", id="inserted"),
    ],
)
def test_a_changed_column_is_put_back(now, position, found):
    published = ["a text", "b text"]
    assert complaint([column.split() for column in published], [column.split() for column in now]) == (
        f"Column {position} was published as {published[position - 1]}, and is now {found}. A published column is "
        "never renamed, moved, retyped or removed: put it back, and add new columns after the last one."
    )


def test_a_new_column_is_added_to_the_list():
    assert complaint([["a", "text"]], [["a", "text"]]) is None
    assert complaint([["a", "text"]], [["a", "text"], ["b", "text"]]) == (
        "Column b is new: append it to tests/data/published_columns.json, under the version that will publish it."
    )


def test_the_list_is_in_the_order_of_the_versions():
    assert list(PUBLISHED) == sorted(PUBLISHED, key=numbers)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in PUBLISHED)
