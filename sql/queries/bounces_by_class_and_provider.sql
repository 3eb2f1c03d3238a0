-- bounces_by_class_and_provider: which providers refuse mail, and why
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   bounce_class bigint: Bird's class
--   name varchar: what the class is called
--   bounce_group varchar: Hard, Soft, Block, Admin, Undetermined
--   bounces bigint: bounces and out-of-band bounces, without automatic replies and the like
--   recipients bigint: different addresses among them, counted for each account
--   bounce_rate decimal(12,4): bounces, in percent of the messages delivered to or bounced by that provider
-- Parameters: the days, in the line with `interval`
WITH ended AS (
  SELECT
    COALESCE(NULLIF(e.mailbox_provider, ''), '(unknown)') AS mailbox_provider,
    e.bounce_class,
    count(*) FILTER (WHERE e.type <> 'delivery') AS bounces,
    count(
      DISTINCT COALESCE(e.customer_id, '') || ' ' || lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to))
    ) FILTER (WHERE e.type <> 'delivery') AS recipients,
    count(*) FILTER (WHERE e.type <> 'out_of_band') AS sent
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.event_date >= current_date - interval '30' day
    AND e.type IN ('delivery', 'bounce', 'out_of_band')
    AND (e.type <> 'out_of_band' OR COALESCE(c.action, 'count') <> 'none')
  GROUP BY 1, 2
),
shares AS (
  SELECT
    mailbox_provider,
    bounce_class,
    bounces,
    recipients,
    100 * CAST(bounces AS double precision) / NULLIF(sum(sent) OVER (PARTITION BY mailbox_provider), 0) AS bounce_rate
  FROM ended
)
SELECT
  s.mailbox_provider,
  s.bounce_class,
  COALESCE(c.name, 'Unknown') AS name,
  COALESCE(c.bounce_group, 'Unknown') AS bounce_group,
  s.bounces,
  s.recipients,
  CAST(s.bounce_rate AS decimal(12, 4)) AS bounce_rate
FROM shares s
LEFT JOIN bounce_classes c ON c.bounce_class = s.bounce_class
WHERE s.bounces > 0
ORDER BY s.bounces DESC, s.mailbox_provider, s.bounce_class
