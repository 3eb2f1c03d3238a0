"""Nothing is judged while process has work whose rows may be missing."""

import pytest

from reconcile.pipeline import Work, held_by


@pytest.mark.parametrize(
    ("work", "why"),
    [
        pytest.param(Work(0, 0, 0, None), None, id="nothing waits"),
        pytest.param(Work(0, 2, 0, None), "2 batches are in the dead-letter queue", id="dead letters"),
        pytest.param(Work(3, 0, 1, 10.0), "3 batches wait, and process has failed 1 times", id="failures"),
        pytest.param(Work(3, 0, 0, 901.0), "the oldest of 3 batches has waited 901 s", id="old work"),
        pytest.param(Work(3, 0, 0, 30.0), None, id="the usual traffic"),
        pytest.param(Work(3, 0, 0, None), "3 batches wait, and how long is not known", id="no figure of the age"),
    ],
)
def test_what_waits_decides(work, why):
    assert held_by(work) == why
