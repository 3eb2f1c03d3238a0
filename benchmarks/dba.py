"""What the views cost in PostgreSQL, on a table of six million rows: `make bench ONLY=dba`.

python -m benchmarks.dba '{"days": 148, "messages": 16000, "rounds": 5, "keep_in": null}'

One real server on this machine. Its data stays in memory, jit and parallel workers are off, and it does not wait for
the disk: its months are not logged, which readers do not notice. The table is load_postgres' own; its rows come from
SQL: 2.5 events a message, 300,000 recipients of whom few get much, 1 % of mail bouncing in 18 classes, 1,500 addresses
that always bounce, ids at random. The table is kept in .local/bench and is the same until the date or the code that
makes it changes. Beside today's views, in turns, are those of the first round. What takes over a second is asked once.
"""

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.events import ROOT
from benchmarks.measure import WORK, Measures, Run, child, environment, goal

TIMEOUT_SECONDS = 3600
SETTINGS = (
    *("shared_buffers = '1GB'", "maintenance_work_mem = '512MB'", "max_wal_size = '8GB'", "autovacuum = off"),
    *("wal_level = minimal", "max_wal_senders = 0", "full_page_writes = off", "synchronous_commit = off"),
)
IN_MEMORY = "1.1"  # random_page_cost for a database in memory; PostgreSQL's default is 4
DEFAULT = ", random_page_cost 4"
SLOW_MILLISECONDS = 1000
QUICK_MILLISECONDS = 20
MANY = 12  # quick statements in each round
OURS, FIRST = "this version", "the first round's"
FIRST_ROUND = ROOT / "benchmarks/first_round"
HARD = "suppression_candidates, one address"
SOFT = "suppression_candidates, one address with soft bounces"
ALL = "suppression_candidates, all"
BY_CAMPAIGN = "by_campaign, 24 figures (before: opens_and_clicks_by_campaign, 5 figures)"
CAMPAIGN = "figures of one campaign"
NOT_PREPARED = ", planned each time"
# Of issue 17, in milliseconds: what "this version" takes.
GOALS = {HARD: 1.0, HARD + DEFAULT: 1.0, SOFT: 1.0, SOFT + DEFAULT: 1.0, ALL: 300.0}
STATEMENTS = {
    HARD: "SELECT * FROM {schema}.suppression_candidates WHERE rcpt_to = '{address}'",
    SOFT: "SELECT * FROM {schema}.suppression_candidates WHERE rcpt_to = '{soft}'",
    ALL: "SELECT * FROM {schema}.suppression_candidates",
    BY_CAMPAIGN: "SELECT * FROM {schema}.figures",
}
OURS_ONLY = {
    "list_export, all": "SELECT * FROM bird.list_export",
    "recipient_engagement, one address": "SELECT * FROM bird.recipient_engagement WHERE rcpt_to = '{address}'",
    "recipient_engagement, all: refresh of its materialised view": "REFRESH MATERIALIZED VIEW bird.engagement",
    "recipient_engagement, all, from its materialised view": "SELECT * FROM bird.engagement",
    CAMPAIGN: "SELECT event_date, type, count(*) FROM bird.events WHERE campaign_id = '{campaign}' "
    "AND event_date >= current_date - 30 GROUP BY 1, 2",
    "events of each type and day": "SELECT event_date, type, count(*) FROM bird.events "
    "WHERE type IN ('delivery', 'bounce') AND event_date >= current_date - 30 GROUP BY 1, 2",
    "delivered": "SELECT * FROM bird.delivered",
}
# Always-bouncing addresses are every 200th. One in five of them bounces softly, the others hard.
EVENTS = """
INSERT INTO bird.events (
  event_class, type, timestamp, event_id, event_key, batch_id, received_at, customer_id, subaccount_id, message_id,
  transmission_id, campaign_id, template_id, rcpt_to, recipient_domain, routing_domain, mailbox_provider, rcpt_meta,
  friendly_from, msg_from, subject, msg_size, injection_time, queue_time, num_retries, ip_pool, sending_ip,
  bounce_class, raw_reason, fbtype, target_link_url, user_agent, user_agent_parsed_is_prefetched, event_date
)
WITH messages AS MATERIALIZED (
  SELECT
    number, md5(random()::text) AS id, random() AS fate, (300000 * random() * random())::int AS recipient,
    %(day)s::date + random() * interval '1 day' AS sent
  FROM generate_series(1, %(messages)s) AS number
),
described AS MATERIALIZED (
  SELECT
    *, md5(%(day)s::text || number / 20) AS batch_id, (recipient %% 5)::text AS subaccount_id,
    md5((number / 50)::text) AS transmission_id,
    'campaign-' || to_char(%(day)s::date, 'YYYY-MM') || '-' || number %% 60 AS campaign_id,
    'template-' || number %% 60 AS template_id,
    'recipient-' || recipient || '@example-' || recipient %% 400 || '.example.com' AS rcpt_to,
    'example-' || recipient %% 400 || '.example.com' AS domain,
    (ARRAY['Gmail', 'Yahoo', 'Outlook', 'Apple', 'Other'])[1 + recipient %% 5] AS provider,
    jsonb_build_object('user', recipient, 'segment', 'segment-' || recipient %% 100) AS rcpt_meta,
    'bounces+' || recipient || '@mail.example.com' AS msg_from,
    'Our offers of this week, chosen for you: number ' || number %% 60 AS subject,
    '192.0.2.' || number %% 250 AS sending_ip
  FROM messages
),
happened AS (
  SELECT m.*, e.type, e.after FROM described m CROSS JOIN LATERAL (VALUES
    ('injection', 0), (CASE WHEN recipient %% 200 = 0 OR fate < 0.01 THEN 'bounce' ELSE 'delivery' END, 3)
  ) AS e (type, after)
  UNION ALL
  SELECT m.*, e.type, e.after FROM described m CROSS JOIN LATERAL (VALUES
    ('open', 3600), (CASE WHEN fate < 0.5 THEN 'initial_open' END, 3590),
    (CASE WHEN fate > 0.93 THEN 'click' END, 3700), (CASE WHEN fate > 0.9985 THEN 'list_unsubscribe' END, 3800),
    (CASE WHEN fate > 0.9996 THEN 'spam_complaint' END, 3900)
  ) AS e (type, after) WHERE m.fate BETWEEN 0.3 AND 0.5 OR m.fate > 0.93
  UNION ALL
  SELECT m.*, 'out_of_band', 7200 FROM described m WHERE recipient %% 200 <> 0 AND fate BETWEEN 0.02 AND 0.021
)
SELECT
  CASE WHEN type LIKE '%%unsubscribe' THEN 'unsubscribe_event' WHEN type IN ('open', 'initial_open', 'click')
    THEN 'track_event' ELSE 'message_event' END,
  type, date_trunc('second', sent) + after * interval '1 second', key, key,
  batch_id, sent + (after + 40) * interval '1 second', '12345', subaccount_id, id, transmission_id, campaign_id,
  template_id, rcpt_to, domain, domain, provider, rcpt_meta, 'Example Shop <news@mail.example.com>', msg_from, subject,
  40000 + number %% 9000, sent,
  CASE WHEN type = 'delivery' THEN (1000 / (0.001 + fate))::bigint END, number %% 3, 'marketing',
  sending_ip,
  CASE WHEN type IN ('bounce', 'out_of_band') THEN CASE
    WHEN recipient %% 1000 = 0 THEN 22 WHEN recipient %% 200 = 0 THEN 10
    ELSE (ARRAY[1, 10, 20, 21, 22, 23, 24, 25, 26, 30, 40, 50, 51, 52, 53, 54, 60, 70])[1 + number %% 18] END END,
  CASE WHEN type IN ('bounce', 'out_of_band')
    THEN '550 5.1.1 The email account that you tried to reach is not there' END,
  CASE WHEN type = 'spam_complaint' THEN 'abuse' END,
  CASE WHEN type = 'click' THEN 'https://shop.example.com/offers/' || number %% 60 END,
  CASE WHEN type IN ('open', 'initial_open', 'click')
    THEN 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)' END,
  CASE WHEN type IN ('open', 'initial_open', 'click') THEN number %% 2 = 0 END,
  (sent + after * interval '1 second')::date
FROM (SELECT *, md5(id || type) AS key FROM happened WHERE type IS NOT NULL) AS known
WHERE (sent + after * interval '1 second')::date = %(day)s::date
ORDER BY date_trunc('hour', sent), type, sent
"""


