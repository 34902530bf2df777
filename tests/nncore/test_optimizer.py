"""The rules of nncore.rules against plain formulas over several steps, for every thread count: the kernel over flat
buffers, and the step behind a gemm or in a chain."""

import itertools

import numpy as np
import pytest

from nncore import Op, Program, Step, new_state, reference, reference_steps, set_num_threads
from nncore.expr import code
from nncore.memory import LOCAL, RATES
from nncore.rules import RULES

COUNTS = [0, 1, 7, 16, 17, 1023, 1024, 1025, 5003]
SHAPES = [(1, 1), (1, 5), (3, 17), (7, 16), (130, 33), (33, 130), (1, 5003), (2, 4096)]
STEPS = 4
LR = np.array([0.1, 0.05, 0.2, 0.01])


# Each rule in plain NumPy: a step of w and the slots by the gradient g, with this step's columns.
def sgd(g, w, *, rate, decay):
    return [w - rate * g - decay * w]


def momentum(g, w, v, *, rate, decay, keep):
    v = keep * v - rate * g
    return [w + v - decay * w, v]


def nesterov(g, w, v, *, rate, decay, keep):
    v = keep * v - rate * g
    return [w + keep * v - rate * g - decay * w, v]


def adam(g, w, m, v, *, alpha, decay, new_1, new_2, epsilon):
    m, v = (1 - new_1) * m + new_1 * g, (1 - new_2) * v + new_2 * g**2
    return [w - decay * w - alpha * m / (np.sqrt(v) + epsilon), m, v]


def adagrad(g, w, a, *, rate, decay, epsilon):
    a = a + g**2
    return [w - decay * w - rate * g / np.sqrt(a + epsilon), a]


def mix(g, w, *, keep, fresh):
    return [keep * w + fresh * g]


def column(g, w, *, value):
    return [np.full_like(w, value)]


def amsgrad(g, w, m, v, most, *, alpha, decay, new_1, new_2, epsilon):
    m, v = (1 - new_1) * m + new_1 * g, (1 - new_2) * v + new_2 * g**2
    most = np.maximum(most, v)
    return [w - decay * w - alpha * m / (np.sqrt(most) + epsilon), m, v, most]


def adamax(g, w, m, u, *, alpha, decay, new_1, keep, epsilon):
    m, u = (1 - new_1) * m + new_1 * g, np.maximum(keep * u, np.abs(g))
    return [w - decay * w - alpha * m / (u + epsilon), m, u]


def nadam(g, w, m, v, *, alpha, beta, decay, new_1, new_2, epsilon):
    m, v = (1 - new_1) * m + new_1 * g, (1 - new_2) * v + new_2 * g**2
    return [w - decay * w - (alpha * m + beta * g) / (np.sqrt(v) + epsilon), m, v]


def rmsprop(g, w, v, *, rate, decay, new_2, epsilon):
    v = (1 - new_2) * v + new_2 * g**2
    return [w - decay * w - rate * g / np.sqrt(v + epsilon), v]


def rmsprop_momentum(g, w, v, m, *, rate, decay, new_2, epsilon, keep):
    v = (1 - new_2) * v + new_2 * g**2
    m = keep * m + rate * g / np.sqrt(v + epsilon)
    return [w - decay * w - m, v, m]


def centered_rmsprop(g, w, v, a, *, rate, decay, new_2, epsilon):
    v, a = (1 - new_2) * v + new_2 * g**2, (1 - new_2) * a + new_2 * g
    return [w - decay * w - rate * g / np.sqrt(np.maximum(v - a**2, 0) + epsilon), v, a]


def centered_rmsprop_momentum(g, w, v, a, m, *, rate, decay, new_2, epsilon, keep):
    step, v, a = centered_rmsprop(g, np.zeros_like(w), v, a, rate=rate, decay=0, new_2=new_2, epsilon=epsilon)
    m = keep * m - step
    return [w - decay * w - m, v, a, m]


def adadelta(g, w, a, s, *, rate, decay, new_2, epsilon):
    a = (1 - new_2) * a + new_2 * g**2
    d = g * np.sqrt(s + epsilon) / np.sqrt(a + epsilon)
    return [w - decay * w - rate * d, a, (1 - new_2) * s + new_2 * d**2]


def lion(g, w, m, *, rate, decay, new_1, new_2):
    return [w - decay * w - rate * np.sign((1 - new_1) * m + new_1 * g), (1 - new_2) * m + new_2 * g]


