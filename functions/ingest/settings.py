"""What the template tells ingest, read once per execution environment."""

import os
from typing import NamedTuple


class Settings(NamedTuple):
    raw_bucket: str
    raw_prefix: str  # without slashes at its ends
    webhook_auth: str  # BASIC, HEADER, OAUTH2, NONE; anything else refuses every request
    webhook_header: str  # lower case
    credential_digests: tuple[bytes, ...]
    target_group: str  # ARN of the stack's own target group, up to its last part; for OAUTH2
    other_credential: tuple[str, bytes] | None = None  # another webhook's: lower-case header, and the digest of it


def load_settings() -> Settings:
    environ = os.environ
    digests = [digest.strip() for digest in environ.get("CREDENTIAL_DIGESTS", "").split(",") if digest.strip()]
    others = [tuple(digest.split("=")) for digest in digests if "=" in digest]
    return Settings(
        raw_bucket=environ["RAW_BUCKET"],
        raw_prefix=environ["RAW_PREFIX"].strip("/"),
        webhook_auth=environ.get("WEBHOOK_AUTH", ""),
        webhook_header=environ.get("WEBHOOK_HEADER", "").lower(),
        credential_digests=tuple(digest.encode() for digest in digests if "=" not in digest),
        target_group=environ.get("TARGET_GROUP", ""),
        other_credential=(others[0][0], others[0][1].encode()) if others else None,
    )
