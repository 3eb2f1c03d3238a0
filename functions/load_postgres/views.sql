-- Written by `make generate` from sql/views. CREATE OR REPLACE keeps the grants on a view, and the views that others
-- made of it. It takes new columns at the end only: a version that takes one away has to drop the view first.
-- load_postgres runs each part between blank lines as one transaction, and knows its views by their comments' end.

CREATE OR REPLACE VIEW events_deduplicated AS SELECT * FROM events;
COMMENT ON VIEW events_deduplicated IS 'Each event once (bird-webhooks)';
COMMENT ON COLUMN events_deduplicated.event_class IS 'Class of the event: the key inside `msys`, such as message_event or track_event';
COMMENT ON COLUMN events_deduplicated.type IS 'Type of the event, such as delivery, bounce or click';
COMMENT ON COLUMN events_deduplicated.timestamp IS 'When the event happened';
COMMENT ON COLUMN events_deduplicated.event_id IS 'Bird''s id of the event; sms_status has none';
COMMENT ON COLUMN events_deduplicated.event_key IS 'event_id, or a SHA-256 of the event where Bird gives none; unique with customer_id, event_class and type';
COMMENT ON COLUMN events_deduplicated.batch_id IS 'Webhook batch that brought the event (the header''s id)';
COMMENT ON COLUMN events_deduplicated.received_at IS 'When the batch was stored';
COMMENT ON COLUMN events_deduplicated.customer_id IS 'Account number at Bird; part of an event''s identity';
COMMENT ON COLUMN events_deduplicated.subaccount_id IS 'Subaccount; absent for the primary account';
COMMENT ON COLUMN events_deduplicated.message_id IS 'Bird''s id of the message';
COMMENT ON COLUMN events_deduplicated.transmission_id IS 'Transmission that the message came from';
COMMENT ON COLUMN events_deduplicated.campaign_id IS 'Campaign name set by the sender';
COMMENT ON COLUMN events_deduplicated.template_id IS 'Name of the template';
COMMENT ON COLUMN events_deduplicated.template_version IS 'Version of the template';
COMMENT ON COLUMN events_deduplicated.ab_test_id IS 'A/B test that the message belonged to';
COMMENT ON COLUMN events_deduplicated.ab_test_version IS 'Version of the A/B test';
COMMENT ON COLUMN events_deduplicated.ab_test IS 'Settings and result of an A/B test';
COMMENT ON COLUMN events_deduplicated.rcpt_to IS 'Envelope recipient, lower-cased';
COMMENT ON COLUMN events_deduplicated.raw_rcpt_to IS 'Envelope recipient exactly as used';
COMMENT ON COLUMN events_deduplicated.rcpt_hash IS 'Hashed recipient';
COMMENT ON COLUMN events_deduplicated.rcpt_type IS 'cc, bcc or archive; absent for To';
COMMENT ON COLUMN events_deduplicated.recipient_domain IS 'Domain of the recipient';
COMMENT ON COLUMN events_deduplicated.routing_domain IS 'Domain that the message was routed to';
COMMENT ON COLUMN events_deduplicated.mailbox_provider IS 'Mailbox provider of the recipient';
COMMENT ON COLUMN events_deduplicated.mailbox_provider_region IS 'Region or kind of the mailbox provider';
COMMENT ON COLUMN events_deduplicated.rcpt_meta IS 'Sender''s metadata, free form';
COMMENT ON COLUMN events_deduplicated.rcpt_tags IS 'Sender''s tags';
COMMENT ON COLUMN events_deduplicated.rcpt_subs IS 'Substitution data used for the template';
COMMENT ON COLUMN events_deduplicated.friendly_from IS 'Address in the visible From header';
COMMENT ON COLUMN events_deduplicated.msg_from IS 'Envelope sender';
COMMENT ON COLUMN events_deduplicated.mailfrom IS 'Envelope sender of the original mail, on unsubscribes';
COMMENT ON COLUMN events_deduplicated.subject IS 'Subject header';
COMMENT ON COLUMN events_deduplicated.msg_size IS 'Message size in bytes';
COMMENT ON COLUMN events_deduplicated.injection_time IS 'When Bird accepted the message';
COMMENT ON COLUMN events_deduplicated.scheduled_time IS 'When the message was scheduled to be sent';
COMMENT ON COLUMN events_deduplicated.queue_time IS 'Milliseconds between injection and delivery';
COMMENT ON COLUMN events_deduplicated.num_retries IS 'Failed attempts before this one';
COMMENT ON COLUMN events_deduplicated.recv_method IS 'Protocol by which the message came in: esmtp, rest';
COMMENT ON COLUMN events_deduplicated.delv_method IS 'Protocol by which the message was delivered: esmtp, smpp, gcm, apn';
COMMENT ON COLUMN events_deduplicated.ip_pool IS 'Sending IP pool';
COMMENT ON COLUMN events_deduplicated.sending_ip IS 'IP address that the message left from';
COMMENT ON COLUMN events_deduplicated.ip_address IS 'Host delivered to; on engagement events the client''s address';
COMMENT ON COLUMN events_deduplicated.remote_addr IS 'Host that Bird received the message from';
COMMENT ON COLUMN events_deduplicated.outbound_tls IS '1 TLS used, 0 not offered, -1 negotiation failed';
COMMENT ON COLUMN events_deduplicated.transactional IS 'Marked as transactional';
COMMENT ON COLUMN events_deduplicated.open_tracking IS 'Open tracking was on';
COMMENT ON COLUMN events_deduplicated.click_tracking IS 'Click tracking was on';
COMMENT ON COLUMN events_deduplicated.initial_pixel IS 'The message had the top-of-message open pixel';
COMMENT ON COLUMN events_deduplicated.amp_enabled IS 'The message had an AMP part';
COMMENT ON COLUMN events_deduplicated.bounce_class IS 'Bounce classification code';
COMMENT ON COLUMN events_deduplicated.error_code IS 'Code that the remote side gave for the failure';
COMMENT ON COLUMN events_deduplicated.reason IS 'Remote response with its variable parts replaced by placeholders';
COMMENT ON COLUMN events_deduplicated.raw_reason IS 'Remote response, unmodified';
COMMENT ON COLUMN events_deduplicated.fbtype IS 'Feedback type of the complaint, RFC 5965';
COMMENT ON COLUMN events_deduplicated.report_by IS 'Who reported the spam';
COMMENT ON COLUMN events_deduplicated.report_to IS 'Where the report was sent';
COMMENT ON COLUMN events_deduplicated.target_link_name IS 'Name of the link followed';
COMMENT ON COLUMN events_deduplicated.target_link_url IS 'Address of the link followed';
COMMENT ON COLUMN events_deduplicated.user_agent IS 'User-Agent header of the client';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_agent_family IS 'Mail client or browser';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_device_brand IS 'Brand of the device';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_device_family IS 'Family of the device';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_os_family IS 'Operating system of the client';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_os_version IS 'Operating system''s version';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_is_mobile IS 'The client is a mobile device';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_is_proxy IS 'An image proxy fetched it';
COMMENT ON COLUMN events_deduplicated.user_agent_parsed_is_prefetched IS 'A machine fetched it';
COMMENT ON COLUMN events_deduplicated.geo_ip_country IS 'Country of the client''s address';
COMMENT ON COLUMN events_deduplicated.geo_ip_region IS 'Region of the client''s address';
COMMENT ON COLUMN events_deduplicated.geo_ip_city IS 'City of the client''s address';
COMMENT ON COLUMN events_deduplicated.geo_ip_latitude IS 'Latitude of the client''s address, in degrees';
COMMENT ON COLUMN events_deduplicated.geo_ip_longitude IS 'Longitude of the client''s address, in degrees';
COMMENT ON COLUMN events_deduplicated.geo_ip_zip IS 'Postal code as a number; geo_ip_postal_code has its zeros';
COMMENT ON COLUMN events_deduplicated.geo_ip_postal_code IS 'Postal code of the client''s address';
COMMENT ON COLUMN events_deduplicated.relay_id IS 'Relay webhook concerned';
COMMENT ON COLUMN events_deduplicated.origination IS 'Origin of a relay event';
COMMENT ON COLUMN events_deduplicated.device_token IS 'Push target, when delv_method is gcm or apn';
COMMENT ON COLUMN events_deduplicated.sms_coding IS 'Character coding of the SMS';
COMMENT ON COLUMN events_deduplicated.sms_dst IS 'SMS destination number';
COMMENT ON COLUMN events_deduplicated.sms_dst_npi IS 'Numbering plan of the destination';
COMMENT ON COLUMN events_deduplicated.sms_dst_ton IS 'Number type of the destination';
COMMENT ON COLUMN events_deduplicated.sms_src IS 'SMS source number';
COMMENT ON COLUMN events_deduplicated.sms_src_npi IS 'Numbering plan of the source';
COMMENT ON COLUMN events_deduplicated.sms_src_ton IS 'Number type of the source';
COMMENT ON COLUMN events_deduplicated.sms_remoteids IS 'Message ids given by the SMS centre';
COMMENT ON COLUMN events_deduplicated.sms_segments IS 'SMS segment number';
COMMENT ON COLUMN events_deduplicated.sms_text IS 'SMS body';
COMMENT ON COLUMN events_deduplicated.stat_type IS 'Kind of SMS status';
COMMENT ON COLUMN events_deduplicated.stat_state IS 'Value of the SMS status';
COMMENT ON COLUMN events_deduplicated.dr_latency IS 'SMS delivery report''s latency in seconds';
COMMENT ON COLUMN events_deduplicated.ingest_batch_id IS 'Ingest API batch, not the webhook''s; Bird''s field batch_id';
COMMENT ON COLUMN events_deduplicated.expiration_timestamp IS 'When the ingest batch stops being retrievable';
COMMENT ON COLUMN events_deduplicated.number_succeeded IS 'Ingested events that succeeded';
COMMENT ON COLUMN events_deduplicated.number_duplicates IS 'Ingested events seen before';
COMMENT ON COLUMN events_deduplicated.number_failed IS 'Ingested events that failed';
COMMENT ON COLUMN events_deduplicated.error_type IS 'Category of ingest error';
COMMENT ON COLUMN events_deduplicated.retryable IS 'The ingest batch may be sent again';
COMMENT ON COLUMN events_deduplicated.href IS 'Link to the failed ingest batch';
COMMENT ON COLUMN events_deduplicated.extra IS 'Fields without a column, or whose value did not fit theirs, as Bird sent them';
COMMENT ON COLUMN events_deduplicated.list_id IS 'List that the recipient unsubscribed from, if the event names one';
COMMENT ON COLUMN events_deduplicated.event_date IS 'UTC date of the event';

