"""Figures -> one HTML page that makes no network requests: style, script and charts are inside it.

Jinja escapes every value. The content security policy in the page's head allows only the script and the style whose
digests it names and forbids all requests, so whatever a sender wrote into a campaign's name stays text. Charts are SVG
that Jinja writes; the script only sorts tables and copies them.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from functools import cache
from pathlib import Path

import jinja2

from report.charts import HEIGHT, Chart, chart
from report.completeness import Section
from report.counts import FEW, Counts, Rate
from report.figures import Figures, Lag
from report.queries import Period, rows_of
from report.rules import ACT, FINE, LEAST_COMPARED, NAMES, WATCH, Finding, Rule, Thresholds, beyond_chance

HERE = Path(__file__).resolve().parent
EN_DASH = "\N{EN DASH}"


def render(figures: Figures, *, made_at: datetime, title: str, source: str, completeness: Section | None = None) -> str:
    """`title` names the stack, `source` the database that was queried. `completeness`: None if it is not known."""
    style, script = (HERE / "page.css").read_text(), (HERE / "page.js").read_text()
    policy = (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    # What is in is in: an hour or a day that has only begun ends now.
    shown = Period(figures.period.since, min(figures.period.until, made_at.astimezone(figures.period.since.tzinfo)))
    return template().render(
        figures=figures,
        completeness=completeness,
        now=figures.everything.now,
        before=figures.everything.before,
        rules=figures.thresholds.by_name,
        names=NAMES,
        zone=figures.period.since.tzname()
        if str(figures.period.since.tzinfo) == "UTC"
        else figures.period.since.tzinfo,
        made_at=made_at.astimezone(figures.period.since.tzinfo),
        title=title,
        source=source,
        policy=policy,
        style=style,
        script=script,
        charts=charts(figures),
        chart_height=HEIGHT,
        found_by_group=found_by_group(figures.findings),
        few=FEW,
        least_compared=LEAST_COMPARED,
        period_label=period_label(shown),
        length=duration(figures.period.until - figures.period.since),
        rows_of=lambda found: rows_of(figures.period, found.dimension, found.name, found.account, found.rule.condition),
    )


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
        "duration": duration,
        "late": late,
    }
    environment.globals |= {
        "change": change,
        "compared": compared,
        "verdict": verdict,
        "worst": worst,
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


def charts(figures: Figures) -> list[Chart]:
    """The page's table has the same figures."""
    hourly = figures.bars == "hour"
    return [
        chart(
            "Delivered and bounced", figures.series, [("Delivered", "delivered"), ("Bounced", "bounced")], hourly=hourly
        ),
        chart(
            "Opened and clicked",
            figures.series,
            [("Clicked", "clicked"), ("Only opened", "opened"), ("Cannot be measured", "unmeasurable")],
            hourly=hourly,
        ),
        chart("Delayed at the first attempt", figures.series, [("Delayed", "delayed")], hourly=hourly),
    ]


def found_by_group(findings: Sequence[Finding]) -> dict[tuple[str, str, str], dict[str, str]]:
    """The verdict of each rule that named a group: by dimension, account and name, then by rule."""
    found: dict[tuple[str, str, str], dict[str, str]] = defaultdict(lambda: defaultdict(str))
    for one in findings:
        found[one.dimension, one.account, one.name][one.rule.name] = one.verdict
    return found


def verdict(rule: Rule, counts: Counts, given: Thresholds) -> str:
    """FINE, WATCH or ACT, or nothing if there are too few messages for a verdict."""
    rate = rule.rate(counts)
    return rule.verdict(rate) if rate.whole >= given.least_volume else ""


def worst(*verdicts: str) -> str:
    return max(verdicts, key=("", FINE, WATCH, ACT).index)


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
    """The change of a count in percent; nothing if one side is too small."""
    if min(now, before) < LEAST_COMPARED:
        return ""
    return f"{(now - before) / before * 100:+.0f} %".replace("-", "\N{MINUS SIGN}")


def compared(now: Rate, before: Rate, digits: int = 1) -> str:
    """The change in percentage points if it is beyond chance; nothing if one side is too small."""
    if min(now.whole, before.whole) < LEAST_COMPARED or now.share is None or before.share is None:
        return ""
    if not beyond_chance(now, before):
        return "no clear change"
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
        return "over 24 hours later (sent again, or filled in)"
    size, unit = next(one for one in UNITS[1:] if lag.seconds % one[0] == 0)
    return f"within {lag.seconds // size} {unit}{'' if lag.seconds == size else 's'}"
