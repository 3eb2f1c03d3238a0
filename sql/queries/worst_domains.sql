-- worst_domains: recipient domains where most mail fails
--
-- Columns:
--   recipient_domain varchar: domain of the recipient
--   sent bigint: messages that were delivered or bounced
--   bounced bigint: messages refused for good
--   delayed bigint: attempts refused for now
--   complaints bigint: messages marked as spam
--   bounce_rate decimal(12,4): bounced, in percent of sent
-- Parameters: the days, in the line with `interval`; the least number of messages, in the line with `sent >=`
WITH domains AS (
  SELECT
    lower(recipient_domain) AS recipient_domain,
    count(*) FILTER (WHERE type IN ('delivery', 'bounce')) AS sent,
    count(*) FILTER (WHERE type = 'bounce') AS bounced,
    count(*) FILTER (WHERE type = 'delay') AS delayed,
    count(*) FILTER (WHERE type = 'spam_complaint') AS complaints
  FROM events_deduplicated
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'bounce', 'delay', 'spam_complaint')
    AND recipient_domain <> ''
    AND (type <> 'spam_complaint' OR lower(COALESCE(fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
  GROUP BY 1
)
SELECT
  recipient_domain,
  sent,
  bounced,
  delayed,
  complaints,
  CAST(100 * CAST(bounced AS double precision) / sent AS decimal(12, 4)) AS bounce_rate
FROM domains
WHERE sent >= 20
ORDER BY bounce_rate DESC, complaints DESC, recipient_domain
LIMIT 50
