"""What is counted of mail, and the rates made of it, as docs/metrics.md defines them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

FEW = 100  # messages: below this a rate says little, because one message moves it by a percent or more


@dataclass(frozen=True)
class Rate:
    """A part of a whole. `share` is None if the whole is 0."""

    part: int
    whole: int

    @property
    def share(self) -> float | None:
        return self.part / self.whole if self.whole else None

    def __sub__(self, other: "Rate") -> "Rate":
        return Rate(max(0, self.part - other.part), max(0, self.whole - other.whole))


@dataclass(frozen=True)
class Counts:
    """Messages of one group in one period; `report.queries` says what each is."""

    injected: int = 0
    rejected: int = 0
    admin: int = 0
    delivered: int = 0
    in_band: int = 0
    returned: int = 0
    hard: int = 0
    soft: int = 0
    block: int = 0
    replies: int = 0
    attempts_delayed: int = 0
    all_complaints: int = 0
    unsubscribed: int = 0
    delayed: int = 0
    opened: int = 0
    clicked: int = 0
    opened_by_proxy: int = 0
    displayed: int = 0
    prefetched: int = 0
    complaints: int = 0
    reported: int = 0
    waiting: int = 0
    unmeasurable: int = 0
    by_proxy_only: int = 0
    scanned: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any], suffix: str = "") -> Self:
        """From a row of the query `groups`. `suffix`: `_before` for the period before."""
        return cls(**{field.name: int(row[f"{field.name}{suffix}"] or 0) for field in fields(cls)})

    @property
    def targeted(self) -> int:
        return self.injected + self.rejected

    @property
    def sent(self) -> int:
        return self.delivered + self.in_band

    @property
    def accepted(self) -> int:
        return max(0, self.delivered - self.returned)

    @property
    def bounced(self) -> int:
        return self.in_band + self.returned

    @property
    def stopped(self) -> int:
        return self.admin + self.rejected

    @property
    def delivered_rate(self) -> Rate:
        return Rate(self.delivered, self.sent)

    @property
    def accepted_rate(self) -> Rate:
        return Rate(self.accepted, self.sent)

    @property
    def bounced_rate(self) -> Rate:
        return Rate(self.bounced, self.sent)

    @property
    def hard_rate(self) -> Rate:
        return Rate(self.hard, self.sent)

    @property
    def soft_rate(self) -> Rate:
        return Rate(self.soft, self.sent)

    @property
    def blocked_rate(self) -> Rate:
        return Rate(self.block, self.sent)

    @property
    def complaint_rate(self) -> Rate:
        """Of what was accepted by providers that report complaints."""
        return Rate(self.complaints, max(0, self.reported))

    @property
    def delayed_rate(self) -> Rate:
        """Of all that was tried: a provider that delays everything has accepted nothing."""
        return Rate(self.delayed, self.sent + self.waiting)

    @property
    def stopped_rate(self) -> Rate:
        return Rate(self.stopped, max(self.targeted, self.stopped))

    @property
    def unsubscribed_rate(self) -> Rate:
        return Rate(self.unsubscribed, self.accepted)

    @property
    def opened_rate(self) -> Rate:
        return Rate(self.opened, self.accepted)

    @property
    def opened_of_measurable(self) -> Rate:
        """Without the messages of which only a machine loaded the images."""
        return Rate(self.opened, max(0, self.accepted - self.unmeasurable))

    @property
    def unmeasurable_rate(self) -> Rate:
        return Rate(self.unmeasurable, self.accepted)

    @property
    def clicked_rate(self) -> Rate:
        return Rate(self.clicked, self.accepted)

    @property
    def few(self) -> bool:
        return self.sent < FEW


@dataclass(frozen=True)
class Overlap:
    """Mail in trouble that has these values, by dimension; `troubles` by the name of the rule."""

    account: str
    values: Mapping[str, str]
    troubles: Mapping[str, int]


@dataclass(frozen=True)
class Group:
    """One value of a dimension, such as a campaign. Dimension 'all' has one group: all mail."""

    dimension: str
    name: str
    account: str
    now: Counts
    before: Counts

    def has(self, overlap: Overlap) -> bool:
        if self.dimension == "campaign" and overlap.account != self.account:
            return False
        return self.dimension == "all" or overlap.values[self.dimension] == self.name
