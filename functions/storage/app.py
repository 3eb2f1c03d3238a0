"""Custom resource: existing buckets announce to the stack, and no deployment forgets where data lies.

Create, Update: what would be forgotten -> a refusal. Otherwise the notification configuration of an existing bucket is
read, merged and written; what CloudFormation makes has its own. Then the lake bucket's record is renewed.
Delete: our entries leave the buckets, also former ones, which outlive the stack; what others have put there stays as it
is. A stack that lives on without this resource, as after a failed upgrade, keeps those of its own buckets, which are
CloudFormation's.

S3 has no condition for writing a notification configuration: who writes between our reading and writing is overwritten.
So nothing is done between the two, and the result is read again.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import boto3
from botocore.exceptions import ClientError

from storage import announcements, places
from storage.announcements import RAW_EVENTS, ROW_EVENTS, Entry, OverlapError
from storage.cloudformation import answer_to, seconds_left, send, stack_status, when_allowed
from storage.places import ForgottenError, Given, Record

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

ANSWER_RESERVE_SECONDS = 25
ROW_FOLDERS = ["events/", "events-csv/"]
TRIES = 3
PAUSE_SECONDS = 1
GONE = ("NoSuchKey", "404")
# Of a creation over an existing lake the document has, until the first update: the stack, and the document before.
CREATED_BY, BEFORE = "created_by", "before"
# The states in which the stack itself goes. In every other one, also an unknown one, it may live on without us.
ENDS = ("DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS")


class UnusableError(Exception):
    """A bucket cannot be taken; the text says why."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait until the resource's ServiceTimeout."""
    given = Given.read(event["ResourceProperties"])
    answer = answer_to(event, "storage") | {"Data": former_arns(event, given)}

    def seconds() -> float:
        return seconds_left(context) - ANSWER_RESERVE_SECONDS

    # A failure while the stack is deleted or rolls back would leave it stuck. If the state is not known, an update may
    # be a rollback: nothing is refused as forgotten, but a bucket that cannot be used is, or the stack would be deaf.
    kind, status = event["RequestType"], stack_status(event["StackId"])
    may_fail = kind != "Delete" and "ROLLBACK" not in status
    try:
        if kind == "Delete":
            leave(event, given, seconds, status)
        else:
            take(event, given, seconds, may_refuse=may_fail and (kind == "Create" or bool(status)), may_renew=may_fail)
        answer |= {"Status": "SUCCESS"}
    except (ForgottenError, UnusableError) as error:
        logger.warning("refused", extra={"reason": str(error)})
        answer |= {"Status": "FAILED", "Reason": str(error)}
    except Exception as error:  # the stack's events must show any error
        logger.exception("storage not taken")
        answer |= {"Status": "FAILED", "Reason": f"The buckets could not be set up: {named(error)}"}
    if not may_fail:
        answer["Status"] = "SUCCESS"
    send(event["ResponseURL"], answer, context)
    logger.info("custom resource answered", extra={"status": answer["Status"]})


def former_arns(event: Mapping[str, Any], given: Given) -> dict[str, str]:
    """For a policy: CloudFormation cannot make a list of ARNs of a list of names."""
    arn = f"arn:{event['StackId'].split(':')[1]}:s3:::"
    buckets = dict.fromkeys(place.partition("/")[0] for place in given.former)
    return {
        "FormerRawArns": ",".join(f"{arn}{place}/*" for place in given.former),
        "FormerBucketArns": ",".join(arn + bucket for bucket in buckets),
    }


def take(
    event: Mapping[str, Any], given: Given, seconds: Callable[[], float], *, may_refuse: bool, may_renew: bool
) -> None:
    """Errors: ForgottenError, UnusableError."""
    properties, old = event["ResourceProperties"], event.get("OldResourceProperties")
    if properties["RawBucket"] == given.lake:  # a rule of the template, which the published application has not
        raise UnusableError("ExistingRawBucket and ExistingLakeBucket must be two buckets")
    before = Given.read(old) if old else None
    account = event["StackId"].split(":")[4]
    for bucket, exists in [(properties["RawBucket"], given.existing_raw), (given.lake, given.existing_lake)]:
        if exists:
            require_usable(bucket, account, seconds)
    earlier, has_tombstones = when_allowed(lambda: (read(given.lake), any_tombstone(given.lake)), seconds())
    record = Record.read(earlier or {})
    if may_refuse:
        places.refuse_to_forget(given, before, record, has_tombstones)
    if given.existing_raw:
        announce(properties["RawBucket"], announcements.entries(properties["QueueArn"], RAW_EVENTS, given.announced))
    if given.existing_lake:
        announce(given.lake, announcements.entries(properties["TopicArn"], ROW_EVENTS, ROW_FOLDERS))
    if may_renew:  # a place that a failed update has left may hold batches
        document = places.renewed(given, before, record).document()
        if event["RequestType"] == "Create" and given.existing_lake:
            kept = earlier and {name: value for name, value in earlier.items() if name not in (CREATED_BY, BEFORE)}
            document |= {CREATED_BY: event["StackId"], BEFORE: kept}
        put(given.lake, document)
    elif before and before.lake == given.lake and (was := places.undone(given, before, record)) != record:
        put(given.lake, {**(earlier or {}), **was.document()})


