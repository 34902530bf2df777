"""Training: what a run is, written down in the middle of an epoch and gone on with; steps and passes over the data."""

import json

import numpy as np
import pytest

import nnpy as nn
from nnpy.training.training import State


class Stop(Exception):
    pass


def network(seed=7, optimizer=None):
    nn.set_seed(seed)
    net = nn.Sequential(
        [nn.Input((6,)), nn.Dense(16, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.3), nn.Dense(2)]
    )
    net.compile(optimizer or nn.Adam(1e-2), "mse", metrics=["mse"])
    return net


@pytest.fixture
def data(rng):
    return rng.normal(size=(70, 6)), rng.normal(size=(70, 2))


def snapshot(net):
    """What a checkpoint holds: the state as JSON, and arrays."""
    store, slots = net.engine.claim(), net.engine.optimizer_slots()
    state = net.training.state()
    moments = [{name: np.array(store.view(flat, p)) for name, flat in slots.items()} for p in net.weights]
    return json.dumps(state.values), state.arrays, net.get_weights(), moments


def resumed(saved, net):
    values, arrays, weights, moments = saved
    net.set_weights(weights)
    store, slots = net.engine.claim(), net.engine.optimizer_slots()
    for parameter, known in zip(net.weights, moments, strict=True):
        for name, value in known.items():
            store.view(slots[name], parameter)[...] = value
    net.training.restore(State(json.loads(values), arrays))
    return net


def callbacks():
    return [
        nn.EarlyStopping("loss", patience=1, min_delta=0.01, restore_best_weights=True),
        nn.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
    ]


class Taking(nn.Callback):
    """Takes a snapshot after a step, or where an epoch begins or ends, and ends the run as a crash would."""

    comes_last = True

    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch, self.saved = (epoch, batch), 0, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, "begin"):
            self.take()

    def on_epoch_end(self, epoch, logs=None):
        if self.at == (epoch, "end"):
            self.take()

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            self.take()

    def take(self):
        self.saved = snapshot(self.model)
        raise Stop


def streams(data, kind, batch=16):
    if kind == "arrays":
        return {"x": data[0], "y": data[1], "batch_size": batch}
    parts = [(data[0][i : i + batch], data[1][i : i + batch]) for i in range(0, 70, batch)]

    class Batches:
        def __iter__(self):
            return iter(parts)

    return {"x": Batches()}


@pytest.mark.parametrize("kind", ["arrays", "iterable"])
@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize("place", [(2, 1), (2, 2), (1, 0), (2, "begin"), (0, "begin"), (1, "end")])
def test_a_run_goes_on_from_the_middle_of_an_epoch_bit_for_bit(data, kind, steps, place):
    options = {**streams(data, kind), "epochs": 5, "steps_per_epoch": steps, "verbose": 0}
    whole = network()
    history = whole.fit(**options, callbacks=callbacks()).history
    taking = Taking(*place)
    with pytest.raises(Stop):
        network().fit(**options, callbacks=[*callbacks(), taking])
    again = resumed(taking.saved, network(seed=99))
    again.fit(**options, callbacks=callbacks())
    assert again.history.history == history and again.history.epoch == whole.history.epoch
    assert again.training.position() == whole.training.position()
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))
    for one, other in zip(snapshot(whole)[3], snapshot(again)[3], strict=True):
        assert len(one) == 2 and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_file_and_a_state_are_all_that_a_run_needs(data, tmp_path, frozen):
    path = tmp_path / "run.safetensors"

    class Keeping(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.training.update == 8:
                self.model.save(path)
                self.state = self.model.training.state()

    def fit(net, *more):
        return net.fit(*data, batch_size=16, epochs=4, validation_split=0.1, callbacks=[*callbacks(), *more], verbose=0)

    keeping, whole = Keeping(), network()
    whole.layers[0].trainable = not frozen
    whole.compile(nn.Adam(1e-2, global_clipnorm=1.0), "mse", metrics=["mse"])
    history = fit(whole, keeping).history
    again = nn.load_model(path)
    again.training.restore(keeping.state)
    assert fit(again).history == history and again.training.update == whole.training.update
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))


