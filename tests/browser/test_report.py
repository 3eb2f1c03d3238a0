"""The report in Chromium: drawn, quiet, readable on a phone and in the dark, and deaf to what senders wrote."""

import csv
import json
from datetime import UTC, datetime
from io import StringIO

import pytest

from report.figures import Quarantine, figures
from report.page import render
from tests.report_answers import ANSWERS, NOTHING, WEEK, answers, group

MADE = datetime(2024, 3, 11, 6, tzinfo=UTC)
TITLE = "Email report 4 – 10 Mar 2024 · bird-webhooks"  # noqa: RUF001
# WCAG's contrast ratio of each element with its own text: its colour against the first background behind it.
CONTRASTS = """
    const light = (rgb) => {
      const [r, g, b] = rgb.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
        .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      const colour = getComputedStyle(element).backgroundColor;
      return colour !== "rgba(0, 0, 0, 0)" || !element.parentElement ? colour : behind(element.parentElement);
    };
    return [...document.body.querySelectorAll("*:not(script)")]
      .filter((one) => !one.closest("svg"))
      .filter((one) => [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
      .map((one) => {
        const [high, low] = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
        return [one.className + " " + one.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
      });
"""


def page(answers=ANSWERS) -> str:
    found = figures(WEEK, answers, Quarantine({"not JSON": 3}))
    return render(found, made_at=MADE, title="bird-webhooks", source="Athena")


def requests(browser) -> list[str]:
    """Every address that was requested since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]


def width_of_content(browser) -> int:
    return browser.execute_script("return document.documentElement.scrollWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desktop"])
def test_page_asks_for_nothing_and_complains_of_nothing(show, width, dark):
    browser = show(page(), width=width, dark=dark)
    assert [url for url in requests(browser) if not url.startswith(("file://", "data:,"))] == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("script", [True, False], ids=["with scripts", "without"])
def test_charts_are_drawn(show, script):
    browser = show(page(), script=script)
    charts = browser.find_elements("css selector", "svg.chart")
    assert [(chart.rect["width"], chart.rect["height"]) for chart in charts] == [(1104, 184)] * 3
    bars = browser.find_elements("css selector", "svg.chart path")
    assert [bar.get_attribute("class") for bar in bars] == [
        *("delivered", "bounced"),
        *("clicked", "opened", "unmeasurable"),
        "delayed",
    ]
    assert all(bar.rect["width"] > 900 and bar.rect["height"] > 5 for bar in bars)
    fills = [bar.value_of_css_property("fill") for bar in bars]
    assert (fills[0], fills[4]) == ("rgb(61, 139, 212)", 'url("#hatch")')


def test_without_scripts_there_is_no_button(show):
    assert show(page(), script=False).find_elements("tag name", "button") == []


def test_colours_follow_when_it_gets_dark(show, browser):
    show(page())
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
    fill = browser.find_element("css selector", "path.delivered").value_of_css_property("fill")
    assert fill == "rgb(45, 112, 184)"


@pytest.mark.parametrize("width", [320, 390, 768, 960, 1000, 1200])
def test_nothing_is_wider_than_the_window(show, width):
    browser = show(page(), width=width)
    assert width_of_content(browser) == width
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert width_of_content(browser) == width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(show, dark):
    contrasts = show(page(), dark=dark).execute_script(CONTRASTS)
    assert len(contrasts) > 90
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


def test_what_senders_wrote_stays_text(show):
    browser = show(page())
    assert browser.title == TITLE
    assert browser.execute_script("return document.images.length") == 0
    names = [one.text for one in browser.find_elements("css selector", "#by-campaign ~ table th[scope=row]")]
    assert names[1].startswith("</script><img src=x onerror=")


def test_a_script_that_got_in_would_not_run(show):
    """The second lock: with the escaping gone, the page's policy still holds."""
    hacked = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">"
    browser = show(page().replace("<main>", f"<main>{hacked}"))
    assert browser.title == TITLE
    refusals = [
        entry["message"] for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]
    ]
    assert len(refusals) >= 2


