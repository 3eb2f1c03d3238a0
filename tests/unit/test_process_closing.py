"""A closed date has what the view gave before, value for value: DuckDB runs the view over the small files."""

import random
from array import array
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from arro3.core import Array, DataType, RecordBatch, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintain.generate.columns import view_sql
from process import closing, day_state
from process.closing import DifferentError, UnknownColumnsError
from process.columns import COLUMNS, ColumnType
from process.day_state import DayState, File, Small, Version
from process.table import schema, to_parquet

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPES = {
    ColumnType.TEXT: DataType.utf8(),
    ColumnType.JSON: DataType.utf8(),
    ColumnType.BIGINT: DataType.int64(),
    ColumnType.DOUBLE: DataType.float64(),
    ColumnType.BOOLEAN: DataType.bool(),
}


def batch(rows: list[dict[str, Any]]) -> RecordBatch:
    """Rows by column name; times in milliseconds."""
    arrays = []
    for column in COLUMNS:
        values = [row.get(column.name) for row in rows]
        if column.type is ColumnType.TIMESTAMP:
            arrays.append(Array(values, DataType.int64()).cast(DataType.timestamp("ms", tz="UTC")))
        else:
            arrays.append(Array(values, TYPES[column.type]))
    return RecordBatch.from_arrays(arrays, schema=schema())


def parquet(rows: list[dict[str, Any]]) -> bytes:
    return to_parquet(Table.from_batches([batch(rows)], schema=schema()))


def seen_through_the_view(folder: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        files = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW events AS SELECT * FROM {files}")  # noqa: S608
        return sorted(connection.execute(view_sql(csv=False)).fetchall(), key=repr)


def seen_in_files(files: list[bytes], folder: Path) -> list[tuple[Any, ...]]:
    put(folder, files)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = ", ".join(column.name for column in COLUMNS)
        table = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
        return sorted(connection.execute(f"SELECT {names}, event_date FROM {table}").fetchall(), key=repr)  # noqa: S608


def put(folder: Path, files: list[bytes]) -> None:
    for number, file in enumerate(files):
        path = folder / f"event_date={DAY}/{number:04}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)


def closed(files: list[bytes], slices: int) -> list[bytes]:
    """As close_day does it, without a lake."""
    held = [rows for file in files for rows in closing.rows_of(file)]
    if slices == 1:
        return [closing.to_file(piece) for piece in closing.cut(closing.taken(held, closing.distinct(held)))]
    places = closing.by_slice(held, slices)
    order = array("I", [place for one in places for place in one])
    body, pieces = closing.to_pieces(closing.taken(held, order), [len(one) for one in places])
    written = []
    for piece in pieces:
        if piece.rows:
            some = closing.rows_of_piece(body[piece.offset : piece.offset + piece.length])
            written.append(closing.to_file(closing.taken(some, closing.distinct(some))))
    return written


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
VALUES: dict[ColumnType, Any] = {
    ColumnType.TEXT: ["", "a", 'Grüße, "you"\n', "\U0001f600"],
    ColumnType.JSON: ["{}", '["a",null]'],
    ColumnType.BIGINT: [0, -1, 2**63 - 1, -(2**63)],
    ColumnType.DOUBLE: [0.1, -1e-300, 1e300],
    ColumnType.BOOLEAN: [True, False],
    ColumnType.TIMESTAMP: [1_795_392_000_000, 1_795_392_000_001, 0],
}
COPY = ("received_at", "batch_id", "extra")


def row(identity: tuple[Any, ...], copy: tuple[Any, ...]) -> dict[str, Any]:
    """Whatever tells copies apart decides the rest too, so that the view has no choice. Any value may be null."""
    chosen = random.Random(repr((identity, copy)))  # noqa: S311
    values = {column.name: chosen.choice([None, *VALUES[column.type]]) for column in COLUMNS}
    return values | dict(zip(closing.IDENTITY, identity, strict=True)) | dict(zip(COPY, copy, strict=True))


COPIES = st.builds(
    row,
    st.tuples(
        st.sampled_from([None, "", "1", "2"]),
        st.sampled_from([None, "message_event", "track_event"]),
        st.sampled_from([None, "bounce", "click"]),
        st.sampled_from([None, "a", "b", "ä", "\U0001f600"]),
    ),
    st.tuples(
        st.sampled_from([None, 1_795_392_000_000, 1_795_392_000_001]),
        st.sampled_from([None, "x", "\uffff", "\U0001f600"]),
        st.one_of(st.none(), TEXT),
    ),
)
FILES = st.lists(st.lists(COPIES, min_size=1, max_size=30), min_size=1, max_size=5)
SLICES = st.sampled_from([1, 3, 64])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=FILES, slices=SLICES)
def test_a_closed_date_has_what_the_view_gave_before(files, slices, tmp_path_factory):
    small = [parquet(rows) for rows in files]
    folder = tmp_path_factory.mktemp("small")
    put(folder, small)
    assert seen_in_files(closed(small, slices), tmp_path_factory.mktemp("closed")) == seen_through_the_view(folder)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=FILES, slices=st.lists(SLICES, min_size=5, max_size=5), order=st.randoms(use_true_random=False))
