"""The custom resource Storage against S3: what others have in an existing bucket stays, and no place is forgotten."""

import json

import pytest
from botocore.exceptions import ClientError

import storage.app as app
from tests.integration.conftest import LAKE_BUCKET, RAW_BUCKET

ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:bird-ProcessQueue-1"
TOPIC = f"arn:aws:sns:eu-west-1:{ACCOUNT}:bird-RowsTopic-1"
OTHERS = {
    "QueueConfigurations": [
        {
            "Id": "audit",
            "QueueArn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:gone-long-ago",
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "invoices/"}]}},
        }
    ],
    "EventBridgeConfiguration": {},
}


class S3:
    """S3 of moto, but for notifications: moto has no SkipDestinationValidation. As AWS keeps them, of two buckets."""

    def __init__(self, real, region: str = "eu-west-1") -> None:
        self.real, self.meta, self.region = real, real.meta, region
        self.kept: dict[str, dict] = {RAW_BUCKET: dict(OTHERS), LAKE_BUCKET: {}}
        self.writes, self.overwritten, self.denied = 0, 0, 0
        self.always_denied: set[str] = set()

    def __getattr__(self, name: str):
        return getattr(self.real, name)

    def head_bucket(self, **asked) -> dict:
        return {**self.real.head_bucket(Bucket=asked["Bucket"]), "BucketRegion": self.region}

    def get_bucket_notification_configuration(self, Bucket: str, ExpectedBucketOwner: str = ACCOUNT) -> dict:  # noqa: N803
        if self.denied or Bucket in self.always_denied or ExpectedBucketOwner != ACCOUNT:
            self.denied = max(0, self.denied - 1)
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetBucketNotificationConfiguration")
        if Bucket not in self.kept:
            raise ClientError({"Error": {"Code": "NoSuchBucket"}}, "GetBucketNotificationConfiguration")
        return {**json.loads(json.dumps(self.kept[Bucket])), "ResponseMetadata": {"HTTPStatusCode": 200}}

    def put_bucket_notification_configuration(
        self,
        Bucket: str,  # noqa: N803
        NotificationConfiguration: dict,  # noqa: N803
        SkipDestinationValidation: bool,  # noqa: N803
    ) -> None:
        assert SkipDestinationValidation
        self.writes += 1
        if self.overwritten:  # by another program, in the same moment
            self.overwritten -= 1
            return
        self.kept[Bucket] = NotificationConfiguration


@pytest.fixture
def buckets(s3, monkeypatch, stack_state):
    found = S3(s3)
    monkeypatch.setattr(app, "s3", lambda: found)
    monkeypatch.setattr(
        "storage.cloudformation.boto3.client", lambda service, **_: {"cloudformation": stack_state}[service]
    )
    monkeypatch.setattr("storage.cloudformation.time.sleep", lambda seconds: None)
    return found


def properties(**changes: str) -> dict[str, str]:
    return {
        "RawBucket": RAW_BUCKET,
        "RawPrefix": "raw",
        "FormerRawPlaces": "",
        "LakeBucket": LAKE_BUCKET,
        "ExistingRawBucket": RAW_BUCKET,
        "ExistingLakeBucket": LAKE_BUCKET,
        "QueueArn": QUEUE,
        "TopicArn": TOPIC,
        "TombstoneKeyArn": "arn:key",
        "ExistingTombstoneKeyArn": "",
        "HashKeyArn": "",
        "SettingsToReset": "",
        **changes,
    }


@pytest.fixture
def ask(buckets, cloudformation, lambda_context):
    url, answers = cloudformation

    def request(kind: str, new: dict[str, str], old: dict[str, str] | None = None, stack: str = "bird") -> dict:
        event = {
            "RequestType": kind,
            "ResponseURL": url,
            "StackId": f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/{stack}/1",
            "RequestId": "r",
            "LogicalResourceId": "Storage",
            "ResourceProperties": new,
        }
        app.lambda_handler(event | ({"OldResourceProperties": old} if old else {}), lambda_context)
        return answers[-1]

    return request


