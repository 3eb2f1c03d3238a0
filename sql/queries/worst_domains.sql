-- worst_domains: recipient domains where most mail fails
--
-- Columns:
--   recipient_domain varchar: domain of the recipient
--   sent bigint: messages delivered or refused in band
--   bounced bigint: messages refused for good, and returned ones
--   returned bigint: messages of bounced that were taken first (out of band)
--   delayed bigint: messages refused for now at the first attempt
--   complaints bigint: messages marked as spam
--   bounce_rate decimal(12,4): bounced, in percent of sent
-- Parameters: the days, in the line with `interval`; the least number of messages, in the line with `sent >=`
WITH domains AS (
  SELECT
    recipient_domain,
    count(*) FILTER (WHERE metric IN ('delivered', 'bounced')) AS sent,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned')) AS bounced,
    count(*) FILTER (WHERE metric = 'returned') AS returned,
    count(*) FILTER (WHERE metric = 'delayed') AS delayed,
    count(*) FILTER (WHERE metric = 'complained') AS complaints
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'bounce', 'out_of_band', 'delay', 'spam_complaint')
    AND recipient_domain <> '(unknown)'
  GROUP BY recipient_domain
)
SELECT
  recipient_domain,
  sent,
  bounced,
  returned,
  delayed,
  complaints,
  CAST(100 * CAST(bounced AS double precision) / sent AS decimal(12, 4)) AS bounce_rate
FROM domains
WHERE sent >= 20
ORDER BY bounce_rate DESC, complaints DESC, recipient_domain
LIMIT 50
