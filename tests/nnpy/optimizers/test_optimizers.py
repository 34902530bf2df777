"""Optimizers and schedules: values against Keras and a plain NumPy loop, threads, clipping, what they refuse."""

import math

import numpy as np
import pytest

import nncore
from nncore.memory import LOCAL, RATES, SLOTS
from nnpy import optimizers, schedules
from nnpy.compiler import compile_step
from nnpy.graph import Parameter, Tensor
from nnpy.ops.effects import feed
from nnpy.optimizers import SGD, Adagrad, Adam, AdamW
from nnpy.parameters import Store
from nnpy.registry import from_json, to_json

START = [1.0, -2.0, 0.5, 3.0]  # two parameters of two
GRADIENTS = [[0.1, -0.2, 0.3, 4.0], [-0.5, 0.2, 0.1, -1.0], [0.3, 0.3, -0.3, 0.2]]
# Keras 3.15: the weights after the three steps
KERAS = [
    (SGD(0.1), [1.01, -2.03, 0.49, 2.68]),
    (SGD(0.1, momentum=0.9), [1.0379, -2.0138, 0.4297, 2.086]),
    (SGD(0.1, momentum=0.9, nesterov=True), [1.0441099, -2.0424201, 0.42673, 1.8574]),
    (SGD(0.1, weight_decay=0.01), [1.006973, -2.0240259, 0.4885714, 2.6717083]),
    (SGD(0.1, global_clipnorm=1.0), [1.0113637, -2.0425627, 0.513762, 2.9681406]),
    (SGD(0.1, clipnorm=1.0), [1.01, -2.03, 0.5125706, 2.9797838]),
    (SGD(0.1, clipvalue=0.25), [0.99, -2.025, 0.49, 2.98]),
    (Adam(0.01), [0.9967292, -1.9954551, 0.4808058, 2.9813707]),
    (Adam(0.01, global_clipnorm=1.0), [0.9979463, -2.0029297, 0.4831836, 2.9888587]),
    (AdamW(0.01, weight_decay=0.1), [0.9937462, -1.9894806, 0.479336, 2.9724045]),
]


def train(optimizer, values, gradients, dtype="float32", frozen=()):
    """The parameters after one step a gradient, the rates from the optimizer; and the store."""
    parameters = [Parameter(np.array(v, dtype), f"p{i}", i not in frozen) for i, v in enumerate(values)]
    store = Store(parameters, dtype)
    state = nncore.new_state()
    given = {p: Tensor(p.shape, None, f"{p.name}/gradient") for p in parameters if p.trainable}
    fed = [np.empty((1, *p.shape), dtype) for p in given]
    feeds = [feed(t, slot, dtype, fed[slot].nbytes) for slot, t in enumerate(given.values())]
    program = compile_step([*feeds, *optimizer.effects(given, store)], 1, state, dtype).program
    rates = optimizer.columns(0, len(gradients))
    state[RATES] = rates.ctypes.data
    for slot, array in enumerate(fed):
        state[SLOTS + slot] = array.ctypes.data
    for number, step in enumerate(gradients):
        state[nncore.memory.ROW], state[LOCAL] = 0, number
        for array, gradient in zip(fed, (g for p, g in zip(parameters, step, strict=True) if p in given), strict=True):
            array[0] = gradient
        program.run()
    return [parameter.value.copy() for parameter in parameters], store


