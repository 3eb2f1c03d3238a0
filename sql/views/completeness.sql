-- completeness: whether all that Bird has of an hour and event type is here
--
-- One row per hour and type that was compared, with the newest verdict. docs/completeness.md says how to read a state.
--
-- Columns:
--   hour timestamp: beginning of the hour, in UTC
--   type varchar: event type; * - all types together, while they were not counted one by one
--   state varchar: proved, filled, erased, provisional, late, gap, surplus, unknown, expired, before or unprovable
--   ours bigint: events that are here
--   theirs bigint: events that Bird has; NULL if it gave no answer
--   missing bigint: events that only Bird has
--   strange bigint: events that only we have
--   proof varchar: ids - compared by id; count - compared by number
--   filled bigint: events that were fetched from Bird
--   erased bigint: events that were left out because the person is erased
--   counted_at timestamp: when it was counted last
--   note varchar: what more there is to say
SELECT
  hour,
  type,
  state,
  ours,
  theirs,
  missing,
  strange,
  proof,
  filled,
  erased,
  counted_at,
  note
FROM (
  SELECT
    CAST(hour AS timestamp) AS hour,
    CAST(type AS varchar) AS type,
    CAST(state AS varchar) AS state,
    CAST(ours AS bigint) AS ours,
    CAST(theirs AS bigint) AS theirs,
    CAST(missing AS bigint) AS missing,
    CAST(strange AS bigint) AS strange,
    CAST(proof AS varchar) AS proof,
    CAST(filled AS bigint) AS filled,
    CAST(erased AS bigint) AS erased,
    CAST(counted_at AS timestamp) AS counted_at,
    CAST(note AS varchar) AS note,
    row_number() OVER (PARTITION BY hour, type ORDER BY counted_at DESC) AS newest
  FROM verdicts
) AS judged
WHERE newest = 1
