-- time_to_inbox: how long mail takes from Bird to the mailbox provider
--
-- Percentiles by the nearest rank, which is exact and one text for all engines: the time within which at least so many
-- percent of the messages were delivered.
--
-- Columns:
--   mailbox_provider varchar: of the recipient; (unknown) where Bird names none
--   delivered bigint: messages delivered, with a queue time
--   p50_ms bigint: half of them took up to so many milliseconds
--   p95_ms bigint: 95 percent
--   p99_ms bigint: 99 percent
--   max_ms bigint: the slowest
-- Parameters: the days, in the line with `interval`
WITH ranked AS (
  SELECT
    COALESCE(NULLIF(mailbox_provider, ''), '(unknown)') AS mailbox_provider,
    queue_time,
    row_number() OVER (PARTITION BY COALESCE(NULLIF(mailbox_provider, ''), '(unknown)') ORDER BY queue_time) AS place,
    count(*) OVER (PARTITION BY COALESCE(NULLIF(mailbox_provider, ''), '(unknown)')) AS total
  FROM events_deduplicated
  WHERE event_date >= current_date - interval '30' day
    AND type = 'delivery'
    AND queue_time IS NOT NULL
)
SELECT
  mailbox_provider,
  count(*) AS delivered,
  min(CASE WHEN place * 100 >= total * 50 THEN queue_time END) AS p50_ms,
  min(CASE WHEN place * 100 >= total * 95 THEN queue_time END) AS p95_ms,
  min(CASE WHEN place * 100 >= total * 99 THEN queue_time END) AS p99_ms,
  max(queue_time) AS max_ms
FROM ranked
GROUP BY mailbox_provider
ORDER BY count(*) DESC, mailbox_provider
