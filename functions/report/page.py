"""Figures -> one HTML page that makes no network requests: style, script and charting library are inside it.

Jinja escapes every value. The content security policy in the page's head allows only the scripts whose digests it names
and forbids all requests, so whatever a sender wrote into a campaign's name stays text.
"""

import base64
import hashlib
import re
from datetime import datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from report.figures import FEW, Figures, Lag, Rate, opens_of_people
from report.queries import Period

HERE = Path(__file__).resolve().parent
EN_DASH = "\N{EN DASH}"
LIBRARY = HERE / "vendor/chart.umd.min.js"


def render(figures: Figures, *, made_at: datetime, title: str, source: str) -> str:
    """`title` names the stack, `source` the database that was queried."""
    style, script = (HERE / "page.css").read_text(), (HERE / "page.js").read_text()
    policy = (
        f"default-src 'none'; script-src {digest(library())} {digest(script)}; style-src {digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return template().render(
        figures=figures,
        made_at=made_at,
        title=title,
        source=source,
        policy=policy,
        style=style,
        script=script,
        library=library(),
        charts=charts(figures),
        few=FEW,
        by_people=opens_of_people(figures.opens),
        period_label=period_label(figures.period),
        length=duration(figures.period.until - figures.period.since),
    )


@cache
def library() -> str:
    """The charting library without its last line, which makes debuggers fetch a source map."""
    return re.sub(r"\n//# sourceMappingURL=\S+\s*$", "\n", LIBRARY.read_text())


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "moment": moment,
        "change": change,
        "points": points,
        "duration": duration,
        "late": late,
    }
    return environment.get_template("page.html")


def period_label(period: Period) -> str:
    """For whole days the first and the last, such as 17 to 23 Nov 2026; otherwise two times."""
    since, until = period.since, period.until
    if since.time() != time() or until.time() != time():
        return f"{moment(since)} {EN_DASH} {moment(until)}"
    last = until - timedelta(days=1)
    parts = {"year": "%-d %b %Y", "month": "%-d %b", "day": "%-d"}
    different = next((part for part in parts if getattr(since, part) != getattr(last, part)), None)
    return (f"{since.strftime(parts[different])} {EN_DASH} " if different else "") + last.strftime("%-d %b %Y")


def charts(figures: Figures) -> dict[str, Any]:
    """What the script draws. The page's tables have the same figures."""
    hourly = figures.bars == "hour"
    return {
        "hourly": hourly,
        "labels": [item["start"].strftime("%Y-%m-%dT%H:%MZ" if hourly else "%Y-%m-%d") for item in figures.series],
        "sending": [
            {"label": label, "colour": colour, "data": [item[name] for item in figures.series]}
            for label, name, colour in [
                ("Delivered", "delivered", "delivered"),
                ("Delayed", "delayed", "delayed"),
                ("Bounced", "bounced", "bounced"),
            ]
        ],
        "engagement": [
            {"label": label, "colour": colour, "data": [item[name] for item in figures.series]}
            for label, name, colour in [
                ("Clicks by people", "clicks", "clicked"),
                ("Opens by people", "opens", "opened"),
                ("Opens by machines", "machine_opens", "machine"),
            ]
        ],
    }


def count(value: int) -> str:
    return f"{value:,}"


def percent(rate: Rate, digits: int = 1) -> str:
    """A dash if the whole is 0. Small rates get more digits; a rate above 0 is never shown as 0."""
    if rate.share is None:
        return EN_DASH
    if rate.share >= 0.1:
        digits = min(digits, 1)
    smallest = 10.0**-digits
    if 0 < rate.share * 100 < smallest / 2:
        return f"<{smallest:.{digits}f} %"
    return f"{rate.share * 100:.{digits}f} %"


def change(now: int, before: int) -> str:
    """The change from the previous period's count, in percent."""
    if not before:
        return ""
    return f"{(now - before) / before * 100:+.0f} %".replace("-", "\N{MINUS SIGN}")


def points(now: Rate, before: Rate, digits: int = 1) -> str:
    """The change in percentage points."""
    if now.share is None or before.share is None:
        return ""
    return f"{(now.share - before.share) * 100:+.{digits}f} pp".replace("-", "\N{MINUS SIGN}")


def moment(at: datetime | None) -> str:
    return at.strftime("%-d %b %Y, %H:%M") if at else EN_DASH


UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def duration(span: timedelta) -> str:
    """In the largest unit that fits at least twice."""
    seconds = max(0, int(span.total_seconds()))
    size, unit = next((one for one in UNITS if seconds >= 2 * one[0]), UNITS[-1])
    return f"{seconds // size:,} {unit}{'' if seconds // size == 1 else 's'}"


def late(lag: Lag) -> str:
    if lag.seconds is None:
        return "over 24 hours later"
    size, unit = next(one for one in UNITS[1:] if lag.seconds % one[0] == 0)
    return f"within {lag.seconds // size} {unit}{'' if lag.seconds == size else 's'}"
