"""What other systems have stored -> elements of Bird's webhook: each origin's form in tests/data/moving."""

import gzip
import json
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from arro3.core import Table
from arro3.io import write_parquet

from bird_webhooks.moving import documents, forms
from bird_webhooks.moving.documents import UnreadableError, unpacked, values
from bird_webhooks.moving.flat import RefusedError
from bird_webhooks.moving.forms import Found, Probe, Refusal
from process.normalise import StoredBatch
from process.rows import Rows

CORPUS = Path(__file__).resolve().parents[1] / "data" / "moving"
BATCH_ID = "3f1c2f0e-7a53-4d3b-9a64-0c2c1d5e6f70"
IDS = ["92356927693813801", "92356927693813802", "92356927693813803", "92356927693813804"]
KINDS = [
    ("message_event", "delivery"),
    ("message_event", "bounce"),
    ("track_event", "click"),
    ("unsubscribe_event", "link_unsubscribe"),
]
# What the origin itself has not kept of the four events: everything else is as the webhook sent it.
LOST = {
    "midnight-pm-table.csv": "columns of the table",
    "stitch-singer.jsonl": "fields outside of the tap's schema",
}
WHOLE = sorted(
    path.name
    for path in CORPUS.iterdir()
    if not path.name.startswith(("refused--", "probe", "empty")) and path.name != "event-data-copy-text.txt"
)


def items(name: str) -> list[forms.Item]:
    return list(forms.read([(CORPUS / name).read_bytes()], no_account))


def no_account() -> str:
    raise RefusedError("without customer_id: give --account")


def rows(elements: list[bytes]) -> list[dict]:
    """As process makes them, but for where they came from."""
    made = Rows()
    made.add(StoredBatch("", "", 1762162261000, b"[%b]" % b",".join(elements)))
    assert made.counts.quarantined == 0
    found = [row for day in made.take_days() for row in table_rows(day.rows)]
    return sorted(found, key=lambda row: row["event_key"])


def table_rows(table: Table) -> list[dict]:
    names = [name for name in table.schema.names if name not in ("batch_id", "received_at")]
    columns = [table[name].to_pylist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def live() -> list[dict]:
    return rows([found.element for found in items(f"guide--{BATCH_ID}")])


@pytest.mark.parametrize("name", WHOLE)
def test_each_origin_gives_the_four_events_with_their_classes(name):
    found = [item for item in items(name) if isinstance(item, Found)]
    assert [(one.event_class, one.type) for one in found] == KINDS
    assert [row["event_id"] for row in rows([one.element for one in found])] == IDS
    assert [one.timestamp for one in found] == [1762160400000, 1762160401000, 1762162200000, 1762162260000]
    assert {one.account for one in found} == {"7"}
    assert found[1].addresses == ("second@example.com",)
    assert not [item for item in items(name) if isinstance(item, Refusal)]


@pytest.mark.parametrize("name", WHOLE)
def test_rows_of_each_origin_are_those_of_the_webhook_value_for_value(name):
    got = rows([item.element for item in items(name) if isinstance(item, Found)])
    for row, expected in zip(got, live(), strict=True):
        if name in LOST:
            assert {key: value for key, value in row.items() if value is not None}.items() <= expected.items() | {
                (key, value) for key, value in row.items() if key in ("rcpt_meta", "rcpt_tags")
            }
            continue
        for one in (row, expected):  # JSON, in which only blanks may differ
            one |= {column: one[column] and json.loads(one[column]) for column in ("rcpt_meta", "rcpt_tags")}
        assert row == expected


@pytest.mark.parametrize(
    ("name", "received_at", "batch_id"),
    [
        ("sp-webhook-endpoint.csv", "2025-11-03T09:31:01.250000+00:00", BATCH_ID),
        ("sp-webhook-endpoint.jsonl", "2025-11-03T09:31:01.250000+00:00", BATCH_ID),
        ("httpdump.csv", "2025-11-03T09:31:01.250000+00:00", BATCH_ID),
        ("mongodb.jsonl", "2025-11-03T09:31:01.250000+00:00", None),
        ("laravel-webhook-calls.csv", "2025-11-03T09:31:01+00:00", None),
        ("load-balancer-event.json", None, BATCH_ID),
        ("event-data.csv", None, None),  # one event of a batch, of which the table says no time
    ],
)
def test_what_the_origin_says_of_the_batch_is_kept(name, received_at, batch_id):
    found = [item for item in items(name) if isinstance(item, Found)]
    assert {one.row.received_at and one.row.received_at.isoformat() for one in found} == {received_at}
    assert {one.row.batch_id for one in found} == {batch_id}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refused--guide.csv", "columns do not fit the header, as in the CSV that Bird's guide writes"),
        ("refused--segment.jsonl", "a call of Segment, which keeps no event_id"),
        ("refused--metrics.csv", "metrics, which are counts and not events"),
        ("refused--metrics.json", "metrics, which are counts and not events"),
        ("refused--latin-1.csv", "not UTF-8"),
        ("refused--utf-16.json", "text in UTF-16: bring JSON lines, CSV or Parquet"),
        ("refused--cut.gz", "gzip ends too early"),
        ("refused--not-json.txt", "not JSON"),
        ("refused--unknown-type.jsonl", "of a type that Bird does not document: its class is not known"),
        ("event-data-copy-text.txt", "made by COPY in text format, which changes backslashes"),
    ],
)
def test_what_cannot_be_brought_in_is_refused_by_name(name, reason):
    [refusal] = items(name)
    assert isinstance(refusal, Refusal)
    assert refusal.reason.startswith(reason)


