"""Each optimizer over 100 steps from one start: against its formula in NumPy, as Keras has it, and against Keras and
torch themselves where they are installed. The rows of ``TABLE`` drive all that is true of every optimizer."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest

import nnpy as nn
from nnpy import optimizers, schedules
from nnpy.registry import from_json, to_json

STEPS = 100


def gradient(w):
    """Of a bowl with valleys of different width, which is not a function of one weight alone."""
    scale = np.geomspace(0.1, 10, w.size)
    return scale * w + 0.3 * np.sin(3 * np.roll(w, 1))


# The formulas: a generator of the weights after each step, from w and the function of the gradient.
def run_sgd(w, rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    v = 0
    while True:
        g = gradient(w)
        v = momentum * v - rate * g
        w = w - rate * weight_decay * w + (momentum * v - rate * g if nesterov else v)
        yield w


def run_adam(w, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, weight_decay=0.0):
    m = v = most = t = 0
    while True:
        g, t = gradient(w), t + 1
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        most = np.maximum(most, v) if amsgrad else v
        w = w - rate * weight_decay * w
        w = w - rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(most) + epsilon)
        yield w


def run_adamax(w, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    m = u = t = 0
    while True:
        g, t = gradient(w), t + 1
        m, u = beta_1 * m + (1 - beta_1) * g, np.maximum(beta_2 * u, np.abs(g))
        w = w - rate * m / ((1 - beta_1**t) * (u + epsilon))
        yield w


def run_nadam(w, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    m = v = t = 0
    product = 1.0
    while True:
        g, t = gradient(w), t + 1
        now, then = (beta_1 * (1 - 0.5 * 0.96**s) for s in (t, t + 1))
        product *= now
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        ahead = then * m / (1 - product * then) + (1 - now) * g / (1 - product)
        w = w - rate * ahead / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        yield w


def run_adagrad(w, rate, start=0.1, epsilon=1e-7):
    a = start
    while True:
        g = gradient(w)
        a = a + g**2
        w = w - rate * g / np.sqrt(a + epsilon)
        yield w


def run_rmsprop(w, rate, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, weight_decay=0.0):
    v = a = m = 0
    while True:
        g = gradient(w)
        v, a = rho * v + (1 - rho) * g**2, rho * a + (1 - rho) * g
        m = momentum * m + rate * g / np.sqrt(v - a**2 * centered + epsilon)
        w = w - rate * weight_decay * w - m
        yield w


def run_adadelta(w, rate, rho=0.95, epsilon=1e-7):
    a = s = 0
    while True:
        g = gradient(w)
        a = rho * a + (1 - rho) * g**2
        d = np.sqrt(s + epsilon) * g / np.sqrt(a + epsilon)
        s = rho * s + (1 - rho) * d**2
        w = w - rate * d
        yield w


def run_lion(w, rate, beta_1=0.9, beta_2=0.99, weight_decay=0.0):
    m = 0
    while True:
        g = gradient(w)
        w = w - rate * weight_decay * w - rate * np.sign(beta_1 * m + (1 - beta_1) * g)
        m = beta_2 * m + (1 - beta_2) * g
        yield w


def run_ftrl(w, rate, power=-0.5, start=0.1, l1=0.0, l2=0.0, shrinkage=0.0, beta=0.0):
    n, z = start, 0
    while True:
        g = gradient(w)
        grown = n + g**2
        z = z + g + 2 * shrinkage * w - (grown**-power - n**-power) / rate * w
        n = grown
        w = (np.clip(z, -l1, l1) - z) / (n**-power / rate + 2 * (l2 + beta / (2 * rate)))
        yield w


def run_schedule_free(w, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, warmup=0, weight_decay=0.0):
    """As facebookresearch/schedule_free has it; the weights that are seen are x."""
    y = z = x = w
    v = total = top = t = 0
    while True:
        g, t = gradient(y), t + 1
        v = beta_2 * v + (1 - beta_2) * g**2
        now = rate * min(1, t / warmup) if warmup else rate
        top = max(top, now)
        total += top**2
        z = z - now * (g / (np.sqrt(v / (1 - beta_2**t)) + epsilon) + weight_decay * y)
        x = x + top**2 / total * (z - x)
        y = (1 - beta_1) * z + beta_1 * x
        yield x


def run_lamb(w, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=0.0):
    m = v = t = 0
    while True:
        g, t = gradient(w), t + 1
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        u = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        w = w - rate * weight_decay * w
        w = w - rate * np.linalg.norm(w) / np.linalg.norm(u) * u
        yield w


def run_adafactor(w, rate, power=-0.8, epsilon_1=1e-30, epsilon_2=1e-3, clip=1.0, relative=True):
    v = t = 0
    while True:
        g, t = gradient(w), t + 1
        v = (1 - t**power) * v + t**power * (g**2 + epsilon_1)
        u = g / np.sqrt(v)
        now = min(rate, t**-0.5) if relative else rate
        w = w - now * max(epsilon_2, np.sqrt((w**2).mean())) * u / max(1, np.sqrt((u**2).mean()) / clip)
        yield w


class Row(NamedTuple):
    """``ours``: (class, arguments), as Keras's where ``keras``; ``torch``: its class and arguments, if it has the same
    formula; ``float32``: how far rounding takes it in the table's 100 steps."""

    name: str
    arguments: dict
    formula: object
    options: dict
    torch: tuple | None = None
    keras: bool = True
    float32: float = 2e-5


