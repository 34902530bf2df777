"""normal: its numbers by the inverse of the distribution, whoever computes them, and their statistics."""

import numpy as np
import pytest

from nncore import Op, Program, new_state, reference_steps, set_num_threads
from nncore.memory import DRAW


def normal(count, isa, dtype, stream=0, draw=0, seed=3, threads=1):
    state = new_state(seed=seed)
    state[DRAW] = draw
    out = np.full(count + 1, 9, dtype)
    set_num_threads(threads)
    Program([Op("normal", out=out[:count], state=state, count=count, index=stream, dtype=dtype, isa=isa)], state).run()
    assert out[count] == 9  # what is behind stays
    return out[:count]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 255, 256, 257, 5003])
def test_as_the_reference_has_it(isa, dtype, count, every_thread_count):
    (out,) = every_thread_count(lambda threads: [normal(count, isa, dtype, 5, 2, -7, threads)])
    state = new_state(seed=-7)
    state[DRAW] = 2
    np.testing.assert_allclose(out, reference_steps.normal(count, 5, state, dtype), rtol=3e-6, atol=3e-6)


def test_statistics(isa, dtype):
    x = normal(1 << 18, isa, dtype).astype(np.float64)
    assert abs(x.mean()) < 4 / 512 and abs(x.var() - 1) < 4 * np.sqrt(2) / 512  # four deviations of each
    assert abs((x**3).mean()) < 4 * np.sqrt(15) / 512 and abs((x**4).mean() - 3) < 4 * np.sqrt(96) / 512
    assert 4 < np.abs(x).max() < 7
    for edge, share in ((0.5, 0.3829249), (1, 0.6826895), (2, 0.9544997), (3, 0.9973002)):
        assert abs((np.abs(x) < edge).mean() - share) < 4 * 0.5 / 512


def test_draws_streams_and_seeds_differ(isa, dtype):
    some = [normal(4096, isa, dtype, **given) for given in ({}, dict(draw=1), dict(stream=1), dict(seed=4))]
    for number, one in enumerate(some):
        for other in some[:number]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.07 and not (one == other).any()
    np.testing.assert_array_equal(some[0][:100], normal(100, isa, dtype))  # an element's number depends on its place
