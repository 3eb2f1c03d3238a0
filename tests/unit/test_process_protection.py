"""What is dropped is nowhere in the columns, what is hashed is HMAC-SHA256, and a slip in a name is refused."""

import json
import re

import pytest
from arro3.core import Array, DataType

from local_aws.yaml_text import yaml_parse
from maintain.check_template import TEMPLATE
from process.columns import COLUMNS
from process.layouts import Layouts
from process.normalise import StoredBatch
from process.protection import Protection, UnknownFieldError, droppable, hashable, names
from process.rows import Rows

KEY = b"the-key-of-a-test"
# printf '%s' person@example.com | openssl dgst -sha256 -hmac the-key-of-a-test
HASH_OF_PERSON = "6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3"
HASH_OF_192_0_2_1 = "583de79ca305bff218b1d6fa183e5afb81089ad7457f344fde879072caa1aa5a"
HASH_OF_AN_OBJECT = "8de8ebbae3ed90c3e41018d822c9238f5ae9f32c448d1cc33734f7eca8dd9a8a"  # of {"a": 1}


def protection(drop: str = "", hashed: str = "") -> Protection:
    return Protection(names(drop), names(hashed), KEY)


def rows_of(protected: Protection, *elements: dict, times: int = 1) -> list[dict]:
    """Through the lenient way the first time, through the learnt layouts after."""
    layouts, found = Layouts(), []
    for _ in range(times):
        rows = Rows(layouts, protected)
        rows.add(StoredBatch("batch", "raw/batch.json", 1_480_000_000_000, json.dumps(elements).encode()))
        found = [row for day in rows.take_days() for row in day.rows.to_struct_array().to_pylist()]
    return found


def opened(**fields) -> dict:
    return {"msys": {"track_event": {"type": "open", "event_id": "1", "timestamp": "1460989507", **fields}}}


BOTH_WAYS = pytest.mark.parametrize("times", [pytest.param(1, id="leniently"), pytest.param(2, id="by layout")])


@BOTH_WAYS
def test_dropped_columns_are_null_and_the_others_stay(times):
    event = opened(
        rcpt_meta={"name": "Ann"}, subject="Hello Ann", geo_ip={"city": "Ulm", "country": "DE"}, msg_size="7"
    )
    [row] = rows_of(protection("rcpt_meta,subject,geo_ip_city,msg_size"), event, times=times)
    assert {name for name, value in row.items() if value is not None} == {
        *("event_class", "type", "timestamp", "event_id", "event_key", "batch_id", "received_at", "geo_ip_country")
    }


@BOTH_WAYS
def test_a_whole_object_is_dropped_with_what_has_no_column_in_it(times):
    event = opened(geo_ip={"city": "Ulm", "latitude": 48.4, "continent": "EU"}, ip_address="192.0.2.1")
    [row] = rows_of(protection("geo_ip"), event, times=times)
    assert [row[name] for name in ("geo_ip_city", "geo_ip_latitude", "extra")] == [None, None, None]
    assert row["ip_address"] == "192.0.2.1"


@BOTH_WAYS
def test_hashes_are_hmac_sha256_of_the_lower_cased_text(times):
    event = opened(rcpt_to="person@example.com", raw_rcpt_to="Person@Example.com", ip_address="192.0.2.1")
    [row] = rows_of(protection(hashed="rcpt_to,ip_address"), event, times=times)
    assert [row[name] for name in ("rcpt_to", "raw_rcpt_to", "ip_address")] == [
        *(HASH_OF_PERSON, HASH_OF_PERSON, HASH_OF_192_0_2_1)
    ]


def test_the_senders_spelling_of_the_address_shares_its_fate_unless_it_has_one_of_its_own():
    event = opened(rcpt_to="person@example.com", raw_rcpt_to="Person@example.com")
    fates = [("rcpt_to", ""), ("", "rcpt_to"), ("raw_rcpt_to", "rcpt_to"), ("raw_rcpt_to", ""), ("rcpt_to", "rcpt_to")]
    found = [rows_of(protection(drop, hashed), event)[0] for drop, hashed in fates]
    assert [(row["rcpt_to"], row["raw_rcpt_to"]) for row in found] == [
        (None, None),
        (HASH_OF_PERSON, HASH_OF_PERSON),
        (HASH_OF_PERSON, None),
        ("person@example.com", None),
        (None, None),  # dropped wins
    ]


