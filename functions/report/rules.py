"""What needs attention: rules with thresholds over all mail and each of its groups. The one home of thresholds. Pure.

A group is named if a share of its mail is over a threshold, and higher than in the rest of the mail beyond chance. Then
it explains that part of all other groups: a campaign is not named because some of it went to a provider that is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from report.counts import Counts, Group, Overlap, Rate
from report.queries import COMPLAINED, DELAYED, STOPPED, of_group

FINE, WATCH, ACT = "fine", "watch", "act"
LEAST_COMPARED = 100  # messages on each side, or nothing is compared
# Of two groups with the same share the narrower one is named.
NARROW = ("recipient_domain", "campaign", "ip", "sending_domain", "provider", "all")
BEYOND_CHANCE = 3.0  # z of two proportions; by chance alone one comparison in 370 is as far off
LEAST_EVENTS = 5  # one complaint of 500 messages is 0.2 %, and says nothing


@dataclass(frozen=True)
class Rule:
    """`watch` and `act`: shares in percent from which on there is something to look at, and something to do."""

    name: str
    what: str
    of_what: str
    watch: float
    act: float
    condition: str
    advice: str

    def rate(self, counts: Counts) -> Rate:
        rate: Rate = getattr(counts, f"{self.name}_rate")
        return rate

    def verdict(self, rate: Rate) -> str:
        """FINE, WATCH or ACT, whatever the volume."""
        share = 100 * (rate.share or 0)
        return ACT if share >= self.act else WATCH if share >= self.watch else FINE


# Hard bounces: Bird pauses senders near 5 % and calls below 1 % healthy (bird.com, troubleshooting "Throttled or
# paused"). Complaints: Google asks senders to stay below 0.1 % and never to reach 0.3 %, and Yahoo for less than 0.3 %
# (support.google.com/a/answer/81126, senders.yahooinc.com/best-practices). The others are this project's choice.
RULES = (
    Rule(
        *("hard", "came back as undeliverable", "sent", 2, 5, of_group("Hard")),
        "Stop mailing these addresses (suppression_candidates has them), and find out where they came from.",
    ),
    Rule(
        *("blocked", "blocked", "sent", 1, 5, of_group("Block")),
        "Read the reasons below: they name the block list or policy. Send less there until it is lifted; if all mail "
        "of one IP or domain is affected, ask Bird's support.",
    ),
    Rule(
        *("soft", "bounced for now", "sent", 5, 10, of_group("Soft")),
        "Read the reasons below. Full mailboxes mean an old list; time-outs and DNS failures mean trouble on the way.",
    ),
    Rule(
        *("complaint", "marked as spam", "delivered where complaints are reported", 0.1, 0.3, COMPLAINED),
        "Send to people who asked for this mail and opened lately; make unsubscribing easy; compare with Google's "
        "Postmaster Tools, because Gmail reports no complaints to senders.",
    ),
    Rule(
        *("delayed", "delayed", "attempted", 10, 25, DELAYED),
        "Read the reasons below. A provider that delays new or unusual volume wants it slower; Bird retries for days.",
    ),
    Rule(
        *("stopped", "stopped by Bird", "targeted", 5, 10, STOPPED),
        "Most are addresses on Bird's suppression list. Remove them from the list that is mailed.",
    ),
)


@dataclass(frozen=True)
class Thresholds:
    """The rules in force, and the messages from which on they apply."""

    rules: tuple[Rule, ...] = RULES
    least_volume: int = 500

    @property
    def by_name(self) -> Mapping[str, Rule]:
        return {rule.name: rule for rule in self.rules}


NAMES = {
    "all": "All mail",
    "campaign": "Campaign",
    "provider": "Mailbox provider",
    "sending_domain": "Sending domain",
    "recipient_domain": "Recipient domain",
    "ip": "Sending IP",
    "ip_pool": "IP pool",
    "subaccount": "Subaccount",
    "template": "Template",
    "ab_version": "A/B version",
}
DEFAULTS = Thresholds()


@dataclass(frozen=True)
class Finding:
    """`dimension` is 'all' for all mail. `rest` is None if there is no other mail to compare with."""

    rule: Rule
    verdict: str
    dimension: str
    name: str
    account: str
    rate: Rate
    rest: Rate | None
    before: Rate | None

    @property
    def key(self) -> str:
        return "|".join((self.rule.name, self.dimension, self.account, self.name))


THRESHOLD = re.compile(r"(?P<name>[a-z_]+)=(?P<watch>\d+(?:\.\d+)?)(?:/(?P<act>\d+(?:\.\d+)?))?")


def thresholds(text: str) -> Thresholds:
    """From text such as `least_volume=1000 blocked=2/10`: watch and act in percent. Errors: ValueError."""
    made = DEFAULTS
    rules = dict(made.by_name)
    for word in text.replace(",", " ").split():
        found = THRESHOLD.fullmatch(word)
        if found and found["name"] == "least_volume" and not found["act"] and found["watch"].isdigit():
            made = replace(made, least_volume=max(1, int(found["watch"])))
        elif found and found["name"] in rules and found["act"]:
            watch, act = float(found["watch"]), float(found["act"])
            if not 0 < watch <= act <= 100:
                raise ValueError(f"{word}: two percentages, the first not above the second, are needed")
            rules[found["name"]] = replace(rules[found["name"]], watch=watch, act=act)
        else:
            raise ValueError(f"{word} is not a threshold: {', '.join(rules)} = watch/act in percent, or least_volume")
    return replace(made, rules=tuple(rules.values()))


def beyond_chance(one: Rate, other: Rate) -> bool:
    """Whether two shares differ by more than chance (two-proportion z-test), of at least 100 messages each."""
    return abs(z(one, other)) > BEYOND_CHANCE


def z(one: Rate, other: Rate) -> float:
    if min(one.whole, other.whole) < LEAST_COMPARED:
        return 0.0
    # More opens than messages are possible, because some were sent before: a share of at most 1 is compared.
    first, second = (min(rate.part, rate.whole) for rate in (one, other))
    common = (first + second) / (one.whole + other.whole)
    error = sqrt(common * (1 - common) * (1 / one.whole + 1 / other.whole))
    return (first / one.whole - second / other.whole) / error if error else 0.0


def needs_attention(
    groups: Iterable[Group], overlaps: Sequence[Overlap], given: Thresholds = DEFAULTS
) -> list[Finding]:
    """The worst first. `groups` has one group of dimension 'all'."""
    rest = list(groups)
    everything = next(group for group in rest if group.dimension == "all")
    found = [finding for rule in given.rules for finding in findings(rule, everything, rest, overlaps, given)]
    return sorted(found, key=lambda one: (one.verdict != ACT, -(one.rate.share or 0) / one.rule.act))


def findings(
    rule: Rule, everything: Group, groups: Sequence[Group], overlaps: Sequence[Overlap], given: Thresholds
) -> list[Finding]:
    """The group with the highest share comes first. What it explains is then taken from all others, and so on."""
    whole, left = rule.rate(everything.now), [overlap for overlap in overlaps if overlap.troubles[rule.name]]
    candidates = sorted(
        (group for group in groups if is_over(rule, rule.rate(group.now), given)),
        key=lambda group: (group.dimension == "all", -(rule.rate(group.now).share or 0), NARROW.index(group.dimension)),
    )
    explained, named = 0, []
    for group in candidates:
        rate = rule.rate(group.now)
        # Each message in trouble is explained once, so all mail needs no look at the overlaps.
        taken = explained if group is everything else trouble(rule, group, overlaps) - trouble(rule, group, left)
        remains = Rate(max(0, rate.part - taken), rate.whole)
        others = Rate(whole.part - explained, whole.whole) - remains
        if is_over(rule, remains, given) and (group is everything or z(remains, others) > BEYOND_CHANCE):
            named.append(finding(rule, group, whole))
            left = [overlap for overlap in left if not group.has(overlap)]
            explained += remains.part
    return named


def trouble(rule: Rule, group: Group, overlaps: Iterable[Overlap]) -> int:
    return sum(overlap.troubles[rule.name] for overlap in overlaps if group.has(overlap))


def is_over(rule: Rule, rate: Rate, given: Thresholds) -> bool:
    return rate.whole >= given.least_volume and rate.part >= LEAST_EVENTS and rule.verdict(rate) != FINE


def finding(rule: Rule, group: Group, whole: Rate) -> Finding:
    rate, before = rule.rate(group.now), rule.rate(group.before)
    rest = whole - rate
    return Finding(
        rule=rule,
        verdict=rule.verdict(rate),
        dimension=group.dimension,
        name=group.name,
        account=group.account,
        rate=rate,
        rest=rest if rest.whole >= LEAST_COMPARED and group.dimension != "all" else None,
        before=before if before.whole >= LEAST_COMPARED else None,
    )