def leave(event: Mapping[str, Any], given: Given, seconds: Callable[[], float], status: str) -> None:
    """A bucket that is gone, or that may not be changed any more, does not keep a stack from being deleted."""
    properties = event["ResourceProperties"]
    # One of the former buckets may be what a stack that lives on has for its own, so they have theirs until it ends.
    former = dict.fromkeys(place.partition("/")[0] for place in given.former)
    for bucket, exists, destination in [
        (properties["RawBucket"], given.existing_raw, properties["QueueArn"]),
        (given.lake, given.existing_lake, properties["TopicArn"]),
        *((bucket, False, properties["QueueArn"]) for bucket in former if bucket != properties["RawBucket"]),
    ]:
        if not exists and status not in ENDS:
            continue
        try:
            there = when_allowed(partial(configuration, bucket), seconds())
            wanted = announcements.without(there, destination)
            if not announcements.same(there, wanted):
                write(bucket, wanted)
        except ClientError as error:
            logger.warning("bucket keeps its entries", extra={"bucket": bucket, "reason": named(error)})
    if status == "ROLLBACK_IN_PROGRESS" or (not status and not given.existing_lake and only_the_record(given.lake)):
        restore(event["StackId"], given)


def restore(stack_id: str, given: Given) -> None:
    """The record as it was before a creation that is rolled back, whose raw bucket and keys are deleted."""
    if not given.existing_lake:
        s3().delete_object(Bucket=given.lake, Key=places.KEY)  # or CloudFormation could not delete the bucket
        return
    document = read(given.lake) or {}
    if document.get(CREATED_BY) != stack_id:  # refused, so it has written none
        return
    if document[BEFORE] is None:
        s3().delete_object(Bucket=given.lake, Key=places.KEY)
    else:
        put(given.lake, document[BEFORE])


def announce(bucket: str, ours: list[Entry]) -> None:
    """Errors: UnusableError."""
    for _ in range(TRIES):
        there = configuration(bucket)
        try:
            wanted = announcements.merged(there, ours)
        except OverlapError as error:
            raise UnusableError(
                f"The bucket {bucket} announces the same keys elsewhere already, and S3 refuses to do so twice: see "
                f"its notification entry with the id {error}. If that is of a stack which is deleted, remove the "
                "entry; otherwise give another RawPrefix, or another bucket."
            ) from error
        if announcements.same(there, wanted):
            return
        write(bucket, wanted)
        time.sleep(PAUSE_SECONDS)
    if not announcements.same(configuration(bucket), wanted):
        raise UnusableError(f"Another program changes the notification configuration of the bucket {bucket}: try again")


def require_usable(bucket: str, account: str, seconds: Callable[[], float]) -> None:
    """Waits until IAM allows the new role. Errors: UnusableError."""
    try:
        when_allowed(
            lambda: s3().get_bucket_notification_configuration(Bucket=bucket, ExpectedBucketOwner=account), seconds()
        )
        region = s3().head_bucket(Bucket=bucket, ExpectedBucketOwner=account).get("BucketRegion")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reasons = {
            "NoSuchBucket": "there is no such bucket",
            "404": "there is no such bucket",
            "AccessDenied": "it is another account's, or its policy denies the stack's roles",
            "403": "it is another account's, or its policy denies the stack's roles",
        }
        raise UnusableError(f"The bucket {bucket} cannot be used: {reasons.get(code, code)}") from error
    if region not in (None, s3().meta.region_name):
        raise UnusableError(
            f"The bucket {bucket} cannot be used: it is in {region}, and S3 announces within a region only"
        )


def configuration(bucket: str) -> dict[str, Any]:
    return dict(s3().get_bucket_notification_configuration(Bucket=bucket))


def write(bucket: str, wanted: dict[str, Any]) -> None:
    """Unvalidated, because an entry of others whose queue is gone must stay and not fail ours.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
    """
    s3().put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=wanted, SkipDestinationValidation=True
    )


def read(lake: str) -> dict[str, Any] | None:
    """The record's document, if there is one."""
    try:
        return dict(json.loads(s3().get_object(Bucket=lake, Key=places.KEY)["Body"].read()))
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise
        return None


def put(lake: str, document: dict[str, Any]) -> None:
    s3().put_object(Bucket=lake, Key=places.KEY, Body=json.dumps(document).encode(), ContentType="application/json")


def any_tombstone(lake: str) -> bool:
    return bool(s3().list_objects_v2(Bucket=lake, Prefix=places.TOMBSTONES, MaxKeys=1)["KeyCount"])


def only_the_record(lake: str) -> bool:
    """So that there are no rows, of which it would have to tell."""
    listed = s3().list_objects_v2(Bucket=lake, MaxKeys=2)
    return [one["Key"] for one in listed.get("Contents", [])] == [places.KEY]


@cache
def s3() -> Any:
    return boto3.client("s3")


def named(error: Exception) -> str:
    """AWS's error code, or the error's type. Not its text, which may contain anything."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
