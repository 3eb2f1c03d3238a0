-- suppression_candidates: addresses that should get no more mail, and why
--
-- One row per account, address, subaccount and list, from bounces and out-of-band bounces by the action of their class
-- (bounce_classes), spam complaints and both kinds of unsubscribe. A class of action `count` (soft bounces) makes a
-- candidate only after SoftBounceLimit messages bounced within the last SoftBounceDays days, counted from the last
-- delivery on; 0 - never.
--
-- Columns:
--   rcpt_to varchar: the address, in lower case
--   subaccount_id varchar: 0 for the primary account
--   reason varchar: the latest reason: hard_bounce, soft_bounces, spam_complaint, list_unsubscribe, link_unsubscribe
--   bounce_class bigint: Bird's class of the latest reason, if that is a bounce
--   campaign_id varchar: campaign that the latest reason came from
--   events bigint: number of events that are a reason
--   first_seen timestamp: when the first of them happened
--   last_seen timestamp: when the latest of them happened
--   scope varchar: all - no mail at all; non_transactional - mail marked as transactional may go on; list - mail of list_id
--   customer_id varchar: account at Bird; NULL if the events name none
--   list_id varchar: the one list that the recipient left; NULL if the reason is not about one list
-- Parameters: SoftBounceLimit, SoftBounceDays. `make generate` writes the classes of an action: joins with bounce_classes would double
-- the time for one address.
-- Each step is read by one other step only: PostgreSQL then looks up one address by its index instead of making the whole list.
WITH signals AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
    CASE WHEN e.type IN ('list_unsubscribe', 'link_unsubscribe') THEN COALESCE(e.list_id, '') ELSE '' END AS list_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN CAST('hard_bounce' AS varchar) ELSE CAST(e.type AS varchar) END AS reason,
    COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_key,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN e.bounce_class END AS bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') OR e.transactional THEN 1 ELSE 0 END AS stops_all
  -- Of all time.
  FROM events_deduplicated e
  WHERE e.type IN ('bounce', 'out_of_band', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe')
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND (e.type NOT IN ('bounce', 'out_of_band') OR e.bounce_class IN (${SuppressClasses}))
    AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
),
-- Only these recipients can become candidates by soft bounces, so only their deliveries are read.
often AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id
  FROM events_deduplicated e
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(e.bounce_class, 0) NOT IN (${SuppressClasses}, ${NoneClasses})
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND ${SoftBounceLimit} > 0
  GROUP BY
    COALESCE(e.customer_id, ''),
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)),
    COALESCE(NULLIF(e.subaccount_id, ''), '0')
  HAVING count(*) >= ${SoftBounceLimit}
),
-- A message that came back as an out-of-band bounce was not delivered.
returned AS (
  SELECT COALESCE(e.customer_id, '') AS customer_id, e.message_id
  FROM events_deduplicated e
  WHERE e.type = 'out_of_band' AND e.message_id <> ''
    AND COALESCE(e.bounce_class, 0) NOT IN (${NoneClasses})
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
),
-- A delivery that came back more than once is there as often, which changes neither the earliest nor the latest.
mail AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
    e.type, 1 AS step, COALESCE(e.timestamp, e.received_at) AS seen, e.event_date, e.event_key,
    COALESCE(e.message_id, '') AS message_id, e.bounce_class, NULLIF(e.campaign_id, '') AS campaign_id, 0 AS came_back
  FROM events_deduplicated e
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(e.bounce_class, 0) NOT IN (${SuppressClasses}, ${NoneClasses})
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND ${SoftBounceLimit} > 0
  UNION ALL
  SELECT
    o.customer_id, o.rcpt_to, o.subaccount_id, e.type, 0 AS step, COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date, e.event_key, COALESCE(e.message_id, '') AS message_id, e.bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id, CASE WHEN r.message_id IS NULL THEN 0 ELSE 1 END AS came_back
  FROM events_deduplicated e
  JOIN often o ON o.customer_id = COALESCE(e.customer_id, '')
    AND o.rcpt_to = lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to))
    AND o.subaccount_id = COALESCE(NULLIF(e.subaccount_id, ''), '0')
  LEFT JOIN returned r ON r.customer_id = COALESCE(e.customer_id, '') AND r.message_id = e.message_id
  WHERE e.type = 'delivery' AND e.event_date >= current_date - interval '${SoftBounceDays}' day
),
-- An out-of-band bounce without message_id belongs to the recipient's latest delivery before it.
ordered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, type, seen, event_date, event_key, message_id, bounce_class, campaign_id, came_back,
    max(CASE WHEN type = 'delivery' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS delivery_before,
    min(CASE WHEN type = 'delivery' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS next_delivery,
    min(CASE WHEN type = 'out_of_band' AND message_id = '' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS next_return
  FROM mail
),
after_delivery AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, type, seen, event_key, bounce_class, campaign_id,
    CASE
      WHEN message_id <> '' THEN 'message ' || message_id
      WHEN type = 'out_of_band' THEN 'delivery ' || COALESCE(CAST(delivery_before AS varchar), CAST(event_date AS varchar))
      ELSE 'event ' || event_key
    END AS message,
    max(CASE WHEN type = 'delivery' AND came_back = 0 AND (next_return IS NULL OR next_delivery <= next_return) THEN seen END)
      OVER (PARTITION BY customer_id, rcpt_to, subaccount_id) AS delivered
  FROM ordered
),
soft_bounces AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, seen, event_key, bounce_class, campaign_id,
    row_number() OVER (PARTITION BY customer_id, rcpt_to, subaccount_id, message ORDER BY event_key) AS notice
  FROM after_delivery
  WHERE type <> 'delivery' AND (delivered IS NULL OR seen > delivered)
),
counted AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, seen, event_key, bounce_class, campaign_id,
    sum(CASE WHEN notice = 1 THEN 1 ELSE 0 END) OVER (PARTITION BY customer_id, rcpt_to, subaccount_id) AS messages
  FROM soft_bounces
),
reasons AS (
  SELECT customer_id, rcpt_to, subaccount_id, list_id, reason, seen, event_key, bounce_class, campaign_id, stops_all
  FROM signals
  UNION ALL
  SELECT
    customer_id, rcpt_to, subaccount_id, '' AS list_id, CAST('soft_bounces' AS varchar) AS reason, seen, event_key, bounce_class,
    campaign_id, 1 AS stops_all
  FROM counted
  WHERE messages >= ${SoftBounceLimit}
),
numbered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, list_id, reason, seen, bounce_class, campaign_id, stops_all,
    row_number() OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id, list_id ORDER BY seen DESC, reason, event_key
    ) AS place
  FROM reasons
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
  CASE
    WHEN list_id <> '' THEN CAST('list' AS varchar)
    WHEN max(stops_all) = 1 THEN CAST('all' AS varchar)
    ELSE CAST('non_transactional' AS varchar)
  END AS scope,
  NULLIF(customer_id, '') AS customer_id,
  NULLIF(list_id, '') AS list_id
FROM numbered
GROUP BY customer_id, rcpt_to, subaccount_id, list_id
