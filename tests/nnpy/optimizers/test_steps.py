"""Optimizers over a hundred steps against their formulas in float64, written here in NumPy, and against Keras where it
is installed: one table. Options that all have: decay, clipping, accumulation, averages."""

import inspect
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import nncore
from nncore.memory import LOCAL, RATES, ROW, SLOTS
from nnpy import optimizers
from nnpy.compiler import compile_step
from nnpy.graph import Parameter, Tensor
from nnpy.ops.effects import feed
from nnpy.parameters import Store
from nnpy.registry import from_json, to_json

STEPS = 100
SHAPES = [(7, 5), (5,), (1, 3), (4, 2, 3)]
NAMES = ["dense/kernel", "dense/bias", "head/kernel", "block/weights"]


# What an optimizer does to a weight, without decay: a generator that is sent (w, g, rate) and gives the new w.
def sgd(optimizer, shape):
    v, momentum, t = np.zeros(shape), optimizer.momentum, None
    while True:
        w, g, rate = yield t
        v = momentum * v - rate * g
        t = w + momentum * v - rate * g if optimizer.nesterov else w + v


def adam(optimizer, shape):
    m, v, t, new = np.zeros(shape), np.zeros(shape), 0, None
    b1, b2 = optimizer.beta_1, optimizer.beta_2
    while True:
        w, g, rate = yield new
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        new = w - rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + optimizer.epsilon)


def adagrad(optimizer, shape):
    a, new = np.full(shape, optimizer.initial_accumulator_value), None
    while True:
        w, g, rate = yield new
        a = a + g**2
        new = w - rate * g / np.sqrt(a + optimizer.epsilon)


def norm(x):
    return np.sqrt((x**2).sum())


def lamb(optimizer, shape):
    m, v, t, new = np.zeros(shape), np.zeros(shape), 0, None
    b1, b2 = optimizer.beta_1, optimizer.beta_2
    while True:
        w, g, rate = yield new
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + optimizer.epsilon)
        new = w - rate * (norm(w) / norm(u) if norm(w) > 0 and norm(u) > 0 else 1) * u


def adafactor(optimizer, shape):
    t, new, matrix = 0, None, len(shape) > 1
    rows, columns, v = 0.0, 0.0, np.zeros(shape)
    rms = lambda x: np.sqrt((x**2).mean())  # noqa: E731
    while True:
        w, g, rate = yield new
        t += 1
        keep, squares = 1 - t**optimizer.beta_2_decay, g**2 + optimizer.epsilon_1
        rate = min(rate, t**-0.5) if optimizer.relative_step else rate
        if matrix:
            rows = keep * rows + (1 - keep) * squares.mean(-1)
            columns = keep * columns + (1 - keep) * squares.mean(-2)
            v = (rows / rows.mean(-1, keepdims=True))[..., None] * columns[..., None, :]
        else:
            v = keep * v + (1 - keep) * squares
        u = g / np.sqrt(v)
        new = w - rate * max(optimizer.epsilon_2, rms(w)) * u / max(1, rms(u) / optimizer.clip_threshold)


def muon(optimizer, shape):
    m, new = np.zeros(shape), None
    while True:
        w, g, rate = yield new
        m = optimizer.momentum * m + g
        x = g + optimizer.momentum * m if optimizer.nesterov else m
        x = x / (norm(x) + 1e-7)
        for _ in range(optimizer.ns_steps):
            a = x @ x.T
            x = optimizer.muon_a * x + (optimizer.muon_b * a + optimizer.muon_c * a @ a) @ x
        new = w - rate * x * (1 if optimizer.rms_rate is None else np.sqrt(max(shape)) * optimizer.rms_rate)


def muon_or_adam(optimizer, shape):
    """Parameters of two axes whose name is not excluded are the matrices of the table: (7, 5) alone, with "head"."""
    if shape == (7, 5):
        return muon(optimizer, shape)
    return scaled(adam(SimpleNamespace(beta_1=optimizer.adam_beta_1, beta_2=optimizer.adam_beta_2,
                                       epsilon=optimizer.epsilon), shape), optimizer.adam_lr_ratio)  # fmt: skip


def scaled(rule, ratio):
    new = next(rule)
    while True:
        w, g, rate = yield new
        new = rule.send((w, g, rate * ratio))


