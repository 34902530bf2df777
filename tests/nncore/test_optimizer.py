"""SGD and Adam against reference.py over several steps, with every option and thread count."""

import itertools

import numpy as np
import pytest

from nncore import Op, Program, new_state, reference, set_num_threads
from nncore.memory import LOCAL, RATES, STEP

COUNTS = [0, 1, 7, 16, 17, 1023, 1024, 1025, 5003]
STEPS = 4


def train(kernel, arrays, rates, threads, dtype, isa, **arguments):
    """The arrays after STEPS steps of ``kernel``."""
    set_num_threads(threads)
    arrays = {name: array.copy() for name, array in arrays.items()}
    state = new_state()
    state[RATES] = rates.ctypes.data
    op = Op(kernel, dtype=dtype, isa=isa, state=state, count=len(arrays["w"]), **arrays, **arguments)
    assert Program([op], state).run(STEPS) == STEPS
    assert state[STEP] == state[LOCAL] == STEPS
    return [arrays[name] for name in "wmv" if name in arrays]


def start(rng, names, count, dtype):
    return {name: rng.standard_normal(count).astype(dtype) for name in names}


@pytest.mark.parametrize("momentum, nesterov", [(0.0, 0), (0.9, 0), (0.9, 1)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [None, 0.25])
def test_sgd(rng, dtype, isa, momentum, nesterov, decay, clip, every_thread_count, assert_close):
    rates = np.array([0.1, 0.05, 0.2, 0.01])
    settings = dict(momentum=momentum, weight_decay=decay)
    scale = {} if clip is None else dict(scale=np.array([clip], dtype))
    for count in COUNTS:
        arrays = start(rng, "wvg" if momentum else "wg", count, dtype)
        results = every_thread_count(
            lambda n: train("sgd", arrays, rates, n, dtype, isa, nesterov=nesterov, **settings, **scale)  # noqa: B023
        )
        w, v, g = arrays["w"], arrays.get("v"), arrays["g"]
        for lr in rates:
            w, v = reference.sgd(w, v, g, lr, clip or 1.0, nesterov=nesterov, **settings)
        for actual, expected in zip(results, (w, v), strict=False):
            assert_close(actual, expected)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [None, 0.25])
def test_adam(rng, dtype, isa, decay, clip, every_thread_count, assert_close):
    rates = np.array([0.1, 0.05, 0.2, 0.01])
    settings = dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=decay)
    scale = {} if clip is None else dict(scale=np.array([clip], dtype))
    for count in COUNTS:
        arrays = start(rng, "wg", count, dtype) | dict(m=np.zeros(count, dtype), v=np.zeros(count, dtype))
        results = every_thread_count(lambda n: train("adam", arrays, rates, n, dtype, isa, **settings, **scale))  # noqa: B023
        w, m, v = (arrays[name] for name in "wmv")
        for step, lr in enumerate(rates):
            w, m, v = reference.adam(w, m, v, arrays["g"], lr, step, clip or 1.0, **settings)
        for actual, expected in zip(results, (w, m, v), strict=True):
            assert_close(actual, expected)


def test_the_bits_of_an_element_do_not_depend_on_its_position(rng, dtype, isa):
    """In a whole vector or among the last few: the same bits."""
    rates = np.full(STEPS, 0.01)
    arrays = start(rng, "wmg", 64, dtype)
    arrays["v"] = arrays["m"] ** 2
    for kernel, settings in (
        ("adam", dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=0.01)),
        ("sgd", dict(momentum=0.9, nesterov=1, weight_decay=0.01)),
    ):
        given = {name: arrays[name] for name in arrays if kernel == "adam" or name != "m"}
        whole = train(kernel, given, rates, 1, dtype, isa, **settings)
        for first, last in itertools.product((0, 3), (5, 19, 64)):
            part = {name: array[first:last].copy() for name, array in given.items()}
            for one, other in zip(whole, train(kernel, part, rates, 1, dtype, isa, **settings), strict=True):
                np.testing.assert_array_equal(one[first:last], other)


def test_zero_gradients_and_zero_epsilon_touch_nothing_beyond_the_end(dtype, isa):
    """The padded rest of the last vector may hold anything; the array's neighbours must not."""
    memory = np.full((4, 40), 5, dtype)
    w, m, v, g = memory[:, 8:27]
    train_state = new_state()
    rates = np.array([0.1])
    train_state[RATES] = rates.ctypes.data
    op = Op("adam", dtype=dtype, isa=isa, w=w, m=m, v=v, g=g, state=train_state, count=19, beta_1=0.9, beta_2=0.999)
    Program([op], train_state).run()
    assert (memory[:, :8] == 5).all() and (memory[:, 27:] == 5).all()
    assert np.isfinite(memory).all() and (w != 5).all()