@pytest.fixture
def threads():
    """Sets the team's size and puts it back."""
    yield nncore.set_num_threads
    nncore.set_num_threads(0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer, expected", KERAS, ids=str)
def test_values_of_keras(optimizer, expected, dtype):
    got, _ = train(optimizer, [START[:2], START[2:]], [(g[:2], g[2:]) for g in GRADIENTS], dtype)
    np.testing.assert_allclose(np.concatenate(got), expected, rtol=1e-6, atol=2e-7)


def sizes_and_steps(seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(3,), (130, 77), (1,), (8193,), (1025,)]
    return [rng.standard_normal(s) for s in shapes], [[rng.standard_normal(s) for s in shapes] for _ in range(4)]


def plain_adam(values, steps, rates, clip=None):
    w = [v.copy() for v in values]
    m, v = [np.zeros_like(x) for x in w], [np.zeros_like(x) for x in w]
    for t, (gradients, rate) in enumerate(zip(steps, rates, strict=True), 1):
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        scale = 1.0 if clip is None else min(1.0, clip / norm)
        for i, g in enumerate(gradients):
            m[i] = 0.9 * m[i] + 0.1 * g * scale
            v[i] = 0.999 * v[i] + 0.001 * (g * scale) ** 2
            w[i] -= rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[i] / (np.sqrt(v[i]) + 1e-7)
    return w


@pytest.mark.parametrize("clip", [None, 5.0])
def test_adam_with_a_schedule_against_a_plain_loop(clip):
    values, steps = sizes_and_steps()
    optimizer = Adam(schedules.ExponentialDecay(0.1, 2, 0.5), global_clipnorm=clip)
    got, _ = train(optimizer, values, steps, "float64")
    expected = plain_adam(values, steps, [0.1 * 0.5 ** (t / 2) for t in range(4)], clip)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [None, 0.1])
def test_adagrad_over_a_hundred_steps(decay):
    """accumulator += g * g; w -= rate * g / sqrt(accumulator + epsilon), as in Keras, from an accumulator of 0.1."""
    rng = np.random.default_rng(3)
    gradients = [[rng.standard_normal(57)] for _ in range(100)]
    w = rng.standard_normal(57)
    got, _ = train(Adagrad(0.05, epsilon=1e-5, weight_decay=decay), [w], gradients, "float64")
    accumulator = np.full(57, 0.1)
    for (g,) in gradients:
        accumulator = accumulator + g * g
        w = w - 0.05 * (decay or 0) * w - 0.05 * g / np.sqrt(accumulator + 1e-5)
    np.testing.assert_allclose(got[0], w, rtol=1e-12)


def test_columns_of_many_steps():
    """Those of later steps are those that the steps before would have had: bias correction counts from the start."""
    for optimizer in (SGD(0.1, 0.9), Adam(schedules.ExponentialDecay(0.1, 2, 0.5), weight_decay=0.1), Adagrad()):
        table = optimizer.columns(0, 10)
        assert table.dtype == np.float64 and table.flags.c_contiguous
        np.testing.assert_array_equal(optimizer.columns(7, 3), table[7:])