def ftrl(g, w, a, z, *, decay, inverse, l1, l2, pull, exponent=0.5):
    w, grown = w - decay * w, a + g**2
    z = z + g + pull * w - (grown**exponent - a**exponent) * inverse * w
    return [(np.clip(z, -l1, l1) - z) / (grown**exponent * inverse + l2), grown, z]


def schedule_free(g, w, z, v, *, alpha, decay, new_2, epsilon, mix, pull):
    v = (1 - new_2) * v + new_2 * g**2
    step = alpha * g / (np.sqrt(v) + epsilon) + decay * w
    z = z - step
    return [w + mix * (z - w) - pull * step, z, v]


def schedule_free_begin(g, w, z, y, *, back, near):
    def same(z):
        return np.abs(w - (y + (z - y) * back)) <= near * (np.abs(y) + np.abs(z))

    z = np.where(same(z), z, w)
    return [np.where(same(z), y, w), z, y]


def schedule_free_rest(g, w, z, y, *, back):
    return [w + (z - w) * back, z, w]


FORMULAS = {
    formula.__name__: formula
    for formula in (
        sgd, momentum, nesterov, adam, amsgrad, adamax, nadam, adagrad, rmsprop, rmsprop_momentum, centered_rmsprop,
        centered_rmsprop_momentum, adadelta, lion, ftrl, schedule_free, schedule_free_begin, schedule_free_rest, mix,
        column,
    )
} | {"ftrl_power": ftrl}  # fmt: skip
VALUES = {  # columns of STEPS steps
    "rate": LR,
    "decay": 0.1 * LR,
    "keep": np.full(STEPS, 0.9),
    "alpha": LR * np.sqrt(1 - 0.999 ** np.arange(1.0, 5)) / (1 - 0.9 ** np.arange(1.0, 5)),
    "new_1": np.full(STEPS, 0.1),
    "new_2": np.full(STEPS, 0.001),
    "epsilon": np.full(STEPS, 1e-3),
    "fresh": 0.3 * LR,
    "beta": 0.3 * LR,
    "inverse": 1 / LR,
    "l1": np.full(STEPS, 0.7),
    "l2": 0.2 / LR,
    "pull": np.full(STEPS, 0.05),
    "exponent": np.full(STEPS, 0.7),
    "mix": 1 / np.arange(1.0, 5),
    "back": np.full(STEPS, -0.25),
    "near": np.full(STEPS, 0.1),
    "value": LR,
}


# differences of what is nearly the same, times what is large: v - a * a, and roots over the rate
SLACK = {"centered_rmsprop": 50.0, "centered_rmsprop_momentum": 50.0, "ftrl": 50.0, "ftrl_power": 50.0}


def table_of(rule, before=0, behind=0):
    """The columns [STEPS, ...] of a rule, with others before and behind that it does not read."""
    table = np.full((STEPS, before + len(RULES[rule].columns) + behind), np.nan)
    for position, name in enumerate(RULES[rule].columns):
        table[:, before + position] = VALUES[name]
    return table


def state_with(table):
    state = new_state()
    state[RATES] = table.ctypes.data
    return state


def start(rng, rule, shape, dtype, margin=0):
    """w and the slots, as the left of wider arrays whose rest is 5; slots above 0, as sums of squares are."""
    arrays = []
    for _ in range(1 + len(RULES[rule].slots)):
        wide = np.full((*shape[:-1], shape[-1] + margin), 5, dtype)
        wide[..., : shape[-1]] = np.abs(rng.standard_normal(shape)) + 0.1
        arrays.append(wide)
    return arrays


def expected_after(rule, arrays, g, steps=STEPS):
    """By the plain formula, in float64."""
    arrays = [array.astype(np.float64) for array in arrays]
    for step in range(steps):
        columns = {name: VALUES[name][step] for name in RULES[rule].columns}
        arrays = FORMULAS[rule](g.astype(np.float64), *arrays, **columns)
    return arrays


def train(rule, arrays, g, table, threads, isa, steps=STEPS, **arguments):
    """The arrays after ``steps`` steps of the kernel."""
    set_num_threads(threads)
    w, *slots = (array.copy() for array in arrays)
    state = state_with(table)
    named = {f"slot_{i}": slot for i, slot in enumerate(slots)}
    op = Op("update", rule=rule, dtype=w.dtype, isa=isa, w=w, g=g, state=state, count=len(w), **named, **arguments)
    assert Program([op], state).run(steps) == steps == state[LOCAL]
    return [w, *slots]


