"""The model of the batching window: what is gathered, how long it waits, and the table in docs/performance.md."""

import pytest

from benchmarks.senders import SENDERS, Arrival
from benchmarks.windows import MESSAGES, TEMPLATE, Setting, gathered, lines
from local_aws.yaml_text import yaml_parse
from maintain.check_template import ROOT
from maintain.check_template import TEMPLATE as FILE


def test_a_batch_waits_until_its_window_closes():
    found = gathered([Arrival(0, 10), Arrival(5, 30), Arrival(30, 60)], Setting(window=20, pollers=1))
    assert (found.invocations, found.files) == (2, 2)
    assert found.waits == [(15, 30), (20, 10), (20, 60)]
    assert [found.wait_of(share) for share in (0.2, 0.3, 0.5, 0.95)] == [15, 15, 20, 20]


def test_a_hundred_batches_wait_no_longer():
    found = gathered([Arrival(second / 10, 1) for second in range(100)], Setting(window=20, pollers=1))
    assert found.invocations == 1
    assert found.waits[-1] == (pytest.approx(9.9), 1)


def test_more_than_16_mib_are_more_files():
    assert gathered([Arrival(0, 12_000), Arrival(1, 12_000)], Setting(window=20, pollers=1)).files == 2


def test_the_page_says_what_the_model_says():
    page = (ROOT / "docs/performance.md").read_text().splitlines()
    wanted = [row.removesuffix(" |") for row in lines(SENDERS[:1])[2:]]
    assert [row for row in wanted if not any(line.startswith(f"{row} |") for line in page)] == []


def test_the_marked_row_is_the_template():
    process = yaml_parse(FILE.read_text())["Resources"]["ProcessFunction"]["Properties"]["Events"]
    (queue,) = [event["Properties"] for event in process.values() if event["Type"] == "SQS"]
    assert queue["MaximumBatchingWindowInSeconds"] == TEMPLATE.window
    assert queue["BatchSize"] == MESSAGES
