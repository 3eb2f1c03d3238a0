"""The report in Chromium: drawn, quiet, readable on a phone and in the dark, and deaf to what senders wrote."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from report.figures import Quarantine, figures
from report.page import render
from report.queries import Period

ANSWERS = json.loads((Path(__file__).resolve().parents[1] / "data/report_answers.json").read_text())
WEEK = Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC))
MADE = datetime(2024, 3, 11, 6, tzinfo=UTC)
TITLE = "Email report 4 – 10 Mar 2024 · bird-webhooks"  # noqa: RUF001
CHARTS = ("sending", "engagement")
# How many points of a canvas have each colour; those on the edge of two count for neither.
COLOURS = """
    const canvas = document.getElementById(arguments[0]);
    const points = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const found = {};
    for (let i = 0; i < points.length; i += 4) {
      if (points[i + 3] === 255) {
        const name = [points[i], points[i + 1], points[i + 2]].map((one) => one.toString(16).padStart(2, "0")).join("");
        found[name] = (found[name] || 0) + 1;
      }
    }
    return found;
"""
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


@pytest.mark.parametrize(
    ("dark", "chart", "colours"),
    [
        (False, "sending", {"2f6fb3", "d99a00", "c8442b"}),
        (False, "engagement", {"83429a", "0a8f6a", "a9b2bc"}),
        (True, "sending", {"5ba3e6", "e9b23c", "ef7a5f"}),
        (True, "engagement", {"c58ed6", "3cc29b", "5f6b78"}),
    ],
)
def test_charts_are_drawn_in_the_colours_of_the_light(show, dark, chart, colours):
    browser = show(page(), dark=dark)
    found = browser.execute_script(COLOURS, chart)
    assert {name for name, points in found.items() if points > 200} >= colours


def test_charts_follow_when_it_gets_dark(show, browser):
    show(page())
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})

    def is_dark(browser) -> bool:  # the page hears of it at its next frame, and then draws
        found = browser.execute_script(COLOURS, "sending")
        return found.get("5ba3e6", 0) > 200 and "2f6fb3" not in found

    WebDriverWait(browser, 10).until(is_dark)


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_is_wider_than_the_window(show, width):
    browser = show(page(), width=width)
    assert width_of_content(browser) == width
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert width_of_content(browser) == width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(show, dark):
    contrasts = show(page(), dark=dark).execute_script(CONTRASTS)
    assert len(contrasts) > 100
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


def test_what_senders_wrote_stays_text(show):
    browser = show(page())
    assert browser.title == TITLE
    assert browser.execute_script("return document.images.length") == 0
    names = [one.text for one in browser.find_elements("css selector", "#campaigns ~ table th[scope=row]")]
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


def test_first_screen_has_what_matters(show):
    browser = show(page())
    for label in ("Sent", "Delivered", "Bounced", "Complaints", "People opened", "People clicked"):
        card = browser.find_element("xpath", f"//dt[.='{label}']/..")
        assert card.rect["y"] + card.rect["height"] < 400


def test_charts_have_a_table_that_the_keyboard_opens(show):
    browser = show(page())
    summary = browser.find_element("css selector", "#volumes ~ details summary")
    summary.send_keys("\ue007")  # Enter
    rows = browser.find_elements("css selector", "#volumes ~ details tbody tr")
    assert rows[0].text == "4 Mar 2024, 06:00 102 34 3 1 0 2 17 5"
    labels = [browser.find_element("id", chart).get_attribute("aria-label") for chart in CHARTS]
    assert all("the table below has the figures" in label for label in labels)


def test_printed_it_is_light_and_has_its_charts(show, browser):
    show(page(), dark=True)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script(COLOURS, "sending").get("2f6fb3", 0) > 200
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"


def test_empty_page_says_so_without_a_complaint(show):
    nothing = {**{name: [] for name in ANSWERS}, "totals": [dict.fromkeys(ANSWERS["totals"][0], "0")]}
    browser = show(page(nothing), width=390)
    assert browser.find_element("css selector", ".empty h2").text == "No events in this period"
    assert browser.get_log("browser") == []
    assert width_of_content(browser) == 390
