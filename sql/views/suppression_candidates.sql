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
-- Parameters: SoftBounceLimit, SoftBounceDays
WITH signals AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
    CASE WHEN e.type IN ('list_unsubscribe', 'link_unsubscribe') THEN COALESCE(e.list_id, '') ELSE '' END AS list_id,
    CASE
      WHEN e.type NOT IN ('bounce', 'out_of_band') THEN CAST(e.type AS varchar)
      WHEN COALESCE(c.action, 'count') = 'count' THEN CAST('soft_bounces' AS varchar)
      ELSE CAST('hard_bounce' AS varchar)
    END AS reason,
    e.type,
    COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date,
    e.event_key,
    COALESCE(e.message_id, '') AS message_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN e.bounce_class END AS bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') OR e.transactional THEN 1 ELSE 0 END AS stops_all
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type IN ('bounce', 'out_of_band', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe')
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND (e.type NOT IN ('bounce', 'out_of_band') OR COALESCE(c.action, 'count') <> 'none')
    AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
),
-- Only these recipients can become candidates by soft bounces, so only their deliveries are read.
often AS (
  SELECT customer_id, rcpt_to, subaccount_id
  FROM signals
  WHERE reason = 'soft_bounces' AND event_date >= current_date - interval '${SoftBounceDays}' day
  GROUP BY customer_id, rcpt_to, subaccount_id
  HAVING count(*) >= ${SoftBounceLimit}
),
mail AS (
  SELECT
    s.customer_id, s.rcpt_to, s.subaccount_id, s.type, 1 AS step, s.seen, s.event_date, s.event_key, s.message_id,
    s.bounce_class, s.campaign_id
  FROM signals s
  JOIN often o ON o.customer_id = s.customer_id AND o.rcpt_to = s.rcpt_to AND o.subaccount_id = s.subaccount_id
  WHERE s.reason = 'soft_bounces' AND s.event_date >= current_date - interval '${SoftBounceDays}' day
  UNION ALL
  SELECT
    o.customer_id, o.rcpt_to, o.subaccount_id, e.type, 0 AS step, COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date, e.event_key, COALESCE(e.message_id, '') AS message_id, e.bounce_class, e.campaign_id
  FROM events_deduplicated e
  JOIN often o ON o.customer_id = COALESCE(e.customer_id, '')
    AND o.rcpt_to = lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to))
    AND o.subaccount_id = COALESCE(NULLIF(e.subaccount_id, ''), '0')
  WHERE e.type = 'delivery' AND e.event_date >= current_date - interval '${SoftBounceDays}' day
),
-- An out-of-band bounce without message_id belongs to the recipient's latest delivery before it.
ordered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, type, seen, event_date, event_key, message_id, bounce_class, campaign_id,
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
-- A message that came back as an out-of-band bounce was not delivered.
deliveries AS (
  SELECT o.customer_id, o.rcpt_to, o.subaccount_id, max(o.seen) AS delivered
  FROM ordered o
  LEFT JOIN (
    SELECT DISTINCT COALESCE(e.customer_id, '') AS customer_id, e.message_id
    FROM events_deduplicated e
    LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
    WHERE e.type = 'out_of_band' AND e.message_id <> '' AND COALESCE(c.action, 'count') <> 'none'
      AND e.event_date >= current_date - interval '${SoftBounceDays}' day
  ) returned ON returned.customer_id = o.customer_id AND returned.message_id = o.message_id
  WHERE o.type = 'delivery'
    AND returned.message_id IS NULL
    AND (o.next_return IS NULL OR o.next_delivery <= o.next_return)
  GROUP BY o.customer_id, o.rcpt_to, o.subaccount_id
),
soft_bounces AS (
  SELECT
    o.customer_id, o.rcpt_to, o.subaccount_id, o.seen, o.event_key, o.bounce_class, o.campaign_id,
    CASE
      WHEN o.message_id <> '' THEN 'message ' || o.message_id
      WHEN o.type = 'out_of_band' THEN 'delivery ' || COALESCE(CAST(o.delivery_before AS varchar), CAST(o.event_date AS varchar))
      ELSE 'event ' || o.event_key
    END AS message
  FROM ordered o
  LEFT JOIN deliveries d
    ON d.customer_id = o.customer_id AND d.rcpt_to = o.rcpt_to AND d.subaccount_id = o.subaccount_id
  WHERE o.type <> 'delivery' AND (d.delivered IS NULL OR o.seen > d.delivered)
),
counted AS (
  SELECT customer_id, rcpt_to, subaccount_id, list_id, reason, seen, event_key, bounce_class, campaign_id, stops_all
  FROM signals WHERE reason <> 'soft_bounces'
  UNION ALL
  SELECT
    s.customer_id, s.rcpt_to, s.subaccount_id, '', CAST('soft_bounces' AS varchar), s.seen, s.event_key, s.bounce_class,
    s.campaign_id, 1
  FROM soft_bounces s
  JOIN (
    SELECT customer_id, rcpt_to, subaccount_id
    FROM soft_bounces
    GROUP BY customer_id, rcpt_to, subaccount_id
    HAVING count(DISTINCT message) >= ${SoftBounceLimit}
  ) failing
    ON failing.customer_id = s.customer_id AND failing.rcpt_to = s.rcpt_to AND failing.subaccount_id = s.subaccount_id
  WHERE ${SoftBounceLimit} > 0
),
numbered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, list_id, reason, seen, bounce_class, campaign_id, stops_all,
    row_number() OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id, list_id ORDER BY seen DESC, reason, event_key
    ) AS place
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
  CASE
    WHEN list_id <> '' THEN CAST('list' AS varchar)
    WHEN max(stops_all) = 1 THEN CAST('all' AS varchar)
    ELSE CAST('non_transactional' AS varchar)
  END AS scope,
  NULLIF(customer_id, '') AS customer_id,
  NULLIF(list_id, '') AS list_id
FROM numbered
GROUP BY customer_id, rcpt_to, subaccount_id, list_id
