"""What Keras' users do with models, data, losses and callbacks."""

import itertools

import numpy as np
import pytest

import nnpy as nn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 3)).astype(np.float32)
Y = X[:, :2] * 2 - 1


def network(**options):
    model = nn.Sequential([nn.Input((3,)), nn.Dense(2)])
    model.compile(nn.SGD(0.1), "mse", **options)
    return model


def pairs(count=None):
    """Batches of 4, again and again."""
    every = ((X[i : i + 4], Y[i : i + 4]) for _ in itertools.count() for i in range(0, 24, 4))
    return itertools.islice(every, count)


# data


def test_an_iterator_validates_in_stretches():
    """Each epoch takes the next ``validation_steps`` batches, as in Keras."""
    seen = []
    model = network()

    def taken():
        for number, batch in enumerate(pairs()):
            seen.append(number)
            yield batch

    history = model.fit(X, Y, epochs=3, validation_data=taken(), validation_steps=2, verbose=0)
    assert seen == list(range(6)) and len(history.history["val_loss"]) == 3
    expected = model.evaluate(X[16:], Y[16:], verbose=0)
    assert history.history["val_loss"][2] == pytest.approx(expected, rel=1e-5)


def test_an_iterator_of_validation_data_that_runs_out():
    model = network()
    with pytest.warns(nn.AdviceWarning, match="validation_data ran out after 0 batches, 2 were expected; the epoch"):
        history = model.fit(X, Y, epochs=3, validation_data=pairs(4), validation_steps=2, verbose=0)
    assert len(history.history["loss"]) == 3
    assert [value is not None for value in history.history["val_loss"]][:2] == [True, True]


def test_no_validation_data_at_all():
    """Refused before training where it can be known, and by name after an epoch where it cannot."""

    class Empty:
        def __iter__(self):
            return iter(())

    model = network()
    for data, error, text in (
        ((X[:0], Y[:0]), ValueError, "validation_data: .*expected at least one"),
        (_Nothing(), ValueError, "validation_data: expected at least one batch, got none"),
        (pairs(), TypeError, "validation_data: expected validation_steps with an iterator"),
        (Empty(), ValueError, "validation_data: expected at least one batch, got none"),
    ):
        with pytest.raises(error, match=text):
            model.fit(X, Y, validation_data=data, verbose=0)


class _Nothing:
    """An iterable that knows that it has nothing."""

    def __len__(self):
        return 0

    def __iter__(self):
        return iter(())


# models


def test_a_sequential_that_begins_with_a_built_model(tmp_path):
    base = nn.Sequential([nn.Input((3,)), nn.Dense(4, activation="tanh")])
    model = nn.Sequential([base, nn.Dense(1)])
    assert model.built and model.input_shape == (None, 3) and model.count_params() == 21
    path = model.save(tmp_path / "net.safetensors")
    again = nn.load_model(path)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert nn.Sequential([nn.models.clone_model(model), nn.Dense(2)]).output_shape == (None, 2)


