"""The page as text: what is on it, in which words, and what it may do. What a browser makes of it is tested there."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from report import completeness
from report.counts import Rate
from report.figures import Lag, Quarantine, figures
from report.page import change, compared, duration, late, percent, period_label, render
from report.queries import Period
from tests.report_answers import ANSWERS, NOTHING, WEEK, answers, group, overlap

CSS = (Path(__file__).resolve().parents[2] / "functions/report/page.css").read_text()
MADE = datetime(2024, 3, 11, 6, tzinfo=UTC)


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


def page(answers=ANSWERS, quarantine=None, period=WEEK) -> str:
    return render(figures(period, answers, quarantine), made_at=MADE, title="bird-webhooks", source="Athena")


@pytest.fixture(scope="module")
def ordinary() -> str:
    return words(page())


def words(text: str) -> str:
    parser = Words()
    parser.feed(text)
    return " | ".join(parser.pieces)


@pytest.mark.parametrize(
    "shown",
    [
        "4 – 10 Mar 2024",  # noqa: RUF001
        "31,224 events, 28,214 in the 7 days before. Made 11 Mar 2024, 06:00 from Athena. Time zone: UTC.",
        "Sent | 20,000 | messages delivered or bounced | +8 % | vs the 7 days before",
        "Accepted | 97.7 % | 19,540 of 20,000 sent | no clear change | vs the 7 days before | 60 more came back",
        "Bounced | fine | 2.30 % | 460 of 20,000 sent | no clear change | vs the 7 days before"
        " | hard 1.50 %, blocked 0.25 %, soft 0.50 %",
        "Complaints | watch | 0.108 % | 13 of 12,000 where they are reported | no clear change | vs the 7 days before"
        " | watch from 0.1 %, act from 0.3 %. Gmail reports none: see Postmaster Tools",
        "Stopped by Bird | fine | 0.50 % | 100 of 20,108 targeted | −0.57 pp | vs the 7 days before",  # noqa: RUF001
        "Delayed | fine | 3.5 % | 700 of 20,020 at the first attempt",
        "20 delayed messages are neither delivered nor bounced yet",
        "Opened | 35.1 % | 6,860 of 19,540 accepted | no clear change | vs the 7 days before"
        " | 37.3 % of what can be measured; 5.8 % cannot",
        "Clicked | 3.0 % | 588 of 19,540 accepted | no clear change | vs the 7 days before"
        " | 30 of them likely by link scanners",
        "Autumn sale | 15,000 | 97.7 % | 2.33 % | 0.11 % | 0.20 % | 37.5 % | 6.1 % | 3.4 %",
        "(none) | few | 60 | 83.3 % | 16.7 % | not reported | 4.00 % | 110.0 % | 0.0 % | 16.0 %",
        "The 4 with most messages, of 31; the rules above look at all.",
        "Gmail | 12,000 | 98.9 % | 1.08 % | not reported | 0.17 % | 33.7 % | 0.8 % | 3.4 %",
        "GMX | 8,000 | 95.9 % | 4.12 % | watch | 0.17 % |",
        "People, directly or by a click | 4,060 | 50.8 %",
        "People, only through an image proxy | 2,800 | 35.0 %",
        "Machines only: cannot be measured | 1,140 | 14.2 %",
        "60 of them were delivered first and came back later. | 5 more out-of-band events are not bounces but answers",
        "There were 1,300 delays in all.",
        "Invalid recipient | hard | 300",
        "190 | 550 <<address>>: no such user | Bounced · Invalid recipient",
        "Newest event | 10 Mar 2024, 23:57 | Newest arrival | 10 Mar 2024, 23:58",
        "That was, when this page was made, | 6 hours ago",
        "Half of the events arrived | within 30 seconds | 95 % of the events arrived | within 10 minutes",
        "Events with fields without a column | 5 | next_attempt | 3 | (not a plain name) | 1 | geo_ip.continent | 1",
        "The names are those of 4 of the 5 events",
    ],
)
def test_page_shows(ordinary, shown):
    assert shown in ordinary


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
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (script, style)]
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.replace("&#39;", "'") == (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert text.count("<script") == 1
    assert re.findall(r'\b(?:src|action|style|onload|onerror)="', text) == []
    assert set(re.findall(r'\bhref="([^"]*)"', text)) <= {"data:,", "#rules"}


def test_an_empty_period_says_so_and_draws_nothing():
    text = page(NOTHING, Quarantine())
    assert "No events in this period" in words(text)
    assert 'class="chart"' not in text
    assert len(text) < 30_000


def test_few_messages_in_all_are_said_to_be_few():
    few = answers({"delivered": 90, "in_band": 9})
    assert "Fewer than 100 messages were sent: rates of so few messages say little." in words(page(few))
    assert "Fewer than 100 messages were sent" not in words(page())


def test_a_period_of_few_messages_is_compared_with_nothing():
    new = answers(
        {
            "delivered_before": 90,
            "in_band_before": 9,
            "reported_before": 9,
            "injected_before": 9,
            "rejected_before": 1,
            "admin_before": 1,
        }
    )
    shown = words(page(new))
    assert "Sent | 20,000 | messages delivered or bounced | Accepted" in shown
    assert "Nothing is compared, because fewer than 100 messages were sent in the 7 days before." in shown
    assert "vs the" not in shown


def test_times_are_those_of_the_zone():
    week = Period(*(day.replace(tzinfo=ZoneInfo("Asia/Kolkata")) for day in (WEEK.since, WEEK.until)))
    shown = words(page(period=week))
    assert "Made 11 Mar 2024, 11:30 from Athena. Time zone: Asia/Kolkata." in shown
    assert "Newest event | 11 Mar 2024, 05:27" in shown


def test_an_hour_that_has_only_begun_is_in_the_title_up_to_now():
    period = Period(datetime(2024, 3, 4, 7, tzinfo=UTC), datetime(2024, 3, 11, 7, tzinfo=UTC))
    assert "<h1>4 Mar 2024, 07:00 – 11 Mar 2024, 06:00</h1>" in page(period=period)  # noqa: RUF001


def test_without_a_finding_the_page_says_what_was_looked_at():
    quiet = answers({"complaints": 5})
    quiet["groups"] = [row for row in quiet["groups"] if row["dimension"] == "all"]
    assert "Needs attention | Nothing. No campaign, mailbox provider, domain or IP with 500 messages or more" in words(
        page(quiet)
    )


def test_a_finding_has_its_number_its_comparison_what_to_do_and_its_query():
    blocked = group("provider", "O'Mail", delivered=300, in_band=300, block=300, delivered_before=500)
    rows = [row for row in ANSWERS["groups"] if row["dimension"] == "all"]
    rows[0] = rows[0] | {"block": "350", "complaints": "0"}
    found = page(answers(groups=[*rows, blocked], overlaps=[overlap({"blocked": 300}, provider="O'Mail")]))
    assert (
        "act | Mailbox provider O'Mail | : | 50.0 % | blocked (300 of 600 sent). The rest of the mail: 0.26 %. "
        "The 7 days before: 0.00 %. | Read the reasons below"
    ) in words(found)
    assert "AND mailbox_provider = &#39;O&#39;&#39;Mail&#39;" in found
    assert "AND (metric IN (&#39;bounced&#39;, &#39;returned&#39;) AND bounce_group = &#39;Block&#39;)" in found


def test_only_what_is_named_on_top_is_marked_in_the_tables():
    blocked = group("provider", "GMX", delivered=300, in_band=300, block=300)
    campaign = group("campaign", "Sale", delivered=9000, in_band=700, block=300)
    rows = [row | {"block": "350", "complaints": "0"} for row in ANSWERS["groups"] if row["dimension"] == "all"]
    overlaps = [overlap({"blocked": 300}, provider="GMX", campaign="Sale")]
    shown = words(page(answers(groups=[*rows, blocked, campaign], overlaps=overlaps)))
    assert "GMX | 600 | 50.0 % | 50.0 % | act" in shown
    assert "Sale | 9,700 | 92.8 % | 7.22 % | not reported" in shown


def test_complaints_about_mail_that_was_accepted_before_are_shown():
    """A campaign of the day before the period: most of its complaints come in it."""
    ended = group("campaign", "Sale", complaints=12)
    rows = [row | {"complaints": "12", "reported": "0"} for row in ANSWERS["groups"] if row["dimension"] == "all"]
    shown = words(page(answers(groups=[*rows, ended])))
    assert re.search(r"Sale \| few \| 0 \| \S+ \| \S+ \| 12 about earlier mail", shown)
    assert "Complaints | 12 | about earlier mail: none of this mail was accepted where they are reported" in shown


def test_3000_campaigns_make_a_page_of_an_ordinary_size():
    many = [group("campaign", f"Campaign {number}", delivered=900) for number in range(3000)]
    text = page(answers(groups=[ANSWERS["groups"][0], *many]))
    assert text.count('<th role="rowheader"') == 25
    assert len(text) < 200_000


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("parts", [("delivered", "bounced"), ("clicked", "opened", "machine"), ("delayed",)])
def test_parts_of_a_bar_stand_out_from_each_other_and_from_the_paper(parts, dark):
    """WCAG 1.4.11: 3 to 1 between neighbours."""
    colours = dict(re.findall(r"--(\w+): #(\w{6});", CSS.split(":root {")[2 if dark else 1]))
    assert [one for one in parts if contrast(colours[one], colours["paper"]) < 3] == []
    assert [pair for pair in pairwise(parts) if contrast(*map(colours.get, pair)) < 3] == []


def contrast(one: str, other: str) -> float:
    """By WCAG's formula, of two colours in hexadecimal."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


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
    assert change(1100, 1000) == "+10 %"
    assert change(900, 1000) == "−10 %"  # noqa: RUF001
    assert change(72, 4) == ""
    assert change(1000, 99) == ""


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        (Rate(250, 1000), Rate(500, 1000), "−25.0 pp"),  # noqa: RUF001
        (Rate(30, 1000), Rate(20, 1000), "no clear change"),
        (Rate(300, 10_000), Rate(200, 10_000), "+1.0 pp"),
        (Rate(25, 99), Rate(500, 1000), ""),
        (Rate(250, 1000), Rate(0, 0), ""),
    ],
)
def test_rates_are_compared_only_where_that_means_something(now, before, shown):
    assert compared(now, before) == shown


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
        "over 24 hours later (sent again, or filled in)",
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


def test_completeness_has_its_section_where_it_is_known(ordinary):
    row = {"hour": "2026-11-20 10:00:00", "type": "open", "state": "proved", "ours": "5", "theirs": "5", "note": None}
    more = {"missing": "0", "strange": "0", "proof": "ids", "filled": "0", "erased": "0"}
    found = completeness.section([row | more | {"counted_at": "2026-11-20 20:10:00"}], WEEK.since, MADE)
    shown = render(
        figures(WEEK, ANSWERS, None), made_at=MADE, title="bird-webhooks", source="Athena", completeness=found
    )
    assert "Proved complete until 20 November, 11:00 UTC." in words(shown)
    assert "Completeness" not in words(ordinary)
