-- new_reasons: what mail servers say now and did not say before, or say far more often
--
-- Reasons of bounces and delays of the last 7 days that are new within 35 days, or at least five times as frequent as in the 28 days
-- before. message_timeline of the sample shows the whole story.
--
-- Columns:
--   reason varchar: what the remote side said, with placeholders for what varies
--   what varchar: new or rising
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   bounce_class bigint: Bird's class
--   events bigint: bounces, returns and delays with that reason within 7 days
--   events_before bigint: the same in the 28 days before
--   first_seen timestamp: when it was first said, within the 35 days
--   last_seen timestamp: when it was last said
--   sample_message_id varchar: one of the messages
-- Parameters: the days, in the lines with `interval`; the least number of events, in the line with `events >=`
WITH reasons AS (
  SELECT
    reason,
    mailbox_provider,
    bounce_class,
    count(*) FILTER (WHERE event_date > current_date - interval '7' day) AS events,
    count(*) FILTER (WHERE event_date <= current_date - interval '7' day) AS events_before,
    min(seen) AS first_seen,
    max(seen) AS last_seen,
    max(CASE WHEN event_date > current_date - interval '7' day THEN message_id END) AS sample_message_id
  FROM mail_events
  WHERE event_date > current_date - interval '35' day
    AND type IN ('bounce', 'out_of_band', 'delay')
    AND metric IN ('bounced', 'returned', 'delayed', 'delayed_again')
    AND reason <> ''
  GROUP BY reason, mailbox_provider, bounce_class
)
SELECT
  reason,
  CASE WHEN events_before = 0 THEN CAST('new' AS varchar) ELSE CAST('rising' AS varchar) END AS what,
  mailbox_provider,
  bounce_class,
  events,
  events_before,
  first_seen,
  last_seen,
  sample_message_id
FROM reasons
WHERE events >= 10
  AND events * 28 >= events_before * 7 * 5
ORDER BY events DESC, reason, mailbox_provider, bounce_class
LIMIT 100
