"""Batches into rows: what each value becomes, and what happens to what does not fit."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote

import pytest
from arro3.io import read_parquet
from hypothesis import given
from hypothesis import strategies as st

from process import layouts as layouts_module
from process import rows as rows_module
from process.columns import COLUMNS
from process.layouts import Layouts
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import LONG, to_csv, to_parquet
from publish_events.rows import rows_of_types

RECEIVED_AT = 1_760_000_000_000  # 2025-10-09T08:53:20Z
INPUTS = Path(__file__).resolve().parents[1] / "data/inputs"


class LenientOnly(Layouts):
    """Fits no event, so that each goes the lenient way."""

    def decode_elements(self, raws):
        return None

    decode = decode_elements


def bare(number: str) -> str:
    """A number written exactly like this, which Python's own JSON cannot do."""
    return f"<{number}>"


def encoded(batch: list, *, ascii_only: bool = True) -> bytes:
    return re.sub(rb'"<([0-9.eE+-]+)>"', rb"\1", json.dumps(batch, ensure_ascii=ascii_only).encode())


def stored(body: bytes | list) -> StoredBatch:
    if isinstance(body, list):
        body = encoded(body)
    return StoredBatch("batch-1", "raw/batch-1.json", RECEIVED_AT, body)


def processed(body: bytes | list) -> tuple[list[dict], Rows]:
    """Rows as a reader of the Parquet files finds them, without their nulls.

    Once the lenient way; once with Bird's fields known, and once more with all that was learnt, by way of a Parquet
    file: all ways give the same.
    """
    layouts = Layouts()
    lenient, rows = gathered(LenientOnly(), body)
    for _ in range(2):
        quick, again = gathered(
            layouts, body, written=lambda table: read_parquet(BytesIO(to_parquet(table))).read_all()
        )
        assert by_key(quick) == by_key(lenient)
        assert again.counts == rows.counts
        assert again.quarantined == rows.quarantined
    return quick, rows


def gathered(layouts: Layouts, *bodies: bytes | list, written=lambda table: table) -> tuple[list[dict], Rows]:
    rows = Rows(layouts)
    for body in bodies:
        rows.add(stored(body))
    found = []
    for day, table, _ in rows.take_days():
        table = written(table)
        assert table.column_names == [column.name for column in COLUMNS]
        columns = {name: table[name].to_pylist() for name in table.column_names}
        for row in range(table.num_rows):
            values = {name: column[row] for name, column in columns.items() if column[row] is not None}
            found.append({"event_date": day, **values})
    return found, rows


def by_key(found: list[dict]) -> list[dict]:
    """In an order of their own, for rows of the same second may stand in any; `extra` by its values."""
    parsed = [{**row, "extra": json.loads(row.get("extra", "{}"), parse_int=str, parse_float=str)} for row in found]
    identity = ("customer_id", "event_class", "type", "event_key")
    return sorted(parsed, key=lambda row: [(name in row, row.get(name, "")) for name in identity])


def row_of(fields: dict, event_class: str = "message_event", **siblings) -> dict:
    [row], _ = processed([{"msys": {event_class: fields}, **siblings}])
    return row


def test_all_27_types_become_typed_rows(load_event):
    batch = json.loads(load_event("alb_all_types")["body"])
    found, rows = processed(batch)
    assert len(found) == 27
    assert rows.counts.quarantined == 0
    assert not any("extra" in row for row in found)
    by_type = {row["type"]: row for row in found}
    assert len(by_type) == 27
    opened = by_type["open"]
    assert opened["event_class"] == "track_event"
    assert opened["timestamp"] == datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC)
    assert opened["injection_time"] == datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC)
    assert opened["scheduled_time"] == datetime(2020, 5, 1, 16, 0, tzinfo=UTC)
    assert opened["msg_size"] == 1337
    assert opened["open_tracking"] is True
    assert opened["transactional"] is True
    assert opened["transmission_id"] == "65832150921904138"
    assert opened["geo_ip_latitude"] == 39.1749
    assert opened["geo_ip_zip"] == 21046
    assert opened["user_agent_parsed_is_prefetched"] is False
    assert opened["rcpt_meta"] == '{"customKey": "customValue"}'
    assert by_type["error"]["ingest_batch_id"] == "96500f4d-d4f4-4f1b-8080-02f4682184bb"
    assert by_type["error"]["batch_id"] == "batch-1"
    assert by_type["sms_status"]["dr_latency"] == 0.02
    assert len(by_type["sms_status"]["event_key"]) == 64


def test_no_value_of_the_samples_is_lost(load_event):
    for element in json.loads(load_event("alb_all_types")["body"]):
        [(event_class, fields)] = element["msys"].items()
        row = row_of(fields, event_class)
        expected = len(fields) + sum(len(v) - 1 for k, v in fields.items() if k in ("geo_ip", "user_agent_parsed"))
        assert len(row) == expected + len(("event_date", "event_class", "event_key", "batch_id", "received_at"))


