-- delivered: how much of the mail arrives, by day
--
-- Columns:
--   day date: UTC
--   accepted bigint: messages that Bird accepted for sending
--   delivered bigint: messages that the remote server took
--   bounced bigint: messages that the remote server refused for good
--   returned bigint: messages that were taken and came back (out of band), without automatic replies and the like
--   rejected bigint: messages that Bird did not send, because of its policies or missing content
--   delivery_rate decimal(12,4): delivered, in percent of delivered, bounced and rejected that day
-- Parameters: the days, in the line with `interval`
SELECT
  e.event_date AS day,
  count(*) FILTER (WHERE type = 'injection') AS accepted,
  count(*) FILTER (WHERE type = 'delivery') AS delivered,
  count(*) FILTER (WHERE type = 'bounce') AS bounced,
  count(*) FILTER (WHERE type = 'out_of_band' AND COALESCE(c.action, 'count') <> 'none') AS returned,
  count(*) FILTER (WHERE type IN ('policy_rejection', 'generation_failure', 'generation_rejection')) AS rejected,
  CAST(
    100 * CAST(count(*) FILTER (WHERE type = 'delivery') AS double precision)
    / NULLIF(count(*) FILTER (WHERE type NOT IN ('injection', 'out_of_band')), 0) AS decimal(12, 4)
  ) AS delivery_rate
FROM events_deduplicated e
LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
WHERE e.event_date >= current_date - interval '30' day
  AND type IN (
    'injection', 'delivery', 'bounce', 'out_of_band', 'policy_rejection', 'generation_failure', 'generation_rejection'
  )
GROUP BY e.event_date
ORDER BY day DESC
