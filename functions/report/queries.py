"""The report's queries, as SQL with the same meaning in Trino (Athena), PostgreSQL and DuckDB. Pure.

All read the view `events_deduplicated`, so an event counts once. Like `event_date`, an event's period follows from its
own time, or from its arrival if it has none. Each query also names `event_date`, so that only those days are read.
"""

# ruff: noqa: S608  (what goes into the statements is made here: column names, numbers and times)
from dataclasses import dataclass
from datetime import datetime, timedelta

# Event types with one meaning. The class is not compared: no type has two, and Bird was seen to send another one.
OPENS = ("open", "initial_open", "amp_open", "amp_initial_open")
CLICKS = ("click", "amp_click")
UNSUBSCRIBES = ("list_unsubscribe", "link_unsubscribe")
REJECTIONS = ("policy_rejection", "generation_failure", "generation_rejection")
# Bird's other types. Known types come first in the answer, so that a flood of invented types cannot hide them.
RELAYS = ("relay_delivery", "relay_injection", "relay_permfail", "relay_rejection", "relay_tempfail")
OTHERS = ("sms_status", *RELAYS, "ab_test_completed", "ab_test_cancelled", "success", "error")
FAILURES = ("bounce", "out_of_band", "delay", *REJECTIONS)
# Classes whose action is `none` in sql/bounce_classes.csv: an out-of-band bounce of such a class, for example an
# automatic reply, does not mean that a message came back.
RETURN_NOTHING = (23, 25, 26, 50, 51, 52, 53, 54, 60, 80, 100)
# Feedback types (RFC 5965, RFC 6591) that are not a reader's complaint.
NO_COMPLAINTS = ("not-spam", "auth-failure")
OF_MESSAGES = ("injection", "delivery", *FAILURES, "spam_complaint", *OPENS, *CLICKS, *UNSUBSCRIBES)

# Bounds for the time from an event to its arrival, in seconds. The three engines have no percentile function in common.
LAGS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)

MAX_TYPES = 200
MAX_GROUPS = 25
MAX_REASONS = 300
MAX_EXTRAS = 500


@dataclass(frozen=True)
class Period:
    """From `since` up to, but not including, `until`; in UTC."""

    since: datetime
    until: datetime

    @property
    def before(self) -> "Period":
        """The period of the same length that ends where this one begins."""
        return Period(self.since - (self.until - self.since), self.since)

    @property
    def last_day(self) -> str:
        return (self.until - timedelta(microseconds=1)).date().isoformat()


def queries(period: Period) -> dict[str, str]:
    """SQL by name."""
    now, before = within(period), within(period.before)
    both = Period(period.before.since, period.until)
    opens = f"{now} AND type IN {names(OPENS)}"
    return {
        "types": f"""
            SELECT event_class, type, count(*) FILTER (WHERE {now}) AS events,
              count(*) FILTER (WHERE {before}) AS events_before, count(extra) FILTER (WHERE {now}) AS with_extra,
              max("timestamp") AS latest, max(received_at) AS latest_received
            FROM events_deduplicated WHERE {days(both)} AND {within(both)}
            GROUP BY event_class, type
            ORDER BY CASE WHEN type IN {names((*OF_MESSAGES, *OTHERS))} THEN 0 ELSE 1 END,
              events DESC, event_class, type
            LIMIT {MAX_TYPES}""",
        "totals": f"""
            SELECT count(*) FILTER (WHERE {now}) AS events, count(*) FILTER (WHERE {before}) AS events_before,
              count(extra) FILTER (WHERE {now}) AS with_extra,
              count(*) FILTER (WHERE {RETURNED} AND {now}) AS returned,
              count(*) FILTER (WHERE {RETURNED} AND {before}) AS returned_before,
              count(*) FILTER (WHERE {COMPLAINT} AND {now}) AS complaints,
              count(*) FILTER (WHERE {COMPLAINT} AND {before}) AS complaints_before,
              {messages(OPENS, now, people=True)} AS opened_by_people,
              {messages(OPENS, now)} AS opened, {messages(CLICKS, now, people=True)} AS clicked_by_people,
              {messages(OPENS, before, people=True)} AS opened_by_people_before,
              {messages(CLICKS, before, people=True)} AS clicked_by_people_before,
              count(*) FILTER (WHERE {opens} AND NOT {PROXY} AND {BY_PEOPLE}) AS opens_direct,
              count(*) FILTER (WHERE {opens} AND {PROXY} AND {BY_PEOPLE}) AS opens_by_proxy,
              count(*) FILTER (WHERE {opens} AND NOT {BY_PEOPLE}) AS opens_by_machine,
              count("timestamp") FILTER (WHERE {now}) AS timed,
              {", ".join(f"{arrived_within(lag, now)} AS within_{lag}" for lag in LAGS)}
            FROM events_deduplicated WHERE {days(both)} AND {within(both)}""",
        "hours": f"""
            SELECT date_trunc('hour', {MOMENT}) AS hour, count(*) AS events,
              {count("delivery")} AS delivered, count(*) FILTER (WHERE {BOUNCED}) AS bounced,
              {count("delay")} AS delayed, count(*) FILTER (WHERE {COMPLAINT}) AS complaints,
              {count(*OPENS, people=True)} AS opens, {count(*OPENS, people=False)} AS machine_opens,
              {count(*CLICKS, people=True)} AS clicks
            FROM events_deduplicated WHERE {days(period)} AND {now}
            GROUP BY date_trunc('hour', {MOMENT}) ORDER BY hour""",
        "campaigns": groups("campaign_id", period, by_account=True),
        "providers": groups("mailbox_provider", period),
        "bounce_classes": f"""
            SELECT bounce_class, count(*) AS events FROM events_deduplicated
            WHERE {days(period)} AND {now} AND {BOUNCED}
            GROUP BY bounce_class ORDER BY events DESC""",
        "reasons": f"""
            SELECT type, bounce_class, reason, count(*) AS events, sum(count(*)) OVER () AS all_events
            FROM events_deduplicated WHERE {days(period)} AND {now} AND type IN {names(FAILURES)}
            GROUP BY type, bounce_class, reason ORDER BY events DESC, type, reason LIMIT {MAX_REASONS}""",
        "extras": f"""
            SELECT CAST(extra AS varchar) AS extra, count(*) AS events, sum(count(*)) OVER () AS all_events
            FROM events_deduplicated WHERE {days(period)} AND {now} AND extra IS NOT NULL
            GROUP BY CAST(extra AS varchar) ORDER BY events DESC LIMIT {MAX_EXTRAS}""",
    }


