"""Imported batches into the raw bucket, and their names into the import queue."""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from bird_webhooks.errors import OperateError
from bird_webhooks.operate.replay import record
from bird_webhooks.operate.status import messages_in
from bird_webhooks.stack import Stack
from reconcile.raw_batches import unless_there

QUEUE = "ImportQueueUrl"
# So that stopping the command stops the work within minutes; and at most so much waits of what is fresh.
MOST_WAITING = 20
MOST_FRESH_WAITING = {"ProcessQueueUrl": 500, "PostgresQueueUrl": 200, "PublishEventsQueueUrl": 200}
MAX_ORIGIN_CHARACTERS = 512


@dataclass(frozen=True)
class RawBatches:
    stack: Stack
    wait: Callable[[float], None] = time.sleep

    def put_once(self, name: str, body: bytes, received_at: datetime, origin: str) -> bool:
        """False if it was there. In parts, which the bucket does not announce: the live queue must not get it."""
        return unless_there(lambda: self._put(name, body, received_at, origin), self.wait)

    def _put(self, name: str, body: bytes, received_at: datetime, origin: str) -> None:
        s3, place = self.stack.s3, {"Bucket": self.bucket, "Key": self.key(name)}
        metadata = {
            "batch-id": name.rpartition("/")[2],
            "received-at": received_at.isoformat(timespec="milliseconds"),
            "body-sha256": hashlib.sha256(body).hexdigest(),
            # Metadata is ASCII without control characters.
            "origin": quote(origin, safe=" !#$&'()*+,/:;=?@[]", errors="replace")[:MAX_ORIGIN_CHARACTERS],
        }
        upload = s3.create_multipart_upload(
            **place, ContentType="application/json", Metadata=metadata, ChecksumAlgorithm="CRC32"
        )["UploadId"]
        try:
            checksum = base64.b64encode(binascii.crc32(body).to_bytes(4)).decode()
            part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=body, ChecksumCRC32=checksum)
            parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1, "ChecksumCRC32": checksum}]}
            s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
        except BaseException:
            s3.abort_multipart_upload(**place, UploadId=upload)
            raise

    def hand_over(self, names: Sequence[str]) -> None:
        """One message for all of them, so that their rows are together whatever the order of the queue."""
        body = json.dumps({"Records": [record(self.bucket, self.key(name)) for name in names]})
        self.stack.sqs.send_message(QueueUrl=self.stack.output(QUEUE), MessageBody=body)

    def busy(self) -> str:
        """What to wait for before more is handed over; empty if nothing."""
        waiting, _ = messages_in(self.stack, self.stack.output(QUEUE))
        if waiting >= MOST_WAITING:
            return f"{waiting:,} messages in the import queue"
        for output, most in MOST_FRESH_WAITING.items():
            if output in self.stack.outputs:
                waiting, _ = messages_in(self.stack, self.stack.output(output))
                if waiting > most:
                    return f"{waiting:,} messages in {output.removesuffix('Url')}: what is fresh comes first"
        return ""

    def left(self) -> int:
        return sum(messages_in(self.stack, self.stack.output(QUEUE)))

    def dead_letters(self) -> int:
        return messages_in(self.stack, self.stack.output("ImportDeadLetterQueueUrl"))[0]

    @property
    def bucket(self) -> str:
        return self.stack.output("RawBucketName")

    def key(self, name: str) -> str:
        return f"{self.stack.raw_prefix}/{name}.json"


def check(stack: Stack) -> None:
    """Errors: OperateError."""
    if QUEUE not in stack.outputs:
        raise OperateError("this stack has no queue for imports yet: update it to this release first")
