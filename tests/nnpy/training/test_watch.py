# ruff: noqa: E501 (a table of cases with the message expected)
"""A loss that is lost is told at once, with the step, the layer and the likely cause; nothing else changes."""

import re
import warnings

import numpy as np
import pytest

import nnpy as nn
from nnpy.training import watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(512, 6)).astype("f4")
Y = X[:, :1].copy()
ENDS = r" \(TerminateOnNaN\(\) ends such a run\)$"


class Log(nn.Layer):
    def call(self, x):
        return nn.ops.log(x)


class Root(nn.Layer):
    def call(self, x):
        return nn.ops.sqrt(x * (x > 0.0))


def of_log(y_true, y_pred):
    return nn.ops.mean(-y_true * nn.ops.log(y_pred), axis=-1)


def network(optimizer, loss, *layers):
    net = nn.Sequential([nn.Input((6,)), *layers], name="net", seed=0)
    net.compile(optimizer, loss)
    return net


def told(run):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run()
    assert all(warning.category is nn.AdviceWarning for warning in found)
    return [str(warning.message) for warning in found]


def first_bad_step(make, x, y):
    """By steps one at a time."""
    net = make()
    order = nn.seeds.stream("shuffle", 0, net.settings.seed).permutation(len(x))
    for number, row in enumerate(range(0, len(x), 32), 1):
        rows = order[row : row + 32]
        with warnings.catch_warnings(action="ignore"):
            if not np.isfinite(net.train_on_batch(x[rows], y[rows])):
                return number
    raise AssertionError("the loss stays finite")


def deep(rate):
    return network(nn.SGD(rate), "mse", nn.Dense(8, name="a", activation="tanh"), nn.Dense(1, name="b"))


CASES = {
    "rate": (lambda: deep(1e4), X, Y, r"the loss of layer 'b' is not; the likely cause is a learning rate \(10000\) that is too high"),
    "inputs": (lambda: network(nn.SGD(0.1), "mse", nn.Dense(8, name="a"), nn.Dense(1, name="b")), X * 1e9, Y, r"the likely cause is inputs, of up to [\d.]+e\+09, that are not scaled"),
    "log of 0": (lambda: network(nn.SGD(0.01), of_log, nn.Dense(1, name="b", activation="relu")), X, np.abs(Y), "the loss of layer 'b' is not; the likely cause is a log, root"),
    "layer": (lambda: network(nn.SGD(0.01), "mse", nn.Dense(4, name="a"), Log(name="l"), nn.Dense(1, name="b")), X, Y, "layer 'l' gives NaN; the likely cause is a log, root or quotient of 0 in it"),
    "gradient": (lambda: network(nn.SGD(0.01), "mse", nn.Dense(4, name="a"), Root(name="r"), nn.Dense(1, name="b")), X, Y, r"a/kernel is NaN since the step before; likely causes are its gradient \(a root of 0\?\)"),
}  # fmt: skip


@pytest.mark.parametrize("every_batch", [False, True])
@pytest.mark.parametrize("make, x, y, text", CASES.values(), ids=CASES)
def test_the_step_the_layer_and_the_cause_are_told_once(make, x, y, text, every_batch):
    step = first_bad_step(make, x, y)
    net = make()
    callbacks = nn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None) if every_batch else None
    (line,) = told(lambda: net.fit(x, y, epochs=3, verbose=0, callbacks=callbacks))
    assert re.match(f"Sequential 'net': the loss became (NaN|infinite) in step {step} of epoch 1: ", line)
    assert re.search(text, line) and re.search(ENDS, line), line
    assert len(net.history.epoch) == 3 and net.training.update == 48


def test_steps_are_told_of_streams_and_later_epochs():
    parts = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 512, 32)]
    bad = parts[5][0].copy()
    bad[3] = 1e30

    class Data:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter(parts if self.passes < 3 else [*parts[:5], (bad, parts[5][1]), *parts[6:]])

    net = network("sgd", "mse", nn.Dense(4, name="a"), nn.Dense(1, name="b"))
    (line,) = told(lambda: net.fit(Data(), epochs=4, verbose=0))
    assert line.startswith("Sequential 'net': the loss became infinite in step 6 of epoch 3: ")
    assert "inputs, of up to 1e+30, that are not scaled" in line


def test_training_is_the_same_with_and_without_a_look(monkeypatch):
    """What is done again leaves nothing behind: weights, moments, counters, statistics."""

    def net():
        layers = [nn.Dense(8, name="a"), nn.BatchNormalization(), nn.Dropout(0.3), nn.Dense(1, name="b")]
        return network(nn.SGD(0.05, momentum=0.9), "mse", *layers)

    y = Y.copy()
    y[400] = 3e38  # squared, it is infinite
    monkeypatch.setattr(watch, "_SECONDS", 0.0)
    one, other = net(), net()
    (line,) = told(lambda: one.fit(X, y, epochs=2, verbose=0))
    assert re.search(r"the loss became infinite in step 2 of .* targets, of up to 3e\+38, that are not scaled", line), line
    monkeypatch.setattr(watch.Watch, "end", lambda *_: None)
    assert told(lambda: other.fit(X, y, epochs=2, verbose=0)) == []
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, slot in one.engine.optimizer_slots().items():
        np.testing.assert_array_equal(slot, other.engine.optimizer_slots()[name])
    assert one.training.position() == other.training.position()
    np.testing.assert_equal(one.history.history, other.history.history)


