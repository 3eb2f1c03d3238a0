-- complaint_rate_by_campaign: campaigns whose mail is marked as spam
--
-- Over the mail of the providers that report complaints (complaint_reporters); Gmail does not: see Google's Postmaster Tools.
-- Gmail and Yahoo advise less than 0.1 percent, and never 0.3. Campaigns with less mail at these providers than 1,000 messages, where
-- one complaint makes 0.1 percent, come last. Complaints about mail older than 60 days come without their campaign, under (none).
--
-- Columns:
--   campaign_id varchar: name of the campaign; (none) where there is none
--   complaints bigint: messages marked as spam at providers that report complaints
--   accepted bigint: messages accepted by providers that report complaints
--   complaint_rate decimal(12,4): complaints, in percent of accepted; NULL: not reported
--   verdict varchar: fine, watch (from 0.1 percent), act (from 0.3 percent), few (under 1,000 accepted) or not reported
--   accepted_everywhere bigint: messages accepted by all providers
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `interval`
WITH counts AS (
  SELECT
    e.campaign_id,
    e.customer_id,
    count(*) FILTER (WHERE e.metric = 'complained' AND r.complaints > 0) AS complaints,
    GREATEST(
      count(*) FILTER (WHERE e.metric = 'delivered' AND r.complaints > 0)
      - count(*) FILTER (WHERE e.metric = 'returned' AND r.complaints > 0), 0
    ) AS accepted,
    GREATEST(
      count(*) FILTER (WHERE e.metric = 'delivered') - count(*) FILTER (WHERE e.metric = 'returned'), 0
    ) AS accepted_everywhere
  FROM mail_events e
  LEFT JOIN complaint_reporters r ON r.mailbox_provider = e.mailbox_provider
  WHERE e.event_date >= current_date - interval '30' day
    AND e.type IN ('delivery', 'out_of_band', 'spam_complaint')
  GROUP BY e.campaign_id, e.customer_id
)
SELECT
  campaign_id,
  complaints,
  accepted,
  CAST(100 * CAST(complaints AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS complaint_rate,
  CAST(
    CASE
      WHEN accepted = 0 THEN 'not reported'
      WHEN accepted < 1000 THEN 'few'
      WHEN complaints * 1000 >= accepted * 3 THEN 'act'
      WHEN complaints * 1000 >= accepted THEN 'watch'
      ELSE 'fine'
    END AS varchar
  ) AS verdict,
  accepted_everywhere,
  customer_id
FROM counts
ORDER BY CASE WHEN accepted >= 1000 THEN 0 ELSE 1 END, 4 DESC NULLS LAST, 2 DESC, 6 DESC, campaign_id, customer_id