@pytest.mark.parametrize(
    ("value", "stored_value", "extra"),
    [
        pytest.param("1460989507", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="seconds as text"),
        pytest.param(1460989507, datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="seconds as number"),
        pytest.param("1460989507.5", datetime(2016, 4, 18, 14, 25, 7, 500000, tzinfo=UTC), None, id="fraction"),
        pytest.param(
            "1460989507.1239", datetime(2016, 4, 18, 14, 25, 7, 123000, tzinfo=UTC), "1460989507.1239", id="finer"
        ),
        pytest.param("2016-04-18T14:25:07.000Z", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="ISO"),
        pytest.param(
            "2016-04-18T16:25:07+02:00", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="ISO with zone"
        ),
        pytest.param("soon", None, "soon", id="garbage"),
        pytest.param("1460989507000000", None, "1460989507000000", id="no year of ours"),
        pytest.param(True, None, True, id="boolean"),
        pytest.param("NaN", None, "NaN", id="not a number"),
        pytest.param("sNaN", None, "sNaN", id="not even a quiet one"),
        pytest.param("1e999999", None, "1e999999", id="beyond arithmetic"),
        pytest.param("1e9999999999999999999", None, "1e9999999999999999999", id="an exponent beyond arithmetic"),
        pytest.param("1460989507.0", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="fraction of nothing"),
        pytest.param("14609895070e-1", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC), None, id="exponent"),
        pytest.param(
            *("1460989507." + "9" * 30, datetime(2016, 4, 18, 14, 25, 7, 999000, tzinfo=UTC), "1460989507." + "9" * 30),
            id="more digits than Python's decimals have",
        ),
        pytest.param(
            *("1460989507." + "0" * 40 + "1", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC)),
            "1460989507." + "0" * 40 + "1",
            id="a very small fraction",
        ),
        pytest.param("2016-04-18T14:25:07.00NZ", None, "2016-04-18T14:25:07.00NZ", id="letters"),
        pytest.param("-2208988800", datetime(1900, 1, 1, tzinfo=UTC), None, id="the first that every reader holds"),
        pytest.param("-2208988801", None, "-2208988801", id="a second before"),
        pytest.param("-2208988800.001", None, "-2208988800.001", id="a millisecond before"),
        pytest.param("1900-01-01T00:00:00.000Z", datetime(1900, 1, 1, tzinfo=UTC), None, id="ISO, the first"),
        pytest.param("1899-12-31T23:59:59.999Z", None, "1899-12-31T23:59:59.999Z", id="ISO, a millisecond before"),
        pytest.param("1969-12-31T23:59:59.000Z", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), None, id="ISO, 1969"),
        pytest.param("7258118399", datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC), None, id="the last second"),
        pytest.param("7258118400", None, "7258118400", id="a second after"),
        pytest.param(
            *("2199-12-31T23:59:59.999Z", datetime(2199, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), None),
            id="ISO, the last",
        ),
        pytest.param("2200-01-01T00:00:00.000Z", None, "2200-01-01T00:00:00.000Z", id="ISO, a millisecond after"),
        pytest.param("2199-12-31T23:00:00.000-02:00", None, "2199-12-31T23:00:00.000-02:00", id="ISO, after in UTC"),
        pytest.param("-62135596800", None, "-62135596800", id="the year 1"),
        pytest.param("253402300799", None, "253402300799", id="the year 9999"),
        pytest.param("0001-01-01T00:00:00.000Z", None, "0001-01-01T00:00:00.000Z", id="ISO, the year 1"),
        pytest.param("9999-12-31T23:59:59.999Z", None, "9999-12-31T23:59:59.999Z", id="ISO, the year 9999"),
        pytest.param("2999-01-01T00:00:00.000Z", None, "2999-01-01T00:00:00.000Z", id="ISO, the year 2999"),
        pytest.param(
            *("2016-04-18T14:25:07.0000001", datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC)),
            "2016-04-18T14:25:07.0000001",
            id="ISO, finer than Python's",
        ),
        pytest.param(
            "2016-04-18T14:25:07.12300000-05:00", datetime(2016, 4, 18, 19, 25, 7, 123000, tzinfo=UTC), None, id="zeros"
        ),
        pytest.param(" 1460989507", None, " 1460989507", id="blank"),
        pytest.param("1_460_989_507", None, "1_460_989_507", id="underscores"),
        pytest.param("\u0661460989507", None, "\u0661460989507", id="digit of another script"),
    ],
)
@pytest.mark.parametrize("field", ["timestamp", "injection_time"])
def test_timestamps_in_every_form(field, value, stored_value, extra):
    row = row_of({"type": "delivery", "event_id": "1", field: value})
    assert row.get(field) == stored_value
    assert json.loads(row.get("extra", "{}")).get(field) == extra


def test_times_that_some_readers_cannot_hold_are_null_with_their_text_in_extra():
    rows, _ = processed((INPUTS.parent / "inputs2/11-odd-times.json").read_bytes())
    assert [(row["event_id"], row.get("timestamp"), row.get("extra")) for row in rows] == [
        ("t2", None, '{"timestamp":"-62135596800"}'),
        ("t1", datetime(2025, 11, 25, 9, tzinfo=UTC), None),
        (
            *("t3", datetime(2025, 11, 25, 9, 0, 2, tzinfo=UTC)),
            '{"injection_time":"0001-01-01T00:00:00.000Z","scheduled_time":"253402300799"}',
        ),
    ]


def test_digits_behind_many_others_are_no_other_second():
    row = row_of({"type": "delivery", "event_id": "1", "timestamp": bare("1460989507." + "9" * 30)})
    assert row["timestamp"] == datetime(2016, 4, 18, 14, 25, 7, 999000, tzinfo=UTC)
    assert row["extra"] == '{"timestamp":1460989507.' + "9" * 30 + "}"


@pytest.mark.parametrize(
    ("fields", "column", "expected"),
    [
        pytest.param({"num_retries": 2}, "num_retries", 2, id="number where text was"),
        pytest.param({"subject": 5.50}, "subject", "5.5", id="text where a number came"),
        pytest.param({"open_tracking": "1"}, "open_tracking", True, id="flag as text"),
        pytest.param({"open_tracking": 0}, "open_tracking", False, id="flag as number"),
        pytest.param({"open_tracking": "true"}, "open_tracking", True, id="flag as word"),
        pytest.param({"dr_latency": 3}, "dr_latency", 3.0, id="double"),
        pytest.param({"sms_remoteids": {"0": "a"}}, "sms_remoteids", '{"0": "a"}', id="object where a list was"),
        pytest.param({"subject": None}, "subject", None, id="null"),
        pytest.param({"reason": 'a "b",\r\nc'}, "reason", 'a "b",\r\nc', id="awkward text"),
    ],
)
def test_values_are_converted(fields, column, expected):
    row = row_of({"type": "bounce", "event_id": "1", **fields})
    assert row.get(column) == expected
    assert "extra" not in row


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"num_retries": "two"}, id="no number"),
        pytest.param({"num_retries": 2**63}, id="too large"),
        pytest.param({"msg_size": 1.5}, id="fraction"),
        pytest.param({"open_tracking": "yes"}, id="no flag"),
        pytest.param({"subject": ["a", 1]}, id="list as text"),
        pytest.param({"next_attempt": {"deep": [1, None]}}, id="unknown field"),
        pytest.param({"geo_ip": "nowhere"}, id="no object"),
        pytest.param({"geo_ip": {"continent": "EU"}}, id="unknown member"),
        pytest.param({"dr_latency": "nan"}, id="not finite"),
    ],
)
def test_what_fits_no_column_is_kept_as_it_came(fields):
    row = row_of({"type": "bounce", "event_id": "1", **fields})
    assert json.loads(row["extra"]) == fields


