-- list_export: the suppression candidates as tools that import lists want them
--
-- One row per account, address, subaccount and list. A recipient that is not an address (a hash, a telephone number) is left out.
--
-- Columns:
--   email varchar: the address, in lower case
--   subaccount_id varchar: 0 for the primary account; at Bird each subaccount has its own list
--   reason varchar: as in suppression_candidates
--   description varchar: the reason in words
--   scope varchar: all, non_transactional or list
--   added_at timestamp: when the latest reason happened
--   customer_id varchar: account at Bird; NULL if the events name none
--   list_id varchar: the one list that the recipient left; NULL if the reason is not about one list
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
WHERE s.rcpt_to LIKE '%@%'
