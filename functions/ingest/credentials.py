"""Whether a request may be stored. Pure; holds digests only, never a credential of ours."""

import hashlib
import hmac
from binascii import Error as Base64Error
from binascii import a2b_base64

from ingest.settings import Settings
from ingest.webhook import Request


def refusal(request: Request, settings: Settings) -> str | None:
    """Why the request is refused, for the log; None if it is accepted. Without configuration it is refused."""
    match settings.webhook_auth:
        case "BASIC" | "HEADER":
            pass
        case "OAUTH2":
            # The stack's own load balancer verified the token before it invoked ingest. Another one may not have.
            if not settings.target_group or not (request.target_group_arn or "").startswith(settings.target_group):
                return "not by the load balancer"
            return None if (request.only("authorization") or "").lower().startswith("bearer ") else "no token"
        case "NONE":
            return None
        case _:
            return "authentication is not configured"
    credential = _credential(request, settings)
    if credential is not None and any(_matches(credential, settings)):
        return None
    if _is_other(request, settings):
        return None
    if credential is None:
        return "no readable credentials"
    return "wrong credentials" if settings.credential_digests else "no credentials are configured"


def uses_previous(request: Request, settings: Settings) -> bool:
    """Whether an accepted request carries the credentials that a rotation is about to remove."""
    if len(settings.credential_digests) < 2:
        return False
    credential = _credential(request, settings)
    return credential is not None and not _matches(credential, settings)[0]


def uses_other(request: Request, settings: Settings) -> bool:
    """Whether an accepted request carries another webhook's credentials, and not ours."""
    if not _is_other(request, settings):
        return False
    credential = _credential(request, settings)
    return credential is None or not any(_matches(credential, settings))


def _is_other(request: Request, settings: Settings) -> bool:
    if settings.other_credential is None:
        return False
    header, accepted = settings.other_credential
    value = request.only(header)
    credential = _basic_credential(value) if header == "authorization" else _header_credential(value)
    return credential is not None and hmac.compare_digest(hashlib.sha256(credential).hexdigest().encode(), accepted)


def _matches(credential: bytes, settings: Settings) -> list[bool]:
    """All are compared, in constant time, so that the time does not tell which of them matched."""
    digest = hashlib.sha256(credential).hexdigest().encode()
    return [hmac.compare_digest(digest, accepted) for accepted in settings.credential_digests]


def _credential(request: Request, settings: Settings) -> bytes | None:
    """The credential sent; None if it is missing or unreadable, or if two contradict each other."""
    if settings.webhook_auth == "BASIC":
        return _basic_credential(request.only("authorization"))
    if settings.webhook_auth == "HEADER" and settings.webhook_header:
        return _header_credential(request.only(settings.webhook_header))
    return None


def _header_credential(value: str | None) -> bytes | None:
    """Without the spaces around it, which do not belong to it. An empty value is not a secret."""
    try:
        return (value or "").strip(" \t").encode() or None
    except UnicodeEncodeError:  # half a surrogate pair
        return None


def challenge(settings: Settings) -> str | None:
    """The value of WWW-Authenticate that goes with a 401."""
    schemes = {"BASIC": 'Basic realm="bird-webhooks", charset="UTF-8"', "OAUTH2": 'Bearer realm="bird-webhooks"'}
    return schemes.get(settings.webhook_auth)


def _basic_credential(authorization: str | None) -> bytes | None:
    """`username:password` of RFC 7617; None unless it is UTF-8 with a colon. The password may be empty."""
    scheme, _, encoded = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credential = a2b_base64(encoded.strip(), strict_mode=True)
        credential.decode()
    except (Base64Error, ValueError):
        return None
    return credential if b":" in credential else None
