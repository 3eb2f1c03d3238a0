"""Adapter: the partitions of the table `events` in Glue. Each is a date, and says where its rows are now.

A partition keeps the description (columns, serde) that it was made with, and Athena compares it with the table's. It is
brought up to date together with the location, which is always the one that the date's state gives.
Sources: Glue API (BatchCreatePartition, BatchUpdatePartition: up to 100 entries, failures in `Errors` with status 200),
Athena guide "Updates in tables with partitions".
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

AT_ONCE = 100
TABLE = "events"
# Of the description that a partition was made with, so that it is compared without reading it.
FINGERPRINT = "bird_webhooks_descriptor"
COPIED = ("InputFormat", "OutputFormat", "SerdeInfo")


class PartitionsError(Exception):
    """Glue refused some; the text has its codes."""


class Partition(NamedTuple):
    location: str
    fingerprint: str


# Another run's: where it points was not read.
UNKNOWN = Partition("", "")


@dataclass
class Partitions:
    """`existing` is as it was read, and kept up to date with what is written."""

    glue: "GlueClient"
    database: str
    descriptor: Mapping[str, Any]
    existing: dict[date, Partition] = field(default_factory=dict)

    @classmethod
    def read(cls, glue: "GlueClient", database: str) -> "Partitions | None":
        """None if there is no such table."""
        try:
            table = glue.get_table(DatabaseName=database, Name=TABLE)["Table"]
        except glue.exceptions.EntityNotFoundException:
            return None
        partitions = cls(glue, database, descriptor_of(table["StorageDescriptor"]))
        pages = glue.get_paginator("get_partitions").paginate(
            DatabaseName=database, TableName=TABLE, ExcludeColumnSchema=True
        )
        for page in pages:
            for found in page["Partitions"]:
                location = found["StorageDescriptor"].get("Location", "")
                fingerprint = found.get("Parameters", {}).get(FINGERPRINT, "")
                with suppress(ValueError):  # no date: somebody else's, and left alone
                    partitions.existing[date.fromisoformat(found["Values"][0])] = Partition(location, fingerprint)
        return partitions

    @property
    def csv(self) -> bool:
        """Whether the table reads CSV. During an update it may still read the format that the settings left."""
        return "Text" in self.descriptor.get("InputFormat", "")

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.descriptor, sort_keys=True).encode()).hexdigest()[:16]

    def register(self, locations: Mapping[date, str]) -> int:
        """Those that are not there yet; how many were made. One that another run made meanwhile is left to `point`."""
        missing = {day: location for day, location in locations.items() if day not in self.existing}
        made = 0
        for some in _hundreds(missing.items()):
            entries = [self._input(day, location) for day, location in some]
            answer = self.glue.batch_create_partition(
                DatabaseName=self.database, TableName=TABLE, PartitionInputList=entries
            )
            _raise(answer.get("Errors", []), allowed="AlreadyExistsException")
            theirs = {date.fromisoformat(error["PartitionValues"][0]) for error in answer.get("Errors", [])}
            ours = [(day, location) for day, location in some if day not in theirs]
            made += len(ours)
            self._remember(ours)
            self.existing |= dict.fromkeys(theirs, UNKNOWN)
        return made

    def days_ahead(self, today: date) -> int:
        """So many dates after today are registered, without one missing between."""
        days = 0
        while today + timedelta(days=days + 1) in self.existing:
            days += 1
        return days

    def is_described(self, day: date) -> bool:
        """As the table is today."""
        return self.existing[day].fingerprint == self.fingerprint

    def point(self, locations: Mapping[date, str]) -> int:
        """Those that point elsewhere, or are described otherwise than the table; how many. One call moves a day."""
        wanted = {
            day: location
            for day, location in locations.items()
            if day in self.existing and self.existing[day] != Partition(location, self.fingerprint)
        }
        for some in _hundreds(wanted.items()):
            entries: Any = [
                {"PartitionValueList": [day.isoformat()], "PartitionInput": self._input(day, location)}
                for day, location in some
            ]
            answer = self.glue.batch_update_partition(DatabaseName=self.database, TableName=TABLE, Entries=entries)
            _raise(answer.get("Errors", []))
            self._remember(some)
        return len(wanted)

    def _input(self, day: date, location: str) -> Any:
        return {
            "Values": [day.isoformat()],
            "StorageDescriptor": {**self.descriptor, "Location": location},
            "Parameters": {FINGERPRINT: self.fingerprint},
        }

    def _remember(self, some: Iterable[tuple[date, str]]) -> None:
        for day, location in some:
            self.existing[day] = Partition(location, self.fingerprint)


def descriptor_of(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a partition repeats of its table: columns by name and type, format and serde."""
    columns = [{"Name": column["Name"], "Type": column["Type"]} for column in table["Columns"]]
    return {"Columns": columns, **{name: table[name] for name in COPIED if name in table}}


def _hundreds(items: Iterable[tuple[date, str]]) -> list[list[tuple[date, str]]]:
    ordered = sorted(items)
    return [ordered[begin : begin + AT_ONCE] for begin in range(0, len(ordered), AT_ONCE)]


def _raise(errors: Iterable[Mapping[str, Any]], allowed: str = "") -> None:
    codes = {error["ErrorDetail"]["ErrorCode"] for error in errors} - {allowed}
    if codes:
        raise PartitionsError(", ".join(sorted(codes)))
