"""The benchmark hands its inputs to a process of their own, from whatever folder."""

import json
import os

from benchmarks.events import ROOT
from benchmarks.measure import child, environment

LONGEST_ARGUMENT_BYTES = 128 * 1024  # Linux's MAX_ARG_STRLEN: 32 pages (man 2 execve)


def test_a_thousand_files_of_a_long_path_reach_the_process(tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    batch = folder / "batch.json"
    batch.write_text('[{"msys":{"message_event":{"type":"bounce","event_id":"1","timestamp":"1460989507"}}}]')
    files = [str(batch)] * 1000
    assert len(json.dumps(files)) > LONGEST_ARGUMENT_BYTES
    env = environment() | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "functions", ROOT)))}
    got = child("readers", {"contender": "ours -> CSV", "files": files, "gc_off": False, "once": True}, env)
    assert got["fresh"] > 0