def ours(configuration: dict) -> list[tuple[str, list[str]]]:
    """Prefix and events of each entry of the stack's."""
    return [
        (entry["Filter"]["Key"]["FilterRules"][0]["Value"], entry["Events"])
        for member, name, destination in (
            ("QueueConfigurations", "QueueArn", QUEUE),
            ("TopicConfigurations", "TopicArn", TOPIC),
        )
        for entry in configuration.get(member, [])
        if entry[name] == destination
    ]


RAW = ["s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"]
ROWS = ["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"]


def test_existing_buckets_through_the_life_of_a_stack(buckets, ask):
    first = properties()
    assert ask("Create", first)["Status"] == "SUCCESS"
    assert ours(buckets.kept[RAW_BUCKET]) == [("raw/", RAW)]
    assert ours(buckets.kept[LAKE_BUCKET]) == [("events/", ROWS), ("events-csv/", ROWS)]
    # WHEN it is asked once more, THEN nothing is written
    assert (buckets.writes, ask("Update", first, first)["Status"], buckets.writes) == (2, "SUCCESS", 2)
    # WHEN the prefix changes, THEN batches that are still being written under the old one are announced too
    moved = properties(RawPrefix="B Event Data", FormerRawPlaces=f"{RAW_BUCKET}/raw")
    answer = ask("Update", moved, first)
    assert answer["Data"] == {
        "FormerRawArns": f"arn:aws:s3:::{RAW_BUCKET}/raw/*",
        "FormerBucketArns": f"arn:aws:s3:::{RAW_BUCKET}",
    }
    assert ours(buckets.kept[RAW_BUCKET]) == [("B+Event+Data/", RAW), ("raw/", RAW)]
    # WHEN the stack is deleted, THEN the buckets are as they were
    assert ask("Delete", moved)["Status"] == "SUCCESS"
    assert buckets.kept == {RAW_BUCKET: OTHERS, LAKE_BUCKET: {}}