TABLE = [
    Row("SGD", dict(learning_rate=0.02), run_sgd, dict(rate=0.02), ("SGD", dict(lr=0.02))),
    Row("SGD", dict(learning_rate=0.02, momentum=0.9, weight_decay=0.1), run_sgd,
        dict(rate=0.02, momentum=0.9, weight_decay=0.1)),
    Row("SGD", dict(learning_rate=0.02, momentum=0.9, nesterov=True), run_sgd,
        dict(rate=0.02, momentum=0.9, nesterov=True), ("SGD", dict(lr=0.02, momentum=0.9, nesterov=True))),
    Row("Adam", dict(learning_rate=0.02), run_adam, dict(rate=0.02), ("Adam", dict(lr=0.02, eps=0))),
    Row("Adam", dict(learning_rate=0.02, beta_2=0.9, amsgrad=True), run_adam,
        dict(rate=0.02, beta_2=0.9, amsgrad=True)),
    Row("AdamW", dict(learning_rate=0.02, weight_decay=0.1), run_adam, dict(rate=0.02, weight_decay=0.1),
        ("AdamW", dict(lr=0.02, eps=0, weight_decay=0.1))),
    Row("Adamax", dict(learning_rate=0.02, beta_2=0.9), run_adamax, dict(rate=0.02, beta_2=0.9),
        ("Adamax", dict(lr=0.02, betas=(0.9, 0.9), eps=1e-7))),
    Row("Nadam", dict(learning_rate=0.02), run_nadam, dict(rate=0.02),
        ("NAdam", dict(lr=0.02, eps=1e-7, momentum_decay=1.0))),
    Row("Adagrad", dict(learning_rate=0.05), run_adagrad, dict(rate=0.05)),
    Row("RMSprop", dict(learning_rate=0.01, epsilon=1e-2), run_rmsprop, dict(rate=0.01, epsilon=1e-2)),
    Row("RMSprop", dict(learning_rate=0.01, momentum=0.5, epsilon=1e-2, weight_decay=0.1), run_rmsprop,
        dict(rate=0.01, momentum=0.5, epsilon=1e-2, weight_decay=0.1)),
    Row("RMSprop", dict(learning_rate=0.005, centered=True, epsilon=1e-2), run_rmsprop,
        dict(rate=0.005, centered=True, epsilon=1e-2)),
    Row("RMSprop", dict(learning_rate=0.005, momentum=0.5, centered=True, epsilon=1e-2), run_rmsprop,
        dict(rate=0.005, momentum=0.5, centered=True, epsilon=1e-2)),
    Row("Adadelta", dict(learning_rate=0.3, epsilon=1e-4), run_adadelta, dict(rate=0.3, epsilon=1e-4),
        ("Adadelta", dict(lr=0.3, rho=0.95, eps=1e-4))),
    Row("Lion", dict(learning_rate=0.003), run_lion, dict(rate=0.003)),
    Row("Lion", dict(learning_rate=0.003, beta_1=0.8, beta_2=0.9, weight_decay=0.1), run_lion,
        dict(rate=0.003, beta_1=0.8, beta_2=0.9, weight_decay=0.1)),
    Row("Ftrl", dict(learning_rate=0.1), run_ftrl, dict(rate=0.1)),
    Row("Ftrl", dict(learning_rate=0.1, l1_regularization_strength=0.1, l2_regularization_strength=0.05,
                     l2_shrinkage_regularization_strength=0.02, beta=0.3), run_ftrl,
        dict(rate=0.1, l1=0.1, l2=0.05, shrinkage=0.02, beta=0.3)),
    Row("Ftrl", dict(learning_rate=0.1, learning_rate_power=-0.7, initial_accumulator_value=0.3), run_ftrl,
        dict(rate=0.1, power=-0.7, start=0.3)),
    # of matrices see test_steps
    Row("Lamb", dict(learning_rate=0.02), run_lamb, dict(rate=0.02)),
    Row("Lamb", dict(learning_rate=0.02, beta_2=0.9, weight_decay=0.1), run_lamb,
        dict(rate=0.02, beta_2=0.9, weight_decay=0.1)),
    Row("Adafactor", dict(learning_rate=0.03), run_adafactor, dict(rate=0.03)),
    Row("Adafactor", dict(learning_rate=0.03, relative_step=False, beta_2_decay=-0.5, clip_threshold=0.5),
        run_adafactor, dict(rate=0.03, relative=False, power=-0.5, clip=0.5), keras=False),
    Row("Muon", dict(learning_rate=0.02, adam_weight_decay=0.1, adam_lr_ratio=0.5), run_adam,
        dict(rate=0.01, weight_decay=0.2)),
    Row("ScheduleFreeAdamW", dict(learning_rate=0.02), run_schedule_free, dict(rate=0.02)),
    Row("ScheduleFreeAdamW", dict(learning_rate=0.02, beta_1=0.8, warmup_steps=10, weight_decay=0.1),
        run_schedule_free, dict(rate=0.02, beta_1=0.8, warmup=10, weight_decay=0.1), keras=False),
]  # fmt: skip
START = np.random.default_rng(5).standard_normal(37)


