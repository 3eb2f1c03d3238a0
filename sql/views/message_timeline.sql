-- message_timeline: every event of a message, in order
--
--   SELECT * FROM message_timeline WHERE message_id = '...' AND event_date >= date '2026-11-01' ORDER BY timestamp, step
--
-- Times have whole seconds: step orders the types within one. Without event_date all days are searched.
--
-- Columns:
--   message_id varchar: Bird's id of the message
--   event_date date: UTC date of the event
--   timestamp timestamp: when the event happened
--   step bigint: place of the type in the life of a message
--   type varchar: type of the event
--   rcpt_to varchar: the recipient
--   campaign_id varchar: name of the campaign
--   detail varchar: what the remote side said, the link followed, or the kind of complaint
--   bounce_class bigint: Bird's class of a bounce
--   num_retries bigint: failed attempts before this one
--   queue_time bigint: milliseconds since Bird accepted the message
--   by_machine boolean: a machine opened or clicked
--   user_agent varchar: the client of an open or click
--   event_key varchar: identifies events of the same type and second
--   customer_id varchar: account at Bird
SELECT
  message_id,
  event_date,
  timestamp,
  CAST(
    CASE type
      WHEN 'injection' THEN 1
      WHEN 'generation_failure' THEN 2
      WHEN 'generation_rejection' THEN 2
      WHEN 'policy_rejection' THEN 2
      WHEN 'delay' THEN 3
      WHEN 'delivery' THEN 4
      WHEN 'bounce' THEN 5
      WHEN 'out_of_band' THEN 5
      WHEN 'initial_open' THEN 6
      WHEN 'amp_initial_open' THEN 6
      WHEN 'open' THEN 7
      WHEN 'amp_open' THEN 7
      WHEN 'click' THEN 8
      WHEN 'amp_click' THEN 8
      WHEN 'list_unsubscribe' THEN 9
      WHEN 'link_unsubscribe' THEN 9
      WHEN 'spam_complaint' THEN 10
      ELSE 11
    END AS bigint
  ) AS step,
  type,
  COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to) AS rcpt_to,
  campaign_id,
  COALESCE(raw_reason, reason, target_link_url, fbtype) AS detail,
  bounce_class,
  num_retries,
  queue_time,
  user_agent_parsed_is_prefetched AS by_machine,
  user_agent,
  event_key,
  customer_id
FROM events_deduplicated
WHERE message_id <> ''
