# ruff: noqa: E501 (a table of cases with the message expected)
"""Callbacks: when they are called, what of them is refused, and their states."""

import math

import numpy as np
import pytest
from regression import Recorder, drive, regression

import nnpy as nn
from nnpy.callbacks.base import CallbackList


def test_callbacks_are_called_in_order(rng):
    recorder = Recorder()
    x, y = rng.normal(size=(20, 5)), np.zeros((20, 2))
    net = regression()
    net.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), callbacks=recorder, verbose=0)
    epoch = ["batch 0", "batch 1", "batch 2", "test"]
    end = "end {} ['loss', 'val_loss']"
    assert recorder.calls == [
        "train begin",
        "epoch 0",
        *epoch,
        end.format(0),
        "epoch 1",
        *epoch,
        end.format(1),
        "train end",
    ]
    assert recorder.model is net and recorder.params["steps"] == 3 and recorder.params["seed"] == nn.get_seed()


def test_batch_callbacks_do_not_change_the_result(rng):
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    results = []
    for callbacks in ([], [Recorder()]):
        nn.set_seed(5)
        net = regression("adam")
        net.fit(x, y, batch_size=8, epochs=3, callbacks=callbacks, verbose=0)
        results.append([*net.get_weights(), np.array(net.history.history["loss"])])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_stop_training_and_lambda(rng):
    net = regression()
    seen = []

    def stop(epoch, logs):
        seen.append(epoch)
        net.stop_training = epoch == 2

    net.fit(
        rng.normal(size=(9, 5)), np.zeros((9, 2)), epochs=9, callbacks=nn.LambdaCallback(on_epoch_end=stop), verbose=0
    )
    assert seen == [0, 1, 2]
    with pytest.raises(TypeError, match="LambdaCallback: unknown hook 'on_epoch'; did you mean 'on_epoch_"):
        nn.LambdaCallback(on_epoch=stop)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.EarlyStopping(3), TypeError, "EarlyStopping: expected monitor to be a name"),
        (lambda: nn.EarlyStopping(patience=-1), ValueError, "EarlyStopping: expected patience to be an integer >= 0, got -1"),
        (lambda: nn.EarlyStopping(patience=2.5), TypeError, "EarlyStopping: expected patience"),
        (lambda: nn.EarlyStopping(min_delta="small"), TypeError, "EarlyStopping: expected min_delta to be a finite number"),
        (lambda: nn.EarlyStopping(baseline="low"), TypeError, "EarlyStopping: expected baseline"),
        (lambda: nn.EarlyStopping(mode="up"), ValueError, "EarlyStopping: expected mode to be 'auto', 'min' or 'max', got 'up'"),
        (lambda: nn.EarlyStopping(restore_best_weights="yes"), TypeError, "EarlyStopping: expected restore_best_weights"),
        (lambda: nn.EarlyStopping(start_from_epoch=-1), ValueError, "EarlyStopping: expected start_from_epoch"),
        (lambda: nn.CSVLogger(3), TypeError, "CSVLogger: expected filename to be a path, got 3"),
        (lambda: nn.CSVLogger("a.csv", separator=3), TypeError, "CSVLogger: expected separator to be a character, got 3"),
        (lambda: nn.CSVLogger("a.csv", separator="::"), ValueError, "CSVLogger: expected separator to be one character"),
        (lambda: nn.CSVLogger("a.csv", append="no"), TypeError, "CSVLogger: expected append"),
        (lambda: nn.LambdaCallback(on_epoch_end=3), TypeError, "LambdaCallback: expected on_epoch_end to be a function, got 3"),
        (lambda: nn.LearningRateScheduler(0.1), TypeError, r"LearningRateScheduler: expected schedule to be a function of \(epoch, learning_rate\) or \(epoch\), got 0.1"),
        (lambda: nn.LearningRateScheduler(lambda: 0.1), TypeError, r"got one of \(\)"),
        (lambda: nn.LearningRateScheduler(lambda a, b, c: 0.1), TypeError, r"got one of \(a, b, c\)"),
        (lambda: nn.ModelCheckpoint(3), TypeError, "ModelCheckpoint: expected filepath to be a path, got 3"),
        (lambda: nn.ModelCheckpoint("{epoch.safetensors"), ValueError, "ModelCheckpoint: expected a path in which .*: expected '}'"),
        (lambda: nn.ModelCheckpoint("{}.safetensors"), ValueError, "ModelCheckpoint: .*'{}' is no name"),
        (lambda: nn.ModelCheckpoint("{0}.safetensors"), ValueError, "ModelCheckpoint: .*'{0}' is no name"),
        (lambda: nn.ModelCheckpoint("{val_loss:d}.safetensors"), ValueError, "ModelCheckpoint: .*format code 'd'"),
        (lambda: nn.ModelCheckpoint("a.safetensors", mode="best"), ValueError, "ModelCheckpoint: expected mode"),
        (lambda: nn.ModelCheckpoint("a.safetensors", save_best_only=1), TypeError, "ModelCheckpoint: expected save_best_only"),
        (lambda: nn.ModelCheckpoint("a.safetensors", initial_value_threshold="x"), TypeError, "initial_value_threshold"),
        (lambda: regression().fit(np.zeros((2, 5)), np.zeros((2, 2)), callbacks=[nn.EarlyStopping]), TypeError, r"got .*EarlyStopping.*; make one: EarlyStopping\(\)"),
    ],
)  # fmt: skip
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_hook_that_nobody_would_call_is_refused():
    with pytest.raises(TypeError, match="Mine: unknown hook 'on_epoch_ends'; did you mean 'on_epoch_end'"):

        class Mine(nn.Callback):
            def on_epoch_ends(self, epoch, logs=None):
                pass

    class Mixin:
        def on_train_batches_begin(self, batch, logs=None):
            pass

    with pytest.raises(TypeError, match="unknown hook 'on_train_batches_begin'; did you mean 'on_train_batch_begin'"):

        class Mixed(Mixin, nn.Callback):
            pass

    class Fine(nn.Callback):
        on_cpu = True  # no method

        def once(self):
            pass

    assert Fine().on_cpu


