-- mail_events: each event of mail with the metric that it counts in, the words of docs/metrics.md
--
--   SELECT metric, count(*) FROM mail_events WHERE event_date >= date '2026-11-01' AND type IN ('delivery', 'bounce') GROUP BY metric
--
-- Name event_date and type in the query: Athena then reads only those. Each event is in one metric, so counts of several metrics
-- can be added. SMS and push notifications, and reports that are not complaints, are left out.
--
-- Columns:
--   event_date date: UTC date of the event
--   seen timestamp: when it happened; when it arrived if the event has no time
--   type varchar: Bird's type of the event
--   metric varchar: injected, rejected, delayed (at the first attempt), delayed_again, delivered, bounced, returned, admin_bounced, replied, opened, opened_by_proxy, prefetched, clicked, clicked_by_machine, unsubscribed or complained
--   customer_id varchar: account at Bird; NULL if the event names none
--   message varchar: the message within all accounts; of an event without message_id the recipient and the transmission
--   recipient varchar: the address, in lower case
--   subaccount_id varchar: 0 for the primary account
--   campaign_id varchar: name of the campaign; (none) where there is none
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   recipient_domain varchar: domain of the recipient, in lower case; (unknown) where Bird names none
--   sending_domain varchar: domain of the visible From, in lower case; (unknown) where Bird names none
--   ip_pool varchar: sending IP pool; (none) where Bird names none
--   sending_ip varchar: address that the message left from; (unknown) where Bird names none
--   template_id varchar: name of the template; (none) where there is none
--   ab_test_id varchar: A/B test; bounces and delays do not name theirs
--   ab_test_version bigint: version of the A/B test
--   transactional boolean: marked as transactional
--   rcpt_type varchar: cc, bcc or archive; NULL for To
--   bounce_class bigint: Bird's class of a failure
--   bounce_group varchar: Hard, Soft, Block, Admin or Undetermined; NULL if the event has no known class
--   num_retries bigint: failed attempts before this one
--   queue_time bigint: milliseconds since Bird accepted the message
--   reason varchar: what the remote side said, with placeholders for what varies
--   target_link_url varchar: the link followed
--   message_id varchar: Bird's id of the message
--   event_key varchar: identifies events of the same type
SELECT
  e.event_date,
  COALESCE(e.timestamp, e.received_at) AS seen,
  e.type,
  CAST(
    CASE
      WHEN e.type = 'injection' THEN 'injected'
      WHEN e.type IN ('policy_rejection', 'generation_failure', 'generation_rejection') THEN 'rejected'
      WHEN e.type = 'delay' AND e.num_retries > 0 THEN 'delayed_again'
      WHEN e.type = 'delay' THEN 'delayed'
      WHEN e.type = 'delivery' THEN 'delivered'
      WHEN e.type = 'bounce' AND c.counted_as = 'admin' THEN 'admin_bounced'
      WHEN e.type = 'bounce' THEN 'bounced'
      WHEN e.type = 'out_of_band' AND COALESCE(c.counted_as, 'bounce') = 'bounce' THEN 'returned'
      WHEN e.type = 'out_of_band' THEN 'replied'
      WHEN e.type IN ('click', 'amp_click') AND e.user_agent_parsed_is_prefetched THEN 'clicked_by_machine'
      WHEN e.type IN ('click', 'amp_click') THEN 'clicked'
      WHEN e.type = 'spam_complaint' THEN 'complained'
      WHEN e.type IN ('list_unsubscribe', 'link_unsubscribe') THEN 'unsubscribed'
      WHEN e.user_agent_parsed_is_prefetched THEN 'prefetched'
      WHEN e.user_agent_parsed_is_proxy THEN 'opened_by_proxy'
      ELSE 'opened'
    END AS varchar
  ) AS metric,
  e.customer_id,
  COALESCE(e.customer_id, '') || ' ' || COALESCE(
    NULLIF(e.message_id, ''),
    lower(NULLIF(e.rcpt_to, '')) || ' ' || COALESCE(NULLIF(e.transmission_id, ''), e.campaign_id, ''),
    e.event_key
  ) AS message,
  lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS recipient,
  COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
  COALESCE(NULLIF(e.campaign_id, ''), '(none)') AS campaign_id,
  COALESCE(NULLIF(e.mailbox_provider, ''), '(unknown)') AS mailbox_provider,
  COALESCE(NULLIF(lower(e.recipient_domain), ''), '(unknown)') AS recipient_domain,
  COALESCE(NULLIF(lower(split_part(e.friendly_from, '@', 2)), ''), '(unknown)') AS sending_domain,
  COALESCE(NULLIF(e.ip_pool, ''), '(none)') AS ip_pool,
  COALESCE(NULLIF(e.sending_ip, ''), '(unknown)') AS sending_ip,
  COALESCE(NULLIF(e.template_id, ''), '(none)') AS template_id,
  NULLIF(e.ab_test_id, '') AS ab_test_id,
  e.ab_test_version,
  e.transactional,
  NULLIF(e.rcpt_type, '') AS rcpt_type,
  e.bounce_class,
  c.bounce_group,
  e.num_retries,
  e.queue_time,
  e.reason,
  e.target_link_url,
  e.message_id,
  e.event_key
FROM events_deduplicated e
LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
WHERE e.type IN (
    'injection', 'policy_rejection', 'generation_failure', 'generation_rejection', 'delay', 'delivery', 'bounce', 'out_of_band',
    'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click', 'list_unsubscribe', 'link_unsubscribe',
    'spam_complaint'
  )
  AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
  AND COALESCE(e.delv_method, '') NOT IN ('smpp', 'gcm', 'apn')
