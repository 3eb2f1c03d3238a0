"""The page as text: what is on it, in which words, and what it may do. What a browser makes of it is tested there."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from report.figures import Lag, Quarantine, Rate, figures
from report.page import LIBRARY, change, duration, late, percent, period_label, points, render
from report.queries import Period

ANSWERS = json.loads((Path(__file__).resolve().parents[1] / "data/report_answers.json").read_text())
WEEK = Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC))
MADE = datetime(2024, 3, 11, 6, tzinfo=UTC)
# The library is kept as it was published: chart.js 4.6.1, `dist/chart.umd.min.js` of the package on npm, whose
# integrity is sha512-hJyniucsFmq//EvXYvJ6c6mahPoI3kaxdjVH8awTaJ/fDNWeSqqqArixMJWkWNN6fcYvPU3HneSANFNYtRi61g==
LIBRARY_SHA256 = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"


class Words(HTMLParser):
    """The text of a page as a reader sees it, one piece after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if data.strip() and self.inside not in ("script", "style"):
            self.pieces.append(" ".join(data.split()))


def page(answers=ANSWERS, quarantine=None) -> str:
    return render(figures(WEEK, answers, quarantine), made_at=MADE, title="bird-webhooks", source="Athena")


def words(text: str) -> str:
    parser = Words()
    parser.feed(text)
    return " | ".join(parser.pieces)


@pytest.mark.parametrize(
    "shown",
    [
        "4 – 10 Mar 2024",  # noqa: RUF001
        "31,224 events, 28,214 in the 7 days before. Made 11 Mar 2024, 06:00 from Athena. All times are UTC.",
        "Sent | 20,000 | messages delivered or bounced | +8 % | on before",
        "Delivered | 98.0 % | 19,600 of 20,000 sent | +0.7 pp | on before",
        "Bounced | 2.30 % | 460 of 20,000 sent | −0.40 pp | on before",  # noqa: RUF001
        "Complaints | 0.066 % | 13 of 19,600 delivered | +0.016 pp | on before",
        "People opened | 35.0 % | 6,860 of 19,600 delivered | +0.0 pp | on before",
        "People clicked | 3.0 % | 588 of 19,600 delivered | +0.0 pp | on before",
        "Autumn sale | 15,000 | 98.0 % | 2.33 % | 0.07 % | 0.20 % | 37.4 % | 3.4 %",
        "no campaign | few | 60 | 83.3 % | 16.7 % | 0.00 % | 4.00 % | 110.0 % | 16.0 %",
        "The 4 with most messages, of 31.",
        "GMX | 8,000 | 96.2 % | 4.12 % | 0.10 % | 0.29 % | 37.1 % | 2.4 %",
        "Machines, which load images ahead | 2,000 | 22.2 %",
        "Invalid recipient | hard | 300",
        "190 | 550 <<address>>: no such user | Bounced · Invalid recipient",
        "Newest event | 10 Mar 2024, 23:57 | Newest arrival | 10 Mar 2024, 23:58",
        "That was, when this page was made, | 6 hours ago",
        "Half of the events arrived | within 30 seconds | 95 % of the events arrived | within 10 minutes",
        "Events with fields without a column | 5 | next_attempt | 3 | (not a plain name) | 1 | geo_ip.continent | 1",
        "The names are those of 4 of the 5 events",
    ],
)
def test_page_shows(shown):
    assert shown in words(page())


@pytest.mark.parametrize(
    ("quarantine", "shown"),
    [
        (None, "Quarantined | not read"),
        (Quarantine(), "Quarantined | 0"),
        (Quarantine({"not JSON": 1200}, unread=7), "Quarantined | 1,200 | not JSON | 1,200 | files more, not read | 7"),
    ],
)
def test_page_tells_what_is_in_quarantine(quarantine, shown):
    assert shown in words(page(quarantine=quarantine))


def test_no_address_is_on_the_page():
    assert re.findall(r"[\w.]+@example\.com", page()) == []


