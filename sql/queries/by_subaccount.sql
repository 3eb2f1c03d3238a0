-- by_subaccount: what became of each subaccount's mail
--
-- Written by `make generate` from sql/by_message.sql. By message: those delivered or refused within the days, and what became of
-- them within the days. docs/metrics.md has the formulas.
--
-- Columns:
--   subaccount_id varchar: 0 for the primary account
--   sent bigint: messages delivered or refused in band
--   delivered bigint: messages that the remote server took
--   accepted bigint: delivered and not returned
--   bounced bigint: messages refused for good, and returned ones
--   hard bigint: messages of bounced whose recipient does not exist
--   block bigint: messages of bounced that the provider blocked
--   delayed bigint: messages refused for now at least once
--   opened bigint: messages that a person opened or clicked in
--   opened_by_proxy bigint: messages of opened that only an image proxy showed: a person, whose client is unknown
--   unmeasurable bigint: messages that only a machine opened (Apple Mail): nobody can tell whether a person read them
--   clicked bigint: messages in which a person followed a link
--   likely_scanners bigint: messages of clicked whose clicks look like a program's: within 10 s of delivery, or several links in 5 s
--   unsubscribed bigint: messages from which a person unsubscribed
--   complaints bigint: messages marked as spam
--   bounce_rate decimal(12,4): bounced, in percent of sent
--   hard_rate decimal(12,4): hard, in percent of sent
--   block_rate decimal(12,4): block, in percent of sent
--   delayed_rate decimal(12,4): delayed, in percent of accepted
--   open_rate decimal(12,4): opened, in percent of accepted
--   measurable_open_rate decimal(12,4): opened, in percent of accepted without unmeasurable: an estimate
--   click_rate decimal(12,4): clicked, in percent of accepted
--   unsubscribe_rate decimal(12,4): unsubscribed, in percent of accepted
--   complaint_rate decimal(12,4): complaints at providers that report them, in percent of accepted there; NULL: not reported
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `day`
-- OFFSET 0 leaves nothing out: it makes PostgreSQL work out the metric of an event, and each flag, once and not for each column
-- that names it.
WITH mail AS (
  SELECT customer_id, message, metric, subaccount_id, mailbox_provider, bounce_group, seen, target_link_url
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN (
      'delivery', 'bounce', 'out_of_band', 'delay', 'open', 'initial_open', 'amp_open', 'amp_initial_open',
      'click', 'amp_click', 'list_unsubscribe', 'link_unsubscribe', 'spam_complaint'
    )
  OFFSET 0
),
flags AS (
  SELECT
    customer_id, message, subaccount_id, mailbox_provider, seen, target_link_url,
    metric = 'delivered' AS delivered,
    metric = 'bounced' AS refused,
    metric = 'returned' AS returned,
    metric IN ('bounced', 'returned') AND bounce_group = 'Hard' AS hard,
    metric IN ('bounced', 'returned') AND bounce_group = 'Block' AS block,
    metric IN ('delayed', 'delayed_again') AS delayed,
    metric IN ('opened', 'clicked') AS opened,
    metric = 'opened_by_proxy' AS by_proxy,
    metric = 'prefetched' AS prefetched,
    metric = 'clicked' AS clicked,
    metric = 'unsubscribed' AS unsubscribed,
    metric = 'complained' AS complained
  FROM mail
  OFFSET 0
),
messages AS (
  SELECT
    customer_id,
    max(CASE WHEN delivered OR refused THEN subaccount_id END) AS subaccount_id,
    max(CASE WHEN delivered THEN mailbox_provider END) AS provider,
    bool_or(delivered) AS delivered,
    bool_or(refused) AS refused,
    bool_or(returned) AS returned,
    bool_or(hard) AS hard,
    bool_or(block) AS block,
    bool_or(delayed) AS delayed,
    bool_or(opened) AS opened,
    bool_or(by_proxy) AS by_proxy,
    bool_or(prefetched) AS prefetched,
    bool_or(unsubscribed) AS unsubscribed,
    bool_or(complained) AS complained,
    min(CASE WHEN delivered THEN seen END) AS delivered_at,
    min(CASE WHEN clicked THEN seen END) AS first_click,
    max(CASE WHEN clicked THEN seen END) AS last_click,
    min(CASE WHEN clicked THEN target_link_url END) AS one_link,
    max(CASE WHEN clicked THEN target_link_url END) AS other_link
  FROM flags
  GROUP BY customer_id, message
),
counts AS (
  SELECT
    m.subaccount_id,
    m.customer_id,
    count(*) AS sent,
    count(*) FILTER (WHERE m.delivered) AS delivered,
    count(*) FILTER (WHERE m.delivered AND NOT m.returned) AS accepted,
    count(*) FILTER (WHERE m.delivered AND NOT m.returned AND r.complaints > 0) AS accepted_by_reporters,
    count(*) FILTER (WHERE m.refused OR m.returned) AS bounced,
    count(*) FILTER (WHERE m.hard) AS hard,
    count(*) FILTER (WHERE m.block) AS block,
    count(*) FILTER (WHERE m.delayed) AS delayed,
    count(*) FILTER (WHERE m.opened OR m.by_proxy) AS opened,
    count(*) FILTER (WHERE m.by_proxy AND NOT m.opened) AS opened_by_proxy,
    count(*) FILTER (WHERE m.prefetched AND NOT m.opened AND NOT m.by_proxy) AS unmeasurable,
    count(m.last_click) AS clicked,
    count(*) FILTER (
      WHERE m.last_click <= m.delivered_at + interval '10' second
        OR (m.one_link <> m.other_link AND m.last_click <= m.first_click + interval '5' second)
    ) AS likely_scanners,
    count(*) FILTER (WHERE m.unsubscribed) AS unsubscribed,
    count(*) FILTER (WHERE m.complained) AS complaints,
    count(*) FILTER (WHERE m.complained AND r.complaints > 0) AS complaints_reported
  FROM messages m
  LEFT JOIN complaint_reporters r ON r.mailbox_provider = m.provider
  WHERE m.subaccount_id IS NOT NULL
  GROUP BY m.subaccount_id, m.customer_id
)
SELECT
  subaccount_id,
  sent,
  delivered,
  accepted,
  bounced,
  hard,
  block,
  delayed,
  opened,
  opened_by_proxy,
  unmeasurable,
  clicked,
  likely_scanners,
  unsubscribed,
  complaints,
  CAST(100 * CAST(bounced AS double precision) / sent AS decimal(12, 4)) AS bounce_rate,
  CAST(100 * CAST(hard AS double precision) / sent AS decimal(12, 4)) AS hard_rate,
  CAST(100 * CAST(block AS double precision) / sent AS decimal(12, 4)) AS block_rate,
  CAST(100 * CAST(delayed AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS delayed_rate,
  CAST(100 * CAST(opened AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS open_rate,
  CAST(
    100 * CAST(opened AS double precision) / NULLIF(GREATEST(accepted - unmeasurable, 0), 0) AS decimal(12, 4)
  ) AS measurable_open_rate,
  CAST(100 * CAST(clicked AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS click_rate,
  CAST(100 * CAST(unsubscribed AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS unsubscribe_rate,
  CAST(
    100 * CAST(complaints_reported AS double precision) / NULLIF(accepted_by_reporters, 0) AS decimal(12, 4)
  ) AS complaint_rate,
  customer_id
FROM counts
ORDER BY sent DESC, subaccount_id, customer_id
