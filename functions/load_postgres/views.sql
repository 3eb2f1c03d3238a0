-- Written by `make generate` from sql/views. CREATE OR REPLACE keeps the grants on a view, and the views that others
-- made of it. It takes new columns at the end only: a version that takes one away has to drop the view first.
-- load_postgres runs each part between blank lines as one transaction, and knows its views by their comments' end.

DO 'BEGIN
  IF to_regclass(''verdicts'') IS NULL THEN
    CREATE TABLE verdicts (
      hour timestamp,
      type text,
      state text,
      ours bigint,
      theirs bigint,
      stage text,
      counted_at timestamp,
      missing bigint,
      strange bigint,
      proof text,
      filled bigint,
      erased bigint,
      filled_at timestamp,
      note text,
      PRIMARY KEY (hour, type)
    );
    COMMENT ON TABLE verdicts IS ''What completeness is made of (bird-webhooks)'';
  END IF;
END';

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
SELECT bounce_class, name, bounce_group, meaning, action, because, counted_as
FROM (VALUES
  (CAST(1 AS bigint), CAST('Undetermined' AS varchar), CAST('Undetermined' AS varchar), CAST('The answer could not be classified' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(10 AS bigint), CAST('Invalid Recipient' AS varchar), CAST('Hard' AS varchar), CAST('There is no such recipient' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar), CAST('bounce' AS varchar)),
  (CAST(20 AS bigint), CAST('Soft Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Refused for a temporary reason' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(21 AS bigint), CAST('DNS Failure' AS varchar), CAST('Soft' AS varchar), CAST('The recipient''s domain could not be looked up' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead domain' AS varchar), CAST('bounce' AS varchar)),
  (CAST(22 AS bigint), CAST('Mailbox Full' AS varchar), CAST('Soft' AS varchar), CAST('The mailbox is over its quota' AS varchar), CAST('count' AS varchar), CAST('the mailbox may be emptied, or it is abandoned' AS varchar), CAST('bounce' AS varchar)),
  (CAST(23 AS bigint), CAST('Too Large' AS varchar), CAST('Soft' AS varchar), CAST('The message was too large for the recipient' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(24 AS bigint), CAST('Timeout' AS varchar), CAST('Soft' AS varchar), CAST('No answer in time' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead server' AS varchar), CAST('bounce' AS varchar)),
  (CAST(25 AS bigint), CAST('Admin Failure' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: its own policies or its suppression list' AS varchar), CAST('none' AS varchar), CAST('Bird knew it before, or the sender cancelled' AS varchar), CAST('admin' AS varchar)),
  (CAST(26 AS bigint), CAST('Smart Send Suppression' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: Smart Send left the recipient out' AS varchar), CAST('none' AS varchar), CAST('it says nothing about the mailbox' AS varchar), CAST('admin' AS varchar)),
  (CAST(30 AS bigint), CAST('Generic Bounce: No RCPT' AS varchar), CAST('Hard' AS varchar), CAST('No recipient could be determined' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar), CAST('bounce' AS varchar)),
  (CAST(40 AS bigint), CAST('Generic Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Failed without a reason given' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(50 AS bigint), CAST('Mail Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked by the receiver' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar), CAST('bounce' AS varchar)),
  (CAST(51 AS bigint), CAST('Spam Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked as coming from a known source of spam' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar), CAST('bounce' AS varchar)),
  (CAST(52 AS bigint), CAST('Spam Content' AS varchar), CAST('Block' AS varchar), CAST('Blocked as spam' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(53 AS bigint), CAST('Prohibited Attachment' AS varchar), CAST('Block' AS varchar), CAST('Blocked because of an attachment' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(54 AS bigint), CAST('Relaying Denied' AS varchar), CAST('Block' AS varchar), CAST('The server does not take mail for that domain from here' AS varchar), CAST('none' AS varchar), CAST('it is about the servers in between' AS varchar), CAST('bounce' AS varchar)),
  (CAST(60 AS bigint), CAST('Auto-Reply' AS varchar), CAST('Soft' AS varchar), CAST('An automatic reply such as a holiday notice' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar), CAST('reply' AS varchar)),
  (CAST(70 AS bigint), CAST('Transient Failure' AS varchar), CAST('Soft' AS varchar), CAST('Delayed for now' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(80 AS bigint), CAST('Subscribe' AS varchar), CAST('Admin' AS varchar), CAST('A request to be subscribed' AS varchar), CAST('none' AS varchar), CAST('the opposite of an unsubscribe' AS varchar), CAST('admin' AS varchar)),
  (CAST(90 AS bigint), CAST('Unsubscribe' AS varchar), CAST('Hard' AS varchar), CAST('A request to be unsubscribed' AS varchar), CAST('suppress' AS varchar), CAST('the recipient asked for it' AS varchar), CAST('reply' AS varchar)),
  (CAST(100 AS bigint), CAST('Challenge-Response' AS varchar), CAST('Soft' AS varchar), CAST('A challenge that asks the sender for proof of identity' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar), CAST('reply' AS varchar))
) AS classes (bounce_class, name, bounce_group, meaning, action, because, counted_as);
COMMENT ON VIEW bounce_classes IS 'Bird''s bounce classes, and what each means for the recipient (bird-webhooks)';
COMMENT ON COLUMN bounce_classes.bounce_class IS 'Bird''s code';
COMMENT ON COLUMN bounce_classes.name IS 'what Bird calls it';
COMMENT ON COLUMN bounce_classes.bounce_group IS 'Bird''s category: Hard, Soft, Block, Admin, Undetermined';
COMMENT ON COLUMN bounce_classes.meaning IS 'what happened';
COMMENT ON COLUMN bounce_classes.action IS 'suppress - at once; count - after repetition; none - the class says nothing about the recipient';
COMMENT ON COLUMN bounce_classes.because IS 'the reason for the action';
COMMENT ON COLUMN bounce_classes.counted_as IS 'bounce; admin - Bird did not send it; reply - if out of band, an answer to mail that arrived';

CREATE OR REPLACE VIEW completeness AS
SELECT
  hour,
  type,
  state,
  ours,
  theirs,
  missing,
  strange,
  proof,
  filled,
  erased,
  counted_at,
  note
FROM (
  SELECT
    CAST(hour AS timestamp) AS hour,
    CAST(type AS varchar) AS type,
    CAST(state AS varchar) AS state,
    CAST(ours AS bigint) AS ours,
    CAST(theirs AS bigint) AS theirs,
    CAST(missing AS bigint) AS missing,
    CAST(strange AS bigint) AS strange,
    CAST(proof AS varchar) AS proof,
    CAST(filled AS bigint) AS filled,
    CAST(erased AS bigint) AS erased,
    CAST(counted_at AS timestamp) AS counted_at,
    CAST(note AS varchar) AS note,
    row_number() OVER (PARTITION BY hour, type ORDER BY counted_at DESC) AS newest
  FROM verdicts
) AS judged
WHERE newest = 1;
COMMENT ON VIEW completeness IS 'whether all that Bird has of an hour and event type is here (bird-webhooks)';
COMMENT ON COLUMN completeness.hour IS 'beginning of the hour, in UTC';
COMMENT ON COLUMN completeness.type IS 'event type; * - all types together, while they were not counted one by one';
COMMENT ON COLUMN completeness.state IS 'proved, filled, erased, provisional, late, gap, surplus, unknown, expired, before or unprovable';
COMMENT ON COLUMN completeness.ours IS 'events that are here';
COMMENT ON COLUMN completeness.theirs IS 'events that Bird has; NULL if it gave no answer';
COMMENT ON COLUMN completeness.missing IS 'events that only Bird has';
COMMENT ON COLUMN completeness.strange IS 'events that only we have';
COMMENT ON COLUMN completeness.proof IS 'ids - compared by id; count - compared by number';
COMMENT ON COLUMN completeness.filled IS 'events that were fetched from Bird';
COMMENT ON COLUMN completeness.erased IS 'events that were left out because the person is erased';
COMMENT ON COLUMN completeness.counted_at IS 'when it was counted last';
COMMENT ON COLUMN completeness.note IS 'what more there is to say';

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
  WHERE e.type IN ('bounce', 'out_of_band', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe')
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND (e.type NOT IN ('bounce', 'out_of_band') OR e.bounce_class IN (10, 30, 90))
    AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
),
-- Only these recipients can become candidates by soft bounces, so only their deliveries are read.
often AS (
  SELECT
    COALESCE(e.customer_id, '') AS customer_id,
    lower(COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to)) AS rcpt_to,
    COALESCE(NULLIF(e.subaccount_id, ''), '0') AS subaccount_id
  FROM events e
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(e.bounce_class, 0) NOT IN (10, 30, 90, 23, 25, 26, 50, 51, 52, 53, 54, 60, 80, 100)
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
  FROM events e
  WHERE e.type = 'out_of_band' AND e.message_id <> ''
    AND COALESCE(e.bounce_class, 0) NOT IN (23, 25, 26, 50, 51, 52, 53, 54, 60, 80, 100)
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
  FROM events e
  WHERE e.type IN ('bounce', 'out_of_band')
    AND COALESCE(e.bounce_class, 0) NOT IN (10, 30, 90, 23, 25, 26, 50, 51, 52, 53, 54, 60, 80, 100)
    AND COALESCE(NULLIF(e.rcpt_to, ''), e.raw_rcpt_to) <> ''
    AND e.event_date >= current_date - interval '${SoftBounceDays}' day
    AND ${SoftBounceLimit} > 0
  UNION ALL
  SELECT
    o.customer_id, o.rcpt_to, o.subaccount_id, e.type, 0 AS step, COALESCE(e.timestamp, e.received_at) AS seen,
    e.event_date, e.event_key, COALESCE(e.message_id, '') AS message_id, e.bounce_class,
    NULLIF(e.campaign_id, '') AS campaign_id, CASE WHEN r.message_id IS NULL THEN 0 ELSE 1 END AS came_back
  FROM events e
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

CREATE OR REPLACE VIEW mail_events AS
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
FROM events e
LEFT JOIN bounce_classes c ON c.bounce_class = e.bounce_class
WHERE e.type IN (
    'injection', 'policy_rejection', 'generation_failure', 'generation_rejection', 'delay', 'delivery', 'bounce', 'out_of_band',
    'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click', 'list_unsubscribe', 'link_unsubscribe',
    'spam_complaint'
  )
  AND (e.type <> 'spam_complaint' OR lower(COALESCE(e.fbtype, '')) NOT IN ('not-spam', 'auth-failure'))
  AND COALESCE(e.delv_method, '') NOT IN ('smpp', 'gcm', 'apn');
COMMENT ON VIEW mail_events IS 'each event of mail with the metric that it counts in, the words of docs/metrics.md (bird-webhooks)';
COMMENT ON COLUMN mail_events.event_date IS 'UTC date of the event';
COMMENT ON COLUMN mail_events.seen IS 'when it happened; when it arrived if the event has no time';
COMMENT ON COLUMN mail_events.type IS 'Bird''s type of the event';
COMMENT ON COLUMN mail_events.metric IS 'injected, rejected, delayed (at the first attempt), delayed_again, delivered, bounced, returned, admin_bounced, replied, opened, opened_by_proxy, prefetched, clicked, clicked_by_machine, unsubscribed or complained';
COMMENT ON COLUMN mail_events.customer_id IS 'account at Bird; NULL if the event names none';
COMMENT ON COLUMN mail_events.message IS 'the message within all accounts; of an event without message_id the recipient and the transmission';
COMMENT ON COLUMN mail_events.recipient IS 'the address, in lower case';
COMMENT ON COLUMN mail_events.subaccount_id IS '0 for the primary account';
COMMENT ON COLUMN mail_events.campaign_id IS 'name of the campaign; (none) where there is none';
COMMENT ON COLUMN mail_events.mailbox_provider IS 'provider of the recipient; (unknown) where Bird names none';
COMMENT ON COLUMN mail_events.recipient_domain IS 'domain of the recipient, in lower case; (unknown) where Bird names none';
COMMENT ON COLUMN mail_events.sending_domain IS 'domain of the visible From, in lower case; (unknown) where Bird names none';
COMMENT ON COLUMN mail_events.ip_pool IS 'sending IP pool; (none) where Bird names none';
COMMENT ON COLUMN mail_events.sending_ip IS 'address that the message left from; (unknown) where Bird names none';
COMMENT ON COLUMN mail_events.template_id IS 'name of the template; (none) where there is none';
COMMENT ON COLUMN mail_events.ab_test_id IS 'A/B test; bounces and delays do not name theirs';
COMMENT ON COLUMN mail_events.ab_test_version IS 'version of the A/B test';
COMMENT ON COLUMN mail_events.transactional IS 'marked as transactional';
COMMENT ON COLUMN mail_events.rcpt_type IS 'cc, bcc or archive; NULL for To';
COMMENT ON COLUMN mail_events.bounce_class IS 'Bird''s class of a failure';
COMMENT ON COLUMN mail_events.bounce_group IS 'Hard, Soft, Block, Admin or Undetermined; NULL if the event has no known class';
COMMENT ON COLUMN mail_events.num_retries IS 'failed attempts before this one';
COMMENT ON COLUMN mail_events.queue_time IS 'milliseconds since Bird accepted the message';
COMMENT ON COLUMN mail_events.reason IS 'what the remote side said, with placeholders for what varies';
COMMENT ON COLUMN mail_events.target_link_url IS 'the link followed';
COMMENT ON COLUMN mail_events.message_id IS 'Bird''s id of the message';
COMMENT ON COLUMN mail_events.event_key IS 'identifies events of the same type';

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

CREATE OR REPLACE VIEW complaint_reporters AS
SELECT
  mailbox_provider,
  count(*) AS complaints,
  min(seen) AS first_seen,
  max(seen) AS last_seen
FROM mail_events
WHERE event_date >= current_date - interval '90' day AND type = 'spam_complaint' AND mailbox_provider <> '(unknown)'
  AND lower(mailbox_provider) NOT IN ('gmail', 'gsuite', 'g suite', 'google apps', 'google workspace')
GROUP BY mailbox_provider;
COMMENT ON VIEW complaint_reporters IS 'mailbox providers that reported a complaint within the last 90 days (bird-webhooks)';
COMMENT ON COLUMN complaint_reporters.mailbox_provider IS 'provider of the recipient';
COMMENT ON COLUMN complaint_reporters.complaints IS 'complaints within the 90 days';
COMMENT ON COLUMN complaint_reporters.first_seen IS 'when the first of them happened';
COMMENT ON COLUMN complaint_reporters.last_seen IS 'when the latest of them happened';

CREATE OR REPLACE VIEW recipient_engagement AS
WITH metrics AS (
  SELECT
    COALESCE(customer_id, '') AS customer_id,
    recipient,
    subaccount_id,
    message,
    metric,
    min(seen) AS first_seen,
    max(seen) AS last_seen,
    min(target_link_url) AS one_link,
    max(target_link_url) AS other_link
  FROM mail_events
  WHERE type IN (
      'delivery', 'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click',
      'list_unsubscribe', 'link_unsubscribe', 'spam_complaint'
    )
    AND recipient <> ''
  GROUP BY COALESCE(customer_id, ''), recipient, subaccount_id, message, metric
),
messages AS (
  SELECT
    customer_id,
    recipient,
    subaccount_id,
    max(CASE WHEN metric = 'delivered' THEN 1 ELSE 0 END) AS delivered,
    max(CASE WHEN metric IN ('opened', 'opened_by_proxy') THEN 1 ELSE 0 END) AS opened,
    max(CASE WHEN metric = 'opened_by_proxy' THEN 1 ELSE 0 END) AS by_proxy,
    max(CASE WHEN metric = 'prefetched' THEN 1 ELSE 0 END) AS by_machine,
    max(CASE WHEN metric = 'clicked' THEN 1 ELSE 0 END) AS clicked,
    max(CASE WHEN metric = 'clicked_by_machine' THEN 1 ELSE 0 END) AS clicked_by_machine,
    max(CASE WHEN metric = 'unsubscribed' THEN 1 ELSE 0 END) AS unsubscribed,
    max(CASE WHEN metric = 'complained' THEN 1 ELSE 0 END) AS complained,
    min(CASE WHEN metric = 'delivered' THEN first_seen END) AS first_delivery,
    max(CASE WHEN metric = 'delivered' THEN last_seen END) AS last_delivery,
    max(CASE WHEN metric IN ('opened', 'opened_by_proxy') THEN last_seen END) AS last_open,
    max(CASE WHEN metric = 'prefetched' THEN last_seen END) AS last_machine_open,
    min(CASE WHEN metric = 'clicked' THEN first_seen END) AS first_click,
    max(CASE WHEN metric = 'clicked' THEN last_seen END) AS last_click,
    min(CASE WHEN metric = 'clicked' THEN one_link END) AS one_link,
    max(CASE WHEN metric = 'clicked' THEN other_link END) AS other_link
  FROM metrics
  GROUP BY customer_id, recipient, subaccount_id, message
)
SELECT
  recipient AS rcpt_to,
  subaccount_id,
  count(*) FILTER (WHERE delivered = 1) AS delivered,
  count(*) FILTER (WHERE opened = 1) AS human_opens,
  count(*) FILTER (WHERE by_proxy = 1) AS proxy_opens,
  count(*) FILTER (WHERE by_machine = 1) AS machine_opens,
  count(*) FILTER (WHERE clicked = 1) AS clicks,
  count(*) FILTER (WHERE clicked_by_machine = 1) AS machine_clicks,
  max(last_delivery) AS last_delivery,
  max(last_open) AS last_open,
  max(last_click) AS last_click,
  max(unsubscribed) = 1 AS unsubscribed,
  max(complained) = 1 AS complained,
  NULLIF(customer_id, '') AS customer_id,
  min(first_delivery) AS first_delivery,
  max(COALESCE(GREATEST(last_open, last_click), last_open, last_click)) AS last_engaged,
  max(last_machine_open) AS last_machine_open,
  count(*) FILTER (
    WHERE last_click <= first_delivery + interval '10' second
      OR (one_link <> other_link AND last_click <= first_click + interval '5' second)
  ) AS scanner_clicks
FROM messages
GROUP BY customer_id, recipient, subaccount_id;
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
COMMENT ON COLUMN recipient_engagement.first_delivery IS 'when the first message was delivered';
COMMENT ON COLUMN recipient_engagement.last_engaged IS 'when a human last opened or clicked';
COMMENT ON COLUMN recipient_engagement.last_machine_open IS 'when a machine last opened a message';
COMMENT ON COLUMN recipient_engagement.scanner_clicks IS 'messages of clicks whose clicks all look like a link scanner''s: within 10 seconds of the delivery, or several links within 5 seconds';
