"""The report's queries, as SQL with the same meaning in Trino (Athena), PostgreSQL and DuckDB. Pure.

Figures of mail come from the view `mail_events`, which gives each event the metric that it counts in (docs/metrics.md).
Figures of the data itself come from `events_deduplicated`. In both an event counts once. Like `event_date`, an event's
period follows from its own time, or from its arrival if it has none. Each query also names `event_date`, so that only
those days are read.
"""

# ruff: noqa: S608  (what goes into the statements is made here: column names, numbers, times, quoted text)
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# content/docs/deliverability/bounce-classification-codes.md of https://github.com/SparkPost/support-docs
BOUNCE_CLASSES = {
    1: ("Undetermined", "undetermined"),
    10: ("Invalid recipient", "hard"),
    20: ("Soft bounce", "soft"),
    21: ("DNS failure", "soft"),
    22: ("Mailbox full", "soft"),
    23: ("Too large", "soft"),
    24: ("Timeout", "soft"),
    25: ("Admin failure", "admin"),
    26: ("Smart Send suppression", "admin"),
    30: ("Generic bounce, no recipient", "hard"),
    40: ("Generic bounce", "soft"),
    50: ("Mail block", "block"),
    51: ("Spam block", "block"),
    52: ("Spam content", "block"),
    53: ("Prohibited attachment", "block"),
    54: ("Relaying denied", "block"),
    60: ("Auto-reply", "soft"),
    70: ("Transient failure", "soft"),
    80: ("Subscribe", "admin"),
    90: ("Unsubscribe", "hard"),
    100: ("Challenge-response", "soft"),
}


# Event types with one meaning. The class is not compared: no type has two, and Bird was seen to send another one.
OPENS = ("open", "initial_open", "amp_open", "amp_initial_open")
CLICKS = ("click", "amp_click")
UNSUBSCRIBES = ("list_unsubscribe", "link_unsubscribe")
REJECTIONS = ("policy_rejection", "generation_failure", "generation_rejection")
# Bird's other types. Known types come first in the answer, so that a flood of invented types cannot hide them.
RELAYS = ("relay_delivery", "relay_injection", "relay_permfail", "relay_rejection", "relay_tempfail")
OTHERS = ("sms_status", *RELAYS, "ab_test_completed", "ab_test_cancelled", "success", "error")
FAILURES = ("bounce", "out_of_band", "delay", *REJECTIONS)
SENDING = ("delivery", "bounce", "out_of_band", "delay", "spam_complaint")
OF_MESSAGES = ("injection", "delivery", *FAILURES, "spam_complaint", *OPENS, *CLICKS, *UNSUBSCRIBES)

# Bounds for the time from an event to its arrival, in seconds. The three engines have no percentile function in common.
LAGS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)

# Feedback types (RFC 5965, RFC 6591) that are not a reader's complaint.
NO_COMPLAINTS = ("not-spam", "auth-failure")
# Google tells senders of no complaint (support.google.com/a/answer/81126 leads to Postmaster Tools instead). One that
# names it comes from where its mail was forwarded to. The view complaint_reporters has the same names.
NEVER_REPORT = ("gmail", "gsuite", "g suite", "google apps", "google workspace")
REPORTING_DAYS = 90  # a mailbox provider reports complaints if it did within these days (docs/metrics.md)
MAX_TYPES = 200
MAX_GROUPS = 25
MAX_WATCHED = 5000  # groups of each kind that the rules look at
MAX_OVERLAPS = 3000
MAX_REASONS = 300
MAX_EXTRAS = 500

MOMENT = 'coalesce("timestamp", received_at)'

BOUNCED = "metric IN ('bounced', 'returned')"
COMPLAINED = "metric = 'complained'"
DELAYED = "metric = 'delayed'"  # at the first attempt
DELAYS = "metric IN ('delayed', 'delayed_again')"
STOPPED = "metric IN ('admin_bounced', 'rejected')"
OPENED = "metric IN ('opened', 'opened_by_proxy', 'clicked')"  # by a person: confirmed by a click too


def of_group(group: str) -> str:
    return f"({BOUNCED} AND bounce_group = '{group}')"