def test_versions_on_top_of_each_other_are_as_one_of_all_files_in_any_order(files, slices, order, tmp_path_factory):
    small = [parquet(rows) for rows in files]
    at_once = seen_in_files(closed(small, 1), tmp_path_factory.mktemp("at_once"))
    order.shuffle(small)
    version: list[bytes] = []
    for file, count in zip(small, slices, strict=False):
        version = closed([*version, file], count)
    assert seen_in_files(version, tmp_path_factory.mktemp("stacked")) == at_once


def test_copies_without_a_time_or_a_key_are_told_apart_too():
    copies = [row((None, None, None, key), (None, None, extra)) for key in (None, "a") for extra in (None, "x", None)]
    held = [batch([{**copy, "timestamp": 1_795_392_000_000} for copy in copies])]
    kept = closing.taken(held, closing.distinct(held))
    assert list(zip(kept["event_key"].to_pylist(), kept["extra"].to_pylist(), strict=True)) == [
        (None, None),
        ("a", None),
    ]


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "event_class": "message_event",
            "type": "bounce" if number % 2 else "delivery",
            "event_key": f"{number:018}",
            "timestamp": 1_795_392_000_000 + (count - number) * 1000,
            "received_at": 1_795_392_000_000,
            "batch_id": "b",
            **fields,
        }
        for number in range(count)
    ]


def test_rows_are_sorted_by_type_and_time():
    held = [batch(rows(100))]
    table = closing.taken(held, closing.distinct(held))
    found = list(zip(table["type"].to_pylist(), table["timestamp"].to_pylist(), strict=True))
    assert found == sorted(found)
    assert [kind for kind, _ in found] == ["bounce"] * 50 + ["delivery"] * 50


def test_a_batch_whose_row_gives_way_to_another_batchs_is_named():
    """Its raw batch holds an event that no row with its id tells of: `erase` has to look into it."""
    first, again = batch(rows(2)), batch(rows(2))
    late = batch(rows(1, batch_id="c"))
    unshown: set[str] = set()
    closing.distinct([first, again], unshown)
    assert unshown == set(), "copies of the same batch"
    closing.distinct([late, first], unshown)
    assert unshown == {"c"}


def test_of_copies_that_are_equal_to_the_view_the_newest_file_stays():
    held = [batch(rows(1, subject="first")), batch(rows(1, subject="second"))]
    assert closing.taken(held, closing.distinct(held))["subject"].to_pylist() == ["second"]


def test_a_column_that_an_older_file_lacks_is_null():
    whole = batch(rows(2, list_id="weekly"))
    older = Table.from_batches([whole]).drop_columns(["list_id"])
    (read,) = closing.rows_of(to_parquet(older))
    assert read.schema == schema()
    assert read["list_id"].to_pylist() == [None, None]
    assert read["event_key"].to_pylist() == whole["event_key"].to_pylist()