CREATE OR REPLACE VIEW suppression_events AS
SELECT event_class, type, timestamp, received_at, event_key, customer_id, subaccount_id, rcpt_to, raw_rcpt_to, list_id, bounce_class, campaign_id, transactional, fbtype, event_date
FROM events
WHERE event_date >= (SELECT COALESCE(max(kept_before), '-infinity') FROM retention)
UNION ALL
SELECT event_class, type, timestamp, received_at, event_key, customer_id, subaccount_id, rcpt_to, raw_rcpt_to, list_id, bounce_class, campaign_id, transactional, fbtype, event_date
FROM suppression_events_kept;
COMMENT ON VIEW suppression_events IS 'What suppression_candidates is made from (bird-webhooks)';
COMMENT ON COLUMN suppression_events.event_class IS 'Class of the event: the key inside `msys`, such as message_event or track_event';
COMMENT ON COLUMN suppression_events.type IS 'Type of the event, such as delivery, bounce or click';
COMMENT ON COLUMN suppression_events.timestamp IS 'When the event happened';
COMMENT ON COLUMN suppression_events.event_key IS 'event_id, or a SHA-256 of the event where Bird gives none; unique with customer_id, event_class and type';
COMMENT ON COLUMN suppression_events.received_at IS 'When the batch was stored';
COMMENT ON COLUMN suppression_events.customer_id IS 'Account number at Bird; part of an event''s identity';
COMMENT ON COLUMN suppression_events.subaccount_id IS 'Subaccount; absent for the primary account';
COMMENT ON COLUMN suppression_events.campaign_id IS 'Campaign name set by the sender';
COMMENT ON COLUMN suppression_events.rcpt_to IS 'Envelope recipient, lower-cased';
COMMENT ON COLUMN suppression_events.raw_rcpt_to IS 'Envelope recipient exactly as used';
COMMENT ON COLUMN suppression_events.transactional IS 'Marked as transactional';
COMMENT ON COLUMN suppression_events.bounce_class IS 'Bounce classification code';
COMMENT ON COLUMN suppression_events.fbtype IS 'Feedback type of the complaint, RFC 5965';
COMMENT ON COLUMN suppression_events.list_id IS 'List that the recipient unsubscribed from, if the event names one';
COMMENT ON COLUMN suppression_events.event_date IS 'UTC date of the event';

