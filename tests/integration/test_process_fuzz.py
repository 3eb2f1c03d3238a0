"""Hostile bodies of every kind and mixtures of them, in child processes with a memory limit and a time limit.

Against the benchmark's S3, since moto takes long over large objects.
"""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from benchmarks import s3 as fast_s3

ROOT = Path(__file__).resolve().parents[2]

MEBIBYTE = 2**20
# Of 1,024 MB; Lambda's runtime needs some 50 of them.
MAX_RESIDENT_MEBIBYTES = 700
OBJECTS = 8
SECONDS = 100  # of 120
ROUND_SECONDS = 115
GOOD = [b"innocent-1", b"innocent-2"]

INVOKE = """
import json, resource, sys, time
from process.app import lambda_handler
from maintain.generate.events import created, sqs

began = time.monotonic()
class Context:
    def get_remaining_time_in_millis(self):
        return int((120 - time.monotonic() + began) * 1000)

event = sqs(*({"Records": [created(f"raw/{n:03}.json")]} for n in range(int(sys.argv[1]))))
for record in event["Records"]:
    record["attributes"]["ApproximateReceiveCount"] = sys.argv[2]
answer = lambda_handler(event, Context())
# Not RUSAGE_SELF's: Linux keeps that over exec, so that it has the memory of the process that started this one.
with open("/proc/self/status") as status:
    own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
failed = [int(one["itemIdentifier"][-12:]) - 1 for one in answer["batchItemFailures"]]
print(json.dumps({"peak": peak // 1024, "failed": failed, "seconds": time.monotonic() - began}))
"""


def event(chance: random.Random, **fields) -> bytes:
    event_id = str(chance.randrange(10**17))
    return json.dumps(
        {"msys": {"message_event": {"type": "bounce", "event_id": event_id, "timestamp": "1795546983", **fields}}},
        ensure_ascii=chance.random() < 0.5,
    ).encode()


def array(elements) -> bytes:
    return b"[" + b",".join(elements) + b"]"


# --- Kinds ------------------------------------------------------------------------------------------------------------


def scalars(chance: random.Random) -> bytes:
    return b"[" + chance.choice([b"1,", b"{},", b'"",', b"[],", b"null,", b"\\x,"]) * chance.randrange(10**5, 3 * 10**6)


def types(chance: random.Random) -> bytes:
    return array(event(chance, type=f"t{chance.randrange(10**6)}") for _ in range(chance.choice([40, 190, 5000])))


def days(chance: random.Random) -> bytes:
    count = chance.choice([4, 99, 4300])
    return array(event(chance, timestamp=str(1795546983 - 86400 * number)) for number in range(count))


