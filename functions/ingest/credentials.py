"""Whether a request may be stored. Pure; holds digests only, never a credential of ours."""

import hashlib
import hmac
from binascii import Error as Base64Error
from binascii import a2b_base64

from ingest.settings import Settings
from ingest.webhook import Request


def refusal(request: Request, settings: Settings) -> str | None:
    """Why the request is refused, for the log; None if it is welcome. Unconfigured means refused."""
    match settings.webhook_auth:
        case "BASIC":
            credential = _basic_credential(request.header("authorization"))
        case "HEADER":
            value = request.header(settings.webhook_header) if settings.webhook_header else None
            credential = None if value is None else value.encode()
        case "OAUTH2":
            # The load balancer verified the token before it invoked us; without one, it was not asked to.
            return None if (request.header("authorization") or "").lower().startswith("bearer ") else "no token"
        case "NONE":
            return None
        case _:
            return "authentication is not configured"
    if credential is None:
        return "no readable credentials"
    if not settings.credential_digests:
        return "no credentials are configured"
    digest = hashlib.sha256(credential).hexdigest().encode()
    # All are compared, so that the time does not tell which of them matched.
    matches = [hmac.compare_digest(digest, accepted) for accepted in settings.credential_digests]
    return None if any(matches) else "wrong credentials"


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
