"""The benchmark runs and prints all its rows; tests do not check how fast anything is."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import closed_days, dba, postgres
from benchmarks.process import CONTENDERS
from local_aws import deploy as local_stack
from local_aws.emulator import ROOT

INGEST = ["ours", "guide's handler (boto3)", "botocore only"]
GROWTH = ["ours -> Parquet", "orjson + pyarrow -> Parquet"]
# By the name in ONLY: measures and their contenders.
PARTS: dict[str, dict[str, set[str]]] = {
    "artefacts": {"artefacts": {"ours", "boto3, packaged", "orjson + pyarrow", "pandas + pyarrow", "DuckDB", "polars"}},
    "ingest": {
        "ingest, cold": {*INGEST, "empty handler (the floor)"},
        "ingest, warm": set(INGEST),
        "ingest, requests a second": set(INGEST),
    },
    "process": {
        "process": set(CONTENDERS),
        "process, after an outage": {"ours, the handler with S3"},
        "process, cold": {"process", "ingest", "empty handler (the floor)"},
    },
    "growth": {"process, how it grows": set(GROWTH)},
    "lake": {
        "lake": {
            "ours (100 batches an invocation)",
            "one file a batch",
            "unsorted, else as ours",
            "no rows, the raw JSON",
        },
        "lake, closed days": {closed_days.CLOSED, closed_days.OPEN},
    },
    "postgres": {"postgres": set(postgres.CONTENDERS)},
    "dba": {"dba": {dba.OURS, dba.FIRST}},
}
# The end of a line for each, among those of other parts and sizes.
GOALS = {
    "artefacts": ["ingest, unzipped: MB", "process, unzipped: MB"],
    "ingest": [
        "ingest, cold: processor time until the first answer, beside the guide's handler (boto3)",
        "ingest, warm: processor time a batch, beside the guide's handler (boto3)",
    ],
    "process": [
        "3 batches of 350, fresh process: speed beside ",
        "3 batches of 350, fresh process: memory beside ",
        "3 batches of 350, warm process: speed beside orjson.loads alone, results kept",
    ],
    "lake": [
        "lake, 90 days of 10 thousand a day: objects",
        "lake, 90 days of 10 thousand a day: bounces by day, processor time, s",
    ],
    "postgres": ["postgres: speed beside plain COPY of ready-made CSV"],
}
QUESTIONS = {
    *(path.stem for path in (ROOT / "sql/queries").glob("*.sql")),
    "bounces by day",
    "list-export",
    "message_timeline of a message",
    "recipient_engagement",
    "suppression_candidates",
    "the report, all queries",
}


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("artefacts", "ingest", "process", "postgres"), id="quickly made"),
        pytest.param(tuple(PARTS), id="all", marks=pytest.mark.nightly),
    ],
)
def test_bench_has_a_row_for_every_contender(parts):
    local_stack.build()
    # The end-to-end part is what the other tests here do.
    environment = {**os.environ, "ONLY": ",".join(parts), "QUICK": "1"}
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
    expected = {measure: contenders for part in parts for measure, contenders in PARTS[part].items()}
    assert found == expected
    goals = "\n".join(report["goals"])
    assert goals in result.stdout
    for goal in (goal for part in parts for goal in GOALS.get(part, [])):
        assert goal in goals
    assert "  obstore\n" in result.stdout
    missing = [name for contenders in expected.values() for name in contenders if name not in result.stdout]
    assert missing == []
    if "lake" in parts:
        assert_questions(report["details"]["questions"])


def assert_questions(questions: dict) -> None:
    assert {sender: set(spans) for sender, spans in questions.items()} == {
        "10 thousand a day": {"90", "365"},
        "1 million a day": {"90", "365"},
        "100 million a day": {"90", "365"},
    }
    for one in (rows for spans in questions.values() for rows in spans.values()):
        assert set(one) == QUESTIONS
        for name, read in one.items():
            assert read["closed"]["objects"] < read["open, computed"]["objects"], name
            assert 0 < read["closed"]["price"] < read["open, computed"]["price"], name
    of_90 = questions["10 thousand a day"]["90"]["bounces by day"]["closed"]
    assert (of_90["objects"], of_90["lists"]) == (90, 90)