def identity(row):
    options = (f"{key}={value}" for key, value in row.arguments.items() if key != "learning_rate")
    return f"{row.name}({', '.join(options)})"


every_row = pytest.mark.parametrize("row", TABLE, ids=identity)


class Weights(nn.Layer):
    """A layer whose output is its weights, for each sample."""

    def build(self, input_shape):
        self.w = self.add_weight((START.size,), "zeros", "w")

    def call(self, x):
        return x + self.w


def slope(y_true, y_pred):
    """A loss whose gradient by y_pred is y_true."""
    return nn.ops.sum(y_true * y_pred, axis=-1)


def model_of(optimizer, dtype="float64"):
    before = nn.floatx()
    nn.set_floatx(dtype)
    try:
        net = nn.Sequential([nn.Input((START.size,)), Weights()])
        net.compile(optimizer, slope)
    finally:
        nn.set_floatx(before)
    net.set_weights([START])
    return net


def seen(net):
    return net.get_weights()[0].astype(np.float64)


def point(net):
    """Where the next gradient is taken: what training works on."""
    engine, optimizer = net.engine, net.optimizer
    store = engine.claim()
    if optimizer.iterations == 0:
        return seen(net)
    optimizer.before_run(store, net.weights)
    try:
        return seen(net)
    finally:
        optimizer.after_run(store)


def steps(net, count=STEPS, dtype="float64"):
    """The weights after each of ``count`` steps on the gradients of ``gradient``, one batch each."""
    for _ in range(count):
        g = gradient(point(net))[None]
        net.train_on_batch(np.zeros_like(g, dtype), g.astype(dtype))
        yield seen(net)


def ours(row):
    return getattr(nn, row.name)(**row.arguments)


def formula(row, count=STEPS):
    states = row.formula(START.copy(), **row.options)
    return [next(states) for _ in range(count)]


@every_row
def test_against_its_formula(row):
    expected = formula(row)
    for number, (got, wanted) in enumerate(zip(steps(model_of(ours(row))), expected, strict=True)):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11, err_msg=f"step {number}")
    assert np.abs(expected[-1] - START).max() > 0.05  # it has gone somewhere


@every_row
def test_in_float32(row):
    *_, got = steps(model_of(ours(row), "float32"), dtype="float32")
    tolerance = row.float32 if row.name != "Lion" else 0.02  # signs of what is about 0 are either
    np.testing.assert_allclose(got, formula(row)[-1], rtol=tolerance, atol=tolerance)


