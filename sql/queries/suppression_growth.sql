-- suppression_growth: how many addresses became suppression candidates, by day and reason
--
-- Reads what suppression_candidates reads: all days. An address counts on the day of its first reason, under its latest one.
--
-- Columns:
--   day date: when the first reason happened, UTC
--   reason varchar: the latest reason: hard_bounce, soft_bounces, spam_complaint, list_unsubscribe, link_unsubscribe
--   scope varchar: all, non_transactional or list
--   campaign_id varchar: campaign that the latest reason came from; (none) where there is none
--   addresses bigint: addresses, each counted for each account, subaccount and list
--   customer_id varchar: account at Bird
-- Parameters: the days, in the line with `interval`
SELECT
  CAST(first_seen AS date) AS day,
  reason,
  scope,
  COALESCE(campaign_id, '(none)') AS campaign_id,
  count(*) AS addresses,
  customer_id
FROM suppression_candidates
WHERE first_seen >= current_date - interval '30' day
GROUP BY CAST(first_seen AS date), reason, scope, COALESCE(campaign_id, '(none)'), customer_id
ORDER BY day DESC, addresses DESC, reason, scope, campaign_id, customer_id
