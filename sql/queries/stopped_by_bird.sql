-- stopped_by_bird: messages that Bird did not send, by day and cause
--
-- `suppressed` tells how often the suppression list is hit: mail that cost nothing but should have been left out before.
--
-- Columns:
--   day date: UTC
--   cause varchar: suppressed, cancelled, smart_send, policy, not_generated or other
--   messages bigint: messages that Bird did not send
--   recipients bigint: different addresses among them, counted for each account
--   stopped_rate decimal(12,4): messages, in percent of the messages targeted that day
-- Parameters: the days, in the line with `interval`
WITH ended AS (
  SELECT
    event_date AS day,
    CASE
      WHEN metric = 'injected' THEN NULL
      WHEN type IN ('generation_failure', 'generation_rejection') THEN CAST('not_generated' AS varchar)
      WHEN type = 'policy_rejection' THEN CAST('policy' AS varchar)
      WHEN bounce_class = 26 THEN CAST('smart_send' AS varchar)
      WHEN lower(reason) LIKE '%suppress%' THEN CAST('suppressed' AS varchar)
      WHEN lower(reason) LIKE '%cancel%' THEN CAST('cancelled' AS varchar)
      ELSE CAST('other' AS varchar)
    END AS cause,
    metric,
    COALESCE(customer_id, '') || ' ' || recipient AS person
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('injection', 'bounce', 'policy_rejection', 'generation_failure', 'generation_rejection')
    AND metric IN ('injected', 'rejected', 'admin_bounced')
),
causes AS (
  SELECT
    day,
    cause,
    count(*) AS messages,
    count(DISTINCT CASE WHEN cause IS NOT NULL THEN person END) AS recipients,
    sum(count(*) FILTER (WHERE metric <> 'admin_bounced')) OVER (PARTITION BY day) AS targeted
  FROM ended
  GROUP BY day, cause
)
SELECT
  day,
  cause,
  messages,
  recipients,
  CAST(100 * CAST(messages AS double precision) / NULLIF(targeted, 0) AS decimal(12, 4)) AS stopped_rate
FROM causes
WHERE cause IS NOT NULL
ORDER BY day DESC, messages DESC, cause
