"""Adapter: the raw batches of filling, among ingest's in the raw bucket.

Its role needs, of the raw bucket, PutObject and GetObject for `<prefix>/backfill-*`, and ListBucket with that prefix.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IS_THERE = ("PreconditionFailed", "412")
# Another request for the name has not ended, and may yet fail.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
UNDER_WAY = ("ConditionalRequestConflict", "409")
TRIES = 5


def unless_there(put: Callable[[], None], wait: Callable[[float], None]) -> bool:
    """False if `put`, which asks that nothing has the name, finds that something has. Errors: ClientError."""
    for attempt in range(1, TRIES + 1):
        try:
            put()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in IS_THERE:
                return False
            if code not in UNDER_WAY or attempt == TRIES:
                raise
            wait(0.1 * 2**attempt)
        else:
            return True
    raise AssertionError  # never reached: the last attempt returns or raises


@dataclass(frozen=True)
class RawBatches:
    """`prefix` is RawPrefix, without slashes at its ends."""

    s3: "S3Client"
    bucket: str
    prefix: str
    wait: Callable[[float], None] = time.sleep

    def names(self, prefix: str) -> Iterator[str]:
        """Batch ids that begin like this."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"].rpartition("/")[2].removesuffix(".json")

    def read(self, name: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=f"{self._key(name)}.json")["Body"].read()

    def put_once(self, name: str, body: bytes) -> bool:
        """False if it is there already. S3 announces the object to process, because it is a Put and not in parts."""

        def put() -> None:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=f"{self._key(name)}.json",
                Body=body,
                IfNoneMatch="*",
                ContentType="application/json",
                Metadata={
                    "batch-id": name,
                    "received-at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "body-sha256": hashlib.sha256(body).hexdigest(),
                },
            )

        return unless_there(put, self.wait)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"


class NothingStored:
    """For a dry run: counts what would be stored."""

    def names(self, prefix: str) -> Iterator[str]:
        yield from ()

    def read(self, name: str) -> bytes:
        raise AssertionError  # there are no names

    def put_once(self, name: str, body: bytes) -> bool:
        return True