def test_first_screen_has_what_needs_attention_and_the_cards_come_next(show):
    browser = show(page())
    first = browser.find_element("css selector", ".finding")
    assert first.rect["y"] + first.rect["height"] < 400
    for label in ("Sent", "Accepted", "Bounced", "Complaints", "Stopped by Bird", "Delayed", "Opened", "Clicked"):
        card = browser.find_element("xpath", f"//dt[normalize-space(text())='{label}']/..")
        assert card.rect["y"] + card.rect["height"] < 1000


def test_charts_have_a_table_that_the_keyboard_opens(show):
    browser = show(page())
    summary = browser.find_element("css selector", "#volumes ~ details summary")
    summary.send_keys("\ue007")  # Enter
    rows = browser.find_elements("css selector", "#volumes ~ details tbody tr")
    assert rows[0].text == "4 Mar 2024, 06:00 34 1 3 0 2 17 5"


def first_names(browser) -> list[str]:
    return [one.text for one in browser.find_elements("css selector", "#by-provider ~ table tbody th [data-name]")]


def test_tables_sort_by_a_header(show):
    rows = [group("provider", name, delivered=sent, in_band=9) for name, sent in (("B", 900), ("C", 90), ("A", 1900))]
    browser = show(page(answers(groups=[ANSWERS["groups"][0], *rows])))
    headers = browser.find_elements("css selector", "#by-provider ~ table thead button")
    assert [header.text for header in headers][:3] == ["Mailbox provider", "Sent", "Accepted"]
    headers[1].click()
    assert first_names(browser) == ["A", "B", "C"]  # the most first
    headers[1].click()
    assert first_names(browser) == ["C", "B", "A"]
    headers[0].send_keys("\ue007")  # Enter
    assert first_names(browser) == ["A", "B", "C"]
    headers[3].click()  # bounced: 9 of 99, of 909, of 1,909
    assert first_names(browser) == ["C", "B", "A"]
    sorted_by = browser.find_elements("css selector", "#by-provider ~ table th[aria-sort]")
    assert [one.get_attribute("aria-sort") for one in sorted_by] == ["descending"]


def test_a_table_is_copied_as_csv_that_no_spreadsheet_runs(show, browser):
    names = ("=HYPERLINK(1)", 'Say "hi", twice', "-5")
    rows = [group("provider", name, delivered=1900, in_band=100, reported=1900, complaints=5) for name in names]
    rows.append(group("provider", "Gmail", delivered=1000))
    show(page(answers(groups=[ANSWERS["groups"][0], *rows])))
    copied = """
        const writeText = async (text) => { window.copied = text; };
        Object.defineProperty(navigator, "clipboard", { value: { writeText } });
        document.querySelector("#by-provider ~ .copy").click();
        return window.copied;"""
    header, *lines = csv.reader(StringIO(browser.execute_script(copied)))
    assert header[:6] == [
        *("Mailbox provider", "Sent", "Accepted, messages", "Accepted, %", "Bounced, messages", "Bounced, %"),
    ]
    assert [line[0] for line in lines] == ["'=HYPERLINK(1)", 'Say "hi", twice', "'-5", "Gmail"]
    assert lines[0][1:8] == ["2000", "1900", "95.0", "100", "5.00", "5", "0.26"]
    assert lines[3][6:8] == ["", "not reported"]


def test_printed_it_is_light_and_has_its_charts(show, browser):
    show(page(), dark=True)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    bar = browser.find_element("css selector", "path.delivered")
    assert (bar.value_of_css_property("fill"), bar.rect["height"] > 100) == ("rgb(61, 139, 212)", True)


def test_3000_campaigns_are_shown_as_quickly_as_three(show):
    many = [group("campaign", f"Campaign {number}", delivered=900) for number in range(3000)]
    browser = show(page(answers(groups=[ANSWERS["groups"][0], *many])), width=390)
    assert len(browser.find_elements("css selector", "#by-campaign ~ table tbody tr")) == 25
    assert width_of_content(browser) == 390


def test_empty_page_says_so_without_a_complaint(show):
    browser = show(page(NOTHING), width=390)
    assert browser.find_element("css selector", ".empty h2").text == "No events in this period"
    assert browser.get_log("browser") == []
    assert width_of_content(browser) == 390
