"""An event of Bird's Events API becomes what the webhook sends for it."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from reconcile.as_webhook import CLASS_OF_TYPE, Event, UnknownTypeError, element

SAMPLES = Path(__file__).resolve().parents[1] / "data/events_api"
FROM_API = SAMPLES / "events-all-18-types.json"
FROM_WEBHOOK = json.loads((SAMPLES / "events-all-18-types.as-webhook.json").read_text())
LEAST = {"type": "open", "event_id": "1", "timestamp": "2026-11-26T10:02:28.000Z", "customer_id": 7}


def events(text: bytes) -> list[Event]:
    return [
        Event.of(fields)
        for fields in msgspec.json.decode(text, type=dict[str, list[dict[str, msgspec.Raw]]])["results"]
    ]


def event(**fields: object) -> Event:
    return Event.of({name: msgspec.Raw(json.dumps(value).encode()) for name, value in {**LEAST, **fields}.items()})


def test_all_18_types_are_what_the_webhook_sends():
    whole = msgspec.json.decode(FROM_API.read_bytes())["results"]
    text = json.dumps({"results": whole}).encode()
    assert [json.loads(element(one)) for one in events(text)] == FROM_WEBHOOK
    assert len(FROM_WEBHOOK) == 18


def test_integers_for_ids_become_text_and_everything_else_is_as_it_came():
    made = event(
        customer_id=7, subaccount_id=42, event_id=118230045167041936, number_failed=15, retryable=False, msg_size="1337"
    )
    assert json.loads(element(made))["msys"]["track_event"] == {
        "type": "open",
        "event_id": "118230045167041936",
        "timestamp": "1795687348",
        "customer_id": "7",
        "subaccount_id": "42",
        "number_failed": 15,
        "retryable": False,
        "msg_size": "1337",
    }


@pytest.mark.parametrize("subaccount", [0, "0", "", None])
def test_the_primary_account_is_no_subaccount(subaccount):
    made = event(subaccount_id=subaccount)
    assert made.subaccount_id is None
    assert "subaccount_id" not in json.loads(element(made))["msys"]["track_event"]


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        pytest.param("2026-11-26T10:02:28.000Z", "1795687348", id="as documented"),
        pytest.param("2026-11-26T10:02:28.999Z", "1795687348", id="rounded down"),
        pytest.param("2026-11-26T10:02:28+00:00", "1795687348", id="another notation"),
        pytest.param("2026-11-26T15:32:28.000+05:30", "1795687348", id="another zone"),
        pytest.param("1969-12-31T23:59:58.500Z", "-2", id="before 1970"),
    ],
)
def test_the_time_is_whole_unix_seconds(timestamp, seconds):
    assert json.loads(element(event(timestamp=timestamp)))["msys"]["track_event"]["timestamp"] == seconds


@pytest.mark.parametrize(
    ("zip_code", "expected"),
    [("10115", 10115), (10115, 10115), ("01067", 1067), ("SW1A 1AA", "SW1A 1AA"), (None, None), ("", "")],
)
def test_the_postal_code_is_a_number_where_it_can_be(zip_code, expected):
    made = event(geo_ip={"country": "DE", "latitude": 52.52, "zip": zip_code, "postal_code": "01067"})
    got = json.loads(element(made))["msys"]["track_event"]["geo_ip"]
    assert got == {"country": "DE", "latitude": 52.52, "zip": expected, "postal_code": "01067"}


def test_a_postal_code_that_is_no_text_keeps_its_bytes():
    made = event()
    place = msgspec.Raw(b'{"zip":"caf\xe9"}')
    assert b'"geo_ip":{"zip":"caf\xe9"}' in element(replace(made, fields={**made.fields, "geo_ip": place}))


def test_metadata_keeps_its_bytes():
    text = b'{"a":1.50,"b":1e2,"a":[1, 2],"c":"\\u00fc"}'
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in LEAST.items()}
    made = element(Event.of({**fields, "rcpt_meta": msgspec.Raw(text)}))
    assert b'"rcpt_meta":' + text in made


def test_an_unknown_type_is_never_guessed():
    with pytest.raises(UnknownTypeError):
        element(event(type="relay_delivery"))
    assert event(type="brand_new").event_class is None
    assert len(CLASS_OF_TYPE) == 20


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"timestamp": "2026-11-26T10:02:28"}, id="no zone"),
        pytest.param({"timestamp": 1795687348}, id="a number for the time"),
        pytest.param({"timestamp": "soon"}, id="no time"),
        pytest.param({"customer_id": None}, id="no account"),
        pytest.param({"customer_id": 7.5}, id="half an account"),
        pytest.param({"event_id": ["1"]}, id="a list for an id"),
        pytest.param({"type": 1}, id="a number for the type"),
    ],
)
def test_what_cannot_be_placed_is_refused_without_its_values(fields):
    with pytest.raises(ValueError, match="an event whose") as refused:
        event(**fields)
    assert "soon" not in str(refused.value)