def types_and_days(chance: random.Random) -> bytes:
    count = chance.choice([100, 990, 9000])
    return array(
        event(chance, type=f"t{number % 25}", timestamp=str(1795546983 - 86400 * (number // 25 % 40)))
        for number in range(count)
    )


def elements(chance: random.Random) -> bytes:
    return array([event(chance)] * chance.choice([1000, 9_900, 60_000]))


def long_value(chance: random.Random) -> bytes:
    field = chance.choice(["event_id", "subject", "type", "campaign_id", "new", "rcpt_meta", "timestamp"])
    filling = chance.choice(["x", "\u00e4", "\U0001f600", "\x01", "1"])
    return array([event(chance, **{field: filling * chance.randrange(MEBIBYTE, 4 * MEBIBYTE)})])


def fields(chance: random.Random) -> bytes:
    invented = {f"f{chance.randrange(10**9)}": 1 for _ in range(chance.choice([90, 9_000, 150_000]))}
    return array(event(chance, **invented) for _ in range(chance.choice([1, 3])))


def deep(chance: random.Random) -> bytes:
    depth = chance.choice([900, 9_900, 10_001, 3 * 10**6])
    brackets = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    whole = brackets[0] * depth + chance.choice([b"1" + brackets[1] * depth, b""])
    return array([event(chance), b'{"msys":{"a":{"type":"open","rcpt_meta":%b}}}' % whole, event(chance)])


def broken(chance: random.Random) -> bytes:
    made = bytearray(array(event(chance, subject='a "b" {c}', rcpt_meta={"msys": [1]}) for _ in range(300)))
    for _ in range(chance.choice([1, 30, 3000])):
        made[chance.randrange(len(made))] = chance.choice(b'"\\{}[],:x\xff\n\x00')
    return bytes(made[: chance.randrange(len(made) // 2, len(made))])


def never_closed(chance: random.Random) -> bytes:
    return b"[" + chance.choice([b'{"msys":{"a":{"type":"x",', b'{"msys":{"a":"', b"[{"]) * chance.randrange(600_000)


def not_utf8(chance: random.Random) -> bytes:
    return array([b'{"msys":{"a":{"type":"x","s":"%b"}}}' % (b"\xff" * chance.choice([3, 3000]))] * 900)


def numbers(chance: random.Random) -> bytes:
    meta = b"[%b1]" % (chance.choice([b"1e131071,", b"1,", b"-0.1,"]) * chance.randrange(500_000))
    return array([b'{"msys":{"a":{"type":"open","rcpt_meta":%b}}}' % meta])


def to_repair(chance: random.Random) -> bytes:
    filling = chance.choice([b"\x01", b"\\q", b"\\n\xff", b"\\ud800"])
    size, count = chance.choice([(16_000, 900), (500_000, 25), (1_000_000, 3)])
    subject = filling * (size // len(filling))
    return array([b'{"msys":{"a":{"type":"open","subject":"%b"}}}' % subject] * count)


def arrays(chance: random.Random) -> bytes:
    return chance.choice([b"[]", b"[ ] ", b"[1]"]) * chance.randrange(4 * MEBIBYTE)


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(MEBIBYTE))


KINDS = [scalars, types, days, types_and_days, elements, long_value, fields, deep, broken, never_closed, not_utf8]
KINDS += [numbers, to_repair, arrays, noise]


def hostile(chance: random.Random) -> bytes:
    """One kind, or one after the other, as it is or compressed in some way."""
    body = b"".join(chance.choice(KINDS)(chance) for _ in range(chance.choice([1, 1, 1, 2])))
    match chance.randrange(5):
        case 0 if len(body) <= 6 * MEBIBYTE:
            return body
        case 1:
            return gzip.compress(gzip.compress(body, 1), 1)
        case 2:
            half = len(body) // 2
            return gzip.compress(body[:half], 1) + gzip.compress(body[half:], 1) + chance.choice([b"", b"junk"])
        case 3:
            return gzip.compress(body, 1)[: -chance.randrange(1, 30)]
    return gzip.compress(body, 1)


def run(seed: int, receive_count: int) -> dict:
    """One invocation over hostile objects and, as the first and the last, two innocent ones."""
    chance = random.Random(seed)  # noqa: S311
    with fast_s3.running() as endpoint:
        store = S3Store("raw-bucket", endpoint=endpoint, client_options={"allow_http": True})
        bodies = [hostile(chance) for _ in range(OBJECTS)]
        for number, body in enumerate([array([event(chance)]), *bodies, array([event(chance)])]):
            assert len(body) <= 10 * MEBIBYTE
            attributes = {"received-at": "2026-11-25T12:00:00.000Z"}
            obstore.put(store, f"raw/{number:03}.json", body, attributes=attributes, use_multipart=False)
        settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "LAKE_BUCKET": "sink"}
        settings |= {"RAW_BUCKET": "raw-bucket", "RAW_PREFIX": "raw", "AWS_REGION": "eu-west-1"}
        result = subprocess.run(
            [sys.executable, "-c", INVOKE, str(OBJECTS + 2), str(receive_count)],
            cwd=ROOT,
            env={**os.environ, **settings, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
            capture_output=True,
            text=True,
            timeout=ROUND_SECONDS,
        )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("seed", "receive_count"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.nightly)])
def test_hostile_bodies_take_no_memory_no_time_and_nobody_along(seed, receive_count):
    took = run(seed, receive_count)
    assert took["peak"] < MAX_RESIDENT_MEBIBYTES
    assert took["seconds"] < SECONDS
    assert not {0, OBJECTS + 1} & set(took["failed"])