def measure(run: Run) -> list[Measures]:
    size = {"days": 35, "messages": 200} if run.quick else {"days": 148, "messages": 16000}
    run.progress("dba: the table of today's last run, or a new one")
    arguments = {**size, "rounds": run.rounds(5), "keep_in": str(WORK) if reachable(WORK, *WORK.parents) else None}
    got = child("dba", arguments, environment("LoadPostgresFunction"), timeout_seconds=TIMEOUT_SECONDS)
    measures = Measures("dba")
    note = f"{got['rows']:,} rows; processor time of the server, prepared statement, jit and parallel workers off"
    for name, contenders in got["milliseconds"].items():
        for contender, values in contenders.items():
            for value in values:
                measures.add(name, "ms", contender, value, note=note)
    run.progress(f"dba: the table took {got['making_seconds']:.0f} s, the statements {got['asking_seconds']:.0f} s")
    run.goals.extend(goals(got["milliseconds"], got["heap_fetches"]))
    return [measures]


def goals(milliseconds: Mapping[str, Mapping[str, Sequence[float]]], heap_fetches: int | None) -> Iterator[str]:
    """A line for each goal: the best of the rounds, because other work on the machine only adds to it.

    `heap_fetches`: rows that the figures of one campaign read from the table; None if not from an index alone.
    """
    for name, limit in GOALS.items():
        values = sorted(milliseconds[name][OURS])
        yield goal(values[0], limit, f"ms, {name}; median {values[len(values) // 2]:,.2f}", at_most=True)
    reads = math.inf if heap_fetches is None else heap_fetches
    yield goal(reads, 0, f"rows of the table read for {CAMPAIGN}", at_most=True)
    ours, first = (min(milliseconds[BY_CAMPAIGN][contender]) for contender in (OURS, FIRST))
    yield goal(ours / first, 1.0, "times what by_campaign replaced, in processor time", at_most=True)


