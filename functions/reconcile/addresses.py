"""What makes two ways of writing an e-mail address one address. Pure.

`erase` compares addresses by it, and tombstones are named by it: what it erased stays away.
"""

import re
import unicodedata


def normalised(address: str) -> tuple[str, str]:
    """Local part and domain, as they are compared. The domain is empty for what is no address."""
    if not address.isascii():
        address = unicodedata.normalize("NFKC", address)  # full-width letters and @
    local, at, domain = address.strip().rpartition("@")
    return (unquoted(local).lower(), plain_domain(domain)) if at else (unquoted(domain).lower(), "")


def unquoted(local: str) -> str:
    if len(local) > 1 and local[0] == local[-1] == '"':
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


def plain_domain(domain: str) -> str:
    """In lower case, and in ASCII where it is an internationalised name."""
    domain = domain.lower().rstrip(".")
    try:
        return domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        return domain