def test_what_a_state_says(data):
    net = network()
    assert net.training.state().values["update"] == 0 and net.history is None and not net.stop_training
    taking = Taking(1, 2)
    with pytest.raises(Stop):
        net.fit(*data, batch_size=16, epochs=3, callbacks=taking, verbose=0)
    values = json.loads(taking.saved[0])
    assert {name: values[name] for name in ("number", "batch", "epoch", "row", "draw", "update", "seed")} == {
        "number": 1, "batch": 3, "epoch": 1, "row": 48, "draw": 8, "update": 8, "seed": 7,
    }  # fmt: skip
    assert values["totals"] == {"<array>": "totals"} and values["callbacks"]["History"]["epoch"] == [0]
    assert not net.training.thread and net.training.position()["epoch"] == 2  # a file's reader begins a pass


def test_states_that_fit_nothing_are_refused(data):
    net = network()
    net.fit(*data, callbacks=nn.EarlyStopping("loss"), verbose=0)
    values, arrays = net.training.state()
    listed = State({**values, "callbacks": [1]}, arrays)
    for bad in (None, 3, State({}, {}), State({**values, "row": -1}, arrays), State(values, {}), listed):
        with pytest.raises(ValueError, match=r"^restore: expected"):
            net.training.restore(bad)
    net.training.restore(State(values, arrays))
    with pytest.raises(ValueError, match="expected initial_epoch=1, where training stands, got 3"):
        net.fit(*data, epochs=5, initial_epoch=3, verbose=0)
    net.training.restore(State(values, arrays))
    with pytest.warns(nn.AdviceWarning, match="EarlyStopping"):  # its state was there, and it was not
        net.fit(*data, epochs=2, verbose=0)
    assert net.history.epoch == [0, 1]
    seen = []

    def inside(epoch, logs):
        with pytest.raises(RuntimeError, match="expected no fit to be running"):
            net.training.restore(State(values, arrays))
        seen.append(epoch)

    net.fit(*data, callbacks=nn.LambdaCallback(on_epoch_end=inside), verbose=0)
    assert seen == [0]


def test_epochs_of_some_steps_go_on_through_the_data(rng):
    """10 batches, 4 an epoch: five epochs are two passes, each sample twice, as it is shuffled in each pass."""
    x = np.arange(10.0)[:, None]
    y = np.zeros((10, 1))

    def seen(**options):
        nn.set_seed(3)
        net = nn.Sequential([nn.Input((1,)), nn.Dense(1, kernel_initializer="ones")])
        net.compile(nn.SGD(0.0), "mse")
        values, before = [], [0.0]

        def note(batch, logs):
            values.append(logs["loss"] * (batch + 1) - before[0])
            before[0] = logs["loss"] * (batch + 1)

        def begin(epoch, logs):
            before[0] = 0.0

        callback = nn.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=note)
        net.fit(x, y, batch_size=1, callbacks=callback, verbose=0, **options)
        return np.round(np.sqrt(values)).astype(int).tolist(), net.training

    parts, training = seen(steps_per_epoch=4, epochs=5)
    whole, other = seen(epochs=2)
    assert parts == whole and sorted(parts[:10]) == list(range(10)) and parts[:10] != parts[10:]
    assert (training.epoch, training.row, training.update) == (2, 0, 20) == (other.epoch, other.row, other.update)
    ordered, training = seen(steps_per_epoch=4, epochs=3, shuffle=False)
    assert ordered == [*range(10), 0, 1] and (training.epoch, training.row) == (1, 2)


def test_a_new_fit_begins_a_new_pass(data):
    net = network()
    net.fit(*data, batch_size=16, steps_per_epoch=2, verbose=0)
    assert (net.training.epoch, net.training.row) == (0, 32)
    net.fit(*data, batch_size=16, verbose=0)
    assert (net.training.epoch, net.training.row) == (2, 0)


def test_initial_epoch_counts_from_there(data):
    net = network()
    numbers = []
    note = nn.LambdaCallback(on_epoch_begin=lambda epoch, logs: numbers.append(epoch))
    net.fit(*data, epochs=4, initial_epoch=2, callbacks=note, verbose=0)
    assert numbers == [2, 3] == net.history.epoch and net.training.epoch == 2


def moments(net):
    store, slots = net.engine.claim(), net.engine.optimizer_slots()
    return {(p.name, name): np.array(store.view(flat, p)) for name, flat in slots.items() for p in net.weights}


def test_compiling_again_after_freezing_keeps_what_the_optimizer_knows(data):
    net = network()
    net.fit(*data, verbose=0)
    before, update = moments(net), net.training.update
    first = net.layers[0]
    for frozen in (True, False):
        first.trainable = not frozen
        net.compile(net.optimizer, "mse")
        assert net.training.update == update
        after = moments(net)
        assert before.keys() == after.keys() and all(np.array_equal(before[key], after[key]) for key in before)
        kernel = first.weights[0].numpy()
        net.fit(*data, verbose=0)
        assert np.array_equal(kernel, first.weights[0].numpy()) == frozen
        before, update = moments(net), net.training.update
        assert any(value.any() for value in before.values())
    net.compile(nn.Adam(1e-2), "mse")
    assert net.training.update == 0 and not any(value.any() for value in moments(net).values())


