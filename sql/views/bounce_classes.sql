-- bounce_classes: Bird's bounce classes, and what each means for the recipient
--
-- Written by `make generate` from sql/bounce_classes.csv.
--
-- Columns:
--   bounce_class bigint: Bird's code
--   name varchar: what Bird calls it
--   bounce_group varchar: Bird's category: Hard, Soft, Block, Admin, Undetermined
--   meaning varchar: what happened
--   action varchar: suppress - at once; count - after repetition; none - the class says nothing about the recipient
--   because varchar: the reason for the action
--   counted_as varchar: bounce; admin - Bird did not send it; reply - if out of band, an answer to mail that arrived
SELECT bounce_class, name, bounce_group, meaning, action, because, counted_as
FROM (VALUES
  (CAST(1 AS bigint), CAST('Undetermined' AS varchar), CAST('Undetermined' AS varchar), CAST('The answer could not be classified' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(10 AS bigint), CAST('Invalid Recipient' AS varchar), CAST('Hard' AS varchar), CAST('There is no such recipient' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar), CAST('bounce' AS varchar)),
  (CAST(20 AS bigint), CAST('Soft Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Refused for a temporary reason' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(21 AS bigint), CAST('DNS Failure' AS varchar), CAST('Soft' AS varchar), CAST('The recipient''s domain could not be looked up' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead domain' AS varchar), CAST('bounce' AS varchar)),
  (CAST(22 AS bigint), CAST('Mailbox Full' AS varchar), CAST('Soft' AS varchar), CAST('The mailbox is over its quota' AS varchar), CAST('count' AS varchar), CAST('the mailbox may be emptied, or it is abandoned' AS varchar), CAST('bounce' AS varchar)),
  (CAST(23 AS bigint), CAST('Too Large' AS varchar), CAST('Soft' AS varchar), CAST('The message was too large for the recipient' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(24 AS bigint), CAST('Timeout' AS varchar), CAST('Soft' AS varchar), CAST('No answer in time' AS varchar), CAST('count' AS varchar), CAST('it may be a temporary fault or a dead server' AS varchar), CAST('bounce' AS varchar)),
  (CAST(25 AS bigint), CAST('Admin Failure' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: its own policies or its suppression list' AS varchar), CAST('none' AS varchar), CAST('Bird knew it before, or the sender cancelled' AS varchar), CAST('admin' AS varchar)),
  (CAST(26 AS bigint), CAST('Smart Send Suppression' AS varchar), CAST('Admin' AS varchar), CAST('Bird did not send it: Smart Send left the recipient out' AS varchar), CAST('none' AS varchar), CAST('it says nothing about the mailbox' AS varchar), CAST('admin' AS varchar)),
  (CAST(30 AS bigint), CAST('Generic Bounce: No RCPT' AS varchar), CAST('Hard' AS varchar), CAST('No recipient could be determined' AS varchar), CAST('suppress' AS varchar), CAST('no later mail can arrive' AS varchar), CAST('bounce' AS varchar)),
  (CAST(40 AS bigint), CAST('Generic Bounce' AS varchar), CAST('Soft' AS varchar), CAST('Failed without a reason given' AS varchar), CAST('count' AS varchar), CAST('it may be the recipient; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(50 AS bigint), CAST('Mail Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked by the receiver' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar), CAST('bounce' AS varchar)),
  (CAST(51 AS bigint), CAST('Spam Block' AS varchar), CAST('Block' AS varchar), CAST('Blocked as coming from a known source of spam' AS varchar), CAST('none' AS varchar), CAST('it is about the sender' AS varchar), CAST('bounce' AS varchar)),
  (CAST(52 AS bigint), CAST('Spam Content' AS varchar), CAST('Block' AS varchar), CAST('Blocked as spam' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(53 AS bigint), CAST('Prohibited Attachment' AS varchar), CAST('Block' AS varchar), CAST('Blocked because of an attachment' AS varchar), CAST('none' AS varchar), CAST('it is about the message' AS varchar), CAST('bounce' AS varchar)),
  (CAST(54 AS bigint), CAST('Relaying Denied' AS varchar), CAST('Block' AS varchar), CAST('The server does not take mail for that domain from here' AS varchar), CAST('none' AS varchar), CAST('it is about the servers in between' AS varchar), CAST('bounce' AS varchar)),
  (CAST(60 AS bigint), CAST('Auto-Reply' AS varchar), CAST('Soft' AS varchar), CAST('An automatic reply such as a holiday notice' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar), CAST('reply' AS varchar)),
  (CAST(70 AS bigint), CAST('Transient Failure' AS varchar), CAST('Soft' AS varchar), CAST('Delayed for now' AS varchar), CAST('count' AS varchar), CAST('it may be temporary; only its repetition says so' AS varchar), CAST('bounce' AS varchar)),
  (CAST(80 AS bigint), CAST('Subscribe' AS varchar), CAST('Admin' AS varchar), CAST('A request to be subscribed' AS varchar), CAST('none' AS varchar), CAST('the opposite of an unsubscribe' AS varchar), CAST('admin' AS varchar)),
  (CAST(90 AS bigint), CAST('Unsubscribe' AS varchar), CAST('Hard' AS varchar), CAST('A request to be unsubscribed' AS varchar), CAST('suppress' AS varchar), CAST('the recipient asked for it' AS varchar), CAST('reply' AS varchar)),
  (CAST(100 AS bigint), CAST('Challenge-Response' AS varchar), CAST('Soft' AS varchar), CAST('A challenge that asks the sender for proof of identity' AS varchar), CAST('none' AS varchar), CAST('the mailbox is alive' AS varchar), CAST('reply' AS varchar))
) AS classes (bounce_class, name, bounce_group, meaning, action, because, counted_as)