def test_nothing_stays_nothing():
    [row] = rows_of(protection(hashed="rcpt_to,subject"), opened(subject=""))
    assert (row["rcpt_to"], row["subject"]) == (None, "")


@BOTH_WAYS
def test_what_did_not_fit_its_column_is_protected_in_extra_too(times):
    event = opened(rcpt_to={"a": 1}, subject=["Hello Ann"], ip_address="192.0.2.1", msg_size="large", new="kept")
    [row] = rows_of(protection("subject,msg_size", "rcpt_to"), event, times=times)
    assert json.loads(row["extra"]) == {"rcpt_to": HASH_OF_AN_OBJECT, "new": "kept"}
    assert (row["rcpt_to"], row["subject"], row["msg_size"]) == (None, None, None)


def test_members_that_did_not_fit_are_protected_in_extra_too():
    drop, hashed = "geo_ip_latitude,extra.geo_ip.continent", "geo_ip_city"
    event = opened(geo_ip={"city": {"a": 1}, "latitude": "north", "continent": "EU", "planet": "Earth"})
    [row] = rows_of(protection(drop, hashed), event)
    assert json.loads(row["extra"]) == {"geo_ip": {"city": HASH_OF_AN_OBJECT, "planet": "Earth"}}
    # Not a JSON object, so it is not known which part is the city.
    [row] = rows_of(protection(drop, hashed), opened(geo_ip="Ulm, Germany", new=1))
    assert row["extra"] == '{"new":1}'


@BOTH_WAYS
def test_fields_without_a_column_are_dropped_by_name_or_all_together(times):
    event = opened(user_str="Ann", new=1, deep={"name": {"first": "Ann", "last": "Bell"}})
    [row] = rows_of(protection("extra.user_str,extra.deep.name.first"), event, times=times)
    assert json.loads(row["extra"]) == {"new": 1, "deep": {"name": {"last": "Bell"}}}
    [row] = rows_of(protection("extra"), event, times=times)
    assert row["extra"] is None


def test_what_stood_beside_the_event_is_protected_under_the_same_name():
    event = opened(rcpt_to="person@example.com", rcpt_meta=1, subject=[1])
    beside = {"rcpt_to": "Person@example.com", "subject": "Hello Ann", "cust": {"id": "42"}}
    [row] = rows_of(protection("subject", "rcpt_to"), {**event, **beside})
    assert json.loads(row["extra"]) == {"cust": {"id": "42"}, "rcpt_to": HASH_OF_PERSON}


def test_what_stands_beside_an_event_is_a_row_only_if_hashing_can_read_it():
    """Nested a little less deeply than msgspec can read where the element is read, which depends on the caller."""

    def outcome(depth: int) -> tuple[int, list[str]]:
        rows = Rows(protection=protection("subject", "rcpt_to"))
        body = b'[{"msys":{"a":{"type":"open"}},"s":%b1%b}]' % (b"[" * depth, b"]" * depth)
        rows.add(StoredBatch("batch", "raw/batch.json", 1_480_000_000_000, body))
        return len(list(rows.take_days())), [one.reason for one in rows.take_quarantined()]

    deepest, step = 0, 8192
    while step:
        deepest += step * outcome(deepest + step)[0]
        step //= 2
    assert deepest > 5_000
    assert [outcome(deepest + more) for more in range(4)] == [(1, []), *[(0, ["nested too deeply"])] * 3]


def test_a_field_named_before_it_had_a_column_stays_protected_when_it_gets_one():
    [row] = rows_of(protection("extra.subject,extra.geo_ip.city"), opened(subject="Hello", geo_ip={"city": "Ulm"}))
    assert (row["subject"], row["geo_ip_city"]) == (None, None)


def test_the_ingest_batch_is_not_the_webhooks_batch():
    error = {"msys": {"ingest_event": {"type": "error", "event_id": "2", "timestamp": "1460989507", "batch_id": "b"}}}
    [row] = rows_of(protection("ingest_batch_id"), error)
    assert (row["batch_id"], row["ingest_batch_id"]) == ("batch", None)


def test_duplicates_are_dropped_as_before():
    events = [opened(rcpt_to="person@example.com"), opened(rcpt_to="person@example.com"), opened(event_id="2")]
    assert [row["event_id"] for row in rows_of(protection("rcpt_meta", "rcpt_to"), *events)] == ["1", "2"]


