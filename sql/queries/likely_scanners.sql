-- likely_scanners: recipient domains where programs seem to follow the links
--
-- A message's clicks look like a scanner's if all of them came within 10 seconds of the delivery, or several links within 5 seconds.
-- It is a guess: such messages still count as clicked elsewhere.
--
-- Columns:
--   recipient_domain varchar: domain of the recipient
--   delivered bigint: messages delivered
--   clicked bigint: messages of them with a click
--   likely_scanners bigint: messages of clicked whose clicks look like a scanner's
--   scanner_share decimal(12,4): likely_scanners, in percent of clicked
-- Parameters: the days, in the line with `day`; the seconds, in the lines with `second`
WITH messages AS (
  SELECT
    max(CASE WHEN metric = 'delivered' THEN recipient_domain END) AS recipient_domain,
    min(CASE WHEN metric = 'delivered' THEN seen END) AS delivered_at,
    min(CASE WHEN metric = 'clicked' THEN seen END) AS first_click,
    max(CASE WHEN metric = 'clicked' THEN seen END) AS last_click,
    min(CASE WHEN metric = 'clicked' THEN target_link_url END) AS one_link,
    max(CASE WHEN metric = 'clicked' THEN target_link_url END) AS other_link
  FROM mail_events
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'click', 'amp_click')
  GROUP BY message
),
domains AS (
  SELECT
    recipient_domain,
    count(*) AS delivered,
    count(last_click) AS clicked,
    count(*) FILTER (
      WHERE last_click <= delivered_at + interval '10' second
        OR (one_link <> other_link AND last_click <= first_click + interval '5' second)
    ) AS likely_scanners
  FROM messages
  WHERE delivered_at IS NOT NULL
  GROUP BY recipient_domain
)
SELECT
  recipient_domain,
  delivered,
  clicked,
  likely_scanners,
  CAST(100 * CAST(likely_scanners AS double precision) / clicked AS decimal(12, 4)) AS scanner_share
FROM domains
WHERE likely_scanners > 0
ORDER BY likely_scanners DESC, recipient_domain
LIMIT 50
