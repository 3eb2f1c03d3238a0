-- delays_and_waiting: which providers delay mail, and what still waits
--
-- Bird tries for up to three days. By message: those that were injected, delayed, delivered or bounced within the days.
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   accepted bigint: messages delivered and not returned
--   delayed bigint: messages refused for now at least once
--   delayed_rate decimal(12,4): delayed, in percent of accepted
--   attempts bigint: attempts that were refused for now
--   delivered_late bigint: messages of delayed that were delivered
--   bounced_late bigint: messages of delayed that bounced
--   waiting bigint: messages injected or delayed more than 15 minutes ago, and neither delivered nor bounced
--   oldest_waiting timestamp: when the oldest of them was injected or first delayed
-- Parameters: the days, in the line with `day`; the least wait, in the line with `minute`
WITH messages AS (
  SELECT
    COALESCE(max(NULLIF(mailbox_provider, '(unknown)')), '(unknown)') AS mailbox_provider,
    min(seen) AS first_seen,
    count(*) FILTER (WHERE metric IN ('delayed', 'delayed_again')) AS attempts,
    max(CASE WHEN metric = 'delivered' THEN 1 ELSE 0 END) AS delivered,
    max(CASE WHEN metric = 'returned' THEN 1 ELSE 0 END) AS returned,
    max(CASE WHEN metric IN ('bounced', 'admin_bounced', 'returned', 'rejected') THEN 1 ELSE 0 END) AS ended
  FROM mail_events
  WHERE event_date >= current_date - interval '7' day
    AND type IN ('injection', 'delay', 'delivery', 'bounce', 'out_of_band', 'policy_rejection')
    AND metric <> 'replied'
  GROUP BY message
),
figures AS (
  SELECT
    mailbox_provider,
    count(*) FILTER (WHERE delivered = 1 AND returned = 0) AS accepted,
    count(*) FILTER (WHERE attempts > 0) AS delayed,
    CAST(COALESCE(sum(attempts), 0) AS bigint) AS attempts,
    count(*) FILTER (WHERE attempts > 0 AND delivered = 1) AS delivered_late,
    count(*) FILTER (WHERE attempts > 0 AND delivered = 0 AND ended = 1) AS bounced_late,
    count(*) FILTER (
      WHERE delivered = 0 AND ended = 0 AND first_seen < current_timestamp - interval '15' minute
    ) AS waiting,
    min(
      CASE WHEN delivered = 0 AND ended = 0 AND first_seen < current_timestamp - interval '15' minute THEN first_seen END
    ) AS oldest_waiting
  FROM messages
  GROUP BY mailbox_provider
)
SELECT
  mailbox_provider,
  accepted,
  delayed,
  CAST(100 * CAST(delayed AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4)) AS delayed_rate,
  attempts,
  delivered_late,
  bounced_late,
  waiting,
  oldest_waiting
FROM figures
ORDER BY waiting DESC, delayed DESC, mailbox_provider
