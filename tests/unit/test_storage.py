"""Existing buckets: the merge of S3's notification configurations, and which deployments would forget data."""

import pytest

from storage.announcements import RAW_EVENTS, ROW_EVENTS, OverlapError, entries, merged, same, without
from storage.places import ForgottenError, Given, Record, refuse_to_forget, renewed

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:bird-ProcessQueue-1"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:bird-RowsTopic-1"
METADATA = {"ResponseMetadata": {"HTTPStatusCode": 200}}


def filtered(**rules: str) -> dict:
    return {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules.items()]}}


def theirs(events: list[str], entry_id: str = "scan", **rules: str) -> dict:
    function = "arn:aws:lambda:eu-west-1:111122223333:function:scan"
    return {"Id": entry_id, "LambdaFunctionArn": function, "Events": events, "Filter": filtered(**rules)}


SCAN = theirs(["s3:ObjectCreated:*"], Prefix="documents/", Suffix=".pdf")
DELETED = {"Id": "log", "QueueArn": f"{QUEUE}-of-others", "Events": ["s3:ObjectRemoved:*"]}
THERE = {
    "LambdaFunctionConfigurations": [SCAN],
    "QueueConfigurations": [DELETED],
    "EventBridgeConfiguration": {},
    **METADATA,
}
OURS = [
    {
        "Id": "bird-webhooks-25c4a8b6f9a64d3f",
        "QueueArn": QUEUE,
        "Events": ["s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"],
        "Filter": filtered(prefix="B+Event+Data/"),
    }
]


def of_queue(*prefixes: str) -> list:
    return entries(QUEUE, RAW_EVENTS, prefixes)


def test_an_entry_of_ours_is_as_s3_takes_it():
    [entry] = of_queue("B Event Data/")
    assert entry == {**OURS[0], "Id": entry["Id"]}
    assert entry["Id"].startswith("bird-webhooks-")
    assert of_queue("B Event Data/") == [entry]
    assert of_queue("raw/")[0]["Id"] != entry["Id"]


def test_what_others_have_stays_as_it_is():
    ours = of_queue("raw/")
    result = merged(THERE, ours)
    assert result == {
        "LambdaFunctionConfigurations": [SCAN],
        "QueueConfigurations": [DELETED, *ours],
        "EventBridgeConfiguration": {},
    }
    assert without(result, QUEUE) == {name: value for name, value in THERE.items() if name != "ResponseMetadata"}


def test_entries_of_an_earlier_prefix_make_way():
    result = merged(merged(THERE, of_queue("raw/")), of_queue("bird/"))
    assert result["QueueConfigurations"] == [DELETED, *of_queue("bird/")]
    assert merged(result, of_queue("bird/")) == result


def test_without_ours_an_empty_configuration_is_left():
    ours = entries(TOPIC, ROW_EVENTS, ["events/", "events-csv/"])
    result = merged(METADATA, ours)
    assert result == {"TopicConfigurations": ours}
    assert without(result, TOPIC) == {}


def test_configurations_are_the_same_whatever_the_order_and_the_spelling():
    answered = {**OURS[0], "Filter": filtered(Prefix="B+Event+Data/"), "Events": OURS[0]["Events"][::-1]}
    assert same({"QueueConfigurations": [DELETED, *OURS]}, {"QueueConfigurations": [answered, DELETED], **METADATA})
    assert not same({"QueueConfigurations": OURS}, {"QueueConfigurations": OURS, "EventBridgeConfiguration": {}})
    assert not same({"QueueConfigurations": OURS}, {})


OVERLAPS = [
    pytest.param(theirs(["s3:ObjectCreated:*"], prefix="raw/"), True, id="same prefix"),
    pytest.param(theirs(["s3:ObjectCreated:Put"]), True, id="no filter"),
    pytest.param(theirs(["s3:ObjectCreated:Post"], prefix="r"), True, id="wider prefix"),
    pytest.param(theirs(["s3:ObjectCreated:Copy"], prefix="raw/import/"), True, id="narrower prefix"),
    pytest.param(theirs(["s3:ObjectCreated:Put"], suffix=".json"), True, id="suffix"),
    pytest.param(theirs(["s3:ObjectCreated:Put"], prefix="rawer/"), False, id="beside"),
    pytest.param(theirs(["s3:ObjectCreated:CompleteMultipartUpload"], prefix="raw/"), False, id="another event"),
    pytest.param(theirs(["s3:ObjectRemoved:*"]), False, id="another kind"),
]


