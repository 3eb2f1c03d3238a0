-- complaints_by_delivery_day: complaints about the mail of each day, as mailbox providers count them
--
-- By day of delivery and sending domain. Providers count over mail in the inbox, which no event tells, so their rates are higher. The
-- domain of the visible From stands for the DKIM domain.
--
-- Columns:
--   day date: when the mail was delivered, UTC
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   sending_domain varchar: domain of the visible From; (unknown) where Bird names none
--   complaints bigint: messages marked as spam by now
--   accepted bigint: messages delivered that day and not returned
--   complaint_rate decimal(12,4): complaints, in percent of accepted; NULL: not reported
--   verdict varchar: fine, watch (from 0.1 percent), act (from 0.3 percent), few (under 1,000 accepted) or not reported
-- Parameters: the days, in the line with `interval`
WITH messages AS (
  SELECT
    min(CASE WHEN metric = 'delivered' THEN event_date END) AS day,
    max(CASE WHEN metric = 'delivered' THEN mailbox_provider END) AS mailbox_provider,
    max(CASE WHEN metric = 'delivered' THEN sending_domain END) AS sending_domain,
    max(CASE WHEN metric = 'complained' THEN 1 ELSE 0 END) AS complained,
    max(CASE WHEN metric = 'returned' THEN 1 ELSE 0 END) AS returned
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'out_of_band', 'spam_complaint')
  GROUP BY message
),
days AS (
  SELECT
    m.day,
    m.mailbox_provider,
    m.sending_domain,
    sum(m.complained) AS complaints,
    count(*) FILTER (WHERE m.returned = 0) AS accepted,
    max(r.complaints) AS reported
  FROM messages m
  LEFT JOIN complaint_reporters r ON r.mailbox_provider = m.mailbox_provider
  WHERE m.day IS NOT NULL
  GROUP BY m.day, m.mailbox_provider, m.sending_domain
)
SELECT
  day,
  mailbox_provider,
  sending_domain,
  complaints,
  accepted,
  CASE
    WHEN reported IS NOT NULL
      THEN CAST(100 * CAST(complaints AS double precision) / NULLIF(accepted, 0) AS decimal(12, 4))
  END AS complaint_rate,
  CAST(
    CASE
      WHEN reported IS NULL THEN 'not reported'
      WHEN accepted < 1000 THEN 'few'
      WHEN complaints * 1000 >= accepted * 3 THEN 'act'
      WHEN complaints * 1000 >= accepted THEN 'watch'
      ELSE 'fine'
    END AS varchar
  ) AS verdict
FROM days
ORDER BY day DESC, accepted DESC, mailbox_provider, sending_domain