FORMULAS = {
    "SGD": sgd, "Adam": adam, "AdamW": adam, "Adagrad": adagrad, "Lamb": lamb, "Adafactor": adafactor,
    "Muon": muon_or_adam,
}  # fmt: skip
# (class, arguments, names that decay leaves alone)
TABLE = [
    ("SGD", dict(learning_rate=0.05), ()),
    ("SGD", dict(learning_rate=0.05, momentum=0.9, weight_decay=0.02), ("bias", "head")),
    ("SGD", dict(learning_rate=0.05, momentum=0.9, nesterov=True, gradient_accumulation_steps=3), ()),
    ("SGD", dict(learning_rate=0.05, use_ema=True), ()),
    ("Adam", dict(learning_rate=0.01, gradient_accumulation_steps=4, clipvalue=0.3), ()),
    ("Adam", dict(learning_rate=0.01, gradient_accumulation_steps=4, clipnorm=0.5), ()),
    ("Adam", dict(learning_rate=0.01, gradient_accumulation_steps=2, global_clipnorm=0.8), ()),
    ("Adam", dict(learning_rate=0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7), ()),
    ("AdamW", dict(learning_rate=0.01, weight_decay=0.1), ("bias",)),
    ("AdamW", dict(learning_rate=0.01, weight_decay=0.1, gradient_accumulation_steps=3, use_ema=True, ema_momentum=0.8,
                   ema_overwrite_frequency=5, global_clipnorm=1.0), ("kernel",)),
    ("Adagrad", dict(learning_rate=0.05, epsilon=1e-5, weight_decay=0.1), ()),
    ("Lamb", dict(learning_rate=0.02), ()),
    ("Lamb", dict(learning_rate=0.02, weight_decay=0.1, clipnorm=0.5, gradient_accumulation_steps=2), ("bias",)),
    ("Adafactor", dict(learning_rate=0.5), ()),
    ("Adafactor", dict(learning_rate=0.01, beta_2_decay=-0.6, clip_threshold=0.8, epsilon_2=1e-2, weight_decay=0.1,
                       use_ema=True), ("kernel",)),
    ("Muon", dict(learning_rate=0.02, exclude_layers=["head"]), ()),
    ("Muon", dict(learning_rate=0.02, exclude_layers=["h.ad"], nesterov=False, ns_steps=3, adam_lr_ratio=0.5,
                  weight_decay=0.1, adam_weight_decay=0.05, global_clipnorm=2.0, gradient_accumulation_steps=3,
                  use_ema=True), ("bias",)),
    ("Muon", dict(learning_rate=0.02, exclude_layers=["head"], rms_rate=None, weight_decay=None, clipvalue=0.3,
                  adam_weight_decay=None), ()),
    ("Lookahead", dict(optimizer=to_json(optimizers.SGD(0.05, 0.9, weight_decay=0.1))), ("bias",)),
    ("Lookahead", dict(optimizer=to_json(optimizers.Adam(0.02, gradient_accumulation_steps=2, use_ema=True,
                                                         global_clipnorm=1.0)), sync_period=4, slow_step_size=0.3), ()),
    ("Lookahead", dict(optimizer=to_json(optimizers.Lamb(0.02, weight_decay=0.1)), sync_period=1), ()),
]  # fmt: skip
IDS = [f"{kind}-{'-'.join(key for key in given if key != 'learning_rate')}" for kind, given, _ in TABLE]


def made(kind, given, undecayed, of=optimizers):
    optimizer = getattr(of, kind)(**given)
    if undecayed:
        optimizer.exclude_from_weight_decay(var_names=list(undecayed))
    return optimizer


