-- complaint_rate_by_campaign: campaigns whose mail is marked as spam
--
-- Providers react from 0.1 percent on, and refuse mail from 0.3 percent on. Complaints about mail older than 60 days come without their
-- campaign, under (none); not every provider reports complaints.
--
-- Columns:
--   campaign_id varchar: name of the campaign; (none) where there is none
--   delivered bigint: messages delivered
--   complaints bigint: messages marked as spam
--   complaint_rate decimal(12,4): complaints, in percent of the messages delivered
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `interval`
SELECT
  COALESCE(NULLIF(campaign_id, ''), '(none)') AS campaign_id,
  count(*) FILTER (WHERE type = 'delivery') AS delivered,
  count(*) FILTER (WHERE type = 'spam_complaint') AS complaints,
  CAST(
    100 * CAST(count(*) FILTER (WHERE type = 'spam_complaint') AS double precision)
    / NULLIF(count(*) FILTER (WHERE type = 'delivery'), 0) AS decimal(12, 4)
  ) AS complaint_rate,
  customer_id
FROM events_deduplicated
WHERE event_date >= current_date - interval '30' day
  AND type IN ('delivery', 'spam_complaint')
  AND (type <> 'spam_complaint' OR lower(COALESCE(fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
GROUP BY COALESCE(NULLIF(campaign_id, ''), '(none)'), customer_id
ORDER BY 4 DESC NULLS LAST, 3 DESC, 1, customer_id
