"""Whether a text names an e-mail address, in each spelling that a reader takes for that address. Pure.

Texts are decoded and the addresses in them compared; nothing is matched in the midst of another address, because
`o'brien@example.com` is not `brien@example.com`. Sources: RFC 5321 and 5322 (addresses), RFC 2047 (encoded words),
RFC 3986 (percent-encoding), https://cr.yp.to/proto/verp.txt (VERP).
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from email.errors import MessageError
from email.header import decode_header, make_header
from itertools import islice
from urllib.parse import unquote

from process.addresses import plain_domain, unquoted

# What may stand in a local part without quotes, letters beyond ASCII included (RFC 6531).
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~.-]{1,2048}")
_DOMAIN = re.compile(r"\[[^\]\s]{1,64}\]|[\w-]{1,64}(?:\.[\w-]{1,64}){0,32}")
# Read from its end: the closing quote first, and `"\` for an escaped one.
_QUOTED_BACKWARDS = re.compile(r'"((?:"\\|[^"]){0,128})"(?!\\)')
_CLOSING = {"'": "'", "`": "`", "{": "}", "*": "*", "|": "|", "~": "~", "_": "_"}
# What comes before the recipient in a local part that names him: of a VERP address, and of a signed one (BATV, SRS).
_VERP_PREFIX = re.compile(r"(?:.*[+.=-])?(?:\w*bounces?\w*|\w*return\w*|verp|\d+|[0-9a-f]{6,})[+=-]+|", re.IGNORECASE)
_SIGNED = re.compile(r"(?:prvs=[^=]+=|btv1==?[^=]+==?)(.+)", re.IGNORECASE)
_SRS = re.compile(r"srs[01][+=-].*=([^=]+)=([^=]+)", re.IGNORECASE)

_JSON_ESCAPE = re.compile(r'\\+(?:u([0-9a-fA-F]{4})|(["/bfnrt\\]))')
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_QUOTED_PRINTABLE = re.compile(r"=([0-9A-Fa-f]{2})")
MAX_READINGS = 32
MAX_DEPTH = 5


def names(text: str, address: str) -> bool:
    """Whether the text is the address or mentions it, in any case and spelling."""
    local, _, domain = address.rpartition("@")
    wanted = unquoted(local).lower(), plain_domain(domain)
    return any(
        _mentions(reading, wanted, whole=reading is text) for value in values(text) for reading in readings(value)
    )


def values(text: str, depth: int = 0) -> Iterator[str]:
    """The text, or the names and texts inside it where it is JSON; JSON in a JSON text is read too."""
    if depth < MAX_DEPTH and text.lstrip(" \t\r\n")[:1] in ("{", "[", '"'):
        try:
            # An object as its members: of two of one name, both count.
            parsed = json.loads(text, strict=False, object_pairs_hook=list)
        except (ValueError, RecursionError):
            pass
        else:
            for inner in _texts(parsed):
                yield from values(inner, depth + 1)
            return
    yield text


def _texts(parsed: object) -> Iterator[str]:
    waiting = [parsed]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items) | tuple(items):
                waiting += items


def readings(text: str) -> Iterator[str]:
    """The text, and what each way of decoding makes of it, one after the other; at the most MAX_READINGS."""
    return islice(_readings(text), MAX_READINGS)


def _readings(text: str) -> Iterator[str]:
    yield text
    seen, waiting = {text}, [text]
    while waiting:
        before = waiting.pop(0)
        for decode in _DECODERS:
            after = decode(before)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
                yield after


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    replaced = _JSON_ESCAPE.sub(lambda at: chr(int(at[1], 16)) if at[1] else _CONTROL.get(at[2], at[2]), text)
    # Two escapes may be the halves of one character.
    return replaced.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unpercented(text: str) -> str:
    return unquote(text) if "%" in text else text


def _without_entities(text: str) -> str:
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # a number of more digits than Python takes
        return text


def _header(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (MessageError, LookupError, ValueError):
        return text


def _unquoted_printable(text: str) -> str:
    # `=` stands before many a value: only an escaped `@` or `=` shows that this is quoted-printable.
    if "=40" not in text and "=3D" not in text and "=3d" not in text:
        return text
    return _QUOTED_PRINTABLE.sub(lambda at: chr(int(at[1], 16)), text)


def _normalised(text: str) -> str:
    """Full-width letters and @; and the ideographic full stop, at which IDNA divides a name as at a dot (RFC 3490)."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).replace("\u3002", ".")


_DECODERS: tuple[Callable[[str], str], ...] = (
    _unescaped,
    _unpercented,
    _without_entities,
    _header,
    _unquoted_printable,
    _normalised,
)


def _mentions(text: str, wanted: tuple[str, str], *, whole: bool) -> bool:
    inside_quotes = _inside_quotes(text)
    at = text.find("@")
    while at != -1:
        found = _DOMAIN.match(text, at + 1)
        if found and at not in inside_quotes:
            domain = plain_domain(found[0])
            before, start = _local_before(text, at)
            # A text that is one address and nothing else is that address, whatever stands in its local part.
            alone = whole and start == 0 and found.end() == len(text)
            if before and _is(before, domain, wanted, text[found.end() : found.end() + 1], loose=not alone):
                return True
        at = text.find("@", at + 1)
    return False


def _inside_quotes(text: str) -> set[int]:
    """Where an @ is inside a quoted local part, and so not that of an address."""
    inside: set[int] = set()
    end = text.find('"@')
    while end != -1:
        if quoted := _QUOTED_BACKWARDS.match(text[max(0, end - 256) : end + 1][::-1]):
            start = end + 1 - len(quoted[0])
            inside.update(at for at in range(start, end) if text[at] == "@")
        end = text.find('"@', end + 1)
    return inside


def _local_before(text: str, at: int) -> tuple[str, int]:
    """What stands before the @ as its local part, in lower case and without quotes, and where it begins."""
    backwards = text[max(0, at - 2048) : at][::-1]
    if quoted := _QUOTED_BACKWARDS.match(backwards):
        return unquoted(quoted[0][::-1]).lower(), at - len(quoted[0])
    if found := _LOCAL.match(backwards):
        return found[0][::-1].lower(), at - len(found[0])
    return "", at


def _is(local: str, domain: str, wanted: tuple[str, str], after: str, *, loose: bool) -> bool:
    if (local, domain) == wanted:
        return True
    if signed := _SIGNED.fullmatch(local):
        return _is(signed[1], domain, wanted, after, loose=loose)
    if (srs := _SRS.fullmatch(local)) and (srs[2], plain_domain(srs[1])) == wanted:
        return True
    if "=" in local and _is_verp(local, wanted):
        return True
    if not loose or domain != wanted[1]:
        return False
    if local.lstrip("'") != local and local.lstrip("'") == wanted[0] and after == "'":
        return True
    if _CLOSING.get(local[0]) == after and local[1:] == wanted[0]:
        return True
    # In an address of the web, and in `name=value`, the address is a part of what could be a local part.
    separators = r"[/?&=#]" if "//" in local else r"(?<=[a-z_]{2})="
    return re.split(separators, local)[-1] == wanted[0]


def _is_verp(local: str, wanted: tuple[str, str]) -> bool:
    """`bounces+123-anna=example.com@lists.example.com` is the address to which mail for anna@example.com returns."""
    recipient = f"{wanted[0]}={wanted[1]}"
    return local.endswith(recipient) and _VERP_PREFIX.fullmatch(local.removesuffix(recipient)) is not None