def data(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    values, *gradients = [[rng.normal(size=shape) for shape in SHAPES] for _ in range(1 + steps)]
    return values, gradients


def train(optimizer, values, gradients, dtype="float64"):
    """(weights, averages) after a step for each list of gradients."""
    parameters = [Parameter(np.array(value, dtype), name) for value, name in zip(values, NAMES, strict=True)]
    store, state = Store(parameters, dtype), nncore.new_state()
    given = {p: Tensor(p.shape, None, f"{p.name}/gradient") for p in parameters}
    fed = [np.empty((1, *p.shape), dtype) for p in parameters]
    feeds = [feed(t, slot, dtype, fed[slot].nbytes) for slot, t in enumerate(given.values())]
    program = compile_step([*feeds, *optimizer.effects(given, store)], 1, state, dtype).program
    table = optimizer.columns(0, len(gradients))
    state[RATES] = table.ctypes.data
    for slot, array in enumerate(fed):
        state[SLOTS + slot] = array.ctypes.data
    for number, step in enumerate(gradients):
        state[ROW], state[LOCAL] = 0, number
        for array, gradient in zip(fed, step, strict=True):
            array[0] = gradient
        program.run()
    averages = optimizer.slots(store).get("moving_average")
    kept = [] if averages is None else [store.view(averages, p).copy() for p in parameters]
    return [p.value.copy() for p in parameters], kept


def plain(optimizer, undecayed, values, gradients):
    """The same by the formulas."""
    ahead, optimizer = optimizer, getattr(optimizer, "optimizer", optimizer)
    rules = [FORMULAS[type(optimizer).__name__](optimizer, value.shape) for value in values]
    for rule in rules:
        next(rule)
    w, total = [value.copy() for value in values], [np.zeros_like(value) for value in values]
    averages, each = [np.zeros_like(value) for value in values], optimizer.gradient_accumulation_steps or 1
    for step, new in enumerate(gradients):
        total = [t + g for t, g in zip(total, new, strict=True)]
        if (step + 1) % each == 0:
            rate = optimizer.rates(step // each, 1)[0]
            clipped = clip(optimizer, [t / each for t in total])
            total, update = [np.zeros_like(value) for value in values], step // each
            if ahead is not optimizer and update % ahead.sync_period == 0:
                slow = [value.copy() for value in w]
            for i, (rule, g) in enumerate(zip(rules, clipped, strict=True)):
                if not any(name in NAMES[i] for name in undecayed):
                    w[i] = w[i] - rate * decay_of(optimizer, i) * w[i]
                w[i] = rule.send((w[i], g, rate))
            if ahead is not optimizer and (update + 1) % ahead.sync_period == 0:
                w = [s + ahead.slow_step_size * (value - s) for s, value in zip(slow, w, strict=True)]
        if optimizer.use_ema:
            keep = optimizer.ema_momentum if step // each else 0
            averages = [keep * a + (1 - keep) * b for a, b in zip(averages, w, strict=True)]
            if optimizer.ema_overwrite_frequency and (step // each + 1) % optimizer.ema_overwrite_frequency == 0:
                w = [a.copy() for a in averages]
    return w, averages if optimizer.use_ema else []


def decay_of(optimizer, i):
    by_adam = type(optimizer).__name__ == "Muon" and i > 0
    return (optimizer.adam_weight_decay if by_adam else optimizer.weight_decay) or 0


def clip(optimizer, gradients):
    norms = [np.linalg.norm(g) for g in gradients]
    if optimizer.clipvalue is not None:
        return [np.clip(g, -optimizer.clipvalue, optimizer.clipvalue) for g in gradients]
    if optimizer.clipnorm is not None:
        return [g * min(1, optimizer.clipnorm / norm) for g, norm in zip(gradients, norms, strict=True)]
    if optimizer.global_clipnorm is not None:
        return [g * min(1, optimizer.global_clipnorm / np.linalg.norm(norms)) for g in gradients]
    return gradients


@pytest.mark.parametrize("kind, given, undecayed", TABLE, ids=IDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_of_the_formulas(kind, given, undecayed, dtype):
    optimizer = made(kind, given, undecayed)
    values, gradients = data()
    got, expected = train(optimizer, values, gradients, dtype), plain(optimizer, undecayed, values, gradients)
    bounds = dict(rtol=1e-9, atol=1e-11) if dtype == "float64" else dict(rtol=2e-4, atol=2e-5)
    for some, others in zip(got, expected, strict=True):
        for a, b in zip(some, others, strict=True):
            np.testing.assert_allclose(a, b, **bounds)


@pytest.mark.parametrize("kind, given, undecayed", TABLE, ids=IDS)
def test_values_of_keras(kind, given, undecayed):
    keras = pytest.importorskip("keras")
    if not hasattr(keras.optimizers, kind):
        pytest.skip(f"Keras has no {kind}")
    values, gradients = data()
    ours = made(kind, given, undecayed)
    arguments = set(inspect.signature(getattr(keras.optimizers, kind).__init__).parameters)
    theirs = made(kind, {key: value for key, value in given.items() if key in arguments}, undecayed, keras.optimizers)
    variables = [
        keras.Variable(value.astype(np.float32), name=name.replace("/", "_"))
        for value, name in zip(values, NAMES, strict=True)
    ]
    theirs.build(variables)
    for step in gradients:
        theirs.apply([keras.ops.convert_to_tensor(g.astype(np.float32)) for g in step], variables)
    for a, variable in zip(train(ours, values, gradients, "float32")[0], variables, strict=True):
        np.testing.assert_allclose(a, np.array(variable), rtol=5e-4, atol=5e-5)


@pytest.mark.parametrize("kind, given, undecayed", TABLE, ids=IDS)
def test_same_bits_at_any_thread_count(kind, given, undecayed):
    values, gradients = data(zlib.crc32(kind.encode()), steps=15)
    results = []
    try:
        for count in (1, 2, 5):
            nncore.set_num_threads(count)
            optimizer = from_json(to_json(made(kind, given, ())))
            optimizer.exclude_from_weight_decay(var_names=list(undecayed))
            results.append(b"".join(array.tobytes() for some in train(optimizer, values, gradients) for array in some))
    finally:
        nncore.set_num_threads(0)
    assert results[1:] == results[:1] * 2