@pytest.mark.parametrize("quoted", [False, True], ids=["number", "text"])
@pytest.mark.parametrize(
    ("number", "bigint", "double"),
    [
        pytest.param("9007199254740993.0", 9007199254740993, None, id="beyond 53 bits, with a point"),
        pytest.param("9007199254740993e0", 9007199254740993, None, id="beyond 53 bits, with an exponent"),
        pytest.param("9007199254740993", 9007199254740993, None, id="beyond 53 bits"),
        pytest.param("9007199254740992", 9007199254740992, 2.0**53, id="2 to the 53rd"),
        pytest.param("9223372036854775807", 2**63 - 1, None, id="the largest"),
        pytest.param("-9223372036854775808.0", -(2**63), -(2.0**63), id="the smallest"),
        pytest.param("9223372036854775808", None, 2.0**63, id="too large"),
        pytest.param("1.00000000000000001", None, None, id="more than a double has"),
        pytest.param("1e-400", None, None, id="less than a double has"),
        pytest.param("1e999", None, None, id="larger than any"),
        pytest.param("1e9999999999999999999", None, None, id="an exponent larger than any"),
        pytest.param("1.50e2", 150, 150.0, id="exponent"),
        pytest.param("1.5", None, 1.5, id="fraction"),
        pytest.param("-0", 0, 0.0, id="less than nothing"),
        pytest.param("39.174900000000001", None, 39.1749, id="17 digits, as programs write doubles"),
        pytest.param("0.1000000000000000055511151231257827021181583404541015625", None, 0.1, id="exactly a double"),
        pytest.param("4.9406564584124654e-324", None, 5e-324, id="the smallest double"),
    ],
)
def test_a_number_is_exact_or_kept_as_it_came(number, quoted, bigint, double):
    sent = f'"{number}"' if quoted else number
    value = number if quoted else bare(number)
    row = row_of({"type": "sms_status", "event_id": "1", "msg_size": value, "dr_latency": value})
    assert (row.get("msg_size"), row.get("dr_latency")) == (bigint, double)
    missing = [name for name, value in (("dr_latency", double), ("msg_size", bigint)) if value is None]
    wanted = "{" + ",".join(f'"{name}":{sent}' for name in missing) + "}"
    assert row.get("extra", "{}") == wanted


@pytest.mark.parametrize(
    "text", ["+5", " 5", "5 ", "1_000", "\u0661", "\uff15", "0x1f", "007", ".5", "5.", "", "1,5", "inf"]
)
def test_what_only_some_readers_take_for_a_number_is_kept_as_text(text):
    row = row_of({"type": "sms_status", "event_id": "1", "msg_size": text, "dr_latency": text})
    assert (row.get("msg_size"), row.get("dr_latency")) == (None, None)
    assert json.loads(row["extra"]) == {"msg_size": text, "dr_latency": text}


def test_an_odd_value_among_few_events_costs_only_itself():
    odd = [
        {"msg_size": "10", "num_retries": "2", "geo_ip": {"zip": "1", "latitude": "north"}},
        {"msg_size": "many", "num_retries": "3", "geo_ip": {"zip": "x", "latitude": 1.5}, "injection_time": "noon"},
    ]
    events = [{"msys": {"track_event": {"type": "open", "event_id": str(n), **event}}} for n, event in enumerate(odd)]
    first, second = sorted(processed(events)[0], key=lambda row: row["event_id"])
    numbers = ("msg_size", "num_retries", "geo_ip_zip", "geo_ip_latitude")
    assert [first.get(name) for name in numbers] == [10, 2, 1, None]
    assert first["extra"] == '{"geo_ip":{"latitude":"north"}}'
    assert [second.get(name) for name in numbers] == [None, 3, None, 1.5]
    assert second["extra"] == '{"geo_ip":{"zip":"x"},"injection_time":"noon","msg_size":"many"}'


def test_numbers_of_other_peoples_bugs():
    found, _ = processed((INPUTS / "16-numbers.json").read_bytes())
    assert {row["event_id"]: (row.get("msg_size"), row.get("extra")) for row in found} == {
        "num0": (9007199254740993, None),
        "num1": (9007199254740993, None),
        "num2": (None, '{"msg_size":1.00000000000000001}'),
        "num3": (None, '{"msg_size":1e-400}'),
        "num4": (9007199254740993, None),
    }


def test_keys_beside_msys_are_kept():
    assert json.loads(row_of({"type": "open"}, cust={"id": "42"})["extra"]) == {"cust": {"id": "42"}}


def test_metadata_is_byte_faithful():
    meta = '{ "ключ" : "\\u0001\\n" , "n":1.000, "deep":[[["\\ud83d\\ude00"]]], "long":"' + "x" * 10_000 + '"}'
    [row], _ = processed(
        f'[{{"msys":{{"message_event":{{"type":"open","event_id":"1","rcpt_meta":{meta}}}}}}}]'.encode()
    )
    assert row["rcpt_meta"] == meta


def test_unknown_class_and_type_are_rows():
    row = row_of({"type": "ad_adjust", "event_id": "1", "timestamp": "1460989507"}, "adaptive_event")
    assert (row["event_class"], row["type"]) == ("adaptive_event", "ad_adjust")


