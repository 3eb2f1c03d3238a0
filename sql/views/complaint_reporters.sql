-- complaint_reporters: mailbox providers that reported a complaint within the last 90 days
--
-- A complaint rate makes sense over their mail only. Google never sends complaints (see its Postmaster Tools): one about mail to
-- Gmail or Google Workspace comes from a provider that the mail was forwarded to, and makes no reporter of Google.
--
-- Columns:
--   mailbox_provider varchar: provider of the recipient
--   complaints bigint: complaints within the 90 days
--   first_seen timestamp: when the first of them happened
--   last_seen timestamp: when the latest of them happened
SELECT
  mailbox_provider,
  count(*) AS complaints,
  min(seen) AS first_seen,
  max(seen) AS last_seen
FROM mail_events
WHERE event_date >= current_date - interval '90' day AND type = 'spam_complaint' AND mailbox_provider <> '(unknown)'
  AND lower(mailbox_provider) NOT IN ('gmail', 'gsuite', 'g suite', 'google apps', 'google workspace')
GROUP BY mailbox_provider