def test_every_rule_has_a_formula():
    assert set(FORMULAS) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("clip", [None, 0.25])
def test_update(rule, clip, rng, dtype, isa, every_thread_count, assert_close):
    table = table_of(rule)
    scale = {} if clip is None else dict(scale=np.array([clip], dtype))
    for count in COUNTS:
        arrays, g = start(rng, rule, (count,), dtype), rng.standard_normal(count).astype(dtype)
        results = every_thread_count(lambda n, a=arrays, g=g: train(rule, a, g, table, n, isa, **scale))
        for actual, expected in zip(results, expected_after(rule, arrays, g * (clip or 1)), strict=True):
            assert_close(actual, expected, factor=SLACK.get(rule, 1.0))


@pytest.mark.parametrize("rule", RULES)
def test_reference(rule, rng, dtype, assert_close):
    arrays, g = start(rng, rule, (37,), dtype), rng.standard_normal(37).astype(dtype)
    results = reference.update(rule, table_of(rule)[0], g, *arrays)
    for actual, expected in zip(results, expected_after(rule, arrays, g, 1), strict=True):
        assert actual.dtype == dtype
        assert_close(actual, expected, factor=SLACK.get(rule, 1.0))


def test_rules_that_share_a_table(rng, dtype, isa):
    """A rule reads its own columns of a wider table, in the kernel and in a step."""
    for rule in RULES:
        arrays, g = start(rng, rule, (1, 37), dtype), rng.standard_normal((1, 37)).astype(dtype)
        flat = [array.reshape(-1) for array in arrays]
        alone = train(rule, flat, g.reshape(-1), table_of(rule), 1, isa)
        wide = table_of(rule, before=3, behind=2)
        places = dict(columns=wide.shape[1], column=3)
        for one, other in zip(alone, train(rule, flat, g.reshape(-1), wide, 1, isa, **places), strict=True):
            np.testing.assert_array_equal(one, other)
        w, *slots = (array.copy() for array in arrays)
        step = Step("update", rule=rule, p=w, slots=tuple(slots), state=state_with(wide), width=wide.shape[1], index=3)
        run_chain(g, step, isa, 1, STEPS)
        for one, other in zip(alone, (w, *slots), strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_bits_of_an_element_do_not_depend_on_its_position(rng, dtype, isa):
    """In a whole vector or among the last few: the same bits."""
    for rule in RULES:
        arrays, g, table = start(rng, rule, (64,), dtype), rng.standard_normal(64).astype(dtype), table_of(rule)
        whole = train(rule, arrays, g, table, 1, isa)
        for first, last in itertools.product((0, 3), (5, 19, 64)):
            part = train(rule, [array[first:last] for array in arrays], g[first:last].copy(), table, 1, isa)
            for one, other in zip(whole, part, strict=True):
                np.testing.assert_array_equal(one[first:last], other)


def test_zero_gradients_touch_nothing_beyond_the_end(dtype, isa):
    """The padded rest of the last vector may hold anything; the array's neighbours must not."""
    memory = np.full((4, 40), 5, dtype)
    w, m, v, g = memory[:, 8:27]
    table = np.array([[0.1, 0, 0.1, 0.001, 0]])  # no epsilon
    state = state_with(table)
    op = Op("update", rule="adam", dtype=dtype, isa=isa, w=w, slot_0=m, slot_1=v, g=g, state=state, count=19)
    Program([op], state).run()
    assert (memory[:, :8] == 5).all() and (memory[:, 27:] == 5).all()
    assert np.isfinite(memory).all() and (w != 5).all()


def run_chain(g, step, isa, threads, steps):
    """The step on the gradient, which it must leave as it is."""
    set_num_threads(threads)
    out, (rows, cols) = np.empty_like(g), g.shape
    op = Op(
        "chain", out=out, x=g, rows=rows, cols=cols, ld_out=cols, ld_x=cols, dtype=g.dtype, isa=isa, steps=[step]
    )  # fmt: skip
    Program([op], step.state).run(steps)
    assert out.tobytes() == g.tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_step_in_a_chain(rule, rng, dtype, isa, every_thread_count, assert_close):
    """Over several steps: the weights and slots are those of the formula, the gradient and the memory around stay; and
    the bits are those of the kernel."""
    table = table_of(rule)
    for shape in SHAPES:
        g = rng.standard_normal(shape).astype(dtype)
        before, cols = start(rng, rule, shape, dtype, margin=3), shape[1]

        def compute(threads, g=g, before=before, cols=cols):
            arrays = [array.copy() for array in before]
            w, *slots = (array[:, :cols] for array in arrays)
            step = Step("update", rule=rule, p=w, slots=tuple(slots), state=state_with(table))
            run_chain(g, step, isa, threads, STEPS)
            return arrays

        results = every_thread_count(compute)
        inner = [array[:, :cols] for array in before]
        flat = train(rule, [a.reshape(-1) for a in inner], g.reshape(-1), table, 1, isa)
        for array, expected, same in zip(results, expected_after(rule, inner, g), flat, strict=True):
            assert_close(array[:, :cols], expected, factor=SLACK.get(rule, 1.0))
            assert (array[:, cols:] == 5).all()
            assert array[:, :cols].tobytes() == same.tobytes()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch, rows, cols", [(1, 1, 1), (5, 3, 17), (33, 130, 70), (700, 9, 129), (0, 4, 5)])
def test_step_behind_a_gemm(rule, batch, rows, cols, rng, dtype, isa, run, every_thread_count, assert_close):
    """A weight gradient x.T @ dy with the update behind it does what the same gemm alone and then the update do."""
    x, dy = (rng.standard_normal((batch, n)).astype(dtype) for n in (rows, cols))
    table, before = table_of(rule), start(rng, rule, (rows, cols), dtype)

    def update_of(arrays):
        return Step("update", rule=rule, p=arrays[0], slots=tuple(arrays[1:]), state=state_with(table))

    def product(threads, steps):
        c = np.empty((rows, cols), dtype)
        run(
            "gemm", threads=threads, dtype=dtype, isa=isa, c=c, a=x.T, b=dy, m=rows, n=cols, k=batch, rs_a=1,
            cs_a=rows, ldb=cols, ldc=cols, steps=steps,
        )  # fmt: skip
        return c

    def compute(threads):
        arrays = [array.copy() for array in before]
        return [product(threads, [update_of(arrays)]), *arrays]

    g, *results = every_thread_count(compute)
    assert g.tobytes() == product(1, None).tobytes()
    wanted = [array.copy() for array in before]
    reference_steps.apply(g, [update_of(wanted)])
    for actual, expected in zip(results, wanted, strict=True):
        scale = max(1.0, float(np.abs(g).max(initial=0)))
        assert_close(actual, expected, scale=scale, factor=SLACK.get(rule, 1.0))


def test_adam_after_an_overflow_stands_still(isa):
    """A second moment that is infinite: no update, as the formula says."""
    w, m, v, g = (np.full(37, value, np.float32) for value in (0.5, 0.1, 1.0, 1e25))
    table = table_of("adam")
    table[:, 1] = 0  # decay
    w, m, v = train("adam", [w, m, v], g, table, 1, isa, steps=1)
    assert np.isinf(v).all() and np.isfinite(w).all()
    np.testing.assert_array_equal(w, np.float32(0.5))


def test_a_rule_is_one_row():
    """Adagrad's: a slot, three columns and two assignments, of which all else is made."""
    rule = RULES["adagrad"]
    assert rule.slots == ("accumulator",) and rule.columns == ("rate", "decay", "epsilon")
    assert [(name, code(value, "vector")[1]) for name, value in rule.assignments] == [
        ("accumulator", "(accumulator + (g * g))"),
        ("w", "((w - (w * decay)) - vdiv((g * rate), vsqrt((accumulator + epsilon))))"),
    ]


STATE = new_state()
ONE = np.ones((1, 1), np.float32)
BAD = [
    (lambda: Step("update", rule="adm", p=ONE, state=STATE), ValueError, "unknown rule 'adm'; expected one of sgd, "),
    (lambda: Step("update", rule="adam", p=ONE, state=STATE), TypeError, "rule 'adam' has 2 slots, got 0"),
    (lambda: Step("update", rule="sgd", p=ONE), TypeError, "Step 'update': 'state' is missing"),
    (lambda: Op("update", rule="momentum", w=ONE, g=ONE, state=STATE, count=1), TypeError,
     "Op 'update': rule 'momentum' has 1 slots, got 0"),
    (lambda: Op("update", w=ONE, g=ONE, state=STATE, count=1), ValueError, "Op 'update': unknown rule None"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()