def test_same_id_on_different_types_are_different_events():
    event = {"event_id": "1", "timestamp": "1460989507"}
    batch = [{"msys": {"message_event": {**event, "type": kind}}} for kind in ("bounce", "delivery", "bounce")]
    found, rows = processed(batch)
    assert [row["type"] for row in found] == ["bounce", "delivery"]
    assert rows.counts.duplicates == 1


def test_same_id_in_different_accounts_are_different_events():
    """An account that is not named is one of its own; 42 and "42" are the same one."""
    event = {"type": "bounce", "event_id": "1", "timestamp": "1460989507"}
    accounts = [{"customer_id": "1"}, {}, {"customer_id": 42}, {"customer_id": "1"}, {"customer_id": None}]
    batch = [{"msys": {"message_event": {**event, **account}}} for account in [*accounts, {"customer_id": "42"}]]
    found, rows = processed(batch)
    assert {row.get("customer_id") for row in found} == {"1", None, "42"}
    assert (rows.counts.rows, rows.counts.duplicates) == (3, 3)


def test_of_two_events_with_one_id_the_first_is_the_row_whatever_was_seen_before():
    def bounce(event_id: str, **fields) -> dict:
        return {"msys": {"message_event": {"type": "bounce", "event_id": event_id, "reason": event_id, **fields}}}

    plain = bounce("1")
    odd = bounce("1", msg_size={"not": "a number"}, subject="second")
    other = bounce("2")
    for first, second in ((plain, odd), (odd, plain)):
        batch = [other, first, second, first]
        ways = (LenientOnly(), Layouts())
        found = [gathered(layouts, *bodies) for layouts in ways for bodies in ([batch], [[bounce("4")], batch])]
        for rows, gatherer in found:
            [kept] = [row for row in rows if row["event_key"] == "1"]
            assert kept.get("subject") == first["msys"]["message_event"].get("subject")
            assert gatherer.counts.duplicates == 2


def test_events_without_id_of_two_accounts_are_two():
    event = {"type": "sms_status", "sms_text": "a"}
    accounts = [{}, {"customer_id": "1"}, {"customer_id": "2"}, {"customer_id": "2"}, {}]
    batch = [{"msys": {"message_event": {**event, **account}}} for account in accounts]
    found, _ = processed(batch)
    assert {row.get("customer_id") for row in found} == {None, "1", "2"}
    assert len(found) == len({row["event_key"] for row in found}) == 3


def test_events_without_id_are_told_apart_by_content():
    batch = [{"msys": {"message_event": {"type": "sms_status", "sms_text": text}}} for text in ("a", "b", "a")]
    assert [row["sms_text"] for row in processed(batch)[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("timestamp", "day"),
    [
        pytest.param("1460989507", datetime(2016, 4, 18, tzinfo=UTC), id="its own"),
        pytest.param(None, datetime(2025, 10, 9, tzinfo=UTC), id="none"),
        pytest.param("0", datetime(2025, 10, 9, tzinfo=UTC), id="before the table begins"),
        pytest.param("1760150000", datetime(2025, 10, 9, tzinfo=UTC), id="after tomorrow"),
        pytest.param("-62135596800", datetime(2025, 10, 9, tzinfo=UTC), id="the year 1, which is NULL"),
        pytest.param("253402300799", datetime(2025, 10, 9, tzinfo=UTC), id="the year 9999, which is NULL"),
    ],
)
def test_partition_is_the_events_day_or_the_arrivals(timestamp, day):
    row = row_of({"type": "open", "event_id": "1", "timestamp": timestamp})
    assert datetime.fromtimestamp(row["event_date"] * 86400, UTC) == day


def test_rows_are_sorted_by_type_and_time():
    events = [("open", 3, {}), ("click", 2, {"odd": 1}), ("open", 1, {"odd": 1}), ("click", 1, {}), ("open", 2, {})]
    batch = [
        {"msys": {"track_event": {"type": kind, "event_id": str(n), "timestamp": str(1460989500 + second), **rest}}}
        for n, (kind, second, rest) in enumerate(events)
    ]
    found, _ = processed(batch)
    assert [(row["type"], row["timestamp"].second) for row in found] == [
        ("click", 1),
        ("click", 2),
        ("open", 1),
        ("open", 2),
        ("open", 3),
    ]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        pytest.param(b"hello", [(None, "not JSON")], id="not JSON"),
        pytest.param(b"", [(None, "not JSON")], id="empty"),
        pytest.param(b"[" * 100_000, [(None, "nested too deeply")], id="bottomless"),
        pytest.param(b'[{"msys":{"a":{"b":' + b"[" * 100_000, [(None, "nested too deeply")], id="bottomless event"),
        pytest.param(b'{"msys":{"a":{}}}', [(None, "not a JSON array")], id="no array"),
        pytest.param(
            b"[1,2]", [(0, "not an object with an object msys"), (1, "not an object with an object msys")], id="numbers"
        ),
        pytest.param(b'[{"msys":{"a":{},"b":{}}}]', [(0, "msys has 2 classes, expected one")], id="two classes"),
        pytest.param(b'[{"msys":{"a_event":"text"}}]', [(0, "event is not an object")], id="event is text"),
        pytest.param(b'[{"sys":{}}]', [(0, "no msys")], id="no msys"),
        pytest.param(b'[{"msys":{"a":{"b":1}]', [(None, "not JSON")], id="brackets that do not match"),
        pytest.param(b'["\xff"]', [(0, "not UTF-8")], id="not UTF-8"),
    ],
)
def test_what_is_no_event_is_quarantined(body, reasons):
    found, rows = processed(body)
    assert found == []
    assert [(one.position, one.reason) for one in rows.take_quarantined()] == reasons


EVENT = '"type":"open","event_id":"1","timestamp":"1460989507"'
ELEMENT = '{"msys":{"track_event":{%s}}}'


