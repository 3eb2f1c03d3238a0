-- The saved query that by_campaign replaced (commit 58e7f97): five figures.
WITH messages AS (
  SELECT
    customer_id,
    COALESCE(NULLIF(campaign_id, ''), '(none)') AS campaign_id,
    COALESCE(NULLIF(message_id, ''), event_key) AS message,
    count(*) FILTER (WHERE type = 'delivery') AS deliveries,
    count(*) FILTER (
      WHERE type IN ('open', 'initial_open', 'amp_open', 'amp_initial_open')
        AND NOT COALESCE(user_agent_parsed_is_prefetched, false)
    ) AS by_human,
    count(*) FILTER (
      WHERE type IN ('open', 'initial_open', 'amp_open', 'amp_initial_open')
        AND COALESCE(user_agent_parsed_is_prefetched, false)
    ) AS by_machine,
    count(*) FILTER (
      WHERE type IN ('click', 'amp_click') AND NOT COALESCE(user_agent_parsed_is_prefetched, false)
    ) AS clicked
  FROM events_deduplicated
  WHERE event_date >= current_date - interval '30' day
    AND type IN ('delivery', 'open', 'initial_open', 'amp_open', 'amp_initial_open', 'click', 'amp_click')
  GROUP BY 1, 2, 3
),
campaigns AS (
  SELECT
    customer_id,
    campaign_id,
    count(*) FILTER (WHERE deliveries > 0) AS delivered,
    count(*) FILTER (WHERE by_human > 0) AS human_opens,
    count(*) FILTER (WHERE by_machine > 0 AND by_human = 0) AS machine_opens,
    count(*) FILTER (WHERE clicked > 0) AS clicks
  FROM messages
  GROUP BY customer_id, campaign_id
)
SELECT
  campaign_id,
  delivered,
  human_opens,
  machine_opens,
  clicks,
  CAST(100 * CAST(human_opens AS double precision) / NULLIF(delivered, 0) AS decimal(12, 4)) AS open_rate,
  CAST(100 * CAST(clicks AS double precision) / NULLIF(delivered, 0) AS decimal(12, 4)) AS click_rate,
  customer_id
FROM campaigns
ORDER BY delivered DESC, campaign_id, customer_id
