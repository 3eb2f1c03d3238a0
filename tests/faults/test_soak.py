"""Two minutes of steady load in CI; `make soak` takes fifteen."""

from local_aws.load import soak


def test_memory_stays_flat_under_steady_load(stack):
    assert soak(stack, minutes=2, rate=2, seed=2, alone=False)
