-- by_template: what became of each template's mail
--
-- Written by `make generate` from sql/by_message.sql. By message: those delivered or refused within the days, and what became of
-- them within the days. docs/metrics.md has the formulas.
--
-- Columns:
--   template_id varchar: its name; (none) if it has none
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
--   complaint_rate decimal(12,4): complaints, in percent of accepted by providers that report complaints; NULL: not reported
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `day`
-- OFFSET 0 leaves nothing out: it makes PostgreSQL work out the metric of an event once, not for each column that names it.
WITH mail AS (
  SELECT customer_id, message, metric, template_id, mailbox_provider, bounce_group, seen, target_link_url
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN (
      'delivery', 'bounce', 'out_of_band', 'delay', 'open', 'initial_open', 'amp_open', 'amp_initial_open',
      'click', 'amp_click', 'list_unsubscribe', 'link_unsubscribe', 'spam_complaint'
    )
  OFFSET 0
),
messages AS (
  SELECT
    customer_id,
    max(CASE WHEN metric IN ('delivered', 'bounced') THEN template_id END) AS template_id,
    max(CASE WHEN metric = 'delivered' THEN mailbox_provider END) AS provider,
    max(CASE WHEN metric = 'delivered' THEN 1 ELSE 0 END) AS delivered,
    max(CASE WHEN metric = 'bounced' THEN 1 ELSE 0 END) AS refused,
    max(CASE WHEN metric = 'returned' THEN 1 ELSE 0 END) AS returned,
    max(CASE WHEN metric IN ('bounced', 'returned') AND bounce_group = 'Hard' THEN 1 ELSE 0 END) AS hard,
    max(CASE WHEN metric IN ('bounced', 'returned') AND bounce_group = 'Block' THEN 1 ELSE 0 END) AS block,
    max(CASE WHEN metric IN ('delayed', 'delayed_again') THEN 1 ELSE 0 END) AS delayed,
    max(CASE WHEN metric IN ('opened', 'opened_by_proxy', 'clicked') THEN 1 ELSE 0 END) AS opened,
    max(CASE WHEN metric = 'opened_by_proxy' THEN 1 ELSE 0 END) AS by_proxy,
    max(CASE WHEN metric IN ('opened', 'clicked') THEN 1 ELSE 0 END) AS otherwise,
    max(CASE WHEN metric = 'prefetched' THEN 1 ELSE 0 END) AS prefetched,
    max(CASE WHEN metric = 'unsubscribed' THEN 1 ELSE 0 END) AS unsubscribed,
    max(CASE WHEN metric = 'complained' THEN 1 ELSE 0 END) AS complained,
    min(CASE WHEN metric = 'delivered' THEN seen END) AS delivered_at,
    min(CASE WHEN metric = 'clicked' THEN seen END) AS first_click,
    max(CASE WHEN metric = 'clicked' THEN seen END) AS last_click,
    min(CASE WHEN metric = 'clicked' THEN target_link_url END) AS one_link,
    max(CASE WHEN metric = 'clicked' THEN target_link_url END) AS other_link
  FROM mail
  GROUP BY customer_id, message
),
counts AS (
  SELECT
    m.template_id,
    m.customer_id,
    count(*) AS sent,
    count(*) FILTER (WHERE m.delivered = 1) AS delivered,
    count(*) FILTER (WHERE m.delivered = 1 AND m.returned = 0) AS accepted,
    count(*) FILTER (WHERE m.delivered = 1 AND m.returned = 0 AND r.complaints > 0) AS accepted_by_reporters,
    count(*) FILTER (WHERE m.refused = 1 OR m.returned = 1) AS bounced,
    count(*) FILTER (WHERE m.hard = 1) AS hard,
    count(*) FILTER (WHERE m.block = 1) AS block,
    count(*) FILTER (WHERE m.delayed = 1) AS delayed,
    count(*) FILTER (WHERE m.opened = 1) AS opened,
    count(*) FILTER (WHERE m.by_proxy = 1 AND m.otherwise = 0) AS opened_by_proxy,
    count(*) FILTER (WHERE m.prefetched = 1 AND m.opened = 0) AS unmeasurable,
    count(m.last_click) AS clicked,
    count(*) FILTER (
      WHERE m.last_click <= m.delivered_at + interval '10' second
        OR (m.one_link <> m.other_link AND m.last_click <= m.first_click + interval '5' second)
    ) AS likely_scanners,
    count(*) FILTER (WHERE m.unsubscribed = 1) AS unsubscribed,
    count(*) FILTER (WHERE m.complained = 1) AS complaints
  FROM messages m
  LEFT JOIN complaint_reporters r ON r.mailbox_provider = m.provider
  WHERE (m.delivered = 1 OR m.refused = 1) AND m.template_id IS NOT NULL
  GROUP BY m.template_id, m.customer_id
)
SELECT
  template_id,
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
  CAST(100 * CAST(complaints AS double precision) / NULLIF(accepted_by_reporters, 0) AS decimal(12, 4)) AS complaint_rate,
  customer_id
FROM counts
ORDER BY sent DESC, template_id, customer_id
