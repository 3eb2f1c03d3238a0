"""From a POST to a row in PostgreSQL, through the deployed template."""

import uuid
from contextlib import closing

from local_aws.query import poll, query
from tests.e2e.webhook import batch, post

ROWS_TIMEOUT_SECONDS = 60


def test_rows_in_postgresql_are_those_of_athena(stack, postgres):
    mark = str(uuid.uuid4())
    kinds = ["delivery", "bounce", "delivery", "out_of_band", "delivery", "bounce"]
    events = [{"type": kind, "event_id": f"{mark}-{number}"} for number, kind in enumerate(kinds)]
    events += [{"type": "bounce", "event_id": f"{mark}-10", "timestamp": "1500000000", "rcpt_meta": {"a": "\0"}}]
    assert post(stack, batch(*events[:4]), batch_id=f"{mark}-1").status == 200
    assert post(stack, batch(*events[2:]), batch_id=f"{mark}-2").status == 200  # two events in common
    counts = "SELECT type, event_date, count(*) AS events FROM {} "
    counts += f"WHERE event_key LIKE '{mark}%' GROUP BY 1, 2 ORDER BY 1, 2"
    with closing(postgres.connect()) as connection:
        there = "SELECT to_regclass('bird.events') IS NOT NULL"
        assert poll(lambda: connection.execute(there).fetchone(), lambda found: found == (True,), ROWS_TIMEOUT_SECONDS)

        def loaded() -> list[tuple]:
            return connection.execute(counts.format("bird.events")).fetchall()

        rows = poll(loaded, lambda found: sum(row[2] for row in found) == 7, ROWS_TIMEOUT_SECONDS)
    in_athena = [
        (row["type"], row["event_date"], int(row["events"]))
        for row in query(stack, counts.format("events_deduplicated"))
    ]
    assert (
        [(kind, str(day), events) for kind, day, events in rows]
        == in_athena
        == [
            ("bounce", "2016-04-18", 2),
            ("bounce", "2017-07-14", 1),
            ("delivery", "2016-04-18", 3),
            ("out_of_band", "2016-04-18", 1),
        ]
    )


def test_poison_is_set_aside_with_its_reason(stack):
    s3, sqs = stack.emulator.client("s3"), stack.emulator.client("sqs")
    key = f"events/event_date=2016-04-18/{uuid.uuid4()}.parquet"
    s3.put_object(Bucket=stack.outputs["LakeBucketName"], Key=key, Body=b"no Parquet")

    def dead() -> list[str]:
        got = sqs.receive_message(
            QueueUrl=stack.outputs["PostgresDeadLetterQueueUrl"],
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            MessageAttributeNames=["All"],
        )
        ours = [message for message in got.get("Messages", []) if key.split("/")[-1] in message["Body"]]
        return [message["MessageAttributes"]["Reason"]["StringValue"] for message in ours]

    try:
        assert poll(dead, bool, ROWS_TIMEOUT_SECONDS) == ["the file is not Parquet"]
    finally:
        s3.delete_object(Bucket=stack.outputs["LakeBucketName"], Key=key)