def test_a_file_of_a_newer_version_is_left_alone():
    newer = Table.from_batches([batch(rows(2))]).append_column("brand_new", _chunked(["a", "b"]))
    with pytest.raises(UnknownColumnsError):
        closing.rows_of(to_parquet(newer))


def _chunked(values: list[str]) -> Any:
    return Table.from_pydict({"brand_new": Array(values, DataType.utf8())}).column("brand_new")


@pytest.mark.parametrize("written", [rows(9), rows(11), rows(10, subject="other")], ids=["fewer", "more", "other"])
def test_what_is_read_back_otherwise_than_it_was_written_is_noticed(written):
    with pytest.raises(DifferentError):
        closing.compare(closing.to_file(batch(written)), batch(rows(10)))
    closing.compare(closing.to_file(batch(rows(10))), batch(rows(10)))


def test_files_are_cut_near_a_million_rows(monkeypatch):
    monkeypatch.setattr(closing, "ROWS_PER_FILE", 10)
    sizes = {count: [piece.num_rows for piece in closing.cut(batch(rows(count)))] for count in (1, 10, 14, 16, 31)}
    assert sizes == {1: [1], 10: [10], 14: [14], 16: [8, 8], 31: [11, 11, 9]}


# --- What a date's state says ---


def test_a_date_is_due_so_long_after_it_ended():
    day, ten = DAY, timedelta(hours=10)
    assert not day_state.due(day, datetime(2026, 11, 24, 9, 59, tzinfo=UTC), ten)
    assert day_state.due(day, datetime(2026, 11, 24, 10, 0, tzinfo=UTC), ten)
    assert not day_state.due(day, datetime(2026, 12, 7, 23, 0, tzinfo=UTC), timedelta(hours=336))
    assert day_state.due(day, datetime(2026, 12, 8, 0, 0, tzinfo=UTC), timedelta(hours=336))


def closed_state(small: list[Small], *, at: datetime = NOW) -> DayState:
    state = DayState(DAY)
    day_state.begin(state, small, 99)
    state.attempt.files = [File("0000-00.parquet", 5, 100)]
    day_state.commit(state, at)
    return state


def test_late_is_what_is_new_or_was_written_again():
    state = closed_state([Small("a.parquet", "1"), Small("b.parquet", "1")])
    listed = [Small("a.parquet", "1"), Small("b.parquet", "2"), Small("c.parquet", "1")]
    assert day_state.late(state, listed) == [Small("b.parquet", "2"), Small("c.parquet", "1")]


def test_small_files_stay_fifteen_days_after_the_version_that_took_them_in():
    state = closed_state([Small("a.parquet", "1"), Small("b.parquet", "1")])
    day_state.begin(state, [Small("b.parquet", "2")], 99)
    day_state.commit(state, NOW + timedelta(days=3))
    assert day_state.small_to_delete(state, NOW + timedelta(days=14, hours=23)) == []
    assert day_state.small_to_delete(state, NOW + timedelta(days=15)) == [Small("a.parquet", "1")]
    assert day_state.small_to_delete(state, NOW + timedelta(days=18)) == [
        Small("a.parquet", "1"),
        Small("b.parquet", "2"),
    ]


def test_a_replaced_version_stays_a_day():
    state = closed_state([Small("a.parquet", "1")])
    first = state.current.name
    day_state.begin(state, [Small("c.parquet", "1")], 99)
    day_state.commit(state, NOW + timedelta(hours=2))
    assert day_state.replaced_to_delete(state, NOW + timedelta(hours=25)) == []
    [gone] = day_state.replaced_to_delete(state, NOW + timedelta(hours=26))
    assert (gone.name, gone.files) == (first, [File("0000-00.parquet", 5, 100)])
    assert isinstance(gone, Version)


def test_state_is_read_as_it_was_written():
    state = closed_state([Small("a.parquet", "1")])
    day_state.begin(state, [Small("c.parquet", "1")], 99)
    assert day_state.decode(day_state.encode(state)) == state