@every_row
def test_against_keras(row):
    keras = pytest.importorskip("keras")
    if not row.keras:
        pytest.skip("Keras has another formula")
    if row.name == "ScheduleFreeAdamW" and keras.backend.backend() == "torch":
        pytest.skip("Keras reads z once it has changed it, where variables are changed in place")
    keras.config.set_floatx("float64")
    try:
        variable = keras.Variable(START, dtype="float64")
        optimizer = getattr(keras.optimizers, row.name)(**row.arguments)
        optimizer.build([variable])
        for seen_now in steps(model_of(ours(row))):
            got, where = seen_now, keras.ops.convert_to_numpy(variable.value)
            optimizer.apply([keras.ops.convert_to_tensor(gradient(where))])
        wanted = keras.ops.convert_to_numpy(variable.value)
        if row.name == "ScheduleFreeAdamW":  # it shows where gradients are taken
            z = keras.ops.convert_to_numpy(optimizer._momentums[0].value)
            wanted = (wanted - 0.1 * z) / 0.9
    finally:
        keras.config.set_floatx("float32")
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-7)  # it computes some numbers in float32


@pytest.mark.parametrize("row", [row for row in TABLE if row.torch], ids=identity)
def test_against_torch(row):
    torch = pytest.importorskip("torch")
    name, options = row.torch
    w = torch.nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = getattr(torch.optim, name)([w], **options)
    for seen_now in steps(model_of(ours(row))):
        got, w.grad = seen_now, torch.from_numpy(gradient(w.detach().numpy()))
        optimizer.step()
    np.testing.assert_allclose(got, w.detach().numpy(), rtol=1e-4, atol=5e-5)  # epsilon is in another place


def network(optimizer, seed=3):
    net = nn.Sequential([nn.Input((5,)), nn.Dense(9, activation="tanh"), nn.Dense(3)], seed=seed)
    net.compile(optimizer, "mse")
    return net


DATA = np.random.default_rng(1).standard_normal((64, 5)).astype("float32")
TARGETS = np.random.default_rng(2).standard_normal((64, 3)).astype("float32")


def train(net, epochs, first=0):
    net.fit(DATA, TARGETS, batch_size=16, epochs=epochs, initial_epoch=first, verbose=0)
    return net


def same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.engine.optimizer_slots().keys() == other.engine.optimizer_slots().keys()
    for name, slot in one.engine.optimizer_slots().items():
        np.testing.assert_array_equal(slot, other.engine.optimizer_slots()[name], err_msg=name)


@every_row
def test_a_file_goes_on_with_the_same_bits(row, tmp_path):
    whole, half = train(network(ours(row)), 4), train(network(ours(row)), 2)
    half.save(tmp_path / "half.safetensors")
    again = nn.load_model(tmp_path / "half.safetensors")
    assert again.optimizer.get_config() == ours(row).get_config() and again.optimizer.iterations == 8
    same(train(again, 4, 2), whole)
    same(train(half, 4, 2), whole)


@every_row
def test_one_step_at_a_time_has_the_same_bits(row):
    """However many steps a stretch has."""
    whole, single = train(network(ours(row)), 2), network(ours(row))
    single.fit(
        DATA, TARGETS, batch_size=16, epochs=2, verbose=0,
        callbacks=nn.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
    )  # fmt: skip
    same(whole, single)


@every_row
def test_configuration_and_columns(row):
    made = ours(row)
    assert from_json(to_json(made)).get_config() == made.get_config()
    table = made.columns(0, 40)
    np.testing.assert_array_equal(made.columns(25, 15), table[25:])
    np.testing.assert_array_equal(ours(row).columns(25, 15), table[25:])
    assert optimizers.get(row.name).get_config() == getattr(nn, row.name)().get_config()


@every_row
def test_same_bits_at_any_thread_count(row):
    results = []
    try:
        for threads in (1, 2, 3, 7):
            nn.set_num_threads(threads)
            results.append(train(network(ours(row)), 2))
    finally:
        nn.set_num_threads(0)
    for other in results[1:]:
        same(results[0], other)


def test_every_optimizer_is_in_the_table():
    classes = {name for name in optimizers.__all__ if name[0].isupper()} - {"Optimizer", "Lookahead"}
    assert {row.name for row in TABLE} == classes


# ---- what single ones have ----


def test_centered_rmsprop_stays_finite():
    """A gradient that stays has no variance: rounding takes v - a^2 below 0, of which Keras gives NaN."""
    net = model_of(nn.RMSprop(1e-6, centered=True), "float32")
    g = np.full((1, START.size), 31.7, "float32")
    for _ in range(300):
        net.train_on_batch(np.zeros_like(g), g)
    assert np.isfinite(seen(net)).all()


