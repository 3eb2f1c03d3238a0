"""S3's notification configuration of a bucket that others use too: it, with our entries and without them. Pure.

An entry is ours if it announces to our queue or topic. All others stay as S3 gave them. Two entries may not announce
the same event of the same key: S3 then says "Configurations overlap" and names neither.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

# The member of a configuration for each kind of destination, and the member of its entries that names the destination.
DESTINATIONS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
# Not CompleteMultipartUpload: `erase` and `import` use it to write unannounced.
RAW_EVENTS = ["s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy"]
ROW_EVENTS = ["s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"]
# The characters that S3 calls safe in keys: a filter has them as they are, and a space as +.
SAFE = "/!-_.*'()"

type Configuration = dict[str, Any]
type Entry = Mapping[str, Any]


class OverlapError(Exception):
    """Another entry announces the same keys; the text has its id."""


def entries(destination: str, events: list[str], prefixes: Iterable[str]) -> list[Entry]:
    """One for each prefix: a folder, with its slash."""
    member = "QueueArn" if ":sqs:" in destination else "TopicArn"
    return [
        {
            "Id": f"bird-webhooks-{hashlib.sha256(f'{destination} {prefix}'.encode()).hexdigest()[:16]}",
            member: destination,
            "Events": events,
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": quote_plus(prefix, safe=SAFE)}]}},
        }
        for prefix in prefixes
    ]


def merged(there: Configuration, ours: list[Entry]) -> Configuration:
    """`there` with exactly these of ours. Errors: OverlapError."""
    [destination] = {destination_of(one) for one in ours}
    result = without(there, destination)
    for one in ours:
        for other in (entry for member in DESTINATIONS for entry in result.get(member, [])):
            if overlap(one, other):
                raise OverlapError(str(other.get("Id", "without an id")))
    member = "QueueConfigurations" if "QueueArn" in ours[0] else "TopicConfigurations"
    return {**result, member: [*result.get(member, []), *ours]}


def without(there: Configuration, destination: str) -> Configuration:
    """`there` without what announces to this queue or topic; S3's answer itself is left out."""
    result = {name: value for name, value in there.items() if name != "ResponseMetadata"}
    for member in DESTINATIONS.keys() & result.keys():
        kept = [entry for entry in result[member] if destination_of(entry) != destination]
        if kept:
            result[member] = kept
        else:
            del result[member]
    return result


def same(one: Configuration, other: Configuration) -> bool:
    """Whether they announce the same, whatever the order of entries."""

    def of(configuration: Configuration) -> Any:
        listed = {
            member: sorted(
                (str(entry.get("Id")), destination_of(entry), sorted(entry["Events"]), *affixes(entry))
                for entry in configuration.get(member, [])
            )
            for member in DESTINATIONS
        }
        return listed, "EventBridgeConfiguration" in configuration

    return bool(of(one) == of(other))


def overlap(one: Entry, other: Entry) -> bool:
    """Whether some key has both prefixes and both suffixes, and some event is in both."""
    if not any(events_meet(a, b) for a in one["Events"] for b in other["Events"]):
        return False
    (prefix, suffix), (prefix_there, suffix_there) = affixes(one), affixes(other)
    begins = prefix.startswith(prefix_there) or prefix_there.startswith(prefix)
    return begins and (suffix.endswith(suffix_there) or suffix_there.endswith(suffix))


def events_meet(one: str, other: str) -> bool:
    """`s3:ObjectCreated:*` is each of its kind."""
    shorter, longer = sorted((one.removesuffix("*"), other.removesuffix("*")), key=len)
    return longer.startswith(shorter) if "*" in one + other else one == other


def affixes(entry: Entry) -> tuple[str, str]:
    """The prefix and the suffix of its filter. S3 may answer `Prefix` where `prefix` was put."""
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    found = {rule["Name"].lower(): rule.get("Value", "") for rule in rules}
    return found.get("prefix", ""), found.get("suffix", "")


def destination_of(entry: Entry) -> str:
    return str(next((entry[name] for name in DESTINATIONS.values() if name in entry), ""))
