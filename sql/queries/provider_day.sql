-- provider_day: what each mailbox provider did with the mail of each sending domain, by day
--
-- Columns:
--   day date: UTC
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   sending_domain varchar: domain of the visible From; (unknown) where Bird names none
--   sent bigint: messages delivered or refused in band
--   delivered bigint: messages that the provider took
--   accepted bigint: delivered and not returned
--   bounced bigint: messages refused for good, and returned ones
--   hard bigint: messages of bounced whose recipient does not exist
--   soft bigint: messages of bounced that failed for a temporary reason
--   block bigint: messages of bounced that the provider blocked
--   delayed bigint: messages refused for now at the first attempt
--   accepted_rate decimal(12,4): accepted, in percent of sent
--   bounce_rate decimal(12,4): bounced, in percent of sent
--   hard_rate decimal(12,4): hard, in percent of sent
--   block_rate decimal(12,4): block, in percent of sent
--   delayed_rate decimal(12,4): delayed, in percent of accepted
-- Parameters: the days, in the line with `interval`
WITH counts AS (
  SELECT
    event_date AS day,
    mailbox_provider,
    sending_domain,
    count(*) FILTER (WHERE metric IN ('delivered', 'bounced')) AS sent,
    count(*) FILTER (WHERE metric = 'delivered') AS delivered,
    count(*) FILTER (WHERE metric = 'returned') AS returned,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned')) AS bounced,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned') AND bounce_group = 'Hard') AS hard,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned') AND bounce_group = 'Soft') AS soft,
    count(*) FILTER (WHERE metric IN ('bounced', 'returned') AND bounce_group = 'Block') AS block,
    count(*) FILTER (WHERE metric = 'delayed') AS delayed
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delay', 'delivery', 'bounce', 'out_of_band')
  GROUP BY event_date, mailbox_provider, sending_domain
),
figures AS (
  SELECT
    day, mailbox_provider, sending_domain, sent, delivered, GREATEST(delivered - returned, 0) AS accepted, bounced, hard, soft,
    block, delayed
  FROM counts
)
SELECT
  day,
  mailbox_provider,
  sending_domain,
  sent,
  delivered,
  accepted,
  bounced,
  hard,
  soft,
  block,
  delayed,
  CAST(100 * CAST(accepted AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS accepted_rate,
  CAST(100 * CAST(bounced AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS bounce_rate,
  CAST(100 * CAST(hard AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS hard_rate,
  CAST(100 * CAST(block AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS block_rate,
  CAST(100 * CAST(delayed AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS delayed_rate
FROM figures
ORDER BY day DESC, sent DESC, mailbox_provider, sending_domain