@pytest.mark.parametrize(("entry", "refused"), OVERLAPS)
def test_an_entry_that_s3_would_call_overlapping_is_named_by_its_id(entry, refused):
    there = {"LambdaFunctionConfigurations": [entry]}
    if refused:
        with pytest.raises(OverlapError, match=r"^scan$"):
            merged(there, of_queue("raw/"))
    else:
        assert merged(there, of_queue("raw/"))["LambdaFunctionConfigurations"] == [entry]


# --- What would be forgotten -----------------------------------------------------------------------------------------


def properties(**changes: str) -> dict:
    return {
        "RawBucket": "own-raw",
        "RawPrefix": "raw",
        "FormerRawPlaces": "",
        "LakeBucket": "lake",
        "ExistingRawBucket": "",
        "ExistingLakeBucket": "",
        "TombstoneKeyArn": "arn:key-1",
        "ExistingTombstoneKeyArn": "",
        "HashKeyArn": "",
        "SettingsToReset": "",
        **changes,
    }


def refusal(old: dict | None, new: dict, record: Record, tombstones: bool = False) -> str:
    """Its text up to the first comma or full stop that follows 'because'; empty if nothing is refused."""
    try:
        refuse_to_forget(Given.read(new), Given.read(old) if old else None, record, tombstones)
    except ForgottenError as error:
        return str(error).partition("because ")[2].partition(":")[0]
    return ""


KEPT = {"ExistingLakeBucket": "lake", "ExistingRawBucket": "own-raw"}
RECORD = Record(["own-raw/raw"], [], "arn:key-1")
LOOK = "where this stack would not look"
KEY = (
    "the lake bucket names erased persons with another key, and they could come in again. Give ExistingTombstoneKeyArn"
)
CHANGES = [
    pytest.param(None, properties(), Record(), False, "", id="new"),
    pytest.param(properties(), properties(), RECORD, True, "", id="nothing changed"),
    pytest.param(
        properties(),
        properties(RawPrefix="bird"),
        Record(),
        False,
        f"raw batches of this lake lie in own-raw/raw, {LOOK}",
        id="prefix",
    ),
    pytest.param(
        properties(),
        properties(RawBucket="other"),
        RECORD,
        False,
        f"raw batches of this lake lie in own-raw/raw, {LOOK}",
        id="bucket",
    ),
    pytest.param(
        properties(), properties(RawPrefix="bird", FormerRawPlaces="own-raw/raw"), RECORD, False, "", id="prefix, named"
    ),
    pytest.param(
        properties(),
        properties(RawPrefix="bird", FormerRawPlaces="own-raw/raw/"),
        RECORD,
        False,
        "",
        id="a slash at the end",
    ),
    pytest.param(
        properties(RawPrefix="bird", FormerRawPlaces="own-raw/raw"),
        properties(RawPrefix="bird"),
        RECORD,
        False,
        f"raw batches of this lake lie in own-raw/raw, {LOOK}",
        id="named no longer",
    ),
    pytest.param(
        properties(),
        properties(RawPrefix="bird", SettingsToReset="AlarmEmail, FormerRawPlaces"),
        RECORD,
        False,
        "",
        id="meant to be forgotten",
    ),
    pytest.param(
        properties(),
        properties(RawPrefix="raw/2027", FormerRawPlaces="own-raw/raw"),
        RECORD,
        False,
        "own-raw/raw/2027 lies within another place of raw batches, and a batch would have two ids. Give another "
        "RawPrefix.",
        id="a folder within it",
    ),
    pytest.param(
        None,
        properties(ExistingLakeBucket="lake", RawBucket="another", ExistingTombstoneKeyArn="arn:key-1"),
        RECORD,
        False,
        f"raw batches of this lake lie in own-raw/raw, {LOOK}",
        id="a kept lake without its raw bucket",
    ),
    pytest.param(None, properties(**KEPT), RECORD, False, "", id="both buckets kept"),
    pytest.param(
        properties(),
        properties(LakeBucket="elsewhere", ExistingLakeBucket="elsewhere"),
        Record(),
        False,
        "the rows lie in lake, and queries would no longer see them. Keep the lake bucket. For rows of both buckets, "
        "deploy another stack over one of them. If you mean it, name ExistingLakeBucket in SettingsToReset.",
        id="another lake",
    ),
    pytest.param(
        properties(),
        properties(LakeBucket="elsewhere", ExistingLakeBucket="elsewhere", SettingsToReset="ExistingLakeBucket"),
        Record(),
        False,
        "",
        id="another lake, meant",
    ),
    pytest.param(None, properties(**KEPT, TombstoneKeyArn="arn:key-2"), RECORD, True, KEY, id="tombstones"),
    pytest.param(None, properties(**KEPT), Record(), True, KEY, id="tombstones of an older release"),
    pytest.param(None, properties(**KEPT, TombstoneKeyArn="arn:key-2"), RECORD, False, "", id="no tombstones"),
    pytest.param(
        None,
        properties(**KEPT, ExistingTombstoneKeyArn="arn:key-1"),
        RECORD,
        True,
        "",
        id="tombstones with their key",
    ),
    pytest.param(
        None,
        properties(**KEPT, HashKeyArn="arn:hash-2"),
        Record(["own-raw/raw"], [], "arn:key-1", "arn:hash-1"),
        False,
        "hashes in the rows were made with another key",
        id="hashes",
    ),
    pytest.param(
        None,
        properties(**KEPT),
        Record(["own-raw/raw"], [], "arn:key-1", "arn:hash-1"),
        False,
        "",
        id="hashes no longer made",
    ),
]


