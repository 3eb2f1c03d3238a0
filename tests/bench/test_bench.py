"""The benchmark runs and prints all its rows; tests do not check how fast anything is."""

import json
import os
import subprocess
from pathlib import Path

from benchmarks import dba, postgres
from benchmarks.process import CONTENDERS
from local_aws import deploy as local_stack
from local_aws.emulator import ROOT

INGEST = ["ours", "guide's handler (boto3)", "botocore only"]
GROWTH = ["ours -> Parquet", "orjson + pyarrow -> Parquet", "DuckDB read_json -> Parquet"]
PARTS = {
    "artefacts": {"ours", "boto3, packaged", "orjson + pyarrow", "pandas + pyarrow", "DuckDB", "polars"},
    "ingest, cold": {*INGEST, "empty handler (the floor)"},
    "ingest, warm": set(INGEST),
    "ingest, requests a second": set(INGEST),
    "process": set(CONTENDERS),
    "process, after an outage": {"ours, the handler with S3"},
    "process, how it grows": set(GROWTH),
    "lake": {
        "ours (100 batches an invocation)",
        "one file a batch",
        "unsorted, else as ours",
        "no rows, the raw JSON",
    },
    "postgres": set(postgres.CONTENDERS),
    "dba": {dba.OURS},
}


def test_bench_has_a_row_for_every_contender():
    local_stack.build()
    # The end-to-end part is what the other tests here do.
    environment = {**os.environ, "ONLY": "artefacts,ingest,process,growth,lake,postgres,dba", "QUICK": "1"}
    result = subprocess.run(
        [ROOT / ".venv-bench/bin/python", "-m", "benchmarks"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(Path(result.stderr.split()[-1]).read_text())
    found: dict[str, set[str]] = {}
    for measure in report["results"]:
        found.setdefault(measure["part"], set()).update(measure["contenders"])
    assert found == PARTS
    missing = [name for contenders in PARTS.values() for name in contenders if name not in result.stdout]
    assert missing == []