def test_without_a_copy_the_steps_and_the_weights_are_told(monkeypatch):
    """The step exactly: the compiled step has counted them."""
    monkeypatch.setattr(watch, "_MOST", 0)
    step, net = first_bad_step(lambda: deep(1e4), X, Y), deep(1e4)
    (line,) = told(lambda: net.fit(X, Y, epochs=2, verbose=0))
    assert f"in step {step} of epoch 1: a/kernel is not finite after it; likely causes are a learning rate" in line


@pytest.mark.parametrize("bad", [0, 7, 8, 15])
@pytest.mark.parametrize("kind", ["rows", "mean", "penalty", "two outputs"])
def test_the_step_is_exact_without_a_copy(bad, kind, monkeypatch):
    """Of whichever part the loss has; later steps may be finite again."""
    monkeypatch.setattr(watch, "_MOST", 0)
    x, y = np.ones((16, 4), "f4"), np.ones((16, 2), "f4")
    (x if kind == "penalty" else y)[bad] = 3e38

    class Penalty(nn.Layer):
        def call(self, x):
            self.add_loss(nn.ops.mean(nn.ops.square(x)))
            return x * 0.0

    source = nn.Input((4,))
    first = nn.Dense(2, name="a")(Penalty()(source) if kind == "penalty" else source)
    net = nn.Model(source, [first, nn.Dense(2, name="b")(source * 0.0)] if kind == "two outputs" else first)
    loss = nn.losses.MeanSquaredError(reduction="mean" if kind == "mean" else "sum_over_batch_size")
    net.compile(nn.SGD(0.0), loss)
    targets = [y * 0.0, y] if kind == "two outputs" else y
    (line,) = told(lambda: net.fit(x, targets, batch_size=1, epochs=2, shuffle=False, verbose=0))
    assert f" infinite in step {bad + 1} of epoch 1: " in line or f" NaN in step {bad + 1} of epoch 1: " in line
    assert "of up to 3e+38, that are not scaled" in line


def test_a_loss_that_is_lost_is_told_of_batches_by_hand():
    """Once until it is finite again."""
    net = deep(1e-3)
    bad = Y[:32] * 1e30
    assert told(lambda: net.train_on_batch(X[:32], Y[:32])) == []
    (line,) = told(lambda: net.train_on_batch(X[:32], bad))
    assert re.match(r"Sequential 'net': the loss became infinite in step 2, in train_on_batch: the weights are finite", line)
    assert "targets, of up to" in line
    assert told(lambda: [net.train_on_batch(X[:32], Y[:32]) for _ in range(3)]) == []
    net.set_weights(deep(1e-3).get_weights())
    assert told(lambda: net.train_on_batch(X[:32], Y[:32])) == []
    assert len(told(lambda: net.train_on_batch(X[:32], bad))) == 1


def test_many_short_fits_take_no_more_copies_than_a_long_one(monkeypatch):
    taken = []
    arrays = watch.Watch._arrays
    monkeypatch.setattr(watch.Watch, "_arrays", lambda self: taken.append(1) or arrays(self))
    monkeypatch.setattr(watch, "_SECONDS", 1e9)
    net = deep(0.01)
    for _ in range(5):
        net.fit(X, Y, epochs=2, verbose=0)
    assert taken == [1]


def test_batches_of_an_iterable_are_kept_up_to_a_bound(monkeypatch):
    seen = []
    end = watch.Watch.end
    monkeypatch.setattr(watch.Watch, "end", lambda self, *rest: (end(self, *rest), seen.append(len(self._stretches)))[0])
    monkeypatch.setattr(watch, "_SECONDS", 1e9)
    monkeypatch.setattr(watch, "_MOST", 5 * (X[:32].nbytes + Y[:32].nbytes))
    net = deep(0.01)
    net.fit(((X[i : i + 32], Y[i : i + 32]) for i in range(0, 512, 32)), verbose=0)
    assert seen[:8] == [1, 2, 3, 4, 5, 6, 0, 0]


def test_an_option_ends_the_run():
    net = deep(1e4)
    lines = told(lambda: net.fit(X, Y, epochs=20, verbose=0, callbacks=nn.TerminateOnNaN()))
    assert len(net.history.epoch) == 1 and [line.split(":")[0] for line in lines] == ["Sequential 'net'", "TerminateOnNaN"]


def test_nothing_is_told_of_what_is_well():
    assert told(lambda: deep(0.01).fit(X, Y, epochs=2, verbose=0)) == []


def test_signals_that_grow_from_layer_to_layer_are_told_as_such():
    nn.set_seed(0)
    wide = nn.initializers.VarianceScaling(400.0)
    net = nn.Sequential([nn.Input((16,)), *[nn.Dense(64, "relu", kernel_initializer=wide) for _ in range(40)]])
    net.compile(nn.SGD(1e-3), "mse")
    x = np.random.default_rng(0).normal(size=(32, 16))
    with pytest.warns(nn.AdviceWarning, match=r"likely cause is weights that are too large \(what comes before it grows"):
        net.fit(x, np.zeros((32, 64)), verbose=0)
