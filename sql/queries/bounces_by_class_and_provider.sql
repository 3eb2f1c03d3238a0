-- bounces_by_class_and_provider: which providers refuse mail, and why
--
-- Without admin bounces, which are Bird's own (stopped_by_bird), and without automatic replies and the like.
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   bounce_class bigint: Bird's class
--   name varchar: what the class is called
--   bounce_group varchar: Hard, Soft, Block, Undetermined
--   bounced bigint: messages refused for good, and returned ones
--   returned bigint: messages of bounced that were taken first (out of band)
--   recipients bigint: different addresses among them, counted for each account
--   bounce_rate decimal(12,4): bounced, in percent of the messages sent to that provider
-- Parameters: the days, in the line with `interval`
WITH ended AS (
  SELECT
    mailbox_provider,
    CASE WHEN metric <> 'delivered' THEN bounce_class END AS bounce_class,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned')) AS bounced,
    count(*) FILTER (WHERE metric = 'returned') AS returned,
    count(DISTINCT CASE WHEN metric <> 'delivered' THEN COALESCE(customer_id, '') || ' ' || recipient END) AS recipients,
    count(*) FILTER (WHERE metric IN ('delivered', 'bounced')) AS sent
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'bounce', 'out_of_band')
    AND metric IN ('delivered', 'bounced', 'returned')
  GROUP BY 1, 2
),
shares AS (
  SELECT
    mailbox_provider,
    bounce_class,
    bounced,
    returned,
    recipients,
    100 * CAST(bounced AS double precision) / NULLIF(sum(sent) OVER (PARTITION BY mailbox_provider), 0) AS bounce_rate
  FROM ended
)
SELECT
  s.mailbox_provider,
  s.bounce_class,
  COALESCE(c.name, 'Unknown') AS name,
  COALESCE(c.bounce_group, 'Undetermined') AS bounce_group,
  s.bounced,
  s.returned,
  s.recipients,
  CAST(s.bounce_rate AS decimal(12, 4)) AS bounce_rate
FROM shares s
LEFT JOIN bounce_classes c ON c.bounce_class = s.bounce_class
WHERE s.bounced > 0
ORDER BY s.bounced DESC, s.mailbox_provider, s.bounce_class