def test_of_a_truncated_batch_the_whole_events_are_found():
    assert [type(item) for item in items("refused--truncated.json")] == [Found, Found, Refusal]
    assert items("refused--truncated.json")[2] == Refusal("the body ends too early", 3)


@pytest.mark.parametrize("name", ["probe.json", "empty", "empty-array.json"])
def test_probes_and_empty_batches_are_nothing_to_bring_in(name):
    assert items(name) == [Probe()]


def test_a_damaged_element_costs_that_element():
    body = (
        b'[{"msys":{"track_event":{"type":"open","event_id":"1"}}},5,'
        b'{"msys":{"track_event":{"type":"\xff","event_id":"2"}}}]'
    )
    [good, bad, repaired] = forms.read([body], no_account)
    assert (good.type, bad, repaired.event_class) == ("open", Refusal("not an event of Bird's", 2), "track_event")


def test_a_damaged_line_is_refused_with_its_place():
    lines = b'{"msys":{"track_event":{"type":"open","event_id":"1"}}}\n{"msys":5}\n{"msys":{}}\n'
    assert [getattr(item, "place", type(item).__name__) for item in forms.read([lines], no_account)] == [
        "Found",
        2,
        "Probe",
    ]


def test_an_event_alone_without_an_account_needs_one():
    line = b'{"type":"open","event_id":"1","timestamp":"2025-11-03T09:00:00Z"}'
    assert list(forms.read([line], no_account)) == [Refusal("without customer_id: give --account", 1)]
    [found] = forms.read([line], lambda: "7")
    assert found.element == (
        b'{"msys":{"track_event":{"type":"open","event_id":"1","timestamp":"1762160400","customer_id":"7"}}}'
    )


def test_an_event_as_the_webhook_sent_it_gets_no_account():
    element = b'{"msys":{"track_event":{"type":"open","event_id":"1"}}}'
    [found] = forms.read([element], lambda: "7")
    assert (found.element, found.account) == (element, None)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ('"1762160400"', b'"1762160400"'),
        ("1762160400", b"1762160400"),
        ('"2025-11-03 09:00:00+00"', b'"1762160400"'),
        ('"2025-11-03 09:00:00.000 UTC"', b'"1762160400"'),
        ('"2025-11-03T10:00:00+01:00"', b'"1762160400"'),
        ("1762160400000", b'"1762160400"'),
    ],
)
def test_times_of_events_alone_become_those_of_the_webhook(time, seconds):
    line = f'{{"type":"relay_delivery","event_id":"1","customer_id":7,"timestamp":{time}}}'.encode()
    [found] = forms.read([line], no_account)
    assert found.timestamp == 1762160400000
    assert b'"timestamp":%b' % seconds in found.element
    assert found.event_class == "relay_event"


