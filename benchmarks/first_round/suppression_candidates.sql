-- The view of the first round (commit ff9ba3c), which today's is measured beside. Its rules are others, and so are its rows.
WITH signals AS (
  SELECT
    lower(e.rcpt_to) AS rcpt_to,
    COALESCE(e.subaccount_id, '0') AS subaccount_id,
    CASE
      WHEN e.type NOT IN ('bounce', 'out_of_band') THEN CAST(e.type AS varchar)
      WHEN COALESCE(c.action, 'count') = 'count' THEN CAST('soft_bounces' AS varchar)
      WHEN c.bounce_group = 'Admin' THEN CAST('admin_bounce' AS varchar)
      ELSE CAST('hard_bounce' AS varchar)
    END AS reason,
    COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date,
    e.event_key,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN e.bounce_class END AS bounce_class,
    e.campaign_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') OR e.transactional THEN 1 ELSE 0 END AS stops_all
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type IN ('bounce', 'out_of_band', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe')
    AND e.rcpt_to <> ''
    AND (e.type NOT IN ('bounce', 'out_of_band') OR COALESCE(c.action, 'count') <> 'none')
),
deliveries AS (
  SELECT
    lower(e.rcpt_to) AS rcpt_to,
    COALESCE(e.subaccount_id, '0') AS subaccount_id,
    max(COALESCE(e.timestamp, e.received_at)) AS delivered
  FROM events_deduplicated e
  LEFT JOIN (
    SELECT DISTINCT message_id FROM events_deduplicated WHERE type = 'out_of_band'
      AND event_date >= current_date - interval '${SoftBounceDays}' day
  ) returned ON returned.message_id = e.message_id
  WHERE e.type = 'delivery'
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND returned.message_id IS NULL
  GROUP BY 1, 2
),
soft_bounces AS (
  SELECT
    s.rcpt_to, s.subaccount_id, s.reason, s.seen, s.event_key, s.bounce_class, s.campaign_id, s.stops_all,
    count(*) OVER (PARTITION BY s.rcpt_to, s.subaccount_id) AS soft
  FROM signals s
  LEFT JOIN deliveries d ON d.rcpt_to = s.rcpt_to AND d.subaccount_id = s.subaccount_id
  WHERE s.reason = 'soft_bounces'
    AND s.event_date >= current_date - interval '${SoftBounceDays}' day
    AND (d.delivered IS NULL OR s.seen > d.delivered)
),
counted AS (
  SELECT rcpt_to, subaccount_id, reason, seen, event_key, bounce_class, campaign_id, stops_all
  FROM signals WHERE reason <> 'soft_bounces'
  UNION ALL
  SELECT rcpt_to, subaccount_id, reason, seen, event_key, bounce_class, campaign_id, stops_all
  FROM soft_bounces WHERE ${SoftBounceLimit} > 0 AND soft >= ${SoftBounceLimit}
),
numbered AS (
  SELECT
    rcpt_to, subaccount_id, reason, seen, bounce_class, campaign_id, stops_all,
    row_number() OVER (PARTITION BY rcpt_to, subaccount_id ORDER BY seen DESC, reason, event_key) AS place
  FROM counted
)
SELECT
  rcpt_to,
  subaccount_id,
  max(CASE WHEN place = 1 THEN reason END) AS reason,
  max(CASE WHEN place = 1 THEN bounce_class END) AS bounce_class,
  max(CASE WHEN place = 1 THEN campaign_id END) AS campaign_id,
  count(*) AS events,
  min(seen) AS first_seen,
  max(seen) AS last_seen,
  CASE WHEN max(stops_all) = 1 THEN CAST('all' AS varchar) ELSE CAST('non_transactional' AS varchar) END AS scope
FROM numbered
GROUP BY rcpt_to, subaccount_id
