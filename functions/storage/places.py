"""Where a stack's data lies and lay, and which changes would forget some of it. Pure.

A place of raw batches is written `bucket/prefix`. The lake bucket has a record of all that its rows were made from, so
that a stack deployed over a kept lake bucket knows it too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KEY = "maintenance/storage.json"
TOMBSTONES = "erased/"


class ForgottenError(Exception):
    """Data would be out of sight; the text says which, and what to give."""


@dataclass
class Record:
    """`raw`: places of raw batches. `lakes`: other buckets that have rows. Keys: ARNs of secrets, or empty."""

    raw: list[str] = field(default_factory=list)
    lakes: list[str] = field(default_factory=list)
    tombstone_key: str = ""
    hash_key: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Record":
        known = cls.__dataclass_fields__.keys()
        return cls(**{name: value for name, value in document.items() if name in known})

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Given:
    """What the properties of the custom resource say. `allowed`: settings whose refusal was overruled."""

    raw: str
    former: list[str]
    lake: str
    existing_raw: bool
    existing_lake: bool
    tombstone_key: str
    tombstone_key_is_given: bool
    hash_key: str
    hash_key_is_given: bool
    allowed: set[str]

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> "Given":
        return cls(
            raw=f"{properties['RawBucket']}/{properties['RawPrefix'].strip('/')}",
            former=[place for each in properties["FormerRawPlaces"].split(",") if (place := each.strip(" /"))],
            lake=properties["LakeBucket"],
            existing_raw=properties["RawBucket"] == properties["ExistingRawBucket"],
            existing_lake=properties["LakeBucket"] == properties["ExistingLakeBucket"],
            tombstone_key=properties["TombstoneKeyArn"],
            tombstone_key_is_given=bool(properties["ExistingTombstoneKeyArn"]),
            hash_key=properties["HashKeyArn"],
            hash_key_is_given=bool(properties.get("ExistingHashKeyArn")),  # not in an update from 0.2.0
            allowed={name.strip() for name in properties["SettingsToReset"].split(",")},
        )

    @property
    def announced(self) -> list[str]:
        """Folders of the raw bucket whose objects are batches, the former ones too: some are still being written."""
        bucket = self.raw.partition("/")[0]
        return [f"{place.partition('/')[2]}/" for place in self.places if place.startswith(f"{bucket}/")]

    @property
    def places(self) -> list[str]:
        """Of raw batches, each once."""
        return list(dict.fromkeys([self.raw, *self.former]))


def refuse_to_forget(given: Given, before: Given | None, record: Record, tombstones: bool) -> None:
    """`before`: of an update. `tombstones`: whether the lake bucket has any. Errors: ForgottenError."""
    if nested := [one for one in given.places if any(one.startswith(f"{other}/") for other in given.places)]:
        raise ForgottenError(
            f"Refused, because {', '.join(nested)} lies within another place of raw batches, and a batch would have "
            "two ids. Give another RawPrefix."
        )
    forgotten = [place for place in known_places(before, record) if place not in given.places]
    if forgotten and "FormerRawPlaces" not in given.allowed:
        raise ForgottenError(
            f"Refused, because raw batches of this lake lie in {', '.join(forgotten)}, where this stack would not "
            "look: no replay, no erasure, and batches that wait would fail. Add them to FormerRawPlaces, with commas "
            "between them (or leave ExistingRawBucket and RawPrefix as they were). To forget them, name "
            "FormerRawPlaces in SettingsToReset. Once this update is undone or done, run bird-webhooks replay --since "
            "1h: S3 may not have announced what was stored in these minutes."
        )
    if before and before.lake != given.lake and "ExistingLakeBucket" not in given.allowed:
        raise ForgottenError(
            f"Refused, because the rows lie in {before.lake}, and queries would no longer see them. Keep the lake "
            "bucket. For rows of both buckets, deploy another stack over one of them. If you mean it, name "
            "ExistingLakeBucket in SettingsToReset."
        )
    if tombstones and not same_key(given, record) and "ExistingTombstoneKeyArn" not in given.allowed:
        raise ForgottenError(
            "Refused, because the lake bucket names erased persons with another key, and they could come in again. "
            f"Give ExistingTombstoneKeyArn: {record.tombstone_key or 'the TombstoneKeyArn of the stack that erased'}."
        )
    if record.hash_key and given.hash_key not in ("", record.hash_key) and "ExistingHashKeyArn" not in given.allowed:
        raise ForgottenError(
            "Refused, because hashes in the rows were made with another key: the same value would get another hash. "
            f"Give ExistingHashKeyArn: {record.hash_key}. If it is lost, name ExistingHashKeyArn in SettingsToReset."
        )


def known_places(before: Given | None, record: Record) -> list[str]:
    return list(dict.fromkeys([*record.raw, *([before.raw, *before.former] if before else [])]))


def same_key(given: Given, record: Record) -> bool:
    """Without a record: whether it can be the same; a key that the stack has made for itself cannot, in an old lake."""
    if record.tombstone_key:
        return given.tombstone_key == record.tombstone_key
    return not given.existing_lake or given.tombstone_key_is_given


def renewed(given: Given, before: Given | None, record: Record) -> Record:
    """The record after a deployment; what was to be forgotten is."""
    raw = given.places
    if "FormerRawPlaces" not in given.allowed:
        raw = [*known_places(before, record), *raw]
    lakes = [*record.lakes, *([before.lake] if before else [])]
    others = [lake for lake in dict.fromkeys(lakes) if lake != given.lake]
    return Record(list(dict.fromkeys(raw)), others, given.tombstone_key, given.hash_key or record.hash_key)


def undone(given: Given, failed: Given, record: Record) -> Record:
    """The record after an update that is rolled back, which had put its own keys there; places stay named,
    and those are named again that it was to forget.

    The key that a failed update had made is deleted with it. One that it was given exists, and the rows may need it.
    """
    tombstone_key, hash_key = record.tombstone_key, record.hash_key
    if tombstone_key == failed.tombstone_key:
        tombstone_key = given.tombstone_key
    if hash_key == failed.hash_key and (given.hash_key or not failed.hash_key_is_given):
        hash_key = given.hash_key
    return Record(list(dict.fromkeys([*record.raw, *given.places])), record.lakes, tombstone_key, hash_key)