def test_nadam_of_late_steps():
    """The product of the momenta, after a million steps without a million factors."""
    t = np.arange(1, 3001)
    fades = 0.9 * (1 - 0.5 * 0.96**t)
    products = np.cumprod(fades)
    columns = nn.Nadam(1.0, beta_2=0.5).columns(0, 2999)
    root = np.sqrt(1 - 0.5 ** t[:-1])
    np.testing.assert_allclose(columns[:, 0], root * fades[1:] / (1 - products[1:]), rtol=1e-12)
    np.testing.assert_allclose(columns[:, 1], root * (1 - fades[:-1]) / (1 - products[:-1]), rtol=1e-12)
    assert np.isfinite(nn.Nadam().columns(10**9, 3)).all()


def test_lion_without_a_gradient_stands_still():
    net = model_of(nn.Lion(0.1))
    net.train_on_batch(np.zeros((1, START.size)), np.zeros((1, START.size)))
    np.testing.assert_array_equal(seen(net), START)


def test_ftrl_makes_weights_zero():
    net = model_of(nn.Ftrl(0.1, l1_regularization_strength=3.0))
    *_, got = steps(net)
    assert (got == 0).sum() > 5 and (got != 0).any()


def test_ftrl_without_a_gradient_stays_finite():
    """Where nothing was summed yet, also in the padding between weights."""
    net = train(network(nn.Ftrl(0.1, initial_accumulator_value=0.0)), 2)
    net.train_on_batch(np.zeros_like(DATA), np.zeros_like(TARGETS))
    assert np.isfinite(net.engine.claim().values).all()
    net = model_of(nn.Ftrl(0.1, initial_accumulator_value=0.0))
    net.train_on_batch(np.zeros((1, START.size)), np.zeros((1, START.size)))
    np.testing.assert_array_equal(seen(net), np.zeros_like(START))


def test_schedule_free_shows_the_average():
    """predict, evaluate, weights and files have x, also within an epoch; what is set is gone on from."""
    net = train(network(nn.ScheduleFreeAdamW(0.05)), 2)
    slots = net.engine.optimizer_slots()
    store = net.engine.claim()
    for parameter in net.weights:
        y, z = (store.view(slots[name], parameter) for name in ("taken", "fast"))
        np.testing.assert_allclose(parameter.value, (y - 0.1 * z) / 0.9, rtol=1e-5, atol=1e-6)
        assert not np.allclose(parameter.value, y, atol=1e-4)
    hidden, out = net.get_weights()[:2], net.get_weights()[2:]
    np.testing.assert_allclose(
        net.predict(DATA), np.tanh(DATA @ hidden[0] + hidden[1]) @ out[0] + out[1], rtol=1e-4, atol=1e-5
    )
    inside = []
    look = nn.LambdaCallback(on_train_batch_end=lambda batch, logs: inside.append(net.predict(DATA)))
    other = network(nn.ScheduleFreeAdamW(0.05))
    net = other
    other.fit(DATA, TARGETS, batch_size=16, epochs=1, verbose=0, callbacks=look)
    np.testing.assert_array_equal(inside[-1], other.predict(DATA))


def test_schedule_free_goes_on_from_weights_that_are_set():
    net = train(network(nn.ScheduleFreeAdamW(0.01)), 2)
    kept = net.get_weights()
    net.set_weights([kept[0] + 1, *kept[1:]])
    net.train_on_batch(DATA, TARGETS)
    new = net.get_weights()
    assert np.abs(new[0] - kept[0] - 1).max() < 0.03 and np.abs(new[1] - kept[1]).max() < 0.03
    store, slots = net.engine.claim(), net.engine.optimizer_slots()
    fast = store.view(slots["fast"], net.weights[0])
    assert np.abs(fast - kept[0] - 1).max() < 0.03  # z too


def test_schedule_free_refuses():
    net = nn.Sequential([nn.Input((5,)), nn.Dense(3, kernel_constraint="non_neg")])
    net.compile(nn.ScheduleFreeAdamW(), "mse")
    with pytest.raises(ValueError, match=r"ScheduleFreeAdamW: expected no constraints, .*kernel"):
        net.fit(DATA, TARGETS, verbose=0)
    net = train(network(nn.ScheduleFreeAdamW()), 1)
    with pytest.raises(AttributeError, match="ScheduleFreeAdamW: beta_1 cannot be set once training has begun"):
        net.optimizer.beta_1 = 0.8


