"""What S3 answers to an imported batch: only 412 says that it was there."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bird_webhooks.moving.raw_batches import RawBatches

CONFLICT, IS_THERE = "ConditionalRequestConflict", "PreconditionFailed"


class S3:
    """Answers the uploads' ends with these codes, one after the other, and then well."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.said: list[str] = []

    def create_multipart_upload(self, **given: Any) -> dict:
        self.said.append("create")
        return {"UploadId": "1"}

    def upload_part(self, **given: Any) -> dict:
        return {"ETag": "2"}

    def complete_multipart_upload(self, **given: Any) -> None:
        assert given["IfNoneMatch"] == "*"
        if self.codes:
            raise ClientError({"Error": {"Code": self.codes.pop(0)}}, "CompleteMultipartUpload")
        self.said.append("complete")

    def abort_multipart_upload(self, **given: Any) -> None:
        self.said.append("abort")


def put(s3: S3) -> bool:
    stack: Any = SimpleNamespace(s3=s3, raw_prefix="raw", output={"RawBucketName": "bucket"}.get)
    return RawBatches(stack, lambda seconds: None).put_once("one", b"[]", datetime.now(UTC), "old")


def test_a_conflict_is_tried_again_with_all_parts():
    s3 = S3(CONFLICT, CONFLICT)
    assert put(s3)
    assert s3.said == ["create", "abort", "create", "abort", "create", "complete"]


def test_what_another_run_stored_during_a_conflict_was_there():
    s3 = S3(CONFLICT, IS_THERE)
    assert not put(s3)
    assert s3.said == ["create", "abort", "create", "abort"]


def test_a_conflict_that_stays_is_an_error_and_no_batch_that_is_there():
    with pytest.raises(ClientError, match=CONFLICT):
        put(S3(*[CONFLICT] * 5))