@pytest.mark.parametrize(("old", "new", "record", "tombstones", "said"), CHANGES)
def test_a_deployment_that_would_forget_data_is_refused(old, new, record, tombstones, said):
    assert refusal(old, new, record, tombstones) == said


def test_the_refusal_says_what_to_give():
    with pytest.raises(
        ForgottenError, match=r"Add them to FormerRawPlaces, .* name FormerRawPlaces in SettingsToReset"
    ):
        refuse_to_forget(Given.read(properties(RawPrefix="bird")), None, RECORD, False)
    with pytest.raises(ForgottenError, match=r"Give ExistingTombstoneKeyArn: arn:key-1\.$"):
        refuse_to_forget(Given.read(properties(**KEPT, TombstoneKeyArn="arn:key-2")), None, RECORD, True)


def test_the_record_names_every_place_until_it_is_meant_to_be_forgotten():
    first = renewed(Given.read(properties()), None, Record())
    assert first.document() == {
        "raw": ["own-raw/raw"],
        "lakes": [],
        "tombstone_key": "arn:key-1",
        "hash_key": "",
    }
    moved = properties(RawPrefix="B Event Data", FormerRawPlaces="own-raw/raw", HashKeyArn="arn:hash-1")
    second = renewed(Given.read(moved), Given.read(properties()), first)
    assert (second.raw, second.hash_key) == (["own-raw/raw", "own-raw/B Event Data"], "arn:hash-1")
    third = renewed(Given.read({**moved, "HashKeyArn": ""}), Given.read(moved), second)
    assert (third.raw, third.hash_key) == (second.raw, "arn:hash-1")
    meant = {**moved, "FormerRawPlaces": "", "SettingsToReset": "FormerRawPlaces"}
    assert renewed(Given.read(meant), Given.read(moved), third).raw == ["own-raw/B Event Data"]


def test_a_lake_that_is_left_is_named_in_the_next_one():
    there = properties(LakeBucket="lake-2", ExistingLakeBucket="lake-2")
    record = renewed(Given.read(there), Given.read(properties()), Record())
    assert record.lakes == ["lake"]
    assert Record.read({**record.document(), "of a later release": 1}) == record


def test_former_prefixes_of_an_existing_bucket_are_announced_too():
    given = Given.read(
        properties(
            RawBucket="company",
            ExistingRawBucket="company",
            RawPrefix="B Event Data",
            FormerRawPlaces="company/raw,own-raw/raw",
        )
    )
    assert given.announced == ["B Event Data/", "raw/"]
