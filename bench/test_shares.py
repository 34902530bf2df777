"""Fused kernels and whole training steps against the share of the machine's limit that shares.json says they reach."""

import pytest

from bench import shares
from bench.share_cases import SHARED


def test_every_recorded_share_has_a_benchmark():
    known = {bounded.name for bounded in SHARED}
    assert len(known) == len(SHARED)
    for machine, of in shares.load().items():
        assert set(of) <= known, machine


@pytest.mark.benchmark(group="shares")
@pytest.mark.parametrize("bounded", SHARED, ids=str)
def test_share(bounded, share_guard):
    share_guard(bounded)
