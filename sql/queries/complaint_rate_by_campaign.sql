-- complaint_rate_by_campaign: whose mail is marked as spam
--
-- Providers act from 0.1 percent on, and from 0.3 they refuse. Complaints about mail older than 60 days come without their
-- campaign, under (none); not every provider reports complaints.
--
-- Columns:
--   campaign_id varchar: name of the campaign; (none) where there is none
--   delivered bigint: messages delivered
--   complaints bigint: messages marked as spam
--   complaint_rate decimal(12,4): percent of those delivered
-- Parameters: the days, in the line with `interval`
SELECT
  COALESCE(campaign_id, '(none)') AS campaign_id,
  count(*) FILTER (WHERE type = 'delivery') AS delivered,
  count(*) FILTER (WHERE type = 'spam_complaint') AS complaints,
  CAST(
    100 * CAST(count(*) FILTER (WHERE type = 'spam_complaint') AS double precision)
    / NULLIF(count(*) FILTER (WHERE type = 'delivery'), 0) AS decimal(12, 4)
  ) AS complaint_rate
FROM events_deduplicated
WHERE event_date >= current_date - interval '30' day
  AND type IN ('delivery', 'spam_complaint')
GROUP BY 1
ORDER BY 4 DESC NULLS LAST, 3 DESC, 1