@BOTH_WAYS
def test_the_account_stays_in_the_row_where_all_else_is_protected(times):
    """Two accounts' events of one id stay two, and each says whose it is."""
    everything = protection(",".join({*droppable()} - {*hashable()}), ",".join(hashable()))
    events = [opened(customer_id=account, subaccount_id="7") for account in ("1", "2")]
    assert [row["customer_id"] for row in rows_of(everything, *events, times=times)] == ["1", "2"]


REFUSED = [
    ("drop", "event_id", "event_id cannot be dropped: it is part of what tells one event from another"),
    ("drop", "type", "type cannot be dropped: it is part of what tells one event from another"),
    ("drop", "timestamp", "timestamp cannot be dropped: it is part of what tells one event from another"),
    ("drop", "batch_id", "batch_id cannot be dropped: it is part of what tells one event from another"),
    ("drop", "extra.event_id", "extra.event_id cannot be dropped: it is part of what tells one event from another"),
    ("drop", "customer_id", "customer_id cannot be dropped: it is part of what tells one event from another"),
    (
        "drop",
        "extra.customer_id",
        "extra.customer_id cannot be dropped: it is part of what tells one event from another",
    ),
    ("hash", "customer_id", "customer_id cannot be hashed: it is part of what tells one event from another"),
    ("drop", "extra.rcpt_meta.name", "extra.rcpt_meta.name is no field that can be dropped"),
    ("drop", "rcptmeta", "rcptmeta is no field that can be dropped"),
    ("drop", "extra.", "extra. is no field that can be dropped"),
    ("hash", "event_key", "event_key cannot be hashed: it is part of what tells one event from another"),
    ("hash", "msg_size", "msg_size is no field that can be hashed"),
    ("hash", "geo_ip", "geo_ip is no field that can be hashed"),
    ("hash", "rcpt_meta", "rcpt_meta is no field that can be hashed"),
    ("hash", "injection_time", "injection_time is no field that can be hashed"),
    ("hash", "extra.user_str", "extra.user_str is no field that can be hashed"),
]


@pytest.mark.parametrize(("what", "field", "said"), REFUSED)
def test_what_is_not_there_or_may_not_be_protected_is_refused(what, field, said):
    with pytest.raises(UnknownFieldError, match=f"^{re.escape(said)}$"):
        protection(**{"drop": field} if what == "drop" else {"hashed": field})


def test_no_hash_is_made_without_a_key():
    with pytest.raises(UnknownFieldError):
        Protection([], ["rcpt_to"], b"")


@pytest.fixture(scope="module")
def patterns() -> dict[str, str]:
    parameters = yaml_parse(TEMPLATE.read_text())["Parameters"]
    return {name: parameters[name]["AllowedPattern"] for name in ("DropFields", "HashFields")}


def test_the_template_takes_the_names_that_process_takes_and_no_others(patterns):
    every = [column.name for column in COLUMNS] + [
        "geo_ip",
        "user_agent_parsed",
        "extra.new",
        "extra.customer_id",
        "rcptmeta",
        "rcpt_to2",
        " ",
    ]
    assert [name for name in every if re.fullmatch(patterns["DropFields"], name)] == [
        *(name for name in every if name in droppable()),
        "extra.new",
    ]
    assert [name for name in every if re.fullmatch(patterns["HashFields"], name)] == [
        name for name in every if name in hashable()
    ]
    assert {"rcpt_to", "subject", "geo_ip_city"} < set(hashable()) < set(droppable())


@pytest.mark.parametrize("given", ["", "rcpt_to", "rcpt_to,subject", "rcpt_to, subject", ",".join(hashable())])
def test_the_template_takes_lists(patterns, given):
    assert all(re.fullmatch(pattern, given) for pattern in patterns.values())


@pytest.mark.parametrize(
    "given",
    [",", "rcpt_to,", ",rcpt_to", "rcpt_to subject", "rcpt_to,,subject", "rcpt_to;subject", "rcpt_to,customer_id"],
)
def test_the_template_refuses_what_is_no_list(patterns, given):
    assert not any(re.fullmatch(pattern, given) for pattern in patterns.values())


def test_columns_that_are_not_there_are_no_error():
    columns = {"msg_size": Array([1], DataType.int64())}
    protection("subject,rcpt_meta", "rcpt_to").apply(columns)
    assert list(columns) == ["msg_size"]