@pytest.mark.parametrize(
    "element",
    [
        pytest.param(f'{{"msys":{{"message_event":{{"type":"bounce"}},"track_event":{{{EVENT}}}}}}}', id="two classes"),
        pytest.param(f'{{"msys":{{"track_event":{{"type":"open"}},"track_event":{{{EVENT}}}}}}}', id="class"),
        pytest.param(f'{{"msys":{{"track_event":{{{EVENT}}}}},"msys":{{"track_event":{{{EVENT}}}}}}}', id="msys"),
        pytest.param(f'{{"msys":{{}},"msys":{{"track_event":{{{EVENT}}}}}}}', id="msys, empty at first"),
        pytest.param(ELEMENT % f'{EVENT},"campaign_id":"a","campaign_id":"b"', id="field"),
        pytest.param(ELEMENT % f'{EVENT},"campaign_id":"a","campaign_id":"a"', id="field with one value"),
        pytest.param(ELEMENT % f'"campaign_id":"a","new":null,{EVENT},"campaign_id":"b"', id="field, beside a null"),
        pytest.param(ELEMENT % f'"campaign_id":"a",{EVENT},"campaign_id":null', id="field, null at last"),
        pytest.param(ELEMENT % f'"msg_size":"1",{EVENT},"msg_size":2', id="number"),
        pytest.param(ELEMENT % f'"event_id":"2",{EVENT}', id="event_id"),
        pytest.param(ELEMENT % f'"type":"click",{EVENT}', id="type"),
        pytest.param(ELEMENT % f'{EVENT},"new":1,"new":2', id="unknown field"),
        pytest.param(ELEMENT % f'{EVENT},"rcpt_meta":{{"a":1}},"rcpt_meta":{{"a":2}}', id="JSON"),
        pytest.param(ELEMENT % f'{EVENT},"geo_ip":{{}},"geo_ip":{{"city":"Ulm"}}', id="object"),
        pytest.param(ELEMENT % f'{EVENT},"campaign_id":"a","campaign\\u005fid":"b"', id="with an escape"),
        pytest.param(ELEMENT % f'{EVENT}, "campaign_id" : "a", "campaign_id"\t:\n"b"', id="with blanks"),
        pytest.param(f'{{"cust":1,"msys":{{"track_event":{{{EVENT}}}}},"cust":2}}', id="beside msys"),
    ],
)
def test_an_element_that_repeats_a_name_is_quarantined_as_it_came(element):
    """Also when all its fields are known, and next to events that repeat none."""
    other = (
        '{"msys":{"track_event":{"type":"open","event_id":"9","campaign_id":"a","cust":"1","new":1,"msg_size":"1"}}}'
    )
    layouts = Layouts()
    lessons = [other, ELEMENT % f'{EVENT},"rcpt_meta":1,"geo_ip":{{"city":"Ulm"}}']
    for body in (f"[{element},{other}]", f"[{','.join(lessons)}]", f"[{element},{other}]", f"[{element}]"):
        found, rows = gathered(layouts, body.encode())
        assert [row["event_id"] for row in found if row["event_id"] != "1"] == ["9"] * (other in body)
        if element in body:
            assert [(one.position, one.original) for one in rows.quarantined] == [(0, element.encode())]
            assert [one.reason for one in rows.quarantined] in (
                ["a name is repeated"],
                ["msys has 2 classes, expected one"],
            )


def test_an_object_that_repeats_a_name_is_kept_as_it_came():
    geo_ip = '{"city":"Ulm","city":"Bonn","country":"DE"}'
    [row], _ = processed(f"[{ELEMENT % f'{EVENT},"geo_ip":{geo_ip}'}]".encode())
    assert row["extra"] == f'{{"geo_ip":{geo_ip}}}'
    assert row.keys().isdisjoint({"geo_ip_city", "geo_ip_country"})


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param('"rcpt_meta":{"a":1,"a":2,"b":null}', id="in JSON, which is kept as it came"),
        pytest.param('"new":{"a":1,"a":2}', id="in a field without a column"),
        pytest.param('"subject":"\\"a\\":1, \\"a\\":2"', id="in a text"),
        pytest.param('"subject":null,"new":null,"rcpt_meta":null', id="nulls"),
        pytest.param('"campaign_id":null,"campaign_id":"a"', id="null at first, which says as much as nothing"),
        pytest.param('"campaign_id" : "a"  ,\n"subject"\t: "b"', id="blanks"),
        pytest.param('"campaign\\u005fid":"a"', id="escape in a name"),
        pytest.param('"geo_ip":{"city":"Ulm","new":1,"latitude":1e0},"user_agent_parsed":{}', id="objects"),
        pytest.param('"dr_latency":{"a":1}', id="object for a double"),
    ],
)
def test_what_does_not_repeat_a_name_is_a_row(fields):
    [_], rows = processed(f"[{ELEMENT % f'{EVENT},{fields}'}]".encode())
    assert rows.quarantined == []


def test_repeated_names_of_other_peoples_bugs():
    found, rows = processed((INPUTS / "17-duplicate-keys.json").read_bytes())
    assert found == []
    assert [one.reason for one in rows.quarantined] == ["a name is repeated"] * 2
    assert b"lost@example.com" in rows.quarantined[0].original


def test_broken_element_does_not_hold_back_the_others():
    good = '{"msys":{"track_event":{"type":"open","event_id":"1"}}}'
    body = f'[{good},7, {{"msys":{{"a":{{"s":\\"}}}}}} ,{good.replace("1", "2")}]'.encode()
    found, rows = processed(body)
    assert [row["event_id"] for row in found] == ["1", "2"]
    assert [one.original for one in rows.take_quarantined()] == [b"7", b'{"msys":{"a":{"s":\\"}}}']


def test_csv_is_rfc_4180_with_a_header():
    rows = Rows()
    rows.add(stored([{"msys": {"message_event": {"type": "bounce", "event_id": "1", "reason": 'a "b",\nc'}}}]))
    [(_, table, _)] = rows.take_days()
    header, _, body = to_csv(table).decode().partition("\n")
    assert header.split(",") == [column.name for column in COLUMNS]
    assert ',"%:a ""b"",%0Ac",' in body