def test_freezing_continues_as_the_same_steps_by_the_other_weights(data):
    """Adam, and the moments are kept: the next step of the other weights is that of the run without freezing."""
    nets = []
    for freezes in (False, True):
        net = nn.Sequential([nn.Input((6,)), nn.Dense(4, name="a"), nn.Dense(2, name="b")])
        nn.set_seed(1)
        net.set_weights([np.full(w.shape, 0.1 * (i + 1)) for i, w in enumerate(net.weights)])
        net.compile(nn.Adam(1e-2), "mse")
        net.fit(*data, batch_size=70, epochs=3, verbose=0)
        if freezes:
            net.get_layer("a").trainable = False
            net.compile(net.optimizer, "mse")
        net.fit(*data, batch_size=70, verbose=0)
        nets.append(net.get_layer("b").get_weights())
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(*nets, strict=True))


def test_a_probe_within_an_epoch_does_not_disturb_it(data):
    x, y = data
    results = []
    for probes in (False, True):
        net = network(optimizer=nn.Adam(1e-2, global_clipnorm=0.1))
        gradients = []

        def look(batch, logs, net=net, gradients=gradients):
            before = np.array(net.engine.claim().gradients)
            net.probe(x[:8], y[:8], training=True)
            gradients.append(np.array_equal(before, net.engine.claim().gradients) and before.any())

        net.fit(x, y, batch_size=16, epochs=2, verbose=0,
                callbacks=nn.LambdaCallback(on_train_batch_end=look) if probes else None)  # fmt: skip
        results.append(net.get_weights())
        assert all(gradients) and len(gradients) == (10 if probes else 0)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_schedules_are_asked_once_for_each_step(data):
    asked = []

    def rate(step):
        asked.append(step)
        return 0.01

    net = network(optimizer=nn.SGD(rate))
    net.fit(*data, batch_size=16, epochs=2, callbacks=nn.LambdaCallback(on_train_batch_end=lambda *_: None), verbose=0)
    assert asked == list(range(10))


def test_backups_ask_no_schedule(data, tmp_path):
    asked = []

    def rate(step):
        asked.append(step)
        return 0.01

    net = network(optimizer=nn.SGD(rate))
    net.fit(*data, batch_size=16, epochs=2, callbacks=nn.BackupAndRestore(tmp_path), verbose=0)
    assert asked == list(range(10))


def test_a_schedule_that_trains_does_not_shift_the_others_steps(data):
    """As another thread might, between the question for a rate and the step: each step has the rate of its number."""
    asked = []

    def rate(step):
        asked.append(step)
        if len(asked) == 1:
            net.train_on_batch(*data)
        return 0.01

    net = network(optimizer=nn.SGD(rate))
    net.train_on_batch(*data)
    assert asked == [0, 0, 1] and net.training.update == net.training.draw == 2


def test_states_of_callbacks_come_back_as_they_were(data):
    class Keeping(nn.Callback):
        kept, got = None, None

        def get_state(self):
            return self.kept

        def set_state(self, state):
            self.got = state

    def back(kept):
        net, keeping = network(), Keeping()
        keeping.kept = kept
        net.fit(*data, verbose=0, callbacks=keeping)
        state = net.training.state()
        again, other = network(), Keeping()
        again.training.restore(State(json.loads(json.dumps(state.values)), state.arrays))
        again.fit(*data, verbose=0, epochs=2, callbacks=other)
        return other.got

    got = back({"x/y": np.ones(2), "x": {"y": np.zeros(3), "z": [np.arange(3, dtype=">i4")]}, "array": {"array": 5}})
    assert got["x/y"].tolist() == [1, 1] and got["x"]["y"].tolist() == [0, 0, 0]
    assert got["x"]["z"][0].tolist() == [0, 1, 2] and got["array"] == {"array": 5}
    with pytest.raises(TypeError, match=r"state: callbacks/Keeping/a: expected an array of numbers, got dtype <U1"):
        back({"a": np.array(["b"])})
    with pytest.raises(TypeError, match="state: callbacks/Keeping: expected keys that are strings"):
        back({1: 2.0})