# What a message counts for within one period, by name. These count events, because Bird delivers a message once.
EVENTS = {
    "injected": "metric = 'injected'",
    "rejected": "metric = 'rejected'",
    "admin": "metric = 'admin_bounced'",
    "delivered": "metric = 'delivered'",
    "in_band": "metric = 'bounced'",
    "returned": "metric = 'returned'",
    "hard": of_group("Hard"),
    "soft": of_group("Soft"),
    "block": of_group("Block"),
    "replies": "metric = 'replied'",
    "attempts_delayed": DELAYS,
}
# These count a message once, however often it happened.
FLAGS = {
    "all_complaints": COMPLAINED,
    "unsubscribed": "metric = 'unsubscribed'",
    "delayed": DELAYED,
    "opened": OPENED,
    "clicked": "metric = 'clicked'",
    "opened_by_proxy": "metric = 'opened_by_proxy'",
    "displayed": "metric = 'opened'",
    "prefetched": "metric = 'prefetched'",
}
# These follow from the others.
DERIVED = {
    "complaints": "CASE WHEN reports = 1 THEN all_complaints ELSE 0 END",
    "reported": "CASE WHEN reports = 1 THEN delivered - returned ELSE 0 END",
    "waiting": "CASE WHEN attempts_delayed > 0 AND delivered + in_band + admin = 0 THEN 1 ELSE 0 END",
    "unmeasurable": "CASE WHEN opened = 0 THEN prefetched ELSE 0 END",
    "by_proxy_only": "CASE WHEN displayed = 0 AND clicked = 0 THEN opened_by_proxy ELSE 0 END",
    # All its clicks came within 10 s of the delivery, or on several links within 5 s: likely a link scanner's.
    "scanned": """CASE WHEN clicked = 1 AND (last_click <= delivered_at + INTERVAL '10' SECOND
                  OR first_link <> last_link AND last_click <= first_click + INTERVAL '5' SECOND) THEN 1 ELSE 0 END""",
}
# What the rules are about, by the name of the rule.
TROUBLES = {
    "hard": "hard",
    "blocked": "block",
    "soft": "soft",
    "complaint": "complaints",
    "delayed": "delayed",
    "stopped": "(admin + rejected)",
}
MEASURES = (*EVENTS, *FLAGS, *DERIVED)

# What mail can be grouped by: the column of `mail_events`.
DIMENSIONS = {
    "campaign": "campaign_id",
    "provider": "mailbox_provider",
    "sending_domain": "sending_domain",
    "recipient_domain": "recipient_domain",
    "ip": "sending_ip",
    "ip_pool": "ip_pool",
    "subaccount": "subaccount_id",
    "template": "template_id",
    "ab_version": "coalesce(ab_test_id || ' version ' || CAST(ab_test_version AS varchar), '(none)')",
}
WATCHED = ("campaign", "provider", "sending_domain", "recipient_domain", "ip")
# What each account at Bird gives its own names to.
OF_ACCOUNT = ("campaign", "ip_pool", "subaccount", "template", "ab_version")


@dataclass(frozen=True)
class Period:
    """From `since` up to, but not including, `until`; both in the zone in which the page shows times."""

    since: datetime
    until: datetime

    @property
    def before(self) -> "Period":
        """The period of the same length, by the clock of the zone, that ends where this one begins."""
        return Period(self.since - (self.until - self.since), self.since)

    @property
    def last_day(self) -> str:
        return (self.until - timedelta(microseconds=1)).date().isoformat()

    @property
    def shift(self) -> timedelta:
        """How far this zone's hours begin before UTC's, such as 30 minutes in India."""
        return (self.since.utcoffset() or timedelta()) % timedelta(hours=1)