def test_frozen_weights_and_statistics_stay():
    layers = [nn.Input((5,)), nn.Dense(9, name="frozen"), nn.BatchNormalization(), nn.Dense(3)]
    for optimizer in (nn.ScheduleFreeAdamW(0.1), nn.Nadam(0.1), nn.RMSprop(0.1)):
        net = nn.Sequential(copy.deepcopy(layers), seed=1)
        net.layers[0].trainable = False
        net.compile(optimizer, "mse")
        before = net.get_weights()
        train(net, 2)
        after = net.get_weights()
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        frozen = [not weight.trainable for weight in net.weights]
        assert [not c for c in changed[:2]] == frozen[:2] == [True, True] and all(changed[2:])
        other = nn.Sequential(copy.deepcopy(layers), seed=1)  # the moving mean of what is frozen: of the data alone
        other.layers[0].trainable = False
        other.compile("sgd", "mse")
        train(other, 2)
        for one, two in zip(net.weights, other.weights, strict=True):
            if not one.trainable:
                np.testing.assert_array_equal(one.value, two.value)


def test_iterations_and_the_rate():
    net = network(nn.Adam(schedules.ExponentialDecay(0.1, 4, 0.5)))
    optimizer = net.optimizer
    assert optimizer.iterations == 0 and optimizer.learning_rate == 0.1 == optimizer.lr
    train(net, 1)
    assert optimizer.iterations == 4 and optimizer.learning_rate == 0.05
    assert isinstance(optimizer.schedule, schedules.ExponentialDecay)
    assert optimizer.get_config()["learning_rate"]["class"] == "schedule/ExponentialDecay"
    optimizer.learning_rate = 0.3  # where Keras refuses it, it takes effect
    assert optimizer.schedule is None and optimizer.learning_rate == 0.3
    optimizer.learning_rate = lambda step: 1 / (1 + step)
    assert optimizer.learning_rate == 0.2
    for name in ("iterations", "schedule"):
        with pytest.raises(AttributeError, match=f"Adam: {name} cannot be set"):
            setattr(optimizer, name, 3)
    net.compile(nn.SGD(), "mse")
    assert net.optimizer.iterations == 0


BAD = [
    (lambda: nn.RMSprop(rho=1), ValueError, "RMSprop: expected rho to be a finite number >= 0 and < 1, got 1"),
    (lambda: nn.RMSprop(momentum=2), ValueError, "RMSprop: expected momentum to be .* <= 1, got 2"),
    (lambda: nn.RMSprop(centered=1), TypeError, "RMSprop: expected centered to be True or False, got 1"),
    (lambda: nn.Adam(amsgrad="yes"), TypeError, "Adam: expected amsgrad to be True or False, got 'yes'"),
    (lambda: nn.AdamW(amsgrad=0), TypeError, "AdamW: expected amsgrad"),
    (lambda: nn.Adamax(beta_1=1), ValueError, "Adamax: expected beta_1 to be .* < 1, got 1"),
    (lambda: nn.Nadam(epsilon=0), ValueError, "Nadam: expected epsilon to be a finite number > 0, got 0"),
    (lambda: nn.Adadelta(rho=-1), ValueError, "Adadelta: expected rho"),
    (lambda: nn.Lion(beta_1=0), ValueError, "Lion: expected beta_1 to be a finite number > 0 and <= 1, got 0"),
    (lambda: nn.Ftrl(learning_rate_power=0.5), ValueError, "Ftrl: expected learning_rate_power to be .* <= 0, got 0.5"),
    (lambda: nn.Ftrl(l1_regularization_strength=-1), ValueError, "Ftrl: expected l1_regularization_strength"),
    (lambda: nn.Ftrl(0.0).columns(0, 2), ValueError, "Ftrl: expected learning_rate to be > 0, .* got 0.0 at step 0"),
    (lambda: nn.ScheduleFreeAdamW(beta_1=0), ValueError, "ScheduleFreeAdamW: expected beta_1 to be .* > 0 and < 1"),
    (lambda: nn.ScheduleFreeAdamW(warmup_steps=-1), ValueError, "ScheduleFreeAdamW: expected warmup_steps"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("name", [name for name in optimizers.__all__ if name[0].isupper() and name != "Optimizer"])
def test_docstring(name):
    """It cites a paper, and its example runs."""
    import doctest

    cls = getattr(nn, name)
    found = doctest.DocTestFinder(recurse=False).find(cls, name, globs={"nn": nn, "np": np})
    assert sum(len(test.examples) for test in found) >= 1 and any(year in cls.__doc__ for year in ("19", "20", "arXiv"))
    runner = doctest.DocTestRunner()
    for test in found:
        assert runner.run(test).failed == 0
