"""A user's array objects that get another shape while a run reads them: the run goes on with what it was given."""

import numpy as np
import pytest

import nnpy as nn

KINDS = ["fit", "epochs", "stream", "validation", "evaluate", "predict"]


def run(kind, change):
    """What the kind of run gives; ``change``: whether its arrays are reshaped after a batch."""
    nn.set_seed(3)
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(96, 8)).astype("f4"), rng.normal(size=(96, 1)).astype("f4"), np.arange(96, dtype="f4")
    net = nn.Sequential([nn.Input((8,)), nn.Dense(4, activation="relu"), nn.Dense(1)])
    net.compile("sgd", "mse")

    def reshape(*_):
        if change:
            x.shape, y.shape, w.shape = (8, 96), (1, 96), (2, 48)

    hooks = {
        "fit": "on_train_batch_end", "epochs": "on_epoch_end", "stream": "on_train_batch_begin",
        "validation": "on_test_batch_begin", "evaluate": "on_test_batch_end", "predict": "on_predict_batch_end",
    }  # fmt: skip
    options = {"callbacks": nn.LambdaCallback(**{hooks[kind]: reshape}), "verbose": 0}
    if kind in ("fit", "epochs"):
        return net.fit(x, y, sample_weight=w, epochs=3, batch_size=16, **options).history, net.get_weights()
    if kind == "stream":
        return net.fit(iter([(x, y, w)]), **options).history, net.get_weights()
    if kind == "validation":
        return net.fit(x.copy(), y.copy(), validation_data=(x, y, w), batch_size=16, epochs=2, **options).history
    if kind == "evaluate":
        return net.evaluate(x, y, batch_size=16, sample_weight=w, **options)
    return net.predict(x, batch_size=16, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_that_get_another_shape(kind):
    for expected, found in zip(parts(run(kind, False)), parts(run(kind, True)), strict=True):
        np.testing.assert_array_equal(found, expected)


def parts(value):
    if isinstance(value, dict):
        return [part for item in value.values() for part in parts(item)]
    return [part for item in value for part in parts(item)] if isinstance(value, tuple | list) else [np.asarray(value)]


def test_memory_that_a_run_reads_is_not_given_back():
    """NumPy refuses to resize what others hold; ``del`` and a new array leave the old one to the run."""
    x, y = np.ones((64, 4), "f4"), np.ones((64, 1), "f4")
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    refused = []

    def resize(*_):
        try:
            x.resize((1, 1))
        except ValueError:
            refused.append(1)

    net.fit(x, y, batch_size=16, callbacks=nn.LambdaCallback(on_train_batch_end=resize), verbose=0)
    assert len(refused) == 4 and x.shape == (64, 4)


def test_the_array_of_images_cannot_be_exchanged():
    """A run reads where the array was."""
    images = nn.data.Images(np.zeros((32, 4, 4, 1), np.uint8))
    net = nn.Sequential([nn.Input((4, 4, 1)), nn.Flatten(), nn.Dense(1)])
    net.compile("sgd", "mse")
    refused = []

    def exchange(*_):
        with pytest.raises(AttributeError, match=r"\bx\b"):
            images.x = np.zeros((1, 4, 4, 1), np.uint8)
        refused.append(1)

    net.fit(images, np.zeros((32, 1)), epochs=2, verbose=0, callbacks=nn.LambdaCallback(on_epoch_end=exchange))
    assert len(refused) == 2