def test_an_input_that_nothing_needs(tmp_path):
    a, b = nn.Input((3,), name="a"), nn.Input((2,), name="b")
    model = nn.Model([a, b], nn.Dense(2)(a))
    model.compile(nn.SGD(0.1), "mse")
    model.fit([X, Y], Y, epochs=2, verbose=0)
    assert model.predict({"a": X, "b": Y}).shape == (24, 2)
    again = nn.load_model(model.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(again.predict([X, Y]), model.predict([X, Y]))
    with pytest.raises(ValueError, match="Input 'b'"):
        model.predict([X, X])


# losses


def two_outputs(loss, loss_weights=None):
    x = nn.Input((3,))
    model = nn.Model(x, [nn.Dense(2, kernel_initializer="ones", name=name)(x) for name in "ab"])
    model.compile(nn.SGD(0.1), loss, loss_weights)
    return model


@pytest.mark.parametrize(
    "loss, weights, expected",
    [
        (["mse", "mae"], None, 12.0),
        ([["mse"], ["mae"]], None, 12.0),
        ([["mse", "mae"], ["mae"]], None, 15.0),
        ([["mse", "mae"], "mae"], [2.0, 1.0], 27.0),
        ([["mse", "mae"], ["mae"]], [[0.5, 1.0], [2.0]], 13.5),
        ({"a": ["mse", "mae"]}, None, 12.0),
    ],
)
def test_lists_of_losses_within_lists(loss, weights, expected, tmp_path):
    """Several losses of one output are added; the values are Keras 3.15's."""
    ones, zeros = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    model = two_outputs(loss, weights)
    targets = [zeros, zeros] if not isinstance(loss, dict) else zeros
    assert model.evaluate(ones, targets, verbose=0, return_dict=True)["loss"] == pytest.approx(expected)
    again = nn.load_model(model.save(tmp_path / "net.safetensors"))
    assert again.evaluate(ones, targets, verbose=0, return_dict=True)["loss"] == pytest.approx(expected)
    model.fit(ones, targets, epochs=3, verbose=0)
    assert model.evaluate(ones, targets, verbose=0, return_dict=True)["loss"] < expected


@pytest.mark.parametrize(
    "loss, weights, text",
    [
        ([["mse", "sparse_categorical_crossentropy"], "mae"], None, "of the same targets and reduction"),
        ([["mse", "mae"], "mae"], [[1.0], 1.0], "expected as many loss_weights as losses, 2, got 1"),
        ([[], "mae"], None, "expected a loss or a list of losses, got"),
    ],
)
def test_lists_of_losses_that_do_not_fit(loss, weights, text):
    with pytest.raises(ValueError, match=rf"Model '.*': output 'a': .*{text}"):
        two_outputs(loss, weights)


# callbacks


def test_checkpoints_by_batches(tmp_path):
    """After every so many batches, counted over epochs of 6."""
    model = network()
    weights = []

    class Keep(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(model.get_weights())

    saves = nn.ModelCheckpoint(tmp_path / "{epoch}-{batch:02d}.safetensors", save_freq=4)
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[Keep(), saves], verbose=0)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1-04", "2-02", "2-06"]
    for name, step in (("1-04", 3), ("2-02", 7), ("2-06", 11)):
        again = nn.load_model(tmp_path / f"{name}.safetensors")
        for one, other in zip(again.get_weights(), weights[step], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_best_of_batches(tmp_path):
    model = network()
    path = tmp_path / "best.safetensors"
    saves = nn.ModelCheckpoint(path, monitor="loss", save_best_only=True, save_freq=2)
    history = model.fit(X, Y, batch_size=4, epochs=3, callbacks=saves, verbose=0)
    assert saves.best is not None and saves.best <= min(history.history["loss"]) and path.exists()


@pytest.mark.parametrize("value, error", [(0, ValueError), (1.5, TypeError), ("batch", ValueError), (True, TypeError)])
def test_save_freq_that_is_none(value, error):
    with pytest.raises(error, match="ModelCheckpoint: expected save_freq to be"):
        nn.ModelCheckpoint("net.safetensors", save_freq=value)


def test_terminate_on_nan_may_raise():
    ended = []
    model = network()
    model.compile(nn.SGD(1e30), "mse")
    calls = [nn.TerminateOnNaN(raise_error=True), nn.LambdaCallback(on_train_end=lambda logs: ended.append(1))]
    with pytest.raises(RuntimeError, match=r"TerminateOnNaN: the loss is (nan|inf) at batch"):
        model.fit(X, Y, batch_size=4, epochs=20, callbacks=calls, verbose=0)
    assert ended == []
    with pytest.raises(TypeError, match="TerminateOnNaN: expected raise_error to be True or False, got 1"):
        nn.TerminateOnNaN(1)


def test_the_place_of_trainable_is_that_of_keras():
    assert not nn.Sequential([nn.Dense(2)], False, "net").trainable
    with pytest.raises(TypeError, match="expected trainable to be True or False, got 'net'"):
        nn.Sequential([nn.Dense(2)], "net")


def test_accumulation_beyond_the_batches_of_a_fit_is_told():
    model = nn.Sequential([nn.Input((X.shape[1],)), nn.Dense(Y.shape[1])])
    model.compile(nn.Adam(1e-2, gradient_accumulation_steps=1000), "mse")
    with pytest.warns(nn.AdviceWarning, match=r"no weight was changed: .* update of every 1000 batches .*there were"):
        model.fit(X, Y, batch_size=4, verbose=0)


def test_the_history_has_the_rate_of_the_model_that_is_trained():
    def made(optimizer):
        nn.set_seed(0)
        model = nn.Sequential([nn.Input((X.shape[1],)), nn.Dense(Y.shape[1])])
        model.compile(optimizer, "mse")
        return model

    schedule = nn.schedules.InverseTimeDecay(0.1, 1, 1.0)
    shared, alone = nn.SGD(schedule), made(nn.SGD(schedule))
    one, other = made(shared), made(shared)
    one.fit(X, Y, batch_size=4, verbose=0)
    other.fit(X, Y, batch_size=4, epochs=3, verbose=0)
    alone.fit(X, Y, batch_size=4, verbose=0)
    rates = [model.fit(X, Y, batch_size=4, verbose=0).history["learning_rate"] for model in (one, alone)]
    assert rates[0] == rates[1]