@pytest.mark.parametrize("status", ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"])
def test_buckets_of_the_stack_are_announced_by_cloudformation_and_left_clean(buckets, ask, stack_state, status):
    own = properties(ExistingRawBucket="", ExistingLakeBucket="")
    assert ask("Create", own)["Status"] == "SUCCESS"
    assert buckets.writes == 0
    buckets.kept[LAKE_BUCKET] = {"TopicConfigurations": [{"Id": "1", "TopicArn": TOPIC, "Events": ROWS}]}
    stack_state.status = status
    ask("Delete", own)
    assert buckets.kept[LAKE_BUCKET] == {}


LIVES_ON = [
    pytest.param("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", id="an upgrade that failed"),
    pytest.param("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", id="an older template"),
    pytest.param("UPDATE_ROLLBACK_IN_PROGRESS", id="while it rolls back"),
    pytest.param("", id="not known"),
]


@pytest.mark.parametrize("status", LIVES_ON)
def test_a_stack_that_lives_on_without_this_resource_goes_on_hearing_of_batches(s3, buckets, ask, stack_state, status):
    own = properties(ExistingRawBucket="", ExistingLakeBucket="")
    by_cloudformation = {
        RAW_BUCKET: {"QueueConfigurations": [{"Id": "1", "QueueArn": QUEUE, "Events": RAW}]},
        LAKE_BUCKET: {"TopicConfigurations": [{"Id": "2", "TopicArn": TOPIC, "Events": ROWS}]},
    }
    buckets.kept = dict(by_cloudformation)
    ask("Create", own)
    s3.put_object(Bucket=LAKE_BUCKET, Key="events/rows.parquet", Body=b"rows")
    stack_state.status, stack_state.denied = status, not status
    assert ask("Delete", own)["Status"] == "SUCCESS"
    assert buckets.kept == by_cloudformation
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw"]


@pytest.mark.parametrize("status", LIVES_ON)
def test_existing_buckets_are_left_whatever_becomes_of_the_stack(buckets, ask, stack_state, status):
    ask("Create", properties())
    stack_state.status, stack_state.denied = status, not status
    assert ask("Delete", properties())["Status"] == "SUCCESS"
    assert buckets.kept == {RAW_BUCKET: OTHERS, LAKE_BUCKET: {}}


def test_a_former_bucket_is_left_with_the_stack_and_not_before(buckets, ask, stack_state):
    """Batches may still be written there while the stack lives."""
    moved = properties(RawBucket="company", ExistingRawBucket="company", FormerRawPlaces=f"{RAW_BUCKET}/raw,gone/raw")
    buckets.kept["company"] = {}
    ask("Create", properties())
    stack_state.status = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
    ask("Delete", moved)
    assert ours(buckets.kept[RAW_BUCKET]) == [("raw/", RAW)]
    stack_state.status = "DELETE_IN_PROGRESS"
    assert ask("Delete", moved)["Status"] == "SUCCESS"
    assert buckets.kept == {RAW_BUCKET: OTHERS, LAKE_BUCKET: {}, "company": {}}


def test_an_entry_of_others_for_the_same_keys_is_named_and_nothing_is_changed(buckets, ask):
    there = {"LambdaFunctionConfigurations": [{"Id": "thumbnails", "LambdaFunctionArn": "arn", "Events": RAW}]}
    buckets.kept[RAW_BUCKET] = there
    answer = ask("Create", properties())
    assert answer["Status"] == "FAILED"
    assert "see its notification entry with the id thumbnails." in answer["Reason"]
    assert (buckets.kept[RAW_BUCKET], buckets.writes) == (there, 0)


def test_a_write_that_another_program_overwrote_is_repeated(buckets, ask):
    buckets.overwritten = 1
    assert ask("Create", properties())["Status"] == "SUCCESS"
    assert ours(buckets.kept[RAW_BUCKET]) == [("raw/", RAW)]


def test_a_program_that_overwrites_each_time_is_said(buckets, ask):
    buckets.overwritten = 3
    answer = ask("Create", properties())
    assert answer["Reason"] == (
        f"Another program changes the notification configuration of the bucket {RAW_BUCKET}: try again"
    )


def test_a_new_role_is_waited_for(buckets, ask):
    buckets.denied = 2
    assert ask("Create", properties())["Status"] == "SUCCESS"


def test_the_answer_comes_before_lambda_ends_the_function(buckets, ask, lambda_context, monkeypatch):
    """However many calls wait for IAM: they share the time."""

    def sleep(seconds: float) -> None:
        lambda_context.seconds -= seconds

    monkeypatch.setattr("storage.cloudformation.time.sleep", sleep)
    monkeypatch.setattr("storage.cloudformation.time.monotonic", lambda: -lambda_context.seconds)
    buckets.denied, buckets.always_denied = 5, {LAKE_BUCKET}  # the raw bucket for 46 s
    assert ask("Create", properties())["Status"] == "FAILED"
    assert lambda_context.seconds > 0


UNUSABLE = [
    pytest.param({"ExistingRawBucket": "none", "RawBucket": "none"}, "there is no such bucket", id="none"),
    pytest.param(
        {"ExistingRawBucket": LAKE_BUCKET, "RawBucket": LAKE_BUCKET}, "must be two buckets", id="one for both"
    ),
    pytest.param({}, "it is in us-east-1, and S3 announces within a region only", id="region"),
    pytest.param({}, "it is another account's, or its policy denies the stack's roles", id="account"),
]


@pytest.mark.parametrize(("changes", "said"), UNUSABLE)
def test_a_bucket_that_cannot_be_used_is_refused_with_the_reason(buckets, ask, changes, said):
    if "region" in said:
        buckets.region = "us-east-1"
    if "account" in said:
        buckets.denied = 99
    answer = ask("Create", properties(**changes))
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].endswith(said)


def record(s3) -> dict:
    return json.loads(s3.get_object(Bucket=LAKE_BUCKET, Key="maintenance/storage.json")["Body"].read())