CLIPPED = [
    SGD(0.1), SGD(0.1, 0.9, clipnorm=1.0), SGD(0.1, 0.9, True, clipvalue=0.5), Adam(global_clipnorm=3.0), AdamW(),
    Adagrad(0.1, weight_decay=0.01),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", CLIPPED, ids=str)
def test_same_bits_at_any_thread_count(optimizer, threads):
    values, steps = sizes_and_steps()
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(train(from_json(to_json(optimizer)), values, steps)[0])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_clipnorm_is_of_each_parameter():
    values, steps = sizes_and_steps()
    got, _ = train(SGD(1.0, clipnorm=2.0), values, steps[:1], "float64")
    for new, old, gradient in zip(got, values, steps[0], strict=True):
        norm = np.linalg.norm(gradient)
        np.testing.assert_allclose(old - new, gradient * min(1, 2 / norm), rtol=1e-10, atol=1e-12)


def test_clipvalue_cuts_every_element():
    values, steps = sizes_and_steps()
    got, _ = train(SGD(1.0, clipvalue=0.7), values, steps[:1], "float64")
    for new, old, gradient in zip(got, values, steps[0], strict=True):
        np.testing.assert_allclose(old - new, np.clip(gradient, -0.7, 0.7), atol=1e-12)


@pytest.mark.parametrize("optimizer", CLIPPED, ids=str)
def test_frozen_parameters_and_padding_stay(optimizer):
    values, steps = sizes_and_steps()
    optimizer = from_json(to_json(optimizer))
    got, store = train(optimizer, values, steps, frozen=(1, 3))
    for i in (1, 3):
        np.testing.assert_array_equal(got[i], values[i].astype(np.float32))
    assert all((got[i] != values[i].astype(np.float32)).all() for i in (0, 2, 4))
    used = np.zeros(store.size, bool)
    for parameter, offset in store.offsets.items():
        used[offset : offset + parameter.value.size] = True
    assert not store.values[~used].any()


def test_slots_are_kept_for_each_store():
    adam = Adam()
    _, store = train(adam, [START], [[GRADIENTS[0]]])
    slots = adam.slots(store)
    assert list(slots) == ["momentum", "velocity"] and slots["momentum"].any()
    assert adam.slots(store)["momentum"] is slots["momentum"]
    _, other = train(adam, [START], [[GRADIENTS[0]]])
    assert adam.slots(other)["momentum"] is not slots["momentum"]
    assert SGD().slots(store) == {} and list(SGD(momentum=0.9).slots(store)) == ["momentum"]


def test_get():
    assert type(optimizers.get("adam")) is Adam and type(optimizers.get("AdamW")) is AdamW
    assert type(optimizers.get("adagrad")) is Adagrad
    assert type(optimizers.get("sgd")) is SGD and type(optimizers.get(SGD)) is SGD
    assert optimizers.get("adamw").weight_decay == 0.004 and optimizers.get("sgd").learning_rate == 0.01
    again = optimizers.get(to_json(SGD(schedules.CosineDecay(0.1, 10), 0.9, True, clipnorm=1.0)))
    assert again.schedule.decay_steps == 10 and again.nesterov and again.clipnorm == 1.0


def test_learning_rate():
    adam = Adam(lambda step: 1 / (1 + step))
    np.testing.assert_allclose(adam.rates(1, 3), [1 / 2, 1 / 3, 1 / 4])
    adam.learning_rate = 0.5
    np.testing.assert_array_equal(adam.rates(7, 2), [0.5, 0.5])
    adam.learning_rate = lambda step: 0.1 if step < 5 else float("nan")
    with pytest.raises(ValueError, match="Adam: expected learning_rate to be finite and >= 0, got nan at step 5"):
        adam.rates(4, 3)


# Keras 3.15's schedules at these steps (PiecewiseConstantDecay and the rest)
STEPS = [0, 1, 5, 10, 15, 37]
SCHEDULES = [
    (schedules.ExponentialDecay(0.1, 10, 0.5), [0.1, 0.0933033, 0.07071068, 0.05, 0.03535534, 0.00769465]),
    (schedules.ExponentialDecay(0.1, 10, 0.5, True), [0.1, 0.1, 0.1, 0.05, 0.05, 0.0125]),
    (schedules.InverseTimeDecay(0.1, 10, 0.5), [0.1, 0.0952381, 0.08, 0.06666667, 0.05714286, 0.03508772]),
    (schedules.InverseTimeDecay(0.1, 10, 0.5, True), [0.1, 0.1, 0.1, 0.06666667, 0.06666667, 0.04]),
    (schedules.PolynomialDecay(0.1, 10, 0.01, 2.0), [0.1, 0.0829, 0.0325, 0.01, 0.01, 0.01]),
    (schedules.PolynomialDecay(0.1, 10, 0.01, 2.0, True), [0.1, 0.0829, 0.0325, 0.01, 0.015625, 0.01050625]),
    (schedules.PiecewiseConstantDecay([1, 10], [0.3, 0.2, 0.1]), [0.3, 0.3, 0.2, 0.2, 0.1, 0.1]),
    (schedules.CosineDecay(0.1, 20, 0.1), [0.1, 0.09944598, 0.08681981, 0.055, 0.0231802, 0.01]),
    (schedules.CosineDecay(0.0, 20, 0.1, warmup_target=0.2, warmup_steps=10), [0.0, 0.02, 0.1, 0.2, 0.17363961, 0.02]),
    (schedules.CosineDecayRestarts(0.1, 5, 2.0, 0.9, 0.05), [0.1, 0.09092831, 0.0905, 0.04775, 0.08195, 0.07382867]),
    (schedules.CosineDecayRestarts(0.1, 5, 1.0, 0.9, 0.05), [0.1, 0.09092831, 0.0905, 0.08195, 0.07425499, 0.03473968]),
    # ours: by hand
    (schedules.LinearWarmup(0.1, 10), [0.0, 0.01, 0.05, 0.1, 0.1, 0.1]),
    (schedules.LinearWarmup(schedules.ExponentialDecay(0.1, 5, 0.5), 10, 0.05),
     [0.05, 0.055, 0.075, 0.1, 0.05, 0.1 * 0.5**5.4]),
    (schedules.OneCycle(1.0, 11, 6 / 11, 10.0, 10.0),
     [0.1, 0.1 + 0.45 * (1 - math.cos(math.pi / 5)), 1.0, 0.01, 0.01, 0.01]),
    (schedules.OneCycle(1.0, 20, 0.3, 10.0, 10.0, "linear"),
     [0.1, 0.28, 1.0, 0.64642857, 0.29285714, 0.01]),
    (schedules.OneCycle(1.0, 20, 0.3, 10.0, 10.0, "linear", True),
     [0.1, 0.28, 1.0, 0.1, 0.05, 0.01]),
    (schedules.CyclicLR(0.1, 1.1, 5, 10), [0.1, 0.3, 1.1, 0.6, 0.1, 0.9]),
    (schedules.CyclicLR(0.1, 1.1, 5, mode="triangular2"), [0.1, 0.3, 1.1, 0.1, 0.6, 0.175]),
    (schedules.CyclicLR(0.1, 1.1, 5, 5, "exp_range", 0.9), [0.1, 0.28, 0.69049, 0.1, 0.30589113, 0.1 + 0.6 * 0.9**37]),
]  # fmt: skip


@pytest.mark.parametrize("schedule, expected", SCHEDULES, ids=str)
def test_schedules(schedule, expected):
    rates = schedule.rates(0, 40)
    assert rates.dtype == np.float64 and rates.shape == (40,)
    np.testing.assert_allclose(rates[STEPS], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(schedule.rates(10, 5), rates[10:15], rtol=1e-15)
    assert schedule(15) == rates[15]
    np.testing.assert_array_equal(from_json(to_json(schedule)).rates(0, 40), rates)


# What Keras and torch have of them: its class, and arguments where they have other names.
TORCH = {
    "OneCycleLR": [
        ((1.0, 60), dict(max_lr=1.0, total_steps=60)),
        ((1.0, 60, 0.2, 10.0, 100.0, "linear", True),
         dict(max_lr=1.0, total_steps=60, pct_start=0.2, div_factor=10.0, final_div_factor=100.0,
              anneal_strategy="linear", three_phase=True)),
        ((1.0, 60, 0.4, 10.0, 100.0, "cos", True),
         dict(max_lr=1.0, total_steps=60, pct_start=0.4, div_factor=10.0, final_div_factor=100.0, three_phase=True)),
    ],
    "CyclicLR": [
        ((0.1, 1.0, 7, 5), dict(base_lr=0.1, max_lr=1.0, step_size_up=7, step_size_down=5)),
        ((0.1, 1.0, 7, None, "triangular2"), dict(base_lr=0.1, max_lr=1.0, step_size_up=7, mode="triangular2")),
        ((0.1, 1.0, 7, 3, "exp_range", 0.97),
         dict(base_lr=0.1, max_lr=1.0, step_size_up=7, step_size_down=3, mode="exp_range", gamma=0.97)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_schedules_against_torch(name):
    torch = pytest.importorskip("torch")
    for ours, theirs in TORCH[name]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        extra = {"cycle_momentum": False}
        schedule = getattr(torch.optim.lr_scheduler, name)(optimizer, **theirs, **extra)
        rates = []
        for _ in range(60):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) < 60:
                schedule.step()
        mine = {"OneCycleLR": schedules.OneCycle, "CyclicLR": schedules.CyclicLR}[name](*ours)
        np.testing.assert_allclose(mine.rates(0, 60), rates, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule, expected", [row for row in SCHEDULES if "Warmup" not in str(row[0])], ids=str)
def test_schedules_against_keras(schedule, expected):
    keras = pytest.importorskip("keras")
    made = getattr(keras.optimizers.schedules, type(schedule).__name__, None)
    if made is None:
        pytest.skip("Keras has none")
    theirs = made(**{name: value for name, value in schedule.get_config().items() if name != "name"})
    wanted = [float(keras.ops.convert_to_numpy(theirs(step))) for step in range(60)]
    np.testing.assert_allclose(schedule.rates(0, 60), wanted, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in schedules.__all__ if name[0].isupper() and name != "Schedule"])
def test_examples_of_schedules(name):
    import doctest

    import nnpy as nn

    tests = doctest.DocTestFinder(recurse=False).find(getattr(schedules, name), name, globs={"nn": nn})
    assert sum(len(test.examples) for test in tests) >= 1
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


BAD = [
    (lambda: SGD("fast"), TypeError, "SGD: expected learning_rate to be a number, a schedule or a .*, got 'fast'"),
    (lambda: SGD(-0.1), ValueError, "SGD: expected learning_rate to be a finite number >= 0, got -0.1"),
    (lambda: SGD(float("nan")), ValueError, "SGD: expected learning_rate"),
    (lambda: SGD(momentum=1.5), ValueError, "SGD: expected momentum to be a finite number >= 0 and <= 1, got 1.5"),
    (lambda: SGD(nesterov="yes"), TypeError, "SGD: expected nesterov to be True or False, got 'yes'"),
    (lambda: Adam(beta_1=1.0), ValueError, "Adam: expected beta_1 to be a finite number >= 0 and < 1, got 1.0"),
    (lambda: Adam(epsilon=0), ValueError, "Adam: expected epsilon to be a finite number > 0, got 0"),
    (lambda: Adagrad(initial_accumulator_value=-1), ValueError, "Adagrad: expected initial_accumulator_value"),
    (lambda: Adagrad(epsilon=0), ValueError, "Adagrad: expected epsilon to be a finite number > 0, got 0"),
    (lambda: AdamW(weight_decay=-1), ValueError, "AdamW: expected weight_decay"),
    (lambda: Adam(clipnorm=0), ValueError, "Adam: expected clipnorm to be a finite number > 0, got 0"),
    (lambda: Adam(clipnorm=1, clipvalue=1), ValueError, "at most one kind of clipping, got clipnorm and clipvalue"),
    (lambda: optimizers.get("adm"), ValueError, "unknown optimizer 'adm'; did you mean 'adam'"),
    (lambda: optimizers.get(3), TypeError, "expected optimizer to be a name, Optimizer or its configuration, got 3"),
    (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), ValueError, "expected decay_steps to be a positive int.*got 0"),
    (lambda: schedules.ExponentialDecay(-1, 1, 0.5), ValueError, "expected initial_learning_rate"),
    (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), ValueError, "expected one value more than boundaries"),
    (lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), ValueError, "expected boundaries to rise"),
    (lambda: schedules.OneCycle(1.0, 10, 1.0), ValueError, "OneCycle: expected warmup"),
    (lambda: schedules.OneCycle(1.0, 10, anneal="line"), ValueError, "expected anneal to be 'cos' or 'linear', got"),
    (lambda: schedules.OneCycle(1.0, 10, 0.6, three_phase=True), ValueError, "warmup to be at most 0.5 .* got 0.6"),
    (lambda: schedules.CyclicLR(0.1, 1.0, 0), ValueError, "CyclicLR: expected step_size_up to be a positive int"),
    (lambda: schedules.CyclicLR(0.1, 1.0, mode="square"), ValueError, "CyclicLR: expected mode to be 'triangular' or"),
    (lambda: schedules.CyclicLR(0.1, 1.0, gamma=0.9), ValueError, "CyclicLR: expected mode='exp_range' beside gamma"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()