def test_an_event_that_never_has_an_id_is_told_apart_from_one_that_lost_it():
    sms = b'{"type":"sms_status","customer_id":"7","timestamp":"1762160400","sms_text":"hi"}'
    opened = b'{"type":"open","customer_id":"7","timestamp":"1762160400"}'
    [found, refused] = forms.read([sms + b"\n" + opened], no_account)
    assert not found.has_key
    assert refused == Refusal("without event_id: it can never be counted once", 2)


def test_a_large_table_of_single_columns_is_refused_before_its_first_row(monkeypatch):
    monkeypatch.setattr(forms, "WHOLE_BYTES", 1_000)
    header, row = b"type,event_id,timestamp,customer_id\n", b"open,1,1762160400,7\n"
    large = [header, *[row] * 100, b"open,1,7\n"]
    [refusal] = forms.read(large, no_account)
    assert refusal == Refusal(
        "a table of single columns larger than 16 MB, of which a row far down may show that the columns shift: "
        "split it into smaller files, each with the header, or bring JSON lines or Parquet",
        None,
    )
    assert [item.type for item in forms.read([header, row], no_account)] == ["open"]


def test_a_large_table_with_the_event_in_a_column_is_read(monkeypatch):
    monkeypatch.setattr(forms, "WHOLE_BYTES", 1_000)
    row = b'1,"{""msys"":{""track_event"":{""type"":""open"",""event_id"":""1""}}}"\n'
    assert [item.type for item in forms.read([b"id,event\n", *[row] * 100], no_account)] == ["open"] * 100


def test_rows_of_parquet_are_read():
    columns = {
        "event_id": ["1"], "type": ["click"], "customer_id": [7], "timestamp": ["2025-11-03T09:00:00Z"],
        "geo_ip_country": ["DE"], "rcpt_to": ["first@example.com"],
    }  # fmt: skip
    file = BytesIO()
    write_parquet(Table.from_pydict({name: array(column) for name, column in columns.items()}), file)
    body = file.getvalue()
    [found] = forms.read([body[:100], body[100:]], no_account)
    assert (found.event_class, found.timestamp, found.account) == ("track_event", 1762160400000, "7")
    assert b'"geo_ip":{"country":"DE"}' in found.element
    assert list(forms.read([b"PAR1" + b"x" * 100], no_account)) == [Refusal("not Parquet that can be read", None)]


def array(values):
    from arro3.core import Array, DataType

    return Array(values, DataType.utf8() if isinstance(values[0], str) else DataType.int64())


# --- What strangers bring ---------------------------------------------------------------------------------------------

EVENT = {"type": "bounce", "customer_id": "7", "event_id": "1", "timestamp": "1762160400"}
ELEMENT = json.dumps({"msys": {"message_event": EVENT}}).encode()
BOM = b"\xef\xbb\xbf"
QUOTED = ELEMENT.replace(b'"', b'""')
HEADER = b"type,event_id,timestamp,customer_id"


