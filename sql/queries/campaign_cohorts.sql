-- campaign_cohorts: what became of each campaign's messages within 24 hours, 72 hours and 7 days of their delivery
--
-- By message: a rate is of the messages that are old enough, so campaigns of different age compare, and no rate is over 100 percent.
--
-- Columns:
--   campaign_id varchar: name of the campaign; (none) where there is none
--   first_delivered timestamp: when the first of the messages was delivered
--   last_delivered timestamp: when the last of them was delivered
--   accepted bigint: messages delivered within the days, and not returned
--   accepted_24h bigint: messages of accepted that were delivered at least 24 hours ago
--   opened_24h decimal(12,4): opened or clicked by a person within 24 hours, in percent of accepted_24h
--   clicked_24h decimal(12,4): clicked within 24 hours, in percent of accepted_24h
--   accepted_72h bigint: messages of accepted that were delivered at least 72 hours ago
--   opened_72h decimal(12,4): opened or clicked by a person within 72 hours, in percent of accepted_72h
--   clicked_72h decimal(12,4): clicked within 72 hours, in percent of accepted_72h
--   accepted_7d bigint: messages of accepted that were delivered at least 7 days ago
--   opened_7d decimal(12,4): opened or clicked by a person within 7 days, in percent of accepted_7d
--   clicked_7d decimal(12,4): clicked within 7 days, in percent of accepted_7d
--   unsubscribed_7d decimal(12,4): unsubscribed within 7 days, in percent of accepted_7d
--   complained_7d bigint: messages marked as spam within 7 days, of those of accepted_7d
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `'30' day`
WITH messages AS (
  SELECT
    customer_id,
    max(CASE WHEN metric = 'delivered' THEN campaign_id END) AS campaign_id,
    min(CASE WHEN metric = 'delivered' THEN seen END) AS delivered_at,
    max(CASE WHEN metric = 'returned' THEN 1 ELSE 0 END) AS returned,
    min(CASE WHEN metric IN ('opened', 'opened_by_proxy', 'clicked') THEN seen END) AS opened_at,
    min(CASE WHEN metric = 'clicked' THEN seen END) AS clicked_at,
    min(CASE WHEN metric = 'unsubscribed' THEN seen END) AS unsubscribed_at,
    min(CASE WHEN metric = 'complained' THEN seen END) AS complained_at
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN (
      'delivery', 'out_of_band', 'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click',
      'list_unsubscribe', 'link_unsubscribe', 'spam_complaint'
    )
  GROUP BY customer_id, message
),
aged AS (
  SELECT
    customer_id, campaign_id, delivered_at, opened_at, clicked_at, unsubscribed_at, complained_at,
    delivered_at <= current_timestamp - interval '24' hour AS a_day,
    delivered_at <= current_timestamp - interval '72' hour AS three_days,
    delivered_at <= current_timestamp - interval '168' hour AS a_week,
    delivered_at + interval '24' hour AS after_day,
    delivered_at + interval '72' hour AS after_three_days,
    delivered_at + interval '168' hour AS after_week
  FROM messages
  WHERE delivered_at IS NOT NULL AND returned = 0
),
counts AS (
  SELECT
    campaign_id,
    customer_id,
    min(delivered_at) AS first_delivered,
    max(delivered_at) AS last_delivered,
    count(*) AS accepted,
    count(*) FILTER (WHERE a_day) AS accepted_24h,
    count(*) FILTER (WHERE a_day AND opened_at <= after_day) AS opened_24h,
    count(*) FILTER (WHERE a_day AND clicked_at <= after_day) AS clicked_24h,
    count(*) FILTER (WHERE three_days) AS accepted_72h,
    count(*) FILTER (WHERE three_days AND opened_at <= after_three_days) AS opened_72h,
    count(*) FILTER (WHERE three_days AND clicked_at <= after_three_days) AS clicked_72h,
    count(*) FILTER (WHERE a_week) AS accepted_7d,
    count(*) FILTER (WHERE a_week AND opened_at <= after_week) AS opened_7d,
    count(*) FILTER (WHERE a_week AND clicked_at <= after_week) AS clicked_7d,
    count(*) FILTER (WHERE a_week AND unsubscribed_at <= after_week) AS unsubscribed_7d,
    count(*) FILTER (WHERE a_week AND complained_at <= after_week) AS complained_7d
  FROM aged
  GROUP BY campaign_id, customer_id
)
SELECT
  campaign_id,
  first_delivered,
  last_delivered,
  accepted,
  accepted_24h,
  CAST(100 * CAST(opened_24h AS double precision) / NULLIF(accepted_24h, 0) AS decimal(12, 4)) AS opened_24h,
  CAST(100 * CAST(clicked_24h AS double precision) / NULLIF(accepted_24h, 0) AS decimal(12, 4)) AS clicked_24h,
  accepted_72h,
  CAST(100 * CAST(opened_72h AS double precision) / NULLIF(accepted_72h, 0) AS decimal(12, 4)) AS opened_72h,
  CAST(100 * CAST(clicked_72h AS double precision) / NULLIF(accepted_72h, 0) AS decimal(12, 4)) AS clicked_72h,
  accepted_7d,
  CAST(100 * CAST(opened_7d AS double precision) / NULLIF(accepted_7d, 0) AS decimal(12, 4)) AS opened_7d,
  CAST(100 * CAST(clicked_7d AS double precision) / NULLIF(accepted_7d, 0) AS decimal(12, 4)) AS clicked_7d,
  CAST(100 * CAST(unsubscribed_7d AS double precision) / NULLIF(accepted_7d, 0) AS decimal(12, 4)) AS unsubscribed_7d,
  complained_7d,
  customer_id
FROM counts
ORDER BY last_delivered DESC, campaign_id, customer_id