MADE = "made-by-make-bench"


def kept_data(folder: Path, *size: int) -> Path:
    """Where the data of a server with these rows is, named for all that makes it. Others are removed."""
    from load_postgres.retention import KEPT_COLUMNS
    from load_postgres.schema import INDEXES, columns
    from local_aws.postgres import programs

    made_of = [EVENTS, SETTINGS, INDEXES, columns(), KEPT_COLUMNS, size, str(datetime.now(UTC).date()), str(programs())]
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    kept = folder / f"postgres-{name}"
    for other in folder.glob("postgres-*"):
        if other != kept or not (kept / MADE).exists():  # what is not logged is lost, unless the server ended in order
            shutil.rmtree(other)
    return kept


def reachable(*folders: Path) -> bool:
    """Whether the server's account, which is not root, gets through all of them."""
    return os.geteuid() != 0 or all(folder.stat().st_mode & 0o1 for folder in folders)


def main() -> None:
    from local_aws import postgres as local_postgres

    wanted = json.load(sys.stdin)
    size = wanted["days"], wanted["messages"]
    keep = kept_data(Path(wanted["keep_in"]), *size) if wanted["keep_in"] else None
    if keep:
        (keep / MADE).unlink(missing_ok=True)
    with local_postgres.running(keep=keep, settings=SETTINGS) as server:
        answer = Bench(server, wanted).run()
    if keep:
        (keep / MADE).touch()
    print(json.dumps(answer))


class Question(NamedTuple):
    name: str
    contender: str
    sql: str
    page_cost: str = IN_MEMORY
    prepared: bool = True


def questions(given: Mapping[str, str]) -> Iterator[Question]:
    """A statement's text names its page cost, because a prepared statement keeps the plan that it was given first."""
    for name, statement in STATEMENTS.items():
        for contender, schema in ((OURS, "bird"), (FIRST, "first")):
            sql = statement.format(schema=schema, **given)
            yield Question(name, contender, sql)
            if name in (HARD, SOFT):
                yield Question(name + DEFAULT, contender, f"{sql} /* 4 */", "4")
                yield Question(name + NOT_PREPARED, contender, sql, prepared=False)
    for name, statement in OURS_ONLY.items():
        yield Question(name, OURS, statement.format(**given))


def heap_fetches(plan: Sequence[str]) -> int | None:
    """Rows that index-only scans looked up in the table; None if the plan has another kind of scan."""
    text = "\n".join(plan)
    if re.search(r"(Index|Seq|Heap) Scan ", text):
        return None
    return sum(int(number) for number in re.findall(r"Heap Fetches: (\d+)", text))


