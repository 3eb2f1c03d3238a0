"""What "Needs attention" and the alerts name, and what they do not."""

import pytest

from report.counts import Counts, Group, Overlap, Rate
from report.queries import TROUBLES, WATCHED
from report.rules import DEFAULTS, RULES, beyond_chance, needs_attention, thresholds


def all_mail(**counts: int) -> Group:
    return Group("all", "", "", Counts(**counts), Counts())


def provider(name: str, **counts: int) -> Group:
    return Group("provider", name, "", Counts(**counts), Counts())


def campaign(name: str, account: str = "", **counts: int) -> Group:
    return Group("campaign", name, account, Counts(**counts), Counts())


def overlap(rule: str, count: int, **values: str) -> Overlap:
    names = dict.fromkeys(WATCHED, "(unknown)") | values
    return Overlap("", names, dict.fromkeys(TROUBLES, 0) | {rule: count})


def named(*groups: Group, overlaps: tuple[Overlap, ...] = (), given=DEFAULTS) -> list[tuple[str, str, str]]:
    return [(one.rule.name, one.verdict, one.name) for one in needs_attention(groups, overlaps, given)]


def test_mail_without_trouble_needs_nothing():
    assert named(all_mail(delivered=9900, in_band=100, hard=60), provider("GMX", delivered=990, in_band=10)) == []
    assert named(all_mail()) == []


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"hard": 19}, []),
        ({"hard": 20}, [("hard", "watch", "GMX")]),
        ({"hard": 50}, [("hard", "act", "GMX")]),
        ({"block": 10}, [("blocked", "watch", "GMX")]),
        ({"soft": 100}, [("soft", "act", "GMX")]),
        ({"reported": 900, "complaints": 5}, [("complaint", "act", "GMX")]),
        ({"reported": 900, "complaints": 4}, []),  # fewer than five say nothing
        ({"reported": 0, "complaints": 0}, []),  # not reported
        ({"delayed": 120, "waiting": 20}, [("delayed", "watch", "GMX")]),
        ({"admin": 60}, [("stopped", "watch", "GMX")]),
    ],
)
def test_each_rule_has_its_two_thresholds(counts, found):
    everything = {name: number for name, number in counts.items() if name != "reported"}
    whole = all_mail(delivered=99_000, in_band=1000, reported=90_000, injected=100_000, **everything)
    assert named(whole, provider("GMX", delivered=900, in_band=100, injected=1000, **counts)) == found


def test_a_group_that_is_delayed_altogether_has_accepted_nothing_and_is_named():
    assert named(all_mail(delivered=90_000, delayed=600, waiting=600), provider("GMX", delayed=600, waiting=600)) == [
        ("delayed", "act", "GMX")
    ]


def test_a_small_group_is_named_however_many_are_larger():
    larger = [campaign(f"Large {number}", delivered=9000) for number in range(400)]
    small = campaign("Small", delivered=900, reported=900, complaints=45)
    assert named(all_mail(delivered=3_600_900, reported=900_000, complaints=45), *larger, small) == [
        ("complaint", "act", "Small")
    ]


def test_below_the_least_volume_nothing_is_named():
    whole = all_mail(delivered=90_000, in_band=499, hard=499)
    assert named(whole, provider("GMX", in_band=499, hard=499)) == []
    assert named(whole, provider("GMX", in_band=499, hard=499), given=thresholds("least_volume=499")) == [
        ("hard", "act", "GMX")
    ]


def test_a_share_no_higher_than_in_the_rest_is_the_trouble_of_all_mail():
    whole = all_mail(delivered=9400, in_band=600, hard=600)
    assert named(whole, provider("GMX", delivered=940, in_band=60, hard=60)) == [("hard", "act", "")]


def test_a_provider_that_blocks_explains_the_campaigns_that_were_sent_there():
    groups = [
        all_mail(delivered=9400, in_band=600, block=600),
        provider("GMX", delivered=200, in_band=580, block=580),
        campaign("Mostly to GMX", delivered=800, in_band=400, block=400),
        campaign("Other", delivered=8600, in_band=200, block=200),
    ]
    overlaps = (
        overlap("blocked", 390, provider="GMX", campaign="Mostly to GMX"),
        overlap("blocked", 190, provider="GMX", campaign="Other"),
        overlap("blocked", 20, provider="Yahoo", campaign="Other"),
    )
    assert named(*groups, overlaps=overlaps) == [("blocked", "act", "GMX")]


