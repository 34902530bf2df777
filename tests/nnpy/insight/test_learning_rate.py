"""find_learning_rate: what it suggests, and that it leaves everything as it was."""

import doctest

import numpy as np
import pytest

import nnpy as nn
from nnpy.insight import learning_rate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)).astype("float32")
Y = (np.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]).astype("float32")


def network(optimizer="adam", loss="mse"):
    layers = [nn.Input((6,)), nn.Dense(32, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.1), nn.Dense(1)]
    net = nn.Sequential(layers, seed=2)
    net.compile(optimizer, loss)
    return net


def fitted(net, epochs=2):
    net.fit(X, Y, epochs=epochs, verbose=0)
    return net


def same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


OPTIMIZERS = [
    lambda: nn.Adam(), lambda: nn.SGD(0.01, momentum=0.9), lambda: nn.ScheduleFreeAdamW(),
    lambda: nn.Adagrad(nn.schedules.CosineDecay(0.1, 100)), lambda: nn.Adam(gradient_accumulation_steps=2),
    lambda: nn.RMSprop(use_ema=True), lambda: nn.Lookahead(nn.Adam(), 3),
]  # fmt: skip


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_leaves_everything_as_it_was(make, trained):
    net, other = network(make()), network(make())
    if trained:
        fitted(net), fitted(other)
    history, weights = net.history if trained else None, net.get_weights()
    found = nn.find_learning_rate(net, X, Y)
    assert len(found.rates) > 20 and np.isfinite(found.losses[:-1]).all()
    for before, after in zip(weights, net.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert net.optimizer.get_config() == other.optimizer.get_config()
    assert net.optimizer.iterations == other.optimizer.iterations
    assert net.training.position() == other.training.position()
    assert not trained or net.history is history
    if not trained:  # arguments that count from the beginning may still be set
        inner = getattr(net.optimizer, "optimizer", net.optimizer)
        inner.use_ema = inner.use_ema
    fitted(net), fitted(other)  # and so is what comes: moments, counters, shuffling, dropout
    same(net, other)


def test_what_it_suggests():
    net = network(nn.SGD())
    found = nn.find_learning_rate(net, X, Y, steps=120)
    assert found.rates[0] == 1e-6 and np.allclose(np.diff(np.log(found.rates)), np.log(1e7) / 119)
    assert found.rates.shape == found.losses.shape == found.smoothed.shape
    assert "half-way down at" in found.reason and str(found).startswith("learning rate ")
    assert 1e-4 < found.suggestion < 1
    good, low = network(nn.SGD(found.suggestion)), network(nn.SGD(found.suggestion / 1000))
    losses = [fitted(one, 3).evaluate(X, Y, verbose=0) for one in (good, low)]
    assert losses[0] < losses[1]


def test_stops_where_the_loss_diverges():
    found = nn.find_learning_rate(network(nn.SGD()), X, Y, stop=1e6, steps=200)
    assert len(found.rates) < 200 and "diverges at" in found.reason


def test_a_loss_that_does_not_fall():
    found = nn.find_learning_rate(network(nn.SGD()), X, Y, start=1e-12, stop=1e-10, steps=30)
    assert found.suggestion is None and "does not fall at any rate" in found.reason
    assert str(found).startswith("no rate to suggest")


def test_iterables_of_batches():
    class Batches:
        def __len__(self):
            return 10

        def __iter__(self):
            return ((X[i : i + 40], Y[i : i + 40]) for i in range(0, 400, 40))

    net, other = network(), network()
    found = nn.find_learning_rate(net, Batches(), steps=30, stop=0.1)
    assert len(found.rates) == 30
    assert len(nn.find_learning_rate(net, iter(Batches()), steps=30, stop=0.1).rates) == 10
    fitted(net), fitted(other)
    same(net, other)


def test_plot(tmp_path):
    found = nn.find_learning_rate(network(), X, Y)
    pytest.importorskip("matplotlib")
    figure = found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000
    (axis,) = figure.axes
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "learning rate"
    drawn = [np.asarray(line.get_xdata()) for line in axis.lines]
    np.testing.assert_array_equal(drawn[0], found.rates)
    assert found.suggestion in drawn[2]


def test_plot_without_matplotlib(monkeypatch):
    import sys

    from nnpy import plots

    found = nn.find_learning_rate(network(), X, Y, steps=10)
    plots._picture.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot.*matplotlib"):
        found.plot()


def within_fit():
    net = network()
    net.fit(X, Y, verbose=0, callbacks=nn.LambdaCallback(on_epoch_end=lambda *_: nn.find_learning_rate(net, X, Y)))


BAD = [
    (lambda: nn.find_learning_rate(nn.Sequential([nn.Dense(1)]), X, Y), RuntimeError, "compile"),
    (within_fit, RuntimeError, "find_learning_rate: expected no fit of .* to be running"),
    (lambda: nn.find_learning_rate(network(), X, Y, steps=3), ValueError, "expected steps to be an integer >= 10"),
    (lambda: nn.find_learning_rate(network(), X, Y, start=0), ValueError, "expected start to be a finite number > 0"),
    (lambda: nn.find_learning_rate(network(), X, Y, start=1, stop=0.1), ValueError, "expected stop to be .* > 1"),
    (lambda: nn.find_learning_rate(network(), X, Y[:3]), ValueError, "400"),
    (lambda: nn.find_learning_rate(network(), iter(())), ValueError, "expected at least one batch"),
]


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_example():
    tests = doctest.DocTestFinder(recurse=False).find(nn.find_learning_rate, globs={"nn": nn, "np": np})
    assert sum(len(test.examples) for test in tests) > 3
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0
    assert learning_rate.__all__ == ["LearningRates", "find_learning_rate"]