def latest_day() -> str:
    """The newest day with events. It reads all days, so it is for use by hand, not for the daily report."""
    return "SELECT max(event_date) AS latest FROM events"


MOMENT = 'coalesce("timestamp", received_at)'
BY_PEOPLE = "(NOT coalesce(user_agent_parsed_is_prefetched, false))"
PROXY = "coalesce(user_agent_parsed_is_proxy, false)"
# Two accounts may use the same id for two messages.
MESSAGE = "coalesce(customer_id, '') || ' ' || coalesce(nullif(message_id, ''), event_key)"
RETURNED = f"(type = 'out_of_band' AND coalesce(bounce_class, 0) NOT IN {RETURN_NOTHING})"
BOUNCED = f"(type = 'bounce' OR {RETURNED})"
COMPLAINT = f"(type = 'spam_complaint' AND lower(coalesce(fbtype, '')) NOT IN {NO_COMPLAINTS})"


def days(period: Period) -> str:
    return f"event_date >= DATE '{period.since.date()}' AND event_date <= DATE '{period.last_day}'"


def within(period: Period) -> str:
    return f"{MOMENT} >= {literal(period.since)} AND {MOMENT} < {literal(period.until)}"


def literal(moment: datetime) -> str:
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'"


def names(types: tuple[str, ...]) -> str:
    return "({})".format(", ".join(f"'{name}'" for name in types))


def count(*types: str, people: bool | None = None) -> str:
    """How many events of these types: all, only people's (True), or only machines' (False)."""
    who = {None: "", True: f" AND {BY_PEOPLE}", False: f" AND NOT {BY_PEOPLE}"}[people]
    return f"count(*) FILTER (WHERE type IN {names(types)}{who})"


def messages(types: tuple[str, ...], condition: str, *, people: bool = False) -> str:
    """How many messages have at least one such event. Each message has one recipient."""
    who = f" AND {BY_PEOPLE}" if people else ""
    return f"count(DISTINCT CASE WHEN type IN {names(types)}{who} AND {condition} THEN {MESSAGE} END)"


def arrived_within(seconds: int, condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition} AND received_at <= \"timestamp\" + INTERVAL '{seconds}' SECOND)"


def groups(column: str, period: Period, *, by_account: bool = False) -> str:
    """The same figures for each value of a column, those with the most messages sent first."""
    now = within(period)
    account = "coalesce(customer_id, '')" if by_account else "''"
    return f"""
        SELECT coalesce({column}, '') AS name, {account} AS account, {count("delivery", "bounce")} AS sent,
          {count("delivery")} AS delivered,
          count(*) FILTER (WHERE {BOUNCED}) AS bounced, count(*) FILTER (WHERE {COMPLAINT}) AS complaints,
          {count(*UNSUBSCRIBES)} AS unsubscribes, {messages(OPENS, now, people=True)} AS opened_by_people,
          {messages(CLICKS, now, people=True)} AS clicked_by_people, count(*) OVER () AS all_groups
        FROM events_deduplicated WHERE {days(period)} AND {now} AND type IN {names(OF_MESSAGES)}
        GROUP BY coalesce({column}, ''){", " + account if by_account else ""}
        ORDER BY sent DESC, name, account LIMIT {MAX_GROUPS}"""
