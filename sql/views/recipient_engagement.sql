-- recipient_engagement: what each recipient did with the mail, machines counted separately
--
-- One row per account, address and subaccount. Opens and clicks are messages, each counted once however often it was opened.
-- An open is a machine's if Bird says prefetched: the pixel was fetched before anybody read. An image proxy that does not
-- prefetch fetches when the recipient reads: that is a human open, whose client and place are the proxy's. A recipient with
-- machine opens only is unknown, not inactive: last_engaged stays NULL for most readers of Apple Mail. Grouped by metric first:
-- otherwise PostgreSQL works out the metric of an event for each column that names it.
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
--   first_delivery timestamp: when the first message was delivered
--   last_engaged timestamp: when a human last opened or clicked
--   last_machine_open timestamp: when a machine last opened a message
--   scanner_clicks bigint: messages of clicks whose clicks all look like a link scanner's: within 10 seconds of the delivery, or several links within 5 seconds
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
GROUP BY customer_id, recipient, subaccount_id
