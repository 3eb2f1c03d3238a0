-- engagement_segments: how recently recipients engaged, and whose engagement no event tells
--
-- Reads what recipient_engagement reads: all days. The segments are those of Bird's engagement recency, and `unmeasurable`: nobody
-- engaged within a year, but a machine loaded the pixel (Apple Mail). These recipients are unknown, not inactive.
--
-- Columns:
--   segment varchar: new (first delivery within 7 days), 14_days, 90_days, 365_days, unmeasurable, never (or over a year ago)
--   recipients bigint: addresses with a delivery within 90 days, each counted for each account and subaccount
--   share decimal(12,4): recipients, in percent of all
--   unsubscribed bigint: recipients who ever unsubscribed
--   complained bigint: recipients who ever marked a message as spam
--   unsubscribed_share decimal(12,4): unsubscribed, in percent of recipients
--   complained_share decimal(12,4): complained, in percent of recipients
-- Parameters: the days, in the lines with `interval`
WITH recipients AS (
  SELECT
    CASE
      WHEN last_engaged >= current_date - interval '14' day THEN CAST('14_days' AS varchar)
      WHEN last_engaged >= current_date - interval '90' day THEN CAST('90_days' AS varchar)
      WHEN last_engaged >= current_date - interval '365' day THEN CAST('365_days' AS varchar)
      WHEN last_engaged IS NULL AND first_delivery >= current_date - interval '7' day THEN CAST('new' AS varchar)
      WHEN last_machine_open >= current_date - interval '365' day THEN CAST('unmeasurable' AS varchar)
      ELSE CAST('never' AS varchar)
    END AS segment,
    unsubscribed,
    complained
  FROM recipient_engagement
  WHERE last_delivery >= current_date - interval '90' day
),
segments AS (
  SELECT
    segment,
    count(*) AS recipients,
    count(*) FILTER (WHERE unsubscribed) AS unsubscribed,
    count(*) FILTER (WHERE complained) AS complained,
    sum(count(*)) OVER () AS all_recipients
  FROM recipients
  GROUP BY segment
)
SELECT
  segment,
  recipients,
  CAST(100 * CAST(recipients AS double precision) / all_recipients AS decimal(12, 4)) AS share,
  unsubscribed,
  complained,
  CAST(100 * CAST(unsubscribed AS double precision) / recipients AS decimal(12, 4)) AS unsubscribed_share,
  CAST(100 * CAST(complained AS double precision) / recipients AS decimal(12, 4)) AS complained_share
FROM segments
ORDER BY recipients DESC, segment
