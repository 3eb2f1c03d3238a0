"""An address -> a condition in SQL that is true of every row that mentions it, and of few others. Pure.

Athena keeps the text of each query for 45 days. So the condition has only every second letter of the address.
`mentions.Person` decides on the rows that it finds. The patterns are understood by Trino, DuckDB and Python alike,
without looking ahead or behind, and the text that they are tried on is in lower case.
"""

import re

from bird_webhooks.operate.mentions import COMPATIBLE
from process.addresses import normalised
from process.columns import COLUMNS, JSON, TEXT

TEXTS = [column.name for column in COLUMNS if column.type in (TEXT, JSON)]
# Between the values of a row; the addresses in it have none of these.
SEPARATOR = "\n\x1f\n"
_SEPARATOR_SQL = "chr(10) || chr(31) || chr(10)"
_ARGUMENTS = 50  # of one function, far below Trino's limit of 127

# What is encoded: a letter or digit, as ASCII's hexadecimal number.
_X = "(?:3[0-9]|[46][1-9a-f]|[57][0-9a])"
_PERCENT = r"(?:%|&percnt;|&#0*37;?|&#x0*25;?|\\u0025)(?:25)*"
_HASH = rf"(?:#|{_PERCENT}23|\\u0023|=23|&?num;)"
_EQUALS = rf"(?:=|{_PERCENT}3d|\\u003d|&#0*61;?|&#x0*3d;?|&equals;)"
_WIDE = re.sub(r"\|.*", "", COMPATIBLE)[1:-1] + "\u017f\u212a"
# A letter or digit that is encoded, which honest texts hardly have.
_LETTERS = (
    f"{_PERCENT}{_X}",
    rf"\\u00{_X}",
    r"&#0*(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2])(?:[^0-9]|$)",
    rf"&#x0*{_X}(?:[^0-9a-f]|$)",
)
# What may stand for a letter, or hide what does: characters like ASCII's, a percent sign, a backslash, an ampersand.
_ESCAPES = (
    rf"{_PERCENT}(?:5c|26(?:{_HASH}|[a-z]{{2,31}}(?:;|{_PERCENT}3b)))",
    rf"{_PERCENT}(?:c5|cb|e1|e2|e3|ef|f0)",
    rf"\\u(?:005c|0026(?:{_HASH}|[a-z]{{2,31}};)|017f|02|1d|2[014]|3[23]|f[ef]|d83[5c])",
    r"&#0*(?:3[5-8]|61|92|[0-9]{3,})",
    r"&#x0*(?:2[356]|3d|5c|[0-9a-f]{3,})",
    rf"&(?:{_PERCENT}23|\\u0023|=23|num;|&)",
    "&[a-z]+;",
    r"\\[ac-eg-mo-qsv-z0-9]",
    # A letter that is one of JSON's escapes, too, in a quoted local part.
    r'\\[bfnrtu][^\s"]*"',
)
# The @, in any form: @, 40 in hexadecimal and 64 in decimal.
_AT = "(?:[@\uff20\ufe6b\uff14]|40|64|commat)"
_LEADS = "[%&\\\\=\uff05\uff06\uff3c\uff1d]"
_ENCODED_WORD = r"=\?[^ ?]+\?[bq]\?"


def texts_of_a_row() -> str:
    """All texts of a row as one."""
    groups = [TEXTS[begin : begin + _ARGUMENTS] for begin in range(0, len(TEXTS), _ARGUMENTS)]
    joined = [f"concat_ws({_SEPARATOR_SQL}, {', '.join(group)})" for group in groups]
    return f"concat_ws({_SEPARATOR_SQL}, {', '.join(joined)})"


def statement(address: str, dates: str) -> str | None:
    """Of the rows that may mention the address: where each is, which event it is, and its texts.

    `dates` limits them. None for an address that has no letter or digit to look for.
    """
    found = patterns(address)
    if found is None:
        return None
    # Entities that hide no letter are frequent. The ampersand is decoded, because it may begin another one.
    lowered = f"""replace(regexp_replace(lower(texts), '{_PLAIN_ENTITIES}', '"'), '&amp;', '&')"""
    choice = " OR ".join(" AND ".join(f"regexp_like(text, {_literal(one)})" for one in every) for every in found)
    columns = f"batch_id, {', '.join(IDENTITY)}"
    rows = f'SELECT "$path" AS path, {columns}, {texts_of_a_row()} AS texts FROM events WHERE {dates}'  # noqa: S608
    return f"SELECT path, {columns}, texts FROM (SELECT *, {lowered} AS text FROM ({rows})) WHERE {choice}"  # noqa: S608


def possibly(text: str, address: str) -> bool:
    """What the statement finds, in Python."""
    lowered = re.sub(_PLAIN_ENTITIES, '"', text.lower()).replace("&amp;", "&")
    return any(all(re.search(one, lowered) for one in every) for every in patterns(address) or ())


def patterns(address: str) -> list[tuple[str, ...]] | None:
    """A text mentions the address only if it matches every pattern of one of these."""
    local, domain = normalised(address)
    if not address.isascii():
        return None  # letters that other letters may be composed of
    labels = " ".join(label for label in domain.split(".") if not label.startswith("xn--"))
    # Between two runs of the local part is what may be encoded several times.
    there = r"[^a-z0-9\s]\S{0,20}".join(map(_masked, re.findall("[a-z0-9]+", local)))
    where = _masked(max(re.findall("[a-z0-9]+", labels), key=len, default=""))
    if not there or not where:
        return None
    bound, end = r"[^a-z0-9\s]\S*", r"(?:[^a-z0-9]|$)"
    escapes = f"(?:{'|'.join(_ESCAPES)})"
    wide = f"[{_WIDE}]"
    hexadecimal = f"{_EQUALS}(?:{_X}|5c)"
    letters = f"(?:{'|'.join(_LETTERS)})"
    return [
        (f"{there}{bound}{where}{end}|{where}{bound}{there}{end}",),
        (letters,),
        (escapes, f"{escapes}\\S*{_AT}|{_AT}\\S*{escapes}"),
        (wide, f"{wide}\\S*(?:{_AT}|{_LEADS})|(?:{_AT}|{_LEADS})\\S*{wide}"),
        # Quoted-printable, which is read as such only after one of these two.
        (f"{_EQUALS}(?:40|3d)", f"{hexadecimal}\\S*{_AT}|{_AT}\\S*{hexadecimal}"),
        (f"{_EQUALS}3d=?[0-9a-f]", hexadecimal),
        (_ENCODED_WORD,),
    ]


def _masked(run: str) -> str:
    """Letters and digits, with every second one left open."""
    return "".join("[a-z0-9]" if place % 2 else letter for place, letter in enumerate(run))


def _literal(pattern: str) -> str:
    return "'" + pattern.replace("'", "''") + "'"


_PLAIN_ENTITIES = "&(?:lt|gt|quot|nbsp|apos);"
IDENTITY = ("customer_id", "event_class", "type", "event_key")
