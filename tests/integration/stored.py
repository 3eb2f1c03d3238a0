"""What moto's S3 has, without asking its server, which takes longer than most of what tests do."""

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import FakeKey, s3_backends


def stored_versions(bucket: str) -> list[tuple[str, str, bytes]]:
    """(key, version, body) of every version but delete markers, by key and the oldest first."""
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_bucket(bucket).keys
    return [
        (name, str(version.version_id), version.value)
        for name, versions in sorted(found.lists())
        for version in versions
        if isinstance(version, FakeKey)
    ]


def stored_objects(bucket: str, prefix: str = "") -> dict[str, bytes]:
    """The objects' bodies by key, as a list has them."""
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_bucket(bucket).keys
    return {
        name: latest.value
        for name, latest in sorted(found.items())
        if name.startswith(prefix) and isinstance(latest, FakeKey)
    }