def test_a_change_that_would_forget_a_place_is_refused_until_it_is_named(s3, ask):
    before = properties(ExistingRawBucket="", ExistingLakeBucket="")
    ask("Create", before)
    after = before | {"RawPrefix": "bird"}
    answer = ask("Update", after, before)
    assert (answer["Status"], f"lie in {RAW_BUCKET}/raw, where" in answer["Reason"]) == ("FAILED", True)
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw"]
    named = after | {"FormerRawPlaces": f"{RAW_BUCKET}/raw"}
    assert ask("Update", named, before)["Status"] == "SUCCESS"
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw", f"{RAW_BUCKET}/bird"]


def test_a_rollback_goes_on_whatever_it_finds(s3, ask, stack_state, buckets):
    before = properties()
    ask("Create", before)
    stack_state.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    assert ask("Update", before, before | {"RawPrefix": "bird"})["Status"] == "SUCCESS"
    buckets.denied = 99
    assert ask("Update", before, before | {"RawPrefix": "bird"})["Status"] == "SUCCESS"
    assert ask("Delete", before)["Status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("before", "failed", "hash_key"),
    [
        pytest.param({}, {"HashKeyArn": "arn:made"}, "", id="made by the update and deleted with it"),
        pytest.param({}, {"HashKeyArn": "arn:old", "ExistingHashKeyArn": "arn:old"}, "arn:old", id="given again"),
        pytest.param(
            {"HashKeyArn": "arn:own"},
            {
                **dict.fromkeys(["HashKeyArn", "ExistingHashKeyArn"], "arn:other"),
                "SettingsToReset": "ExistingHashKeyArn",
            },
            "arn:own",
            id="changed",
        ),
    ],
)
def test_an_update_that_is_rolled_back_leaves_no_key_of_its_own(s3, ask, stack_state, before, failed, hash_key):
    """Otherwise the next update that sets HashFields would be refused, for a key that is gone."""
    before = properties(**before)
    ask("Create", before)
    ask("Update", before, before)
    created = record(s3)
    failed = before | failed | {"TombstoneKeyArn": "arn:other", "FormerRawPlaces": "elsewhere/raw"}
    assert ask("Update", failed, before)["Status"] == "SUCCESS"
    stack_state.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    assert ask("Update", before, failed)["Status"] == "SUCCESS"
    assert record(s3) == created | {"hash_key": hash_key, "raw": [f"{RAW_BUCKET}/raw", "elsewhere/raw"]}
    stack_state.status = "UPDATE_IN_PROGRESS"
    again = before | {"HashKeyArn": hash_key or "arn:made-again", "FormerRawPlaces": "elsewhere/raw"}
    assert ask("Update", again, before)["Status"] == "SUCCESS"


def test_an_update_that_is_rolled_back_forgets_no_place(s3, ask, stack_state):
    """A stack that is made over the lake later has the record alone."""
    before = properties(FormerRawPlaces="elsewhere/raw")
    ask("Create", before)
    failed = properties(FormerRawPlaces="", SettingsToReset="FormerRawPlaces")
    assert ask("Update", failed, before)["Status"] == "SUCCESS"
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw"]
    stack_state.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    assert ask("Update", before, failed)["Status"] == "SUCCESS"
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw", "elsewhere/raw"]


def test_a_creation_that_is_rolled_back_leaves_its_own_lake_bucket_empty(s3, ask, stack_state):
    own = properties(ExistingRawBucket="", ExistingLakeBucket="")
    ask("Create", own)
    stack_state.status = "ROLLBACK_IN_PROGRESS"
    ask("Delete", own)
    assert s3.list_objects_v2(Bucket=LAKE_BUCKET)["KeyCount"] == 0


def test_without_cloudformations_word_a_rollback_goes_on(s3, ask, stack_state):
    """A VPC without its endpoint: an update may be a rollback, which must not be refused."""
    stack_state.denied = True
    own = {"ExistingRawBucket": "", "ExistingLakeBucket": ""}
    before, after = properties(**own), properties(**own, RawPrefix="bird", FormerRawPlaces=f"{RAW_BUCKET}/raw")
    ask("Create", before)
    assert ask("Update", after, before)["Status"] == "SUCCESS"
    assert ask("Update", before, after)["Status"] == "SUCCESS"
    assert record(s3)["raw"] == [f"{RAW_BUCKET}/raw", f"{RAW_BUCKET}/bird"]