def said(body: bytes) -> list:
    """The event ids that were found, and the reasons of what was refused."""
    found = list(forms.read([body], no_account))
    return [
        json.loads(item.element)["msys"]["message_event"]["event_id"] if isinstance(item, Found) else item[0]
        for item in found
        if not isinstance(item, Probe)
    ]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BOM + ELEMENT + b"\r\n" + ELEMENT + b"\r\n", id="Windows lines"),
        pytest.param(ELEMENT + b"\r" + ELEMENT, id="old Macintosh lines"),
        pytest.param(BOM + ELEMENT + b"\n" + BOM + ELEMENT, id="joined files, each with a byte order mark"),
        pytest.param(BOM + b"[%b]" % ELEMENT + BOM + b"[%b]" % ELEMENT, id="joined arrays with byte order marks"),
        pytest.param(b"%b,\n%b," % (ELEMENT, ELEMENT), id="commas without an array"),
        pytest.param(b"\n\n%b\n\n\n%b\n" % (ELEMENT, ELEMENT), id="empty lines"),
        pytest.param(json.dumps(json.loads(b"[%b,%b]" % (ELEMENT, ELEMENT)), indent=2).encode(), id="pretty array"),
        pytest.param(b'{"0":%b,"7":%b,"@headers":{}}' % (ELEMENT, ELEMENT), id="PHP's array with a gap"),
        pytest.param(b'event\r\n"%b"\r\n"%b"\r\n' % (QUOTED, QUOTED), id="CSV by Windows"),
        pytest.param(HEADER + b"\rbounce,1,1762160400,7\rbounce,1,1762160400,7\r", id="CSV by an old Macintosh"),
        pytest.param(HEADER.upper() + b"\n" + b"bounce,1,1762160400,7\n" * 2, id="CSV with names in capitals"),
        pytest.param(HEADER + b",subject\n" + b"bounce,1,1762160400,7,\\N\n" * 2, id="CSV with nulls of MySQL"),
        pytest.param(b'{"headers":{},"body":[%b,%b]}' % (ELEMENT, ELEMENT), id="a gateway's log of a request"),
        pytest.param(json.dumps({k.upper(): v for k, v in EVENT.items()}).encode() * 2, id="a warehouse's names"),
    ],
)
def test_two_events_are_found_in(body):
    assert said(body) == ["1", "1"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ELEMENT + b"\nxx{\n" + ELEMENT, ["1", "not JSON", "1"]),
        (ELEMENT[:60] + b"\n" + ELEMENT + b"\n" + ELEMENT, ["ends too early", "1", "1"]),
        (ELEMENT[:20] + b"\n" + ELEMENT + b"\n" + ELEMENT, ["not JSON", "1", "1"]),
        (b'{"a":1\n' + ELEMENT + b"\n", ["ends too early", "1"]),
        (b"[%b]\n[%b\n[%b]\n" % (ELEMENT, ELEMENT[:60], ELEMENT), ["1", "not JSON", "1"]),
        (ELEMENT + b"\n" + ELEMENT[:60], ["1", "ends too early"]),
    ],
)
def test_a_damaged_value_costs_that_value(body, expected):
    assert said(body) == expected


def test_of_a_stream_too_a_damaged_value_costs_that_value(monkeypatch):
    monkeypatch.setattr(forms, "WHOLE_BYTES", 10)
    arrays = b"[%b,\n%b]\n[%b\n[%b]\n" % (ELEMENT, ELEMENT, ELEMENT[:60], ELEMENT)
    assert said(arrays) == ["1", "1", "ends too early", "1"]


def test_after_many_damaged_lines_the_rest_is_refused_as_one():
    lines = ELEMENT + b"\n" + b"{]\n" * 150 + ELEMENT
    assert said(lines) == ["1", *["not JSON"] * 100, "more than 100 damaged lines: the rest is not read"]


TAR = "a tar archive: unpack it first, or compress it by gzip"


@pytest.mark.parametrize(
    ("begins", "reason"),
    [
        (b"PK\x03\x04", "a zip archive: unpack it first, or compress it by gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first, or compress it by gzip"),
        (b"BZh91AY", "compressed by bzip2: unpack it first, or compress it by gzip"),
        (b"\xfd7zXZ\0", "compressed by xz: unpack it first, or compress it by gzip"),
        (b"\xff\x06\0\0sNaPpY", "compressed by Snappy: unpack it first, or compress it by gzip"),
        (b"a.json" + b"\0" * 251 + b"ustar\0", TAR),
        (gzip.compress(b"a.json" + b"\0" * 251 + b"ustar\0", mtime=0), TAR),
        (b"Obj\x01\x04\x14avro.codec", "Avro: bring JSON lines, CSV or Parquet"),
        (b"ORC\x00", "ORC: bring JSON lines, CSV or Parquet"),
        (b"SQLite format 3\0", "neither text in UTF-8 nor a format that is known"),
        (b'"%b"\n' % QUOTED, "CSV without the line that names its columns: export it with `csv header`"),
        (b'1,"[%b]"\n' % QUOTED, "CSV without the line that names its columns: export it with `csv header`"),
        (b" event \n-----\n " + ELEMENT + b"\n(1 row)\n", forms.UNQUOTED),
        (HEADER + b",type\nbounce,1,1762160400,7,click\n", "a header that names a column twice"),
        (HEADER + b"\nbounce,9.23569E+16,1762160400,7\n", "with an event_id that a program has taken for a number"),
        (b'{"errors":[{"message":"Forbidden"}]}', "an error that Bird's API answered, and not a page of events"),
        (b'{"eventData":{"type":"open","timestamp":{"$numberLong":"1762160400"}}}', forms.CANONICAL),
        (b'{"body":"%%%","isBase64Encoded":true,"httpMethod":"POST"}', "a request whose body cannot be read"),
    ],
)
def test_a_stranger_is_told_by_name_what_cannot_be_read(begins, reason):
    [refused] = said(begins)
    assert refused.startswith(reason)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ('"11/03/2025 09:00:00"', "with a time that cannot be read"),
        ('"0001-01-01T00:00:00Z"', "with a time that cannot be read"),
        ('"nan"', "with a time that cannot be read"),
        ("9" * 400, "with a time that cannot be read"),
        ("null", "without a time"),
        ('""', "without a time"),
    ],
)
def test_an_event_alone_without_its_time_would_be_another_event_of_another_date(time, reason):
    line = f'{{"type":"bounce","event_id":"1","customer_id":"7","timestamp":{time}}}'.encode()
    assert said(line) == [reason]


