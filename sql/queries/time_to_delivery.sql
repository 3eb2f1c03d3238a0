-- time_to_delivery: how long mail takes from Bird to the mailbox provider
--
-- Of delivered messages only: while a provider takes nothing, look at delays_and_waiting. Percentiles by the nearest rank, which
-- is exact and one text for all engines: the time within which at least so many percent of the messages were delivered.
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient; (unknown) where Bird names none
--   delivered bigint: messages delivered, with a queue time
--   p50_ms bigint: half of the messages took at most so many milliseconds
--   p95_ms bigint: 95 percent of the messages took at most so many milliseconds
--   p99_ms bigint: 99 percent of the messages took at most so many milliseconds
--   max_ms bigint: milliseconds that the slowest message took
--   first_try_share decimal(12,4): delivered at the first attempt, in percent of delivered
--   retried bigint: messages that took more than one attempt
-- Parameters: the days, in the line with `interval`
WITH ranked AS (
  SELECT
    mailbox_provider,
    queue_time,
    COALESCE(num_retries, 0) AS num_retries,
    row_number() OVER (PARTITION BY mailbox_provider ORDER BY queue_time) AS place,
    count(*) OVER (PARTITION BY mailbox_provider) AS total
  FROM mail_events
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
  max(queue_time) AS max_ms,
  CAST(
    100 * CAST(count(*) FILTER (WHERE num_retries = 0) AS double precision) / count(*) AS decimal(12, 4)
  ) AS first_try_share,
  count(*) FILTER (WHERE num_retries > 0) AS retried
FROM ranked
GROUP BY mailbox_provider
ORDER BY count(*) DESC, mailbox_provider