def test_what_remains_of_a_campaign_s_own_trouble_is_named_too():
    groups = [
        all_mail(delivered=9000, in_band=1000, block=1000),
        provider("GMX", delivered=200, in_band=580, block=580),
        campaign("Spam", delivered=580, in_band=420, block=420),
    ]
    overlaps = (
        overlap("blocked", 580, provider="GMX", campaign="Other"),
        overlap("blocked", 420, provider="Yahoo", campaign="Spam"),
    )
    assert named(*groups, overlaps=overlaps) == [("blocked", "act", "GMX"), ("blocked", "act", "Spam")]


def test_of_two_groups_of_the_same_mail_the_narrower_is_named():
    domain = Group(
        "recipient_domain", "closed.example.com", "", Counts(delivered=600, hard=600, returned=600), Counts()
    )
    unknown = provider("(unknown)", delivered=600, hard=600, returned=600)
    overlaps = (overlap("hard", 600, recipient_domain="closed.example.com"),)
    assert named(all_mail(delivered=90_000, hard=600, returned=600), unknown, domain, overlaps=overlaps) == [
        ("hard", "act", "closed.example.com")
    ]


def test_campaigns_of_two_accounts_do_not_explain_each_other():
    groups = [all_mail(delivered=90_000, in_band=900, hard=900)] + [
        campaign("Sale", account, delivered=100, in_band=450, hard=450) for account in ("1", "2")
    ]
    values = dict.fromkeys(WATCHED, "(unknown)") | {"campaign": "Sale"}
    overlaps = tuple(Overlap(account, values, dict.fromkeys(TROUBLES, 0) | {"hard": 450}) for account in ("1", "2"))
    assert [one.account for one in needs_attention(groups, overlaps)] == ["1", "2"]


def test_a_finding_compares_with_the_rest_and_the_period_before_if_these_are_large_enough():
    blocked = Group("provider", "GMX", "", Counts(delivered=300, in_band=300, block=300), Counts(delivered=99))
    [found] = needs_attention([all_mail(delivered=5400, in_band=300, block=303), blocked], [])
    assert (found.rate, found.rest, found.before) == (Rate(300, 600), Rate(3, 5100), None)


def test_the_worst_comes_first():
    groups = [
        all_mail(delivered=99_000, in_band=1000, hard=30, block=100),
        provider("Hard", delivered=970, in_band=30, hard=30),
        provider("Blocked", delivered=900, in_band=100, block=100),
    ]
    assert named(*groups) == [("blocked", "act", "Blocked"), ("hard", "watch", "Hard")]


def test_thresholds_are_changed_by_name():
    made = thresholds("blocked=2.5/10, least_volume=1000")
    assert made.least_volume == 1000
    assert (made.by_name["blocked"].watch, made.by_name["blocked"].act) == (2.5, 10)
    assert made.by_name["hard"] == DEFAULTS.by_name["hard"]
    assert thresholds("") == DEFAULTS
    assert [rule.name for rule in RULES] == list(TROUBLES)


@pytest.mark.parametrize(
    "text",
    ["blocked", "blocked=2", "blocked=10/2", "blocked=0/2", "blocked=2/101", "volume=5", "least_volume=1/2", "x=1/2"],
)
def test_what_is_not_a_threshold_is_refused(text):
    with pytest.raises(ValueError, match=text.split("=")[0]):
        thresholds(text)


@pytest.mark.parametrize(
    ("one", "other", "beyond"),
    [
        (Rate(20, 1000), Rate(10, 1000), False),
        (Rate(40, 1000), Rate(10, 1000), True),
        (Rate(99, 99), Rate(0, 1000), False),  # too few
        (Rate(120, 100), Rate(100, 100), False),  # more than all
        (Rate(0, 1000), Rate(0, 1000), False),
    ],
)
def test_two_shares_differ_beyond_chance(one, other, beyond):
    assert beyond_chance(one, other) is beyond