def test_numbers_that_a_program_wrote_as_fractions_stay_what_they_were():
    line = (
        b'{"type":"relay_delivery","event_id":"1","customer_id":7.0,"subaccount_id":42.0,"timestamp":1762160400000.0}'
    )
    [found] = forms.read([line], no_account)
    assert (found.account, found.timestamp) == ("7", 1762160400000)
    assert b'"subaccount_id":"42"' in found.element


def test_a_time_as_a_fraction_is_the_time_that_process_reads():
    body = b'[{"msys":{"track_event":{"type":"open","event_id":"1","timestamp":1762160400.5}}}]'
    [found] = forms.read([body], no_account)
    assert found.timestamp == 1762160400500


# --- Values in a stream -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_values_are_found_wherever_the_chunks_end(size):
    body = b'\xef\xbb\xbf[{"a":"]\\""},{"b":[1,{"c":"}"}]}] [5,"x"]\n{"z":1}\r\n{"y":\n2}{"k":3}\x1e"s"'
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert list(values(chunks)) == [
        b'{"a":"]\\""}', b'{"b":[1,{"c":"}"}]}', b"5", b'"x"', b'{"z":1}', b'{"y":\n2}', b'{"k":3}', b'"s"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b'[{"a":1},{"b"', "ends too early"), (b'{"a":1}]', "not JSON"), (b"{]", "not JSON"), (b'["a', "ends too early")],
)
def test_a_stream_that_is_not_json_is_refused_after_what_could_be_read(body, reason):
    with pytest.raises(UnreadableError, match=reason):
        list(values([body]))


def test_gzip_is_unpacked_twice_and_through_all_members():
    body = gzip.compress(gzip.compress(b"[1,") + gzip.compress(b"2]") + b"\0" * 5)
    assert b"".join(unpacked(body[at : at + 3] for at in range(0, len(body), 3))) == b"[1,2]"


def test_a_zip_bomb_takes_bounded_memory(monkeypatch):
    monkeypatch.setattr(documents, "BOMB_FROM_BYTES", 4_000_000)
    bomb = gzip.compress(b" " * 20_000_000)
    tracemalloc.start()
    with pytest.raises(UnreadableError, match="more than 300 times larger"):
        list(values(unpacked([bomb])))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("begin", [b'{"a":"', b'"', b'[{"a":[', b"{"])
def test_a_value_without_an_end_takes_bounded_memory(begin, monkeypatch):
    monkeypatch.setattr(documents, "MAX_VALUE_BYTES", 1_000_000)
    read = 0

    def chunks():
        nonlocal read
        for number in range(1_000):
            read += 1
            yield begin if number == 0 else b"a" * 50_000

    with pytest.raises(UnreadableError, match="one value is larger than"):
        list(values(chunks()))
    assert read < 40


def test_an_array_of_any_size_is_read_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(forms, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(documents, "PIECE_BYTES", 10_000)
    element = b'{"msys":{"track_event":{"type":"open","event_id":"1","timestamp":"1762160400"}}},'
    chunks = (b"[" if number == 0 else element * 100 for number in range(61))  # 500 kB
    tracemalloc.start()
    count = sum(isinstance(item, Found) for item in forms.read(chunks, no_account))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6_000
    assert peak < 250_000