def test_what_senders_wrote_is_text_on_the_page():
    assert "<img" not in page()
    assert "</script><img" in words(page())


def test_only_our_own_scripts_and_style_may_run_and_nothing_may_be_fetched():
    text = page()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in [*scripts, style]]
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.replace("&#39;", "'") == (
        f"default-src 'none'; script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}'; style-src 'sha256-{digests[2]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "sourceMappingURL" not in text
    assert re.findall(r'\b(?:src|action|style|onload|onerror)="', text) == []
    assert re.findall(r'\bhref="([^"]*)"', text) == ["data:,"]


def test_an_empty_period_says_so_and_draws_nothing():
    nothing = {**{name: [] for name in ANSWERS}, "totals": [dict.fromkeys(ANSWERS["totals"][0], "0")]}
    text = page(nothing, Quarantine())
    assert "No events in this period" in words(text)
    assert "<canvas" not in text
    assert len(text) < 20_000


def test_few_messages_in_all_are_said_to_be_few():
    few = [{**row, "events": "9"} for row in ANSWERS["types"]]
    shown = words(page({**ANSWERS, "types": few}))
    assert "Fewer than 100 messages were sent: rates of so few messages say little." in shown
    assert "Fewer than 100 messages were sent" not in words(page())


def test_without_a_period_before_nothing_is_compared():
    new = [{**row, "events_before": "0"} for row in ANSWERS["totals"]]
    assert "Sent | 20,000 | messages delivered or bounced | no earlier events to compare with" in words(
        page({**ANSWERS, "totals": new})
    )


def test_library_is_the_published_file_with_its_licence_beside_it():
    assert hashlib.sha256(LIBRARY.read_bytes()).hexdigest() == LIBRARY_SHA256
    assert "The MIT License" in (LIBRARY.parent / "LICENSE.md").read_text()


@pytest.mark.parametrize(
    ("rate", "digits", "shown"),
    [
        (Rate(1, 3), 1, "33.3 %"),
        (Rate(0, 3), 2, "0.00 %"),
        (Rate(1, 1_000_000), 2, "<0.01 %"),
        (Rate(0, 0), 1, "–"),  # noqa: RUF001
        (Rate(11, 10), 0, "110 %"),
        (Rate(1, 1), 3, "100.0 %"),
        (Rate(1, 11), 3, "9.091 %"),
    ],
)
def test_percent(rate, digits, shown):
    assert percent(rate, digits) == shown


def test_changes_have_their_sign():
    assert change(110, 100) == "+10 %"
    assert change(90, 100) == "−10 %"  # noqa: RUF001
    assert change(90, 0) == ""
    assert points(Rate(1, 4), Rate(1, 2)) == "−25.0 pp"  # noqa: RUF001
    assert points(Rate(1, 4), Rate(0, 0)) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "2 hours"),
        (604_800, "7 days"),
    ],
)
def test_duration(seconds, shown):
    assert duration(timedelta(seconds=seconds)) == shown


def test_late():
    assert [late(Lag(0.5, seconds)) for seconds in (1, 30, 60, 600, 86_400, None)] == [
        "within 1 second",
        "within 30 seconds",
        "within 1 minute",
        "within 10 minutes",
        "within 24 hours",
        "over 24 hours later",
    ]


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        ("2024-03-04", "2024-03-11", "4 – 10 Mar 2024"),  # noqa: RUF001
        ("2024-02-26", "2024-03-04", "26 Feb – 3 Mar 2024"),  # noqa: RUF001
        ("2023-12-28", "2024-01-04", "28 Dec 2023 – 3 Jan 2024"),  # noqa: RUF001
        ("2024-03-04", "2024-03-05", "4 Mar 2024"),
        ("2024-03-04T13:00", "2024-03-11T13:00", "4 Mar 2024, 13:00 – 11 Mar 2024, 13:00"),  # noqa: RUF001
    ],
)
def test_period_label(since, until, shown):
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (since, until)]
    assert period_label(Period(*moments)) == shown
