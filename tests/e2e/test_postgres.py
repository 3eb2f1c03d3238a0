"""From a POST to a row in PostgreSQL, through the deployed template."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

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


@contextmanager
def load_postgres_with(stack, **variables: str) -> Iterator[None]:
    """The function with other settings; no deployment, because each takes seconds."""
    client, name = stack.emulator.client("lambda"), stack.resources()["LoadPostgresFunction"]
    usual = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {**usual, **variables}})
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=name, Environment={"Variables": usual})


def test_old_months_go_by_schedule_and_the_suppression_list_stays(stack, postgres):
    """While a reader makes the drop wait, what comes in is loaded."""
    mark, today = str(uuid.uuid4()), datetime.now(UTC)
    old = [today - timedelta(days=days) for days in (180, 150, 120)]

    def bounces(*times: datetime) -> str:
        return batch(
            *(
                {
                    "type": "bounce",
                    "bounce_class": "10",
                    "event_id": f"{mark}-{at:%Y%m%d}",
                    "timestamp": str(int(at.timestamp())),
                    "rcpt_to": f"{at:%Y%m%d}@example.com",
                }
                for at in times
            )
        )

    own = {"POSTGRES_SCHEMA": "retention"}  # other tests' rows are of 2016
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('retention.events')"
    suppressed = "SELECT * FROM retention.suppression_candidates ORDER BY rcpt_to"
    with closing(postgres.connect()) as connection, closing(postgres.connect(autocommit=False)) as reader:

        def rows(sql: str) -> list[tuple]:
            return connection.execute(sql).fetchall()

        def ready() -> bool:
            return rows("SELECT to_regclass('retention.suppression_candidates') IS NOT NULL") == [(True,)]

        try:
            with load_postgres_with(stack, **own):
                assert post(stack, bounces(*old), batch_id=f"{mark}-1").status == 200
                assert poll(lambda: ready() and rows(suppressed), lambda found: found and len(found) == 3, 60)
            before = rows(suppressed)
            assert rows(months) == [(3,)]
            with load_postgres_with(stack, **own, POSTGRES_RETENTION_MONTHS="1"), ThreadPoolExecutor() as pool:
                name = stack.resources()["LoadPostgresFunction"]
                reader.execute("SELECT count(*) FROM retention.events")
                event = json.dumps({"source": "aws.events", "detail-type": "Scheduled Event"}).encode()
                dropping = pool.submit(stack.emulator.client("lambda").invoke, FunctionName=name, Payload=event)
                waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%DETACH PARTITION%CONCURRENTLY%'"
                waits += " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
                assert poll(lambda: rows(waits), lambda found: found == [(1,)], 30)
                assert post(stack, bounces(today), batch_id=f"{mark}-2").status == 200
                new = "SELECT count(*) FROM retention.events WHERE event_date > current_date - 3"
                assert poll(lambda: rows(new), lambda found: found == [(1,)], 60) == [(1,)]
                assert not dropping.done()
                reader.rollback()
                assert "FunctionError" not in dropping.result(60)
            assert rows(months) == [(1,)]
            assert [row for row in rows(suppressed) if row[0] != f"{today:%Y%m%d}@example.com"] == before
        finally:
            reader.rollback()
            connection.execute("DROP SCHEMA IF EXISTS retention CASCADE")