def csv_records(file: bytes) -> list[dict]:
    """As docs/architecture.md tells readers to: a record a line, whatever they take for the end of one."""
    lines = file.split(b"\n")[:-1]
    assert [line.decode() for line in lines] == file.decode().splitlines()
    header, *records = csv.reader(line.decode() for line in lines)
    assert len(records) == len(lines) - 1
    return [
        {
            name: unquote(value.removeprefix("%:")) if value.startswith("%:") else value
            for name, value in zip(header, record, strict=True)
            if value != ""
        }
        for record in records
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("550 a\r\n550 b, c", '"%:550 a%0D%0A550 b, c"', id="line break"),
        pytest.param("50 %+1\n", "%:50 %25%2B1%0A", id="percent and plus beside a line break"),
        pytest.param("50 %+1 \\n", "50 %+1 \\n", id="neither"),
        pytest.param("", "%:", id="empty"),
        pytest.param("a\0b", "%:a%00b", id="NUL"),
        pytest.param("a\x01b", "%:a%01b", id="what stands for null meanwhile"),
        pytest.param("a\u2028b", "%:a%E2%80%A8b", id="line separator"),
        pytest.param("%:a%0A", "%:%25:a%250A", id="looks encoded"),
        pytest.param("a,,b", '"a,,b"', id="commas"),
        pytest.param('","', '""","""', id="quotes"),
        pytest.param("=1+1", "=1+1", id="formula"),
    ],
)
def test_csv_has_a_line_a_row_and_gives_the_values_back(value, written):
    fields = {"type": "bounce", "event_id": "1", "reason": value}
    rows = Rows()
    rows.add(stored([{"msys": {"message_event": fields}}]))
    [(_, table, _)] = rows.take_days()
    file = to_csv(table)
    assert f",{written}," in file.decode()
    [record] = csv_records(file)
    assert record["reason"] == value
    assert "subject" not in record


@pytest.mark.parametrize("fields", [{"list_id": ""}, {"type": ""}, {"rcpt_to": ""}])
def test_an_empty_text_in_any_place_is_none_that_is_missing(fields):
    rows = Rows()
    rows.add(stored([{"msys": {"": {"type": "bounce", "event_id": "1", **fields}}}]))
    [(_, table, _)] = rows.take_days()
    [record] = csv_records(to_csv(table))
    assert record["event_class"] == record[next(iter(fields))] == ""


def test_no_line_of_a_csv_file_is_of_a_senders_making():
    forged = "unsubscribe_event,list_unsubscribe,2026-11-24T10:00:00.000Z,forged,forged,batch,,,victim@example.com"
    rows = Rows()
    rows.add(stored([{"msys": {"message_event": {"type": "bounce", "raw_reason": f"550 x\n{forged}\n"}}}]))
    [(_, table, _)] = rows.take_days()
    assert len(to_csv(table).splitlines()) == 2
    assert not any(line.startswith(b"unsubscribe_event") for line in to_csv(table).splitlines())


# --- Both ways to a row are one -------------------------------------------------------------------------------------

FIELDS = sorted({column.field.partition(".")[0] for column in COLUMNS if column.field})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["1", "0", "true", "1460989507", "1460989507.25", "2016-04-18T14:25:07.000Z", "-5", "39.17", ""]),
    st.sampled_from(["2016-04-18 14:25:07.1234", "2016-04-18T14:25:07.00000Z", "9999-99-99T99:99:99.999Z", "1e3"]),
    # Where readers differ: words for null and for not a number, leap seconds, the year 0, digits of other scripts.
    st.sampled_from(["null", "Null", "NaN", "Infinity", "-0", "007", "+5", " 5", "5 ", "0x1f", "1_000", "\u0661"]),
    st.sampled_from(["2016-04-18T23:59:60.000Z", "0000-04-18T14:25:07.000Z", "2016-02-30T14:25:07.000Z"]),
    st.sampled_from(["2016-04-18T14:25:07.0000", "2016-04-18t14:25:07.000z", "2016-04-18T14:25:07,000Z"]),
    st.sampled_from(["\u0662016-04-18T14:25:07.00Z", "2016-04-18T24:00:00.000Z", "-016-04-18T14:25:07.000Z"]),
    st.sampled_from(["2016-04-18T14:25:07.00NZ", "2016-04-18T14:25:07.000000001Z", "2016-04-18T14:25:07-05:00:00.5"]),
)
# As a sender may write numbers: digits that no double holds, exponents beyond every type, near the bounds of 64 bits.
NUMBERS = st.one_of(
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True, alphabet="0123456789.eE+-"
    ),
    st.builds(lambda whole, part: f"{whole}{part}", st.integers(2**53, 2**63), st.sampled_from(["", ".0", "e0", ".5"])),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda double: f"{double:.17g}"),
    st.builds(
        lambda digits: f"14609895{digits}",
        st.from_regex(r"[0-9]{2}(\.[0-9]{1,40})?", fullmatch=True, alphabet="0123456789."),
    ),
)
SCALARS = SCALARS | NUMBERS | NUMBERS.map(bare)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
TIMES = ["timestamp", "scheduled_time", "injection_time", "expiration_timestamp"]
NAMES = st.sampled_from([*FIELDS, *TIMES, *TIMES, "new_field", "cust", "odd name", "class", ""])
OBJECTS = st.dictionaries(
    st.sampled_from(["country", "zip", "latitude", "is_mobile", "agent_family", "new"]), SCALARS, max_size=4
)
TYPES = st.sampled_from(["bounce", "open", "click"])
EVENTS = st.dictionaries(NAMES, VALUES | OBJECTS, max_size=8)
TYPED_EVENTS = st.builds(lambda event, event_type: {**event, "type": event_type}, EVENTS, TYPES) | EVENTS
CLASSES = st.sampled_from(["message_event", "track_event", "new_event"])
BATCHES = st.lists(
    st.builds(lambda name, event: {"msys": {name: event}}, CLASSES, TYPED_EVENTS), min_size=1, max_size=4
)


