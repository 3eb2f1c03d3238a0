"""An object of the buckets, as it is listed, and which kind of thing it holds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

RAW, ROWS, QUARANTINE, RESULTS, OTHER = "raw batches", "rows", "quarantine", "query results", "other files of the lake"
# Of dates that the table's maintenance is closing: compressed, and made again when they are gone.
WORK = "parts of rows"
# In the order of erasing.
PLACES = [WORK, ROWS, QUARANTINE, RESULTS, OTHER, RAW]
# Of requests that depend on an object's being what was read.
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchVersion", "404")
# A closed date's file of a million rows takes 2 GB when it is written again.
LARGE_BYTES = 8 * 1024 * 1024


class Stored(NamedTuple):
    """One version of an object. `etag` without its quotation marks."""

    place: str
    bucket: str
    key: str
    version: str
    current: bool
    modified: datetime
    etag: str
    size: int

    @classmethod
    def listed(cls, place: str, bucket: str, item: Mapping[str, Any]) -> "Stored":
        """From S3's list of versions, or of objects."""
        version, current = item.get("VersionId", "null"), item.get("IsLatest", True)
        etag = item["ETag"].strip('"')
        return cls(place, bucket, item["Key"], version, current, item["LastModified"], etag, item["Size"])

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __str__(self) -> str:
        return self.url + ("" if self.current else f" (version {self.version})")


def place_of(key: str) -> str:
    """Of a key of the lake bucket."""
    if key.startswith("maintenance/work/"):
        return WORK
    prefixes = {"events": ROWS, "events-csv": ROWS, "closed": ROWS, "quarantine": QUARANTINE, "athena-results": RESULTS}
    return prefixes.get(key.partition("/")[0], OTHER)