CREATE OR REPLACE VIEW bounce_classes AS
SELECT bounce_class, name, bounce_group, meaning, action, because
FROM (VALUES
  (CAST(1 AS bigint), CAST('Undetermined' AS varchar), CAST('Undetermined' AS varchar), CAST('The answer could not be classified' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar)),
  (CAST(10 AS bigint), CAST('Invalid Recipient' AS varchar), CAST('Hard' AS varchar), CAST('There is no such recipient' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar)),
  (CAST(20 AS bigint), CAST('Soft Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Refused for a temporary reason' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar)),
  (CAST(21 AS bigint), CAST('DNS Failure' AS varchar), CAST('Soft' AS varchar), CAST('The recipient''s domain could not be looked up' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead domain' AS varchar)),
  (CAST(22 AS bigint), CAST('Mailbox Full' AS varchar), CAST('Soft' AS varchar), CAST('The mailbox is over its quota' AS varchar), CAST('count' AS varchar), CAST('the mailbox may be emptied' AS varchar)),
  (CAST(23 AS bigint), CAST('Too Large' AS varchar), CAST('Soft' AS varchar), CAST('The message was too large for the recipient' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar)),
  (CAST(24 AS bigint), CAST('Timeout' AS varchar), CAST('Soft' AS varchar), CAST('No answer in time' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead server' AS varchar)),
  (CAST(25 AS bigint), CAST('Admin Failure' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: its own policies or its suppression list' AS varchar), CAST('none' AS varchar), CAST('Bird knew it before' AS varchar)),
  (CAST(26 AS bigint), CAST('Smart Send Suppression' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: Smart Send left the recipient out' AS varchar), CAST('none' AS varchar), CAST('it says nothing about the mailbox' AS varchar)),
  (CAST(30 AS bigint), CAST('Generic Bounce: No RCPT' AS varchar), CAST('Hard' AS varchar), CAST('No recipient could be determined' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar)),
  (CAST(40 AS bigint), CAST('Generic Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Failed without a reason given' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar)),
  (CAST(50 AS bigint), CAST('Mail Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked by the receiver' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar)),
  (CAST(51 AS bigint), CAST('Spam Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked as coming from a known source of spam' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar)),
  (CAST(52 AS bigint), CAST('Spam Content' AS varchar), CAST('Block' AS varchar), CAST('Blocked as spam' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar)),
  (CAST(53 AS bigint), CAST('Prohibited Attachment' AS varchar), CAST('Block' AS varchar), CAST('Blocked because of an attachment' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar)),
  (CAST(54 AS bigint), CAST('Relaying Denied' AS varchar), CAST('Block' AS varchar), CAST('The server does not take mail for that domain from here' AS varchar), CAST('none' AS varchar), CAST('it is about the servers in between' AS varchar)),
  (CAST(60 AS bigint), CAST('Auto-Reply' AS varchar), CAST('Soft' AS varchar), CAST('An automatic reply such as a holiday notice' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar)),
  (CAST(70 AS bigint), CAST('Transient Failure' AS varchar), CAST('Soft' AS varchar), CAST('Delayed for now' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar)),
  (CAST(80 AS bigint), CAST('Subscribe' AS varchar), CAST('Admin' AS varchar), CAST('A request to be subscribed' AS varchar), CAST('none' AS varchar), CAST('the opposite of an unsubscribe' AS varchar)),
  (CAST(90 AS bigint), CAST('Unsubscribe' AS varchar), CAST('Hard' AS varchar), CAST('A request to be unsubscribed' AS varchar), CAST('suppress' AS varchar), CAST('the recipient asked for it' AS varchar)),
  (CAST(100 AS bigint), CAST('Challenge-Response' AS varchar), CAST('Soft' AS varchar), CAST('A challenge that asks the sender for proof of identity' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar))
) AS classes (bounce_class, name, bounce_group, meaning, action, because);
COMMENT ON VIEW bounce_classes IS 'Bird''s bounce classes, and what each means for the recipient (bird-webhooks)';
COMMENT ON COLUMN bounce_classes.bounce_class IS 'Bird''s code';
COMMENT ON COLUMN bounce_classes.name IS 'what Bird calls it';
COMMENT ON COLUMN bounce_classes.bounce_group IS 'Bird''s category: Hard, Soft, Block, Admin, Undetermined';
COMMENT ON COLUMN bounce_classes.meaning IS 'what happened';
COMMENT ON COLUMN bounce_classes.action IS 'suppress - at once; count - after repetition; none - the class says nothing about the recipient';
COMMENT ON COLUMN bounce_classes.because IS 'the reason for the action';

CREATE OR REPLACE VIEW message_timeline AS
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
WHERE message_id <> '';
COMMENT ON VIEW message_timeline IS 'every event of a message, in order (bird-webhooks)';
COMMENT ON COLUMN message_timeline.message_id IS 'Bird''s id of the message';
COMMENT ON COLUMN message_timeline.event_date IS 'UTC date of the event';
COMMENT ON COLUMN message_timeline.timestamp IS 'when the event happened';
COMMENT ON COLUMN message_timeline.step IS 'place of the type in the life of a message';
COMMENT ON COLUMN message_timeline.type IS 'type of the event';
COMMENT ON COLUMN message_timeline.rcpt_to IS 'the recipient';
COMMENT ON COLUMN message_timeline.campaign_id IS 'name of the campaign';
COMMENT ON COLUMN message_timeline.detail IS 'what the remote side said, the link followed, or the kind of complaint';
COMMENT ON COLUMN message_timeline.bounce_class IS 'Bird''s class of a bounce';
COMMENT ON COLUMN message_timeline.num_retries IS 'failed attempts before this one';
COMMENT ON COLUMN message_timeline.queue_time IS 'milliseconds since Bird accepted the message';
COMMENT ON COLUMN message_timeline.by_machine IS 'a machine opened or clicked';
COMMENT ON COLUMN message_timeline.user_agent IS 'the client of an open or click';
COMMENT ON COLUMN message_timeline.event_key IS 'identifies events of the same type and second';
COMMENT ON COLUMN message_timeline.customer_id IS 'account at Bird';

CREATE OR REPLACE VIEW recipient_engagement AS
WITH engagement AS (
  SELECT
    COALESCE(customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(subaccount_id, ''), '0') AS subaccount_id,
    COALESCE(NULLIF(message_id, ''), event_key) AS message,
    type,
    COALESCE(timestamp, received_at) AS seen,
    type IN ('open', 'initial_open', 'amp_open', 'amp_initial_open') AS is_open,
    type IN ('click', 'amp_click') AS is_click,
    COALESCE(user_agent_parsed_is_prefetched, false) AS by_machine,
    COALESCE(user_agent_parsed_is_proxy, false) AS by_proxy
  FROM events_deduplicated
  WHERE type IN (
      'delivery', 'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click',
      'list_unsubscribe', 'link_unsubscribe', 'spam_complaint'
    )
    AND COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to) <> ''
    AND (type <> 'spam_complaint' OR lower(COALESCE(fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
)
SELECT
  rcpt_to,
  subaccount_id,
  count(DISTINCT message) FILTER (WHERE type = 'delivery') AS delivered,
  count(DISTINCT message) FILTER (WHERE is_open AND NOT by_machine) AS human_opens,
  count(DISTINCT message) FILTER (WHERE is_open AND NOT by_machine AND by_proxy) AS proxy_opens,
  count(DISTINCT message) FILTER (WHERE is_open AND by_machine) AS machine_opens,
  count(DISTINCT message) FILTER (WHERE is_click AND NOT by_machine) AS clicks,
  count(DISTINCT message) FILTER (WHERE is_click AND by_machine) AS machine_clicks,
  max(CASE WHEN type = 'delivery' THEN seen END) AS last_delivery,
  max(CASE WHEN is_open AND NOT by_machine THEN seen END) AS last_open,
  max(CASE WHEN is_click AND NOT by_machine THEN seen END) AS last_click,
  count(*) FILTER (WHERE type IN ('list_unsubscribe', 'link_unsubscribe')) > 0 AS unsubscribed,
  count(*) FILTER (WHERE type = 'spam_complaint') > 0 AS complained,
  NULLIF(customer_id, '') AS customer_id
FROM engagement
GROUP BY customer_id, rcpt_to, subaccount_id;
COMMENT ON VIEW recipient_engagement IS 'what each recipient did with the mail, machines counted separately (bird-webhooks)';
COMMENT ON COLUMN recipient_engagement.rcpt_to IS 'the address, in lower case';
COMMENT ON COLUMN recipient_engagement.subaccount_id IS '0 for the primary account';
COMMENT ON COLUMN recipient_engagement.delivered IS 'messages delivered';
COMMENT ON COLUMN recipient_engagement.human_opens IS 'messages opened by a human';
COMMENT ON COLUMN recipient_engagement.proxy_opens IS 'messages of human_opens that were opened through an image proxy';
COMMENT ON COLUMN recipient_engagement.machine_opens IS 'messages opened by a machine; a human may have opened the same ones';
COMMENT ON COLUMN recipient_engagement.clicks IS 'messages in which a human followed a link';
COMMENT ON COLUMN recipient_engagement.machine_clicks IS 'messages in which a machine followed a link';
COMMENT ON COLUMN recipient_engagement.last_delivery IS 'when the last message was delivered';
COMMENT ON COLUMN recipient_engagement.last_open IS 'when a human last opened a message';
COMMENT ON COLUMN recipient_engagement.last_click IS 'when a human last clicked';
COMMENT ON COLUMN recipient_engagement.unsubscribed IS 'unsubscribed by the mail client''s button or a link';
COMMENT ON COLUMN recipient_engagement.complained IS 'marked a message as spam';
COMMENT ON COLUMN recipient_engagement.customer_id IS 'account at Bird; NULL if the events name none';

CREATE OR REPLACE VIEW suppression_candidates AS
WITH signals AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
    CASE WHEN e.type IN ('list_unsubscribe', 'link_unsubscribe') THEN COALESCE(e.list_id, '') ELSE '' END AS list_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN CAST('hard_bounce' AS varchar) ELSE CAST(e.type AS varchar) END AS reason,
    COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_key,
    CASE WHEN e.type IN ('bounce', 'out_of_band') THEN e.bounce_class END AS bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id,
    CASE WHEN e.type IN ('bounce', 'out_of_band') OR e.transactional THEN 1 ELSE 0 END AS stops_all
  FROM suppression_events e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type IN ('bounce', 'out_of_band', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe')
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND (e.type NOT IN ('bounce', 'out_of_band') OR c.action NOT IN ('count', 'none'))
    AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
),
-- Only these recipients can become candidates by soft bounces, so only their deliveries are read.
often AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(c.action, 'count') = 'count'
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND ${SoftBounceLimit} > 0
  GROUP BY
    COALESCE(e.customer_id, ''),
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)),
    COALESCE(NULLIF(e.subaccount_id, ''), '0')
  HAVING count(*) >= ${SoftBounceLimit}
),
-- A message that came back as an out-of-band bounce was not delivered.
returned AS (
  SELECT COALESCE(e.customer_id, '') AS customer_id, e.message_id
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type = 'out_of_band' AND e.message_id <> '' AND COALESCE(c.action, 'count') <> 'none'
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
),
-- A delivery that came back more than once is there as often, which changes neither the earliest nor the latest.
mail AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id,
    e.type, 1 AS step, COALESCE(e.timestamp, e.received_at) AS seen, e.event_date, e.event_key,
    COALESCE(e.message_id, '') AS message_id, e.bounce_class, NULLIF(e.campaign_id, '') AS campaign_id, 0 AS came_back
  FROM events_deduplicated e
  LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(c.action, 'count') = 'count'
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND ${SoftBounceLimit} > 0
  UNION ALL
  SELECT
    o.customer_id, o.rcpt_to, o.subaccount_id, e.type, 0 AS step, COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date, e.event_key, COALESCE(e.message_id, '') AS message_id, e.bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id, CASE WHEN r.message_id IS NULL THEN 0 ELSE 1 END AS came_back
  FROM events_deduplicated e
  JOIN often o ON o.customer_id = COALESCE(e.customer_id, '')
    AND o.rcpt_to = lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to))
    AND o.subaccount_id = COALESCE(NULLIF(e.subaccount_id, ''), '0')
  LEFT JOIN returned r ON r.customer_id = COALESCE(e.customer_id, '') AND r.message_id = e.message_id
  WHERE e.type = 'delivery' AND e.event_date >= current_date - interval '${SoftBounceDays}' day
),
-- An out-of-band bounce without message_id belongs to the recipient's latest delivery before it.
ordered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, type, seen, event_date, event_key, message_id, bounce_class, campaign_id, came_back,
    max(CASE WHEN type = 'delivery' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS delivery_before,
    min(CASE WHEN type = 'delivery' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS next_delivery,
    min(CASE WHEN type = 'out_of_band' AND message_id = '' THEN seen END) OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id ORDER BY seen, step, event_key
      ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS next_return
  FROM mail
),
after_delivery AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, type, seen, event_key, bounce_class, campaign_id,
    CASE
      WHEN message_id <> '' THEN 'message ' || message_id
      WHEN type = 'out_of_band' THEN 'delivery ' || COALESCE(CAST(delivery_before AS varchar), CAST(event_date AS varchar))
      ELSE 'event ' || event_key
    END AS message,
    max(CASE WHEN type = 'delivery' AND came_back = 0 AND (next_return IS NULL OR next_delivery <= next_return) THEN seen END)
      OVER (PARTITION BY customer_id, rcpt_to, subaccount_id) AS delivered
  FROM ordered
),
soft_bounces AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, seen, event_key, bounce_class, campaign_id,
    row_number() OVER (PARTITION BY customer_id, rcpt_to, subaccount_id, message ORDER BY event_key) AS notice
  FROM after_delivery
  WHERE type <> 'delivery' AND (delivered IS NULL OR seen > delivered)
),
counted AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, seen, event_key, bounce_class, campaign_id,
    sum(CASE WHEN notice = 1 THEN 1 ELSE 0 END) OVER (PARTITION BY customer_id, rcpt_to, subaccount_id) AS messages
  FROM soft_bounces
),
reasons AS (
  SELECT customer_id, rcpt_to, subaccount_id, list_id, reason, seen, event_key, bounce_class, campaign_id, stops_all
  FROM signals
  UNION ALL
  SELECT
    customer_id, rcpt_to, subaccount_id, '' AS list_id, CAST('soft_bounces' AS varchar) AS reason, seen, event_key, bounce_class,
    campaign_id, 1 AS stops_all
  FROM counted
  WHERE messages >= ${SoftBounceLimit}
),
numbered AS (
  SELECT
    customer_id, rcpt_to, subaccount_id, list_id, reason, seen, bounce_class, campaign_id, stops_all,
    row_number() OVER (
      PARTITION BY customer_id, rcpt_to, subaccount_id, list_id ORDER BY seen DESC, reason, event_key
    ) AS place
  FROM reasons
)
SELECT
  rcpt_to,
  subaccount_id,
  max(CASE WHEN place = 1 THEN reason END) AS reason,
  max(CASE WHEN place = 1 THEN bounce_class END) AS bounce_class,
  max(CASE WHEN place = 1 THEN campaign_id END) AS campaign_id,
  count(*) AS events,
  min(seen) AS first_seen,
  max(seen) AS last_seen,
  CASE
    WHEN list_id <> '' THEN CAST('list' AS varchar)
    WHEN max(stops_all) = 1 THEN CAST('all' AS varchar)
    ELSE CAST('non_transactional' AS varchar)
  END AS scope,
  NULLIF(customer_id, '') AS customer_id,
  NULLIF(list_id, '') AS list_id
FROM numbered
GROUP BY customer_id, rcpt_to, subaccount_id, list_id;
COMMENT ON VIEW suppression_candidates IS 'addresses that should get no more mail, and why (bird-webhooks)';
COMMENT ON COLUMN suppression_candidates.rcpt_to IS 'the address, in lower case';
COMMENT ON COLUMN suppression_candidates.subaccount_id IS '0 for the primary account';
COMMENT ON COLUMN suppression_candidates.reason IS 'the latest reason: hard_bounce, soft_bounces, spam_complaint, list_unsubscribe, link_unsubscribe';
COMMENT ON COLUMN suppression_candidates.bounce_class IS 'Bird''s class of the latest reason, if that is a bounce';
COMMENT ON COLUMN suppression_candidates.campaign_id IS 'campaign that the latest reason came from';
COMMENT ON COLUMN suppression_candidates.events IS 'number of events that are a reason';
COMMENT ON COLUMN suppression_candidates.first_seen IS 'when the first of them happened';
COMMENT ON COLUMN suppression_candidates.last_seen IS 'when the latest of them happened';
COMMENT ON COLUMN suppression_candidates.scope IS 'all - no mail at all; non_transactional - mail marked as transactional may go on; list - mail of list_id';
COMMENT ON COLUMN suppression_candidates.customer_id IS 'account at Bird; NULL if the events name none';
COMMENT ON COLUMN suppression_candidates.list_id IS 'the one list that the recipient left; NULL if the reason is not about one list';

CREATE OR REPLACE VIEW list_export AS
SELECT
  s.rcpt_to AS email,
  s.subaccount_id,
  s.reason,
  CASE s.reason
    WHEN 'spam_complaint' THEN CAST('Marked as spam' AS varchar)
    WHEN 'list_unsubscribe' THEN CAST('Unsubscribed by the button of the mail client' AS varchar)
    WHEN 'link_unsubscribe' THEN CAST('Unsubscribed by the link in the mail' AS varchar)
    ELSE
      CASE s.reason
        WHEN 'soft_bounces' THEN CAST('Repeated bounces, the last one: ' AS varchar)
        ELSE CAST('Bounced: ' AS varchar)
      END || COALESCE(CAST(s.bounce_class AS varchar), 'no class') || ' ' || COALESCE(c.name, 'Unknown')
  END AS description,
  s.scope,
  s.last_seen AS added_at,
  s.customer_id,
  s.list_id
FROM suppression_candidates s
LEFT JOIN bounce_classes c ON c.bounce_class = s.bounce_class
WHERE s.rcpt_to LIKE '%@%';
COMMENT ON VIEW list_export IS 'the suppression candidates as tools that import lists want them (bird-webhooks)';
COMMENT ON COLUMN list_export.email IS 'the address, in lower case';
COMMENT ON COLUMN list_export.subaccount_id IS '0 for the primary account; at Bird each subaccount has its own list';
COMMENT ON COLUMN list_export.reason IS 'as in suppression_candidates';
COMMENT ON COLUMN list_export.description IS 'the reason in words';
COMMENT ON COLUMN list_export.scope IS 'all, non_transactional or list';
COMMENT ON COLUMN list_export.added_at IS 'when the latest reason happened';
COMMENT ON COLUMN list_export.customer_id IS 'account at Bird; NULL if the events name none';
COMMENT ON COLUMN list_export.list_id IS 'the one list that the recipient left; NULL if the reason is not about one list';