@given(st.lists(BATCHES, min_size=2, max_size=4), st.booleans(), st.sampled_from([1, LONG]))
def test_quick_and_lenient_rows_are_equal(batches, ascii_only, long):
    """Neither what is known from the beginning nor what was learnt from all of the batches changes a row of any, nor
    does whether their columns count as long."""
    bodies = [encoded(batch, ascii_only=ascii_only) for batch in batches]
    lenient = [gathered(LenientOnly(), body) for body in bodies]
    warm = Layouts()
    gathered(warm, *bodies)
    for body, (expected, rows) in zip(bodies, lenient, strict=True):
        for layouts in (Layouts(), warm):
            with patch("process.table.LONG", long), patch("process.rows.LONG", long):
                found, again = gathered(layouts, body)
            assert by_key(found) == by_key(expected)
            assert again.counts == rows.counts


@given(st.lists(BATCHES, min_size=1, max_size=4), st.integers(1, 3))
def test_rows_are_the_same_however_many_become_columns_at_once(batches, at_once):
    together, pieces = Rows(), Rows()
    for batch in batches:
        together.add(stored(batch))
        pieces.add(stored(batch))
        if len(pieces._gathered) % at_once == 0:
            pieces.make_columns()
    found = [[(day, rows_of(table), sizes) for day, table, sizes in rows.take_days()] for rows in (together, pieces)]
    assert found[0] == found[1]
    assert together.counts == pieces.counts


# How a body may be damaged on its way: part of an event is lost, or is not text any more.
DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 0.999), st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"]", b",", b"\xff", b"\n", b"\\x", b"NaN"])
    ),
    max_size=3,
)


@given(st.lists(BATCHES, min_size=1, max_size=3), DAMAGE, st.booleans(), st.booleans())
def test_quick_and_lenient_rows_of_damaged_bodies_are_equal(batches, damage, instead, probe):
    """Also with the fields of undamaged bodies known; and every event is a row or quarantined."""
    layouts = Layouts()
    gathered(layouts, *(json.dumps(batch).encode() for batch in batches))
    for batch in batches:
        body = json.dumps([{"msys": {}}, *batch] if probe else batch).encode()
        for place, written in damage:
            at = int(place * len(body))
            body = body[:at] + written + body[at + instead :]
        expected, rows = gathered(LenientOnly(), body)
        found, again = gathered(layouts, body)
        assert by_key(found) == by_key(expected)
        assert again.counts == rows.counts
        assert again.quarantined == rows.quarantined
        if len(rows.quarantined) == rows.counts.repaired:
            assert rows.counts.events == len(batch) or not json_array(body)


def json_array(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), list)
    except ValueError:
        return False


@given(BATCHES)
def test_every_field_is_in_the_row_or_in_extra(batch):
    body = encoded(batch[:1])
    found, _ = processed(body)
    [row] = found
    [event] = json.loads(body)[0]["msys"].values()
    extra = json.loads(row.get("extra", "{}"))
    for name, value in event.items():
        flattened = name in ("geo_ip", "user_agent_parsed") and isinstance(value, dict)
        column = "ingest_batch_id" if name == "batch_id" else name
        if value is None or flattened or (column in row and column != "batch_id"):
            continue
        assert extra[name] == value


@given(NUMBERS, st.booleans())
def test_every_number_is_in_its_column_exactly_or_in_extra(number, quoted):
    fields = ("msg_size", "dr_latency", "timestamp")
    row = row_of({"type": "sms_status", "event_id": "1"} | dict.fromkeys(fields, number if quoted else bare(number)))
    extra = json.loads(row.get("extra", "{}"), parse_float=str, parse_int=str)
    for name in fields:
        if name in extra:
            assert extra[name] == number
        elif name == "msg_size":
            assert row[name] == Decimal(number)
        elif name == "dr_latency":
            assert row[name] == float(number)
            assert Decimal(number) in [
                Decimal(row[name]),
                *(Decimal(f"{row[name]:.{digits}g}") for digits in range(1, 18)),
            ]
        else:
            assert (row[name] - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1) == Decimal(number) * 1000


AWKWARD = st.text(st.sampled_from('a,"\\%+ \n\r\0\1\v\x1c\x85\u2028é'), max_size=5) | st.sampled_from(["%:", "%0A"])
TEXTS = (
    "campaign_id",
    "list_id",
    "reason",
    "subject",
    "customer_id",
    "event_id",
    "template_id",
    "rcpt_meta",
    "new_field",
)


@given(st.lists(st.dictionaries(st.sampled_from(TEXTS), AWKWARD, max_size=5), min_size=1, max_size=4))
def test_whatever_the_values_csv_has_a_line_a_row_and_gives_them_back(events):
    types = ("bounce", "delivery")
    batch = [{"msys": {"message_event": {**event, "type": types[n % 2]}}} for n, event in enumerate(events)]
    rows = Rows()
    rows.add(stored(batch))
    [(_, table, _)] = rows.take_days()
    text = {column.name for column in COLUMNS if column.type in ("TEXT", "JSON")}
    expected = [{name: row[name] for name in text if row[name] is not None} for row in rows_of(table)]
    assert [{name: row[name] for name in text & row.keys()} for row in csv_records(to_csv(table))] == expected
    # The functions that read such files find what they find in Parquet.
    parquet, of_csv = (
        list(rows_of_types(body, types, csv=csv)) for body, csv in ((to_parquet(table), False), (to_csv(table), True))
    )
    assert of_csv == parquet == rows_of(table)


def rows_of(table) -> list[dict]:
    columns = [table[name].to_pylist() for name in table.column_names]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def test_a_batch_like_those_before_goes_the_quick_way(load_event):
    layouts = Layouts()
    batch = json.loads(load_event("alb_all_types")["body"])
    for element in batch:
        for event in element["msys"].values():
            event["brand_new"] = {"since": "today"}
    body = json.dumps(batch).encode()
    assert layouts.decode(body) is None
    gathered(layouts, body)
    decoded = layouts.decode(body)
    assert decoded is not None
    assert len(decoded.events) == 27
    found, rows = gathered(layouts, body)
    assert {row["extra"] for row in found} == {'{"brand_new":{"since": "today"}}'}
    assert rows.counts.extra_fields == {"brand_new": 27}