def queries(period: Period, least_volume: int, by: Sequence[str] = ()) -> dict[str, str]:
    """SQL by name. `by`: dimensions to show beside campaign and provider; `least_volume`: messages from which on a
    group is in the answer whatever its place."""
    now, before = within(period), within(period.before)
    both = Period(period.before.since, period.until)
    hour = f"date_trunc('hour', moment + INTERVAL '{period.shift.seconds // 60}' MINUTE)"
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
              count(extra) FILTER (WHERE {now}) AS with_extra, count("timestamp") FILTER (WHERE {now}) AS timed,
              {", ".join(f"{arrived_within(lag, now)} AS within_{lag}" for lag in LAGS)}
            FROM events_deduplicated WHERE {days(both)} AND {within(both)}""",
        "groups": groups(period, least_volume, by),
        "overlaps": overlaps(period),
        "hours": f"""
            SELECT {hour} AS hour, {counted("delivered", "metric = 'delivered'")}, {counted("bounced", BOUNCED)},
              {counted("delayed", f"{DELAYED} AND nth = 1")}, {counted("complaints", f"{COMPLAINED} AND nth = 1")}
            FROM (
              SELECT metric, seen AS moment, row_number() OVER (PARTITION BY metric, message ORDER BY seen) AS nth
              FROM mail_events WHERE {days(period)} AND {seen(period)} AND type IN {names(SENDING)}
            ) AS ordered
            GROUP BY {hour} ORDER BY hour""",
        # Each message counts once, in the hour of a person's first open or click, or a machine's if there is no person.
        "engagement": f"""
            SELECT {hour} AS hour, {counted("clicked", "clicked = 1")},
              {counted("opened", "clicked = 0 AND opened_at IS NOT NULL")},
              {counted("unmeasurable", "opened_at IS NULL")}
            FROM (
              SELECT clicked, opened_at, coalesce(opened_at, loaded_at) AS moment FROM (
                SELECT max(CASE WHEN metric = 'clicked' THEN 1 ELSE 0 END) AS clicked,
                  min(CASE WHEN {OPENED} THEN seen END) AS opened_at,
                  min(CASE WHEN metric = 'prefetched' THEN seen END) AS loaded_at
                FROM mail_events WHERE {days(period)} AND {seen(period)} AND type IN {names((*OPENS, *CLICKS))}
                GROUP BY message
              ) AS messages
            ) AS first_times
            WHERE moment IS NOT NULL GROUP BY {hour} ORDER BY hour""",
        "bounce_classes": f"""
            SELECT bounce_class, count(*) AS events FROM mail_events
            WHERE {days(period)} AND {seen(period)} AND type IN ('bounce', 'out_of_band') AND {BOUNCED}
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


def groups(period: Period, least_volume: int, by: Sequence[str] = ()) -> str:
    """The measures of all mail (dimension 'all') and of each value of each dimension, now and in the period before.

    All dimensions are made in one pass over the messages. An answer has a dimension's largest groups, and all with
    `least_volume` messages.
    """
    dimensions = tuple(dict.fromkeys((*WATCHED, *by)))
    sets = ", ".join(f"(account, {name})" if name in OF_ACCOUNT else f"({name})" for name in dimensions)
    which = " ".join(f"WHEN GROUPING({name}) = 0 THEN CAST('{name}' AS varchar)" for name in dimensions)
    value = " ".join(f"WHEN GROUPING({name}) = 0 THEN {name}" for name in dimensions)
    sums = ", ".join(
        f"coalesce(sum({name}) FILTER (WHERE is_now = {is_now}), 0) AS {name}{suffix}"
        for name in MEASURES
        for is_now, suffix in ((1, ""), (0, "_before"))
    )
    no_dimension = 2 ** len(dimensions) - 1
    return f"""
        WITH {messages(Period(period.before.since, period.until), period.since, dimensions)},
        summed AS (
          SELECT CASE {which} ELSE CAST('all' AS varchar) END AS dimension,
            CASE {value} ELSE CAST('' AS varchar) END AS name,
            CASE WHEN GROUPING(account) = 0 THEN account ELSE CAST('' AS varchar) END AS account, {sums}
          FROM messages GROUP BY GROUPING SETS ((), {sets})
          HAVING count(*) FILTER (WHERE is_now = 1) > 0 OR GROUPING({", ".join(dimensions)}) = {no_dimension}
        ),
        placed AS (
          SELECT summed.*, row_number() OVER (
              PARTITION BY dimension ORDER BY delivered + in_band DESC, name, account) AS place,
            count(*) OVER (PARTITION BY dimension) AS all_groups
          FROM summed
        )
        SELECT * FROM placed WHERE place <= {MAX_GROUPS}
          OR place <= {MAX_WATCHED} AND delivered + in_band + waiting + rejected + admin >= {least_volume}
        ORDER BY dimension, place"""


def overlaps(period: Period) -> str:
    """Where the mail in trouble is: how much of it each combination of values has, the largest first.

    From it follows whether a campaign is in trouble of its own, or only because some of it goes to a provider that is.
    """
    values = ", ".join(WATCHED)
    sums = ", ".join(f"sum({what}) AS {name}" for name, what in TROUBLES.items())
    return f"""
        WITH {messages(period, period.since, WATCHED)},
        summed AS (
          SELECT account, {values}, {sums} FROM messages
          WHERE {" + ".join(TROUBLES.values())} > 0 GROUP BY account, {values}
        )
        SELECT * FROM summed ORDER BY {" + ".join(TROUBLES)} DESC, account, {values}
        LIMIT {MAX_OVERLAPS}"""


