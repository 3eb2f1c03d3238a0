-- recipient_engagement: what each recipient did with the mail, machines counted separately
--
-- One row per account, address and subaccount. Opens and clicks are messages, each counted once however often it was opened.
-- An open is a machine's if Bird says prefetched: the pixel was fetched before anybody read. An image proxy that does not
-- prefetch fetches when the recipient reads: that is a human open, whose client and place are the proxy's.
--
-- Columns:
--   rcpt_to varchar: the address, in lower case
--   subaccount_id varchar: 0 for the primary account
--   delivered bigint: messages delivered
--   human_opens bigint: messages opened by a human
--   proxy_opens bigint: messages of human_opens that were opened through an image proxy
--   machine_opens bigint: messages opened by a machine; a human may have opened the same ones
--   clicks bigint: messages in which a human followed a link
--   machine_clicks bigint: messages in which a machine followed a link
--   last_delivery timestamp: when the last message was delivered
--   last_open timestamp: when a human last opened a message
--   last_click timestamp: when a human last clicked
--   unsubscribed boolean: unsubscribed by the mail client's button or a link
--   complained boolean: marked a message as spam
--   customer_id varchar: account at Bird; NULL if the events name none
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
GROUP BY customer_id, rcpt_to, subaccount_id
