"""Three quarters of a minute of steady load, for the night as `make soak`, fifteen minutes of it."""

import pytest

from local_aws.load import soak


@pytest.mark.nightly
def test_memory_stays_flat_under_steady_load(stack):
    assert soak(stack, minutes=0.75, rate=8, seed=2, alone=False)