def test_every_hook_of_batches_is_called(data):
    calls = []

    class Every(nn.Callback):
        def on_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            calls.append(("end", batch))

        def on_test_batch_begin(self, batch, logs=None):
            calls.append(("test begin", batch))

        def on_test_batch_end(self, batch, logs=None):
            assert math.isfinite(logs["loss"])
            calls.append(("test end", batch))

        def on_predict_batch_begin(self, batch, logs=None):
            calls.append(("predict begin", batch))

        def on_predict_batch_end(self, batch, logs=None):
            calls.append(("predict end", batch, len(logs["outputs"])))

    x, y = data
    net = regression()
    steps = [(name, batch) for batch in range(3) for name in ("begin", "end")]
    tests = [(f"test {name}", batch) for name, batch in steps]
    net.fit(x, y, batch_size=8, validation_data=(x, y), callbacks=Every(), verbose=0)
    assert calls == steps + tests
    calls.clear()
    logs = net.evaluate(x, y, batch_size=8, callbacks=Every(), verbose=0)
    assert calls == tests and logs == net.evaluate(x, y, batch_size=8, verbose=0)
    calls.clear()
    batches = [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    assert net.evaluate(iter(batches), callbacks=Every(), verbose=0) == pytest.approx(logs, rel=1e-6) and calls == tests
    for given in (x, (some for some, _ in batches)):
        calls.clear()
        result = net.predict(given, batch_size=8 if given is x else None, callbacks=Every())
        assert np.array_equal(result, net.predict(x, batch_size=8))
        assert [call for call in calls if call[0] == "predict end"] == [
            ("predict end", i, n) for i, n in enumerate((8, 8, 4))
        ]


def test_an_evaluation_inside_another_leaves_it_as_it_is(data):
    x, y = data
    net = regression()
    inside = nn.LambdaCallback(on_test_batch_end=lambda batch, logs: net.evaluate(x[:3], y[:3], verbose=0))
    assert net.evaluate(x, y, batch_size=8, callbacks=inside, verbose=0) == net.evaluate(x, y, batch_size=8, verbose=0)


def test_schedules_of_the_epoch_alone(data):
    seen = []

    def halved(epoch):
        seen.append(epoch)
        return 0.1 / 2**epoch

    def kept(epoch, rate=None):
        return rate

    for schedule, expected in (
        (halved, [0.1, 0.05]),
        (kept, [0.1, 0.1]),
        (nn.schedules.ExponentialDecay(0.4, 1, 0.5), [0.4, 0.2]),
    ):
        net = regression(nn.SGD(0.1))
        net.fit(*data, epochs=2, callbacks=nn.LearningRateScheduler(schedule), verbose=0)
        assert net.history.history["learning_rate"] == pytest.approx(expected)
    assert seen == [0, 1]


def batches(data, count):
    x, y = data
    return ((x[:4], y[:4]) for _ in range(count))


def test_an_iterator_that_runs_out(data, recwarn):
    net = regression()

    def told():
        texts = [str(warning.message) for warning in recwarn.list]
        recwarn.clear()
        return texts

    history = net.fit(batches(data, 7), epochs=3, steps_per_epoch=5, verbose=0)
    assert told() == ["x ran out after 7 batches, 15 were expected; training stops"]
    assert net.training.update == 7 and len(history.history["loss"]) == 2 and not net.training.thread
    history = net.fit(batches(data, 10), epochs=3, steps_per_epoch=5, validation_data=data, verbose=0)
    assert told() == ["x ran out after 10 batches, 15 were expected; training stops"]
    assert [len(values) for values in history.history.values()] == [2, 2]
    net.fit(batches(data, 15), epochs=3, steps_per_epoch=5, verbose=0)
    net.fit(list(batches(data, 2)).__iter__(), verbose=0)
    assert told() == []
    with pytest.raises(ValueError, match="expected at least one batch, got none"):
        net.fit(batches(data, 0), epochs=3, steps_per_epoch=5, verbose=0)
    net.evaluate(batches(data, 2), steps=3, verbose=0)
    net.predict(batches(data, 2), steps=3)
    assert told() == ["x ran out after 2 batches, 3 were expected"] * 2
    stop = nn.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", True))
    net.fit(batches(data, 7), epochs=3, steps_per_epoch=5, callbacks=stop, verbose=0)
    assert told() == []


def test_hooks_may_be_set_on_an_object_or_be_static(data):
    seen = []

    class Static(nn.Callback):
        @staticmethod
        def on_train_batch_end(batch, logs=None):
            seen.append(("static", batch))

    own = nn.Callback()
    own.on_epoch_end = lambda epoch, logs=None: seen.append(("epoch", epoch))
    own.on_train_batch_begin = lambda batch, logs=None: seen.append(("own", batch))
    regression().fit(*data, batch_size=10, callbacks=[Static(), own], verbose=0)
    assert seen == [("own", 0), ("static", 0), ("own", 1), ("static", 1), ("epoch", 0)]
    seen.clear()
    regression().fit(*data, batch_size=10, callbacks=[Static()], verbose=0)
    assert seen == [("static", 0), ("static", 1)]


def test_states_of_callbacks_go_on_where_they_were(data):
    values = [3.0, 2.0, 2.5, 2.2, 2.1, 2.0]
    net = regression(nn.SGD(0.1))
    whole = nn.EarlyStopping(patience=4, restore_best_weights=True)
    drive(whole, values, net)
    first, second = (nn.EarlyStopping(patience=4, restore_best_weights=True) for _ in range(2))
    drive(first, values[:3], net)
    second.set_model(net)
    second.on_train_begin()
    second.set_state(first.get_state())
    for epoch, value in enumerate(values[3:], 3):
        second.on_epoch_end(epoch, {"val_loss": value})
    assert (second.wait, second.best, second.best_epoch, second.stopped_epoch) == (
        whole.wait, whole.best, whole.best_epoch, whole.stopped_epoch,
    ) and whole.stopped_epoch == 5  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(first.best_weights, second.best_weights, strict=True))
    keep, again = (nn.ModelCheckpoint("a.safetensors", save_best_only=True) for _ in range(2))
    keep.best = 0.5
    again.set_state(keep.get_state())
    assert again.best == 0.5
    rate = nn.LearningRateScheduler(lambda epoch, rate: rate / 2)
    rate.set_model(net)
    rate.on_epoch_begin(0)
    state = rate.get_state()
    rate.on_epoch_begin(1)
    rate.set_state(state)
    assert net.optimizer.learning_rate == 0.05
    history = nn.History()
    history.set_state(net.fit(*data, epochs=2, verbose=0).get_state())
    assert history.history == net.history.history and history.epoch == [0, 1]
    assert history.history["loss"] is not net.history.history["loss"] and nn.TerminateOnNaN().get_state() == {}


def test_the_room_of_callbacks_shows_callbacks_alone():
    assert set(dir(nn.callbacks)) == set(nn.callbacks.__all__)
    found = [getattr(nn.callbacks, name) for name in nn.callbacks.__all__]
    assert all(issubclass(thing, nn.Callback) for thing in found)
    assert nn.callbacks.EarlyStopping is nn.EarlyStopping


@pytest.mark.parametrize("bad", [{}, {"a": 1}, None, 3, []])
@pytest.mark.parametrize("make", [lambda: nn.EarlyStopping("loss"), lambda: nn.callbacks.ReduceLROnPlateau("loss")])
def test_a_state_that_is_none_is_refused(make, bad):
    calls = CallbackList([make()], regression(), {})
    (name,) = calls._named()
    with pytest.raises(ValueError, match=f"^{name}: expected the state that its get_state.. gives, got"):
        calls.set_state({name: bad})
