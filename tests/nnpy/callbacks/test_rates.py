"""The learning rate while a model trains: ReduceLROnPlateau, and schedules in the history, in the bar and in files."""

import numpy as np
import pytest

import nnpy as nn
from nnpy.training import displays

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def network(optimizer=None, metrics=None):
    net = nn.Sequential([nn.Input((3,)), nn.Dense(1)], seed=1)
    net.compile(optimizer or nn.SGD(0.1), "mse", metrics=metrics)
    return net


class Say(nn.Callback):
    """Puts values into the logs, one for each epoch."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def plain(values, rate, factor, patience, min_delta, cooldown, min_lr, sign):
    """Keras's rule: the rates of the epochs."""
    best, wait, cool, rates = None, 0, 0, []
    for value in values:
        rates.append(rate)
        if cool:
            cool, wait = cool - 1, 0
        if best is None or sign * (value - best) > min_delta:
            best, wait = value, 0
        elif not cool:
            wait += 1
            if wait >= patience and rate > min_lr:
                rate, cool, wait = max(rate * factor, min_lr), cooldown, 0
    return rates


VALUES = [1.0, 0.9, 0.95, 0.91, 0.90005, 0.92, 0.93, 0.5, 0.5, 0.5, 0.5, 0.6, 0.4, 0.45, 0.45, 0.45, 0.45, 0.45]
OPTIONS = [
    dict(factor=0.5, patience=2), dict(factor=0.1, patience=1, cooldown=2), dict(factor=0.5, patience=0, min_lr=0.02),
    dict(factor=0.3, patience=3, min_delta=0.2),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("sign", [-1, 1])
def test_plateau(options, sign):
    values = [-sign * value for value in VALUES]
    plateau = nn.ReduceLROnPlateau("score", mode="max" if sign == 1 else "min", **options)
    net = network()
    net.fit(X, Y, epochs=len(values), verbose=0, callbacks=[Say("score", values), plateau])
    known = dict(factor=0.1, patience=10, min_delta=1e-4, cooldown=0, min_lr=0.0) | options
    expected = plain(values, 0.1, sign=sign, **known)
    np.testing.assert_allclose(net.history.history["learning_rate"], expected, rtol=1e-12)
    assert len(set(expected)) > 1


def test_plateau_against_keras():
    keras = pytest.importorskip("keras")
    for options in OPTIONS:
        net, rates = network(), []
        net.fit(X, Y, epochs=len(VALUES), verbose=0,
                callbacks=[Say("score", VALUES), nn.ReduceLROnPlateau("score", mode="min", **options)])  # fmt: skip
        theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        theirs.compile(keras.optimizers.SGD(0.1), "mse")
        plateau = keras.callbacks.ReduceLROnPlateau("score", mode="min", **options)
        plateau.set_model(theirs)
        plateau.on_train_begin()
        for epoch, value in enumerate(VALUES):
            plateau.on_epoch_end(epoch, logs := {"score": value})
            rates.append(float(logs["learning_rate"]))
        np.testing.assert_allclose(net.history.history["learning_rate"], rates, rtol=1e-6)


def test_plateau_asks_the_metric_for_its_direction():
    net = network(metrics=["mae"])
    net.fit(X, Y, epochs=2, verbose=0, callbacks=nn.ReduceLROnPlateau("mae"))
    plateau = nn.ReduceLROnPlateau("val_profit")
    with pytest.raises(ValueError, match="ReduceLROnPlateau: whether a larger 'val_profit' is better is not known"):
        net.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=plateau)
    with pytest.warns(nn.AdviceWarning, match="ReduceLROnPlateau: no 'val_loss' in this epoch"):
        net.fit(X, Y, verbose=0, callbacks=nn.ReduceLROnPlateau())


def test_plateau_goes_on_in_the_middle(tmp_path):
    """Its counters and the rate, from where another run was left."""
    def callbacks():
        return [Say("score", VALUES), nn.ReduceLROnPlateau("score", 0.5, 2, mode="min", cooldown=1)]

    whole, half = network(), network()
    whole.fit(X, Y, epochs=12, verbose=0, callbacks=callbacks())

    class Keep(nn.Callback):
        comes_last = True

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 5:
                self.model.save(tmp_path / "half.safetensors")
                self.state = self.model.training.state()

    keep = Keep()
    half.fit(X, Y, epochs=6, verbose=0, callbacks=[*callbacks(), keep])
    again = nn.load_model(tmp_path / "half.safetensors")
    again.training.restore(keep.state)
    again.fit(X, Y, epochs=12, verbose=0, callbacks=[*callbacks()])
    assert again.history.history == whole.history.history


BAD = [
    (dict(factor=1.0), ValueError, "ReduceLROnPlateau: expected factor to be a finite number > 0 and < 1, got 1.0"),
    (dict(patience=-1), ValueError, "ReduceLROnPlateau: expected patience"),
    (dict(cooldown=0.5), TypeError, "ReduceLROnPlateau: expected cooldown to be an integer >= 0, got 0.5"),
    (dict(min_lr=-1), ValueError, "ReduceLROnPlateau: expected min_lr"),
    (dict(mode="up"), ValueError, "ReduceLROnPlateau: expected mode to be 'auto', 'min' or 'max', got 'up'"),
    (dict(patiens=3), TypeError, "ReduceLROnPlateau: unexpected argument 'patiens'; did you mean 'patience'"),
]


@pytest.mark.parametrize("options, error, text", BAD)
def test_plateau_refuses(options, error, text):
    with pytest.raises(error, match=text):
        nn.ReduceLROnPlateau(**options)


def test_plateau_refuses_a_schedule():
    net = network(nn.SGD(nn.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(ValueError, match="ReduceLROnPlateau: expected an optimizer with a number as learning_rate"):
        net.fit(X, Y, verbose=0, callbacks=nn.ReduceLROnPlateau("loss"))


@pytest.mark.parametrize("rate", [nn.schedules.ExponentialDecay(0.1, 2, 0.5), lambda step: 0.1 * 0.5 ** (step / 2)])
def test_the_rate_of_a_schedule_is_in_the_history(rate, tmp_path):
    net = network(nn.SGD(rate))
    log = nn.CSVLogger(tmp_path / "log.csv")
    history = net.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=log).history
    last = [0.1 * 0.5 ** (step / 2) for step in (1, 3, 5)]  # of each epoch's last step
    np.testing.assert_allclose(history["learning_rate"], last)
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,learning_rate\n")
    assert "learning_rate" not in network().fit(X, Y, verbose=0).history


def test_the_rate_of_a_schedule_is_in_the_progress(monkeypatch, capsys):
    seen = []

    class Shown:
        def start(self): ...
        def stop(self): ...
        def begin(self, title): ...
        def line(self, text): seen.append(text)
        def update(self, steps, logs, speed): seen.append(logs)

    monkeypatch.setattr(displays, "live", lambda epochs, steps: Shown())
    net = network(nn.SGD(nn.schedules.ExponentialDecay(0.1, 2, 0.5)))
    net.fit(X, Y, batch_size=8, epochs=1, verbose=1)
    within, line = seen
    assert within["learning_rate"] == 0.1 * 0.5**0.5 and "learning_rate 0.0707" in line