def messages(period: Period, now: datetime, dimensions: Sequence[str]) -> str:
    """Tables for a WITH, the last of which is `messages`: one row for each message, before and since `now`.

    Which providers report complaints is read from `events`: whether an event is there twice does not matter, and 90
    days of three columns are cheap.
    """
    return f"""reporting AS (
          SELECT DISTINCT mailbox_provider AS reporter FROM events
          WHERE event_date > DATE '{utc(period.until).date() - timedelta(days=REPORTING_DAYS)}'
            AND event_date <= DATE '{last_date(period)}' AND type = 'spam_complaint'
            AND lower(coalesce(fbtype, '')) NOT IN {NO_COMPLAINTS} AND lower(mailbox_provider) NOT IN {NEVER_REPORT}
        ),
        of_message AS (
          SELECT CASE WHEN seen >= {literal(now)} THEN 1 ELSE 0 END AS is_now,
            coalesce(customer_id, '') AS account, message,
            {", ".join(f"{named(DIMENSIONS[name])} AS {name}" for name in dimensions)},
            {", ".join(f"count(*) FILTER (WHERE {what}) AS {name}" for name, what in EVENTS.items())},
            {", ".join(f"max(CASE WHEN {what} THEN 1 ELSE 0 END) AS {name}" for name, what in FLAGS.items())},
            min(CASE WHEN metric = 'delivered' THEN seen END) AS delivered_at,
            min(CASE WHEN metric = 'clicked' THEN seen END) AS first_click,
            max(CASE WHEN metric = 'clicked' THEN seen END) AS last_click,
            min(CASE WHEN metric = 'clicked' THEN target_link_url END) AS first_link,
            max(CASE WHEN metric = 'clicked' THEN target_link_url END) AS last_link
          FROM mail_events WHERE {days(period)} AND {seen(period)}
          GROUP BY 1, 2, 3
        ),
        known AS (
          SELECT o.*, CASE WHEN r.reporter IS NULL THEN 0 ELSE 1 END AS reports
          FROM of_message o LEFT JOIN reporting r ON r.reporter = o.provider
        ),
        messages AS (SELECT known.*, {", ".join(f"{sql} AS {name}" for name, sql in DERIVED.items())} FROM known)"""


def named(column: str) -> str:
    """The value of a message, whose events need not all have it: as text, a placeholder may sort behind a name."""
    return f"coalesce(max(nullif(nullif({column}, '(none)'), '(unknown)')), max({column}))"


def rows_of(period: Period, dimension: str, name: str, account: str, condition: str) -> str:
    """The newest events behind a finding, to run in Athena or PostgreSQL. In a masked name each address is a `%`."""
    which = f"\n  AND customer_id = {quoted(account)}" if account else ""
    if dimension != "all":
        pattern = quoted(name.replace("<address>", "%"))
        which += f"\n  AND {DIMENSIONS[dimension]} {'LIKE' if '<address>' in name else '='} {pattern}"
    return (
        "SELECT seen, metric, bounce_class, reason, campaign_id, mailbox_provider, recipient_domain, sending_ip,"
        f" message_id\nFROM mail_events\nWHERE {days(period)}\n  AND {seen(period)}{which}\n  AND {condition}\n"
        "ORDER BY seen DESC\nLIMIT 100"
    )


def quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


def utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def last_date(period: Period) -> str:
    return (utc(period.until) - timedelta(microseconds=1)).date().isoformat()


def days(period: Period) -> str:
    return f"event_date >= DATE '{utc(period.since).date()}' AND event_date <= DATE '{last_date(period)}'"


def within(period: Period) -> str:
    return f"{MOMENT} >= {literal(period.since)} AND {MOMENT} < {literal(period.until)}"


def seen(period: Period) -> str:
    """Of `mail_events`."""
    return f"seen >= {literal(period.since)} AND seen < {literal(period.until)}"


def literal(moment: datetime) -> str:
    return f"TIMESTAMP '{utc(moment):%Y-%m-%d %H:%M:%S}'"


def names(types: Sequence[str]) -> str:
    return "({})".format(", ".join(f"'{name}'" for name in types))


def counted(name: str, condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition}) AS {name}"


def arrived_within(seconds: int, condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition} AND received_at <= \"timestamp\" + INTERVAL '{seconds}' SECOND)"
