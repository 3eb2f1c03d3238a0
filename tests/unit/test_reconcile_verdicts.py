"""Verdicts in their files, and our counts as SQL."""

import gzip
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import sqlglot

from bird_webhooks.moving import names
from reconcile.counting import AthenaOurs, Here, Whose, counts_sql, dates, events_sql, keys_sql
from reconcile.proved import Cell, State
from reconcile.verdicts import Verdicts, encoded, from_row, key_of

TEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
LATER = datetime(2026, 11, 25, 20, 30, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Memory(dict):
    def read(self, key):
        return self.get(key)

    def write(self, key, body):
        self[key] = body


class FakeAthena:
    """Answers each statement with a file."""

    def __init__(self, *files):
        self.files, self.asked = list(files), []

    def result_file(self, sql):
        self.asked.append(" ".join(sql.split()))
        return f"s3://lake/athena-results/{len(self.asked) - 1}.csv"

    def read(self, address):
        return self.files[int(address.rpartition("/")[2].removesuffix(".csv"))].encode()


def cell(hour=TEN, kind="delivery", **more):
    return Cell(hour, kind, State.PROVED, 5, 5, "types", LATER, **more)


def test_cells_come_back_as_they_were_written():
    verdicts = Verdicts(Memory())
    cells = [cell(), cell(kind="bounce", filled_at=LATER, filled=2), cell(hour=TEN + 20 * HOUR, note="x")]
    verdicts.write(cells, {date(2026, 11, 25), date(2026, 11, 26)})
    assert sorted(verdicts.files) == [
        "completeness/cells/2026-11-25.json.gz",
        "completeness/cells/2026-11-26.json.gz",
    ]
    assert list(verdicts.cells(TEN - 48 * HOUR, TEN + 48 * HOUR).values()) == sorted(
        cells, key=lambda cell: (cell.hour, cell.type)
    )


def test_the_same_cells_are_the_same_bytes():
    assert encoded([cell(), cell(kind="bounce")]) == encoded([cell(kind="bounce"), cell()])


def test_a_line_is_a_row_of_the_table():
    [line] = gzip.decompress(encoded([cell(missing=1)])).splitlines()
    assert json.loads(line) == {
        "hour": "2026-11-25 10:00:00",
        "type": "delivery",
        "state": "proved",
        "ours": 5,
        "theirs": 5,
        "stage": "types",
        "counted_at": "2026-11-25 20:30:05",
        "missing": 1,
        "strange": 0,
        "proof": "count",
        "filled": 0,
        "erased": 0,
        "filled_at": None,
        "note": "",
    }


def test_a_row_of_athena_is_a_cell():
    found = from_row(
        {
            "hour": "2026-11-25 10:00:00.000",
            "type": "delivery",
            "state": "unknown",
            "ours": "5",
            "theirs": None,
            "stage": "types",
            "counted_at": "2026-11-25 20:30:05.000",
            "missing": "0",
            "strange": "0",
            "proof": "count",
            "filled": "0",
            "erased": "0",
            "filled_at": None,
            "note": None,
        }
    )
    assert found == Cell(TEN, "delivery", State.UNKNOWN, 5, None, "types", LATER)


def test_a_date_without_a_file_has_no_cells():
    assert Verdicts(Memory()).cells(TEN, TEN + HOUR) == {}
    assert key_of(date(2026, 11, 25)) == "completeness/cells/2026-11-25.json.gz"


# --- Counting ---


def test_one_statement_counts_all_windows():
    athena = FakeAthena(
        'hour,type,events\n"2026-11-25 10:00:00.000","delivery","7"\n"2026-11-25 11:00:00.000","open","2"\n'
    )
    ours = AthenaOurs(athena, athena.read)
    found = ours.counts_of([(TEN, TEN + 2 * HOUR), (TEN - 24 * HOUR, TEN - 23 * HOUR)])
    assert found == Counter({(TEN, "delivery"): 7, (TEN + HOUR, "open"): 2})
    [asked] = athena.asked
    assert "event_date IN (DATE '2026-11-24', DATE '2026-11-25')" in asked
    assert "TIMESTAMP '2026-11-25 10:00:00'" in asked


def test_what_the_webhook_did_not_bring_is_told_by_its_batch():
    sql = counts_sql([(TEN, TEN + HOUR)], of_text=False, by_webhook=True)
    assert f"AND batch_id NOT LIKE 'backfill-%' AND batch_id NOT LIKE '{names.PREFIX}%'" in sql


def test_events_come_with_their_second_and_batch():
    answer = 'event_class,type,event_key,happened,batch_id\n"track_event","open","17","2026-11-25 10:00:01.000","b-1"\n'
    athena = FakeAthena(answer)
    found = AthenaOurs(athena, athena.read).events_of([(TEN, TEN + HOUR)], ["open"])
    assert found == [Here("track_event", "open", "17", TEN + timedelta(seconds=1), "b-1")]


def test_keys_are_looked_for_on_the_dates_around_too():
    athena = FakeAthena('customer_id,event_class,type,event_key\n"",track_event,"open","17"\n')
    found = AthenaOurs(athena, athena.read).keys(TEN, TEN + HOUR, ["open"])
    assert found == {("", "track_event", "open", "17")}
    assert "DATE '2026-11-24', DATE '2026-11-25', DATE '2026-11-26'" in athena.asked[0]


def test_minutes_are_counted_like_hours():
    athena = FakeAthena('hour,type,events\n"2026-11-25 10:03:00.000","open","2"\n')
    found = AthenaOurs(athena, athena.read).minutes(TEN, TEN + HOUR, ["open"])
    assert found == {(TEN + timedelta(minutes=3), "open"): 2}
    assert "date_trunc('minute', happened)" in athena.asked[0]


def test_a_quotation_mark_stays_inside_its_text():
    assert "type IN ('it''s')" in keys_sql(TEN, TEN, ["it's"], of_text=False)


def test_a_day_that_ends_at_midnight_touches_no_other():
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    assert dates([(midnight - HOUR, midnight)]) == "event_date IN (DATE '2026-11-25')"


def test_csv_is_counted_through_the_view_that_has_types():
    assert "FROM events_deduplicated" in counts_sql([(TEN, TEN + HOUR)], of_text=True)
    assert "FROM events " in counts_sql([(TEN, TEN + HOUR)], of_text=False).replace("\n", " ")


def test_only_events_that_the_webhook_sends_are_counted():
    statement = counts_sql([(TEN, TEN + HOUR)], of_text=False, whose=Whose("4711", "5"))
    assert " AND coalesce(customer_id, '') IN ('', '4711')" in statement
    assert " AND coalesce(nullif(subaccount_id, ''), '0') IN ('5') GROUP BY" in statement
    statement = events_sql([(TEN, TEN + HOUR)], ["open"], of_text=False, whose=Whose(exceptions=("7", "8")))
    assert " AND coalesce(nullif(subaccount_id, ''), '0') NOT IN ('7', '8') GROUP BY" in statement


def test_the_statements_are_sql_of_both_engines():
    window = [(TEN, TEN + HOUR)]
    statements = [
        counts_sql(window, of_text=False),
        events_sql(window, ["open"], of_text=False),
        events_sql(window, ["open"], of_text=False, whose=Whose("1", "0", ("7",))),
        keys_sql(TEN, TEN + HOUR, ["open"], of_text=False),
    ]
    for sql in statements:
        for dialect in ("athena", "duckdb", "postgres"):
            assert sqlglot.parse_one(sql, dialect=dialect)


def test_what_was_imported_is_known_only_if_it_reaches_what_is_compared():
    verdicts = Verdicts(Memory())
    assert not verdicts.write_imported(TEN - 9 * HOUR, TEN - 5 * HOUR)  # before the first run
    verdicts.write_state({"begins_at": TEN.isoformat()})
    assert not verdicts.write_imported(TEN - 9 * HOUR, TEN - timedelta(minutes=1))
    assert verdicts.imported_since() is None
    assert verdicts.write_imported(TEN - 5 * HOUR, TEN)
    assert verdicts.imported_since() == TEN - 5 * HOUR
    assert not verdicts.write_imported(TEN - 9 * HOUR, TEN - 6 * HOUR)
    assert verdicts.imported_since() == TEN - 5 * HOUR
    assert verdicts.write_imported(TEN - 9 * HOUR, TEN - 5 * HOUR)
    assert verdicts.imported_since() == TEN - 9 * HOUR
    assert verdicts.write_imported(TEN - 20 * HOUR)  # up to now
    assert verdicts.imported_since() == TEN - 20 * HOUR
