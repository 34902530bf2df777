"""SGD and Adam against reference.py over several steps, with every option and thread count: the kernels over flat
buffers, and the steps behind a gemm or in a chain, which the kernels NAME_prepare give their numbers."""

import itertools

import numpy as np
import pytest

from nncore import Op, Program, Step, new_state, reference, reference_steps, set_num_threads
from nncore.memory import DRAW, LOCAL, RATES
from nncore.steps import RULE_REALS

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
    assert state[DRAW] == state[LOCAL] == STEPS
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
            lambda n: train("sgd", arrays, rates, n, dtype, isa, nesterov=nesterov, **settings, **scale)
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
        results = every_thread_count(lambda n: train("adam", arrays, rates, n, dtype, isa, **settings, **scale))
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


RATES_OF_STEPS = np.array([0.1, 0.05, 0.2, 0.01])
# The settings of an optimizer, and the slots that it then has.
RULES = [
    ("sgd", dict(weight_decay=0.1), ""),
    ("sgd", dict(momentum=0.9), "v"),
    ("sgd", dict(momentum=0.9, nesterov=1, weight_decay=0.1), "v"),
    ("adam", dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7), "mv"),
    ("adam", dict(beta_1=0.8, beta_2=0.99, epsilon=1e-3, weight_decay=0.1), "mv"),
]
SHAPES = [(1, 1), (1, 5), (3, 17), (7, 16), (130, 33), (33, 130), (1, 5003), (2, 4096)]


def with_rates():
    state = new_state()
    state[RATES] = RATES_OF_STEPS.ctypes.data
    return state


def expected_rule(kind, step, settings):
    lr = RATES_OF_STEPS[step]
    return reference.adam_prepare(lr, step, **settings) if kind == "adam" else reference.sgd_prepare(lr, **settings)


def parameters(rng, slots, shape, dtype, margin=0):
    """w and the slots, as the left of wider arrays whose rest is 5; v is no less than 0, as Adam's is."""
    arrays = {}
    for name in "w" + slots:
        wide = np.full((shape[0], shape[1] + margin), 5, dtype)
        wide[:, : shape[1]] = np.abs(rng.standard_normal(shape))
        arrays[name] = wide
    return arrays


def update_step(kind, arrays, rule, cols):
    """The Step that updates the left ``cols`` columns of the arrays."""
    operands = dict(zip("pqr", (array[:, :cols] for array in arrays.values()), strict=False))
    return Step(kind, rule=rule, **operands)


@pytest.mark.parametrize("kind, settings, slots", RULES)
def test_prepare(kind, settings, slots, dtype, isa):
    """The numbers of each step, and nothing behind them."""
    rule = np.full(RULE_REALS + 1, 5, dtype)
    state = with_rates()
    op = Op(f"{kind}_prepare", rule=rule[:RULE_REALS], state=state, dtype=dtype, isa=isa, **settings)
    for threads, step in zip((1, 2, 3, 7), range(STEPS), strict=True):
        set_num_threads(threads)
        Program([op], state).run()
        np.testing.assert_allclose(rule[:-1], expected_rule(kind, step, settings), rtol=np.finfo(dtype).eps)
        assert rule[-1] == 5


@pytest.mark.parametrize("kind, settings, slots", RULES)
def test_step_in_a_chain(kind, settings, slots, rng, dtype, isa, every_thread_count, assert_close):
    """Over several steps: the weights and slots are those of the reference, the gradient and the memory around stay."""
    for shape in SHAPES:
        g = rng.standard_normal(shape).astype(dtype)
        start = parameters(rng, slots, shape, dtype, margin=3)

        def compute(threads):
            arrays, out = {name: array.copy() for name, array in start.items()}, np.empty_like(g)
            rule, state = np.empty(RULE_REALS, dtype), with_rates()
            prepare = Op(f"{kind}_prepare", rule=rule, state=state, dtype=dtype, isa=isa, **settings)
            chain = Op(
                "chain", out=out, x=g, rows=shape[0], cols=shape[1], ld_out=shape[1], ld_x=shape[1], dtype=dtype,
                isa=isa, steps=[update_step(kind, arrays, rule, shape[1])],
            )  # fmt: skip
            set_num_threads(threads)
            Program([prepare, chain], state).run(STEPS)
            return [out, *arrays.values()]

        out, *results = every_thread_count(compute)
        assert out.tobytes() == g.tobytes()
        wanted = {name: array[:, : shape[1]] for name, array in start.items()}
        for step, lr in enumerate(RATES_OF_STEPS):
            if kind == "adam":
                w, m, v = reference.adam(wanted["w"], wanted["m"], wanted["v"], g, lr, step, **settings)
                wanted = dict(w=w, m=m, v=v)
            else:
                w, v = reference.sgd(wanted["w"], wanted.get("v"), g, lr, **settings)
                wanted = dict(w=w) if v is None else dict(w=w, v=v)
        for array, expected in zip(results, wanted.values(), strict=True):
            assert_close(array[:, : shape[1]], expected)
            assert (array[:, shape[1] :] == 5).all()


@pytest.mark.parametrize("kind, settings, slots", RULES)
@pytest.mark.parametrize("batch, rows, cols", [(1, 1, 1), (5, 3, 17), (33, 130, 70), (700, 9, 129), (0, 4, 5)])
def test_step_behind_a_gemm(
    kind, settings, slots, batch, rows, cols, rng, dtype, isa, run, every_thread_count, assert_close
):
    """A weight gradient x.T @ dy with the update behind it does what the same gemm alone and then the update do."""
    x, dy = (rng.standard_normal((batch, n)).astype(dtype) for n in (rows, cols))
    rule = expected_rule(kind, 0, settings).astype(dtype)
    start = parameters(rng, slots, (rows, cols), dtype)

    def product(threads, steps):
        c = np.empty((rows, cols), dtype)
        run(
            "gemm", threads=threads, dtype=dtype, isa=isa, c=c, a=x, b=dy, m=rows, n=cols, k=batch, rs_a=1, cs_a=rows,
            ldb=cols, ldc=cols, steps=steps,
        )  # fmt: skip
        return c

    def compute(threads):
        arrays = {name: array.copy() for name, array in start.items()}
        return [product(threads, [update_step(kind, arrays, rule, cols)]), *arrays.values()]

    g, *results = every_thread_count(compute)
    assert g.tobytes() == product(1, None).tobytes()
    wanted = {name: array.copy() for name, array in start.items()}
    reference_steps.apply(g, [update_step(kind, wanted, rule, cols)])
    for actual, expected in zip(results, wanted.values(), strict=True):
        assert_close(actual, expected, scale=max(1.0, float(np.abs(g).max())))


def test_adam_after_an_overflow_stands_still(isa):
    """A second moment that is infinite counts as the largest number: next to no update, as the formula says."""
    w, m, v, g = (np.full(37, value, np.float32) for value in (0.5, 0.1, 1.0, 1e25))
    rates, state = np.full(3, 1e-3), new_state()
    state[RATES] = rates.ctypes.data
    settings = dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7)
    Program([Op("adam", w=w, m=m, v=v, g=g, state=state, count=37, isa=isa, **settings)], state).run()
    assert np.isinf(v).all() and np.isfinite(w).all()
    rate = 1e-3 * np.sqrt(1 - 0.999) / (1 - 0.9)  # corrected for the bias of the first step
    np.testing.assert_allclose(w, 0.5 - rate * 1e24 / np.sqrt(3.0e38), rtol=1e-4)