class Bench:
    def __init__(self, server: Any, wanted: dict[str, Any]) -> None:
        self.server, self.wanted = server, wanted
        self.connection = server.connect()
        self.asked: set[Question] = set()
        self.connection.execute("SET statement_timeout = 0; SET jit = off; SET timezone = 'UTC'")
        self.connection.execute("SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_generic_plan")
        self.backend = f"/proc/{self.connection.info.backend_pid}/schedstat"

    def run(self) -> dict[str, Any]:
        began = datetime.now(UTC)
        if not self.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'bird'"):
            self.make_table()
        self.make_views()
        made = datetime.now(UTC)
        [[address]] = self.ask("SELECT min(rcpt_to) FROM bird.suppression_candidates WHERE reason = 'hard_bounce'")
        sql = "SELECT COALESCE(max(rcpt_to), '') FROM bird.suppression_candidates WHERE reason = 'soft_bounces'"
        [[soft]] = self.ask(sql)
        [[campaign]] = self.ask("SELECT max(campaign_id) FROM bird.events WHERE event_date = current_date - 1")
        [[rows]] = self.ask("SELECT count(*) FROM bird.events")
        given = {"address": address, "soft": soft, "campaign": campaign}
        found: dict[str, dict[str, list[float]]] = {}
        for _ in range(self.wanted["rounds"]):
            for question in questions(given):
                self.ask_in_turn(found.setdefault(question.name, {}).setdefault(question.contender, []), question)
        plans = [plan for (plan,) in self.ask(f"EXPLAIN (ANALYZE) {OURS_ONLY[CAMPAIGN].format(**given)}")]
        asked = datetime.now(UTC)
        return {
            "rows": rows,
            "milliseconds": found,
            "heap_fetches": heap_fetches(plans),
            "making_seconds": (made - began).total_seconds(),
            "asking_seconds": (asked - made).total_seconds(),
        }

    def ask_in_turn(self, values: list[float], question: Question) -> None:
        """A quick statement often, a slow one never a second time."""
        self.connection.execute(f"SET random_page_cost = {question.page_cost}")
        if not values or min(values) < SLOW_MILLISECONDS:
            values.append(self.milliseconds(question))
        while len(values) % MANY and min(values) < QUICK_MILLISECONDS:
            values.append(self.milliseconds(question))

    def make_table(self) -> None:
        """Month by month in two sessions; indexes after the rows, and those of the table take in the months' own."""
        from load_postgres import retention
        from load_postgres.schema import INDEXES, make_partition, prepare

        prepare(self.connection, "bird")
        retention.make_tables(self.connection, "bird")
        for name in INDEXES:
            self.connection.execute(f"DROP INDEX bird.{name}")
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=number) for number in range(self.wanted["days"], 0, -1)]
        months: dict[date, list[date]] = {}
        for day in days:
            months.setdefault(day.replace(day=1), []).append(day)
        for first in months:
            make_partition(self.connection, "bird", first)
        with ThreadPoolExecutor(2) as sessions:
            list(sessions.map(self.fill, months.values()))
        for name, definition in INDEXES.items():
            self.connection.execute(f"CREATE {definition.format(name=name, events='bird.events')}".encode())
        self.connection.execute("ANALYZE bird.events")

    def fill(self, days: list[date]) -> None:
        from load_postgres.schema import INDEXES, partition_name

        month = f"bird.{partition_name(days[0])}"
        with closing(self.server.connect()) as connection:
            connection.execute("SET statement_timeout = 0; SET work_mem = '256MB'; SET jit = off")
            connection.execute(f"ALTER TABLE {month} SET UNLOGGED")
            for day in days:
                connection.execute(EVENTS, {"day": str(day), "messages": self.wanted["messages"]})
            for definition in INDEXES.values():
                connection.execute(f"CREATE {definition.format(name='', events=month)}".encode())
            connection.execute(f"VACUUM (ANALYZE) {month}")

    def make_views(self) -> None:
        """Today's, by load_postgres, and those of the first round over the same table."""
        from load_postgres.database import VIEW_PARAMETERS
        from load_postgres.schema import apply_views, views_sql

        execute = self.connection.execute
        execute("SET client_min_messages = warning; DROP SCHEMA IF EXISTS first CASCADE")
        apply_views(self.connection, "bird", views_sql(VIEW_PARAMETERS))
        execute("CREATE SCHEMA first; SET search_path TO first, bird")
        first = (FIRST_ROUND / "suppression_candidates.sql").read_text()
        for name, value in VIEW_PARAMETERS.items():
            first = first.replace(f"${{{name}}}", value)
        execute(f"CREATE VIEW first.suppression_candidates AS {first}".encode())
        replaced = (FIRST_ROUND / "opens_and_clicks_by_campaign.sql").read_text()
        execute(f"CREATE VIEW first.figures AS {replaced}".encode())
        execute("SET search_path TO bird")
        for view, query in (("figures", "by_campaign"), ("delivered", "delivered")):
            execute(f"DROP VIEW IF EXISTS {view}")
            execute(f"CREATE VIEW {view} AS {(ROOT / f'sql/queries/{query}.sql').read_text()}".encode())
        if not self.ask("SELECT 1 FROM pg_class WHERE relname = 'engagement'"):
            execute("CREATE MATERIALIZED VIEW engagement AS SELECT * FROM recipient_engagement WITH NO DATA")

    def ask(self, sql: str, *, prepare: bool = True) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(sql.encode(), prepare=prepare).fetchall()
        return found

    def milliseconds(self, question: Question) -> float:
        """Processor time of the server's process, which a busy machine changes less than the time on the clock."""
        for _ in range(1 if question in self.asked or not question.prepared else 2):
            began = self.processor_nanoseconds()
            if question.sql.startswith("REFRESH"):
                self.connection.execute(question.sql.encode())
            else:
                self.ask(question.sql, prepare=question.prepared)
            taken = (self.processor_nanoseconds() - began) / 1e6
            if taken > SLOW_MILLISECONDS:
                break
        self.asked.add(question)
        return taken

    def processor_nanoseconds(self) -> int:
        return int(Path(self.backend).read_text().split()[0])


if __name__ == "__main__":
    main()