def test_without_cloudformations_word_a_creation_may_be_refused(s3, ask, stack_state):
    stack_state.denied = True
    s3.put_object(Bucket=LAKE_BUCKET, Key="erased/0123.json", Body=b"{}")
    assert ask("Create", properties())["Status"] == "FAILED"


def test_without_cloudformations_word_a_bucket_that_is_not_there_is_refused(ask, stack_state):
    ask("Create", properties())
    stack_state.denied = True
    other = properties(ExistingRawBucket="none", RawBucket="none", FormerRawPlaces=f"{RAW_BUCKET}/raw")
    answer = ask("Update", other, properties())
    assert (answer["Status"], answer["Reason"].endswith("there is no such bucket")) == ("FAILED", True)


def test_without_cloudformations_word_a_lake_that_has_no_rows_is_left_empty(s3, ask, stack_state):
    """Otherwise a creation that is rolled back could not delete its bucket."""
    stack_state.denied = True
    own = properties(ExistingRawBucket="", ExistingLakeBucket="")
    ask("Create", own)
    ask("Delete", own)
    assert s3.list_objects_v2(Bucket=LAKE_BUCKET)["KeyCount"] == 0


@pytest.mark.parametrize("kept", [True, False])
def test_a_creation_that_is_rolled_back_leaves_a_kept_lakes_record_as_it_was(s3, ask, stack_state, kept):
    """Or its retry would be refused for a raw bucket and a key that the rollback has deleted."""
    before = {"raw": ["old/raw"], "lakes": [], "tombstone_key": "arn:key", "hash_key": ""}
    if kept:
        s3.put_object(Bucket=LAKE_BUCKET, Key="maintenance/storage.json", Body=json.dumps(before).encode())
    new = properties(ExistingRawBucket="", FormerRawPlaces="old/raw", HashKeyArn="arn:hash-1")
    assert ask("Create", new)["Status"] == "SUCCESS"
    assert record(s3)["hash_key"] == "arn:hash-1"
    stack_state.status = "ROLLBACK_IN_PROGRESS"
    assert ask("Delete", new)["Status"] == "SUCCESS"
    assert (record(s3) == before) if kept else s3.list_objects_v2(Bucket=LAKE_BUCKET)["KeyCount"] == 0
    stack_state.status = "CREATE_IN_PROGRESS"
    assert ask("Create", new | {"HashKeyArn": "arn:hash-2"})["Status"] == "SUCCESS"


def test_a_refused_creation_leaves_another_stacks_record_alone(s3, ask, stack_state):
    ask("Create", properties(HashKeyArn="arn:hash-1"))
    kept = record(s3)
    assert ask("Create", properties(HashKeyArn="arn:hash-2"), stack="other")["Status"] == "FAILED"
    stack_state.status = "ROLLBACK_IN_PROGRESS"
    ask("Delete", properties(HashKeyArn="arn:hash-2"), stack="other")
    assert record(s3) == kept
    # WHEN the first stack is updated, THEN what was before it is kept no longer
    stack_state.status = "UPDATE_IN_PROGRESS"
    ask("Update", properties(HashKeyArn="arn:hash-1"), properties(HashKeyArn="arn:hash-1"))
    assert record(s3).keys() == {"raw", "lakes", "tombstone_key", "hash_key"}


def test_a_kept_lake_with_tombstones_needs_their_key(s3, ask):
    s3.put_object(Bucket=LAKE_BUCKET, Key="erased/0123.json", Body=b"{}")
    answer = ask("Create", properties())
    assert (answer["Status"], "Give ExistingTombstoneKeyArn" in answer["Reason"]) == ("FAILED", True)
    assert ask("Create", properties(ExistingTombstoneKeyArn="arn:key"))["Status"] == "SUCCESS"
