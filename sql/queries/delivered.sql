-- delivered: how much of the mail arrives, by day
--
-- Columns:
--   day date: UTC
--   injected bigint: messages that Bird took for sending
--   targeted bigint: injected and rejected
--   sent bigint: delivered and refused in band: what Bird tried to deliver
--   delivered bigint: messages that the remote server took
--   accepted bigint: delivered and not returned
--   bounced bigint: messages refused for good, and returned ones
--   returned bigint: messages of bounced that were taken first (out of band), without automatic replies and the like
--   delayed bigint: messages refused for now at the first attempt
--   admin_bounced bigint: messages that Bird bounced itself, because of its suppression list or a cancelled campaign
--   rejected bigint: messages that Bird did not send, because of its policies or missing content
--   accepted_rate decimal(12,4): accepted, in percent of sent
--   bounce_rate decimal(12,4): bounced, in percent of sent
--   delayed_rate decimal(12,4): delayed, in percent of accepted
--   stopped_rate decimal(12,4): stopped by Bird (admin_bounced and rejected), in percent of targeted
-- Parameters: the days, in the line with `interval`
WITH days AS (
  SELECT
    event_date AS day,
    count(*) FILTER (WHERE metric = 'injected') AS injected,
    count(*) FILTER (WHERE metric = 'delivered') AS delivered,
    count(*) FILTER (WHERE metric = 'bounced') AS bounced_in_band,
    count(*) FILTER (WHERE metric = 'returned') AS returned,
    count(*) FILTER (WHERE metric = 'delayed') AS delayed,
    count(*) FILTER (WHERE metric = 'admin_bounced') AS admin_bounced,
    count(*) FILTER (WHERE metric = 'rejected') AS rejected
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN (
      'injection', 'delay', 'delivery', 'bounce', 'out_of_band', 'policy_rejection', 'generation_failure', 'generation_rejection'
    )
  GROUP BY event_date
),
figures AS (
  SELECT
    day, injected, injected + rejected AS targeted, delivered + bounced_in_band AS sent, delivered,
    GREATEST(delivered - returned, 0) AS accepted, bounced_in_band + returned AS bounced, returned, delayed, admin_bounced, rejected
  FROM days
)
SELECT
  day,
  injected,
  targeted,
  sent,
  delivered,
  accepted,
  bounced,
  returned,
  delayed,
  admin_bounced,
  rejected,
  CAST(100 * CAST(accepted AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS accepted_rate,
  CAST(100 * CAST(bounced AS double precision) / NULLIF(sent, 0) AS decimal(12, 4)) AS bounce_rate,
  CAST(100 * CAST(delayed AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS delayed_rate,
  CAST(100 * CAST(admin_bounced + rejected AS double precision) / NULLIF(targeted, 0) AS decimal(12, 4)) AS stopped_rate
FROM figures
ORDER BY day DESC
