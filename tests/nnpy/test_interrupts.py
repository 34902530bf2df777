"""Ctrl-C that comes where Python would lose it."""

import os
import signal
import sys
import threading
import weakref

import numpy as np
import pytest

import nnpy as nn
from nnpy import interrupts


class Thing:
    """Something that a weak reference points to."""


def lose():
    """Ctrl-C in the callback of a weak reference: Python prints the KeyboardInterrupt and goes on."""
    thing = Thing()
    watch = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert watch() is None


@pytest.mark.parametrize("kind", ["fit", "stream", "validation", "evaluate", "predict", "last"])
def test_control_c_in_the_callback_of_a_weak_reference_is_not_lost(kind):
    x = np.ones((64, 3), "f4")
    net = nn.Sequential([nn.Input((3,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    hook = {"validation": "on_test_batch_end", "evaluate": "on_test_batch_end", "predict": "on_predict_batch_end"}
    hooks = {hook.get(kind, "on_train_end" if kind == "last" else "on_train_batch_end"): lambda *_: lose()}
    options = {"callbacks": nn.LambdaCallback(**hooks), "verbose": 0}
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        if kind == "stream":
            net.fit(nn.data.prefetch([(x, x[:, :1])] * 3), **options)
        elif kind == "evaluate":
            net.evaluate(x, x[:, :1], batch_size=8, **options)
        elif kind == "predict":
            net.predict(x, batch_size=8, **options)
        else:
            net.fit(x, x[:, :1], batch_size=8, epochs=2, validation_split=0.5, **options)
    assert sys.unraisablehook is before and not net.training.thread
    if kind != "last":
        assert net.training.update < 8  # at once, not when all is over
    net.fit(x, x[:, :1], verbose=0)


class Losing:
    """Data, or a path, of which each use loses one."""

    def __init__(self, value):
        self.value = value

    def __array__(self, *_, **__):
        lose()
        return self.value

    def __fspath__(self):
        lose()
        return str(self.value)


os.PathLike.register(Losing)


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x, path: net.train_on_batch(Losing(x), x[:, :1]),
        lambda net, x, path: net.test_on_batch(Losing(x), x[:, :1]),
        lambda net, x, path: net.predict_on_batch(Losing(x)),
        lambda net, x, path: net.predict(Losing(x)),
        lambda net, x, path: net.evaluate(Losing(x), x[:, :1], verbose=0),
        lambda net, x, path: net.fit(Losing(x), x[:, :1], verbose=0),
        lambda net, x, path: net.save(Losing(path)),
        lambda net, x, path: net.save_weights(Losing(path)),
        lambda net, x, path: net.load_weights(Losing(path)),
        lambda net, x, path: nn.load_model(Losing(path)),
    ],
    ids=[
        "train_on_batch", "test_on_batch", "predict_on_batch", "predict", "evaluate", "fit", "save", "save_weights",
        "load_weights", "load_model",
    ],
)  # fmt: skip
def test_none_is_lost_in_other_calls(run, tmp_path):
    x, path = np.ones((8, 3), "f4"), tmp_path / "net.safetensors"
    net = nn.Sequential([nn.Input((3,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    net.save(path)
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        run(net, x, path)
    assert sys.unraisablehook is before
    net.load_weights(path)  # whole
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    net.fit(x, x[:, :1], verbose=0)


def test_other_errors_and_other_threads_are_left_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    class Bad:
        def __del__(self):
            raise ZeroDivisionError

    with interrupts.kept():
        Bad()
    assert seen == [ZeroDivisionError]
    hooks = []

    def work():
        with interrupts.kept():
            hooks.append(sys.unraisablehook)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert hooks == [sys.unraisablehook]
    with pytest.raises(KeyError), interrupts.kept():
        lose()
        raise KeyError
    with interrupts.kept():
        pass  # what was lost before is over
