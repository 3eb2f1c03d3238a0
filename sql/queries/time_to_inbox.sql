-- time_to_inbox: how long mail takes from Bird to the mailbox provider
--
-- Percentiles by the nearest rank, which is exact and one text for all engines: the time within which at least so many
-- percent of the messages were delivered.
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   delivered bigint: messages delivered, with a queue time
--   p50_ms bigint: half of the messages took at most so many milliseconds
--   p95_ms bigint: 95 percent of the messages took at most so many milliseconds
--   p99_ms bigint: 99 percent of the messages took at most so many milliseconds
--   max_ms bigint: milliseconds that the slowest message took
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