def test_unknown_fields_are_counted_in_rows_whichever_way_their_events_went():
    body = encoded([{"msys": {"message_event": {"type": "open", "brand_new": {"since": "today"}}}}] * 2)
    warm = Layouts()
    gathered(warm, body)
    for layouts in (LenientOnly(), Layouts(), warm):
        _, rows = gathered(layouts, body)
        assert (rows.counts.duplicates, rows.counts.extra_fields) == (1, {"brand_new": 1})


def test_nulls_and_texts_that_look_like_names_go_the_quick_way():
    fields = {"type": "open", "event_id": "1", "subject": None, "rcpt_meta": {"a": None, "b": 1}, "new": None}
    layouts = Layouts()
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps([{"msys": {"track_event": fields}}], separators=separators).encode()
        gathered(layouts, body)
        assert layouts.decode(body) is not None


PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["campaign_id", "msg_size", "rcpt_meta", "new", "geo_ip", "event_id", "type"]),
        st.sampled_from(
            ['"a"', "null", "1", '{"a":null}', '{"city":"a"}', '{"city":"a","city":"b"}', '"\\"a\\":null"']
        ),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(PAIRS, st.sampled_from([":", ": ", " :"])), min_size=1, max_size=4))
def test_repeated_names_are_seen_both_ways(events):
    elements = []
    for pairs, colon in events:
        members = ",".join(f'"{name}"{colon}{value}' for name, value in [*pairs, ("type", '"open"')])
        elements.append(f'{{"msys":{{"track_event":{{{members}}}}}}}')
    layouts = Layouts()
    everything = ELEMENT % f'{EVENT},"campaign_id":"a","msg_size":1,"rcpt_meta":1,"new":1,"geo_ip":{{"city":"a"}}'
    gathered(layouts, f"[{everything}]".encode())
    for (pairs, _), one in zip(events, elements, strict=True):
        expected, lenient = gathered(LenientOnly(), f"[{one}]".encode())
        found, quick = gathered(layouts, f"[{one}]".encode())
        assert by_key(found) == by_key(expected)
        assert quick.quarantined == lenient.quarantined
        names = [name for name, value in [*pairs, ("type", '"open"')] if value != "null"]
        if len(names) > len(set(names)):
            assert [record.original for record in quick.quarantined] == [one.encode()]
        elif len({name for name, _ in pairs} - {"type"}) == len(pairs):
            assert quick.quarantined == []


def test_one_odd_event_does_not_slow_down_its_batch(load_event, monkeypatch):
    layouts = Layouts()
    batch = json.loads(load_event("alb_all_types")["body"])
    gathered(layouts, batch)
    asked = []
    original = rows_module.normalise
    monkeypatch.setattr(rows_module, "normalise", lambda event: asked.append(event) or original(event))
    found, _ = gathered(layouts, [*batch, {"msys": {"track_event": {"type": "open", "event_id": 7}}}])
    assert len(found) == 28
    assert len(asked) == 1


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="as in the samples"),
        pytest.param({"msg_size": "1", "transactional": "0", "open_tracking": "true"}, id="text"),
        pytest.param({"msg_size": 1, "transactional": 0, "open_tracking": True, "timestamp": 1460989507}, id="numbers"),
        pytest.param({"msg_size": None, "subject": None, "geo_ip": None, "rcpt_meta": None}, id="nulls"),
        pytest.param({"type": "of_the_future"}, id="unknown type"),
        pytest.param({"msg_size": "many", "open_tracking": "perhaps", "timestamp": "soon"}, id="not what they are"),
    ],
)
def test_the_first_batch_of_a_process_goes_the_quick_way(load_event, fields):
    batch = json.loads(load_event("alb_all_types")["body"])
    for element in batch:
        for event in element["msys"].values():
            event |= fields
    decoded = Layouts().decode(json.dumps(batch).encode())
    assert decoded is not None
    assert len(decoded.events) == 27


def test_invented_fields_give_way_to_those_in_use(load_event):
    layouts = Layouts()
    for turn in range(20):
        gathered(layouts, [{"msys": {"track_event": {"type": "open", **{f"f-{turn}-{n}": 1 for n in range(90)}}}}])
    new = [{"msys": {"track_event": {"type": "open", "event_id": "1", "new_at_bird": 1}}}]
    gathered(layouts, new)
    assert layouts.decode(json.dumps(new).encode()) is not None


def test_decoders_are_made_now_and_then_however_much_is_invented(monkeypatch):
    monkeypatch.setattr(layouts_module, "IN_BATCHES", 30)
    monkeypatch.setattr(layouts_module, "MAX_DECODERS", 5)
    made = []
    original = Layouts._rebuild
    monkeypatch.setattr(Layouts, "_rebuild", lambda layouts: made.append(1) or original(layouts))
    layouts = Layouts()
    for turn in range(60):
        gathered(layouts, [{"msys": {"track_event": {"type": "open", f"new-{turn}": 1}}}])
    assert len(made) == 11  # in 60 batches and before them


def test_what_can_be_learnt_is_bounded(monkeypatch):
    monkeypatch.setattr(layouts_module, "MAX_UNKNOWN_FIELDS", 10)
    layouts = Layouts()
    for number in range(30):
        fields = {f"field-{n}": n for n in range(number)}
        event = {"type": f"type-{number}", "event_id": "1", **fields, "geo_ip": {"city": "Ulm", **fields}}
        found, _ = gathered(layouts, [{"msys": {"new_event": event}}] * 2)
        assert len(found) == 1
        extra = json.loads(found[0].get("extra", "{}"))
        assert (extra.pop("geo_ip", {}), extra) == (fields, fields)
    assert {name: len(fields) for name, fields in layouts.seen_fields().items()} == {"": 10, "geo_ip": 10}
