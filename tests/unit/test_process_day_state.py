"""What the state of a date keeps of files that are gone, and the state as the contract that others read."""

from datetime import UTC, date, datetime, timedelta

from process import day_state
from process.day_state import Attempt, DayState, File, Small, commit, decode, encode
from process.maintenance import message

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
# What docs/downstream/warehouses.md promises; other programs read it.
STATE = (
    b'{"event_date":"2026-11-23","format":1,"number":1,"current":{"name":"0001-5d41402abc4b",'
    b'"files":[{"name":"0000-00.parquet","rows":141,"bytes":20480}],"exact":true,"at":null},'
    b'"location":"closed/event_date=2026-11-23/0001-5d41402abc4b/","rows":141,"closed_at":"2026-11-24T12:00:00Z",'
    b'"announced":"0001-5d41402abc4b","taken_in":[{"at":"2026-11-24T12:00:00Z",'
    b'"files":[["0a1b2c.parquet","9b2cf535f27731c974343645a3985328"]]}],"deleted":[],"replaced":[],"attempt":null,"files_gone":0}'
)
MESSAGE = (
    b'{"event_date":"2026-11-23","version":"0001-5d41402abc4b",'
    b'"files":["s3://lake-bucket/closed/event_date=2026-11-23/0001-5d41402abc4b/0000-00.parquet"],"rows":141,'
    b'"exact":true,"manifest":"s3://lake-bucket/maintenance/days/event_date=2026-11-23.json"}'
)


def closed() -> DayState:
    state = DayState(date(2026, 11, 23), number=1, announced="0001-5d41402abc4b")
    state.attempt = Attempt("0001-5d41402abc4b", None, [Small("0a1b2c.parquet", "9b2cf535f27731c974343645a3985328")])
    state.attempt.files = [File("0000-00.parquet", 141, 20_480)]
    commit(state, NOON)
    return state


def test_the_state_of_a_closed_date_is_the_manifest_that_is_promised():
    assert encode(closed()) == STATE
    assert decode(STATE) == closed()


def test_the_message_of_a_closed_date_is_the_one_that_is_promised():
    assert message("lake-bucket", closed()) == MESSAGE


def test_names_of_deleted_files_stay_known():
    state = closed()
    day_state.small_deleted(state, NOON + 14 * DAY)
    assert state.deleted == []
    for days in (15, 27, 400):
        day_state.small_deleted(state, NOON + days * DAY)
        assert (state.taken_in, state.deleted) == ([], ["0a1b2c.parquet"])
