"""What is trainable when a step is asked for is what it trains, whenever that was said."""

import copy
import warnings

import numpy as np
import pytest

import nnpy as nn
from nnpy.training import programs
from nnpy.training.watch import Watch

X = np.random.default_rng(0).normal(size=(16, 4)).astype("f4")
Y = X[:, :2] * 3


def network(optimizer="adam"):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(8, name="h"), nn.Dense(2, name="o")], name="net", seed=3)
    net.compile(optimizer, "mse")
    return net


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def moments(net):
    store, slots = net.engine.claim(), net.engine.optimizer_slots()
    return {(p.name, name): np.array(store.view(flat, p)) for name, flat in slots.items() for p in net.weights}


def fit(net):
    net.fit(X, Y, batch_size=8, verbose=0)


def train_on_batch(net):
    net.train_on_batch(X, Y)


@pytest.fixture
def made(monkeypatch):
    """How many Programs were made, as a list."""
    steps = []
    compile_step = programs.compile_step
    monkeypatch.setattr(programs, "compile_step", lambda *a, **k: steps.append(1) or compile_step(*a, **k))
    return steps


@pytest.mark.parametrize("train", [fit, train_on_batch])
@pytest.mark.parametrize("trained", [False, True], ids=["at first", "trained before"])
def test_a_layer_is_frozen_and_unfrozen_without_compiling_again(train, trained):
    net = network()
    if trained:
        train(net)
    first, last = net.layers
    for frozen in (True, False, True):
        first.trainable = not frozen
        before = [layer.get_weights() for layer in (first, last)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(net)
        assert same(before[0], first.get_weights()) == frozen and not same(before[1], last.get_weights())


def test_a_weight_is_frozen_on_its_own():
    net = network()
    fit(net)
    kernel, bias = net.layers[0].weights
    before = kernel.numpy(), bias.numpy()
    bias.trainable = False
    fit(net)
    assert np.array_equal(before[1], bias.numpy()) and not np.array_equal(before[0], kernel.numpy())
    with pytest.raises(TypeError, match="h/bias: expected trainable to be True or False, got 'no'"):
        bias.trainable = "no"


def test_what_the_optimizer_knows_of_frozen_weights_stays_and_states_are_compiled_once(made):
    net = network()
    fit(net)
    first = net.layers[0]
    for _ in range(5):
        first.trainable = False
        before = moments(net)
        fit(net)
        after = moments(net)
        for (name, slot), value in after.items():
            assert np.array_equal(value, before[name, slot]) == name.startswith("h/")
        first.trainable = True
        fit(net)
        assert not np.array_equal(after["h/kernel", "velocity"], moments(net)["h/kernel", "velocity"])
    assert len(made) == 2


def test_frozen_weights_are_as_if_they_were_constants():
    """The steps of the others are those of a network that never had them."""
    net = network(nn.Adam(1e-2, global_clipnorm=0.5))
    fit(net)
    alone = nn.Sequential([nn.Input((8,)), nn.Dense(2)], seed=3)
    alone.compile(nn.Adam(1e-2, global_clipnorm=0.5), "mse")
    alone.set_weights(net.layers[1].get_weights())
    known = [value for (name, _), value in moments(net).items() if name.startswith("o/")]
    store, slots = alone.engine.claim(), alone.engine.optimizer_slots()
    places = [store.view(flat, p) for flat in slots.values() for p in alone.weights]
    for place, value in zip(places, known, strict=True):
        place[...] = value
    alone.training.update = net.training.update
    hidden = nn.Model(net.inputs, net.layers[0].output).predict(X)
    net.layers[0].trainable = False
    net.train_on_batch(X, Y)
    alone.train_on_batch(hidden, Y)
    for one, other in zip(net.layers[1].get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_adversarial_training(rng, made):
    """Parts that take turns: the judge is trained on its own, and frozen inside of the whole."""
    judge = nn.Sequential([nn.Input((2,)), nn.Dense(1, name="judge")])
    judge.compile("adam", "mse")
    maker = nn.Sequential([nn.Input((3,)), nn.Dense(2, name="maker")])
    both = nn.Sequential([nn.Input((3,)), maker, judge])
    both.compile("adam", "mse")
    noise, real, ones = rng.normal(size=(16, 3)), rng.normal(size=(16, 2)), np.ones((16, 1))
    for _ in range(4):
        before = judge.get_weights(), maker.get_weights()
        judge.trainable = True
        judge.train_on_batch(real, ones)
        middle = judge.get_weights()
        assert not same(before[0], middle) and same(before[1], maker.get_weights())
        judge.trainable = False
        both.train_on_batch(noise, ones)
        assert same(middle, judge.get_weights()) and not same(before[1], maker.get_weights())
    assert len(made) == 2 and judge.training.update == 4
    with pytest.warns(nn.AdviceWarning, match="Sequential 'sequential.*': all weights are frozen, none is trainable"):
        judge.train_on_batch(real, ones)
    assert same(middle, judge.get_weights())


class Unfreeze(nn.Callback):
    def __init__(self, layer, hook, when):
        super().__init__()
        self.layer, self.when, self.kernels = layer, when, []
        setattr(self, hook, self.act)

    def act(self, number, logs=None):
        self.kernels.append(self.layer.weights[0].numpy())
        if number == self.when:
            self.layer.trainable = True


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_epoch_begin", "on_train_batch_end"])
def test_a_callback_unfreezes_from_the_next_step_on(hook):
    net = network()
    net.layers[0].trainable = False
    calls = Unfreeze(net.layers[0], hook, 2)
    size, epochs = (2, 1) if "batch" in hook else (16, 6)
    net.fit(X, Y, batch_size=size, epochs=epochs, callbacks=calls, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(calls.kernels, calls.kernels[1:], strict=False)]
    assert changed[:2] == [False] * 2 and all(changed[2:]) and len(changed) >= 5


def test_normalization_is_frozen_from_the_next_step_on(rng):
    layer = nn.BatchNormalization()
    net = nn.Sequential([nn.Input((4,)), layer, nn.Dense(2)])
    net.compile("sgd", "mse")
    for frozen in (False, True, False):
        layer.trainable = not frozen
        moving = layer.moving_mean.numpy()
        net.fit(X + 3, Y, verbose=0)
        assert np.array_equal(moving, layer.moving_mean.numpy()) == frozen


def test_a_prediction_by_the_statistics_of_its_batch_follows_too():
    """``training=True``, which a frozen layer does not heed."""
    layer = nn.BatchNormalization()
    inputs = nn.Input((4,))
    net = nn.Model(inputs, layer(inputs, training=True))
    for _ in range(2):
        for frozen in (False, True):
            layer.trainable = not frozen
            for _ in range(3):  # the short way too
                mean, variance = X.mean(0), X.var(0)
                if frozen:
                    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
                expected = (X - mean) / np.sqrt(variance + 1e-3)
                np.testing.assert_allclose(net.predict(X), expected, rtol=1e-4, atol=1e-5)


def test_steps_do_not_look_at_the_layers_while_nothing_changes():
    class Counted(list):
        seen = 0

        def __iter__(self):
            self.seen += 1
            return super().__iter__()

    net = network()
    net.train_on_batch(X, Y)
    net.predict(X)
    net.engine._freezable = looked = Counted(net.engine._freezable)
    for _ in range(3):
        net.train_on_batch(X, Y)
        net.predict(X)
    assert looked.seen == 0
    net.layers[0].trainable = True  # as it was
    net.train_on_batch(X, Y)
    assert looked.seen == 0
    nn.Dense(2).trainable = False  # anybody's
    for _ in range(3):
        net.train_on_batch(X, Y)
        net.predict(X)
    assert looked.seen == 1


def test_files_hold_what_the_optimizer_knows_of_weights_that_were_trained(tmp_path):
    import safetensors

    net = network()
    net.layers[0].trainable = False
    fit(net)
    net.layers[0].trainable = True
    path = net.save(tmp_path / "net.safetensors")
    with safetensors.safe_open(path, framework="np") as file:
        slots = [name for name in file.keys() if name.startswith("/optimizer/")]  # noqa: SIM118
    assert slots and all("/o/" in name for name in slots)
    copies = [nn.load_model(path), copy.deepcopy(net)]
    kernel = net.layers[0].get_weights()[0]
    for each in (net, *copies):
        assert each.layers[0].trainable
        fit(each)
        assert same(net.get_weights(), each.get_weights())
    assert not np.array_equal(kernel, net.layers[0].get_weights()[0])
    net.layers[0].trainable = False  # trained by now
    again = copy.deepcopy(net)
    again.layers[0].trainable = net.layers[0].trainable = True
    fit(net), fit(again)
    assert same(net.get_weights(), again.get_weights())


def test_steps_from_before_a_change_are_not_done_again_to_find_a_lost_loss():
    """They would be done with what is trainable by now."""
    net = network()
    fit(net)
    watch, net.engine.next_copy = Watch(net), 0.0
    watch.begin()
    assert watch._valid
    net.engine.next_copy = np.inf
    watch.begin()
    assert watch._valid
    net.layers[0].trainable = False
    watch.begin()
    assert not watch._valid


def test_averages_of_weights_that_were_frozen_at_first_begin_with_what_they_are_then():
    net = network(nn.SGD(0.0, use_ema=True, ema_momentum=0.5))
    net.layers[0].trainable = False
    fit(net)
    weights = [w + 1 for w in net.layers[0].get_weights()]
    net.layers[0].set_weights(weights)
    net.layers[0].trainable = True
    fit(net)  # which ends with the averages
    for one, other in zip(net.layers[0].get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    net.layers[0].trainable = False
    net.layers[0].set_weights([w + 1 for w in weights])
    fit(net)
    for one, other in zip(net.layers[0].get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other + 1)


@pytest.mark.parametrize("was_frozen", [False, True])
def test_a_step_during_whose_making_a_layer_is_frozen_or_unfrozen_is_not_kept_for_what_was_before(was_frozen):
    """By a user's loss here; other threads may."""
    acts = []

    def loss(y_true, y_pred):
        if acts:
            acts.pop()()
        return nn.ops.mean((y_true - y_pred) ** 2, axis=-1)

    net = network("sgd")
    net.compile("sgd", loss)
    first = net.layers[0]
    first.trainable = not was_frozen
    acts.append(lambda: setattr(first, "trainable", was_frozen))
    for frozen in (not was_frozen, was_frozen, not was_frozen):
        before = first.get_weights()
        net.train_on_batch(X, Y)
        assert same(before, first.get_weights()) == frozen
        first.trainable = frozen


@pytest.mark.parametrize("mode", ["train", "predict"])
def test_normalization_that_is_frozen_while_a_program_is_specialised(mode, monkeypatch):
    """By another thread."""
    layer = nn.BatchNormalization()
    inputs = nn.Input((4,))
    net = nn.Model(inputs, layer(inputs, training=True))
    net.compile("sgd", "mse")
    acts = [lambda: setattr(layer, "trainable", False), lambda: setattr(layer, "trainable", True)]

    def specialise(roots, training):
        if acts:
            acts.pop(0)()  # frozen for it, and no more
            made = specialise_(roots, training)
            acts.pop(0)()
            return made
        return specialise_(roots, training)

    specialise_ = programs.specialise
    monkeypatch.setattr(programs, "specialise", specialise)
    before = layer.moving_mean.numpy()
    if mode == "train":
        net.train_on_batch(X + 3, X)
        assert not np.array_equal(before, layer.moving_mean.numpy())
    else:
        np.testing.assert_allclose(net.predict(X), (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3), rtol=1e-4, atol=1e-5)
    assert not acts


def test_weights_that_are_averages_are_swapped_if_the_step_trains_them_whatever_the_schedule_has_frozen():
    """A rate may be asked for once the step is made."""
    net = network()

    def rate(step):
        if step == 3:
            net.layers[0].trainable = False
        return 0.1

    net.compile(nn.ScheduleFreeAdamW(rate), "mse")
    for _ in range(3):
        net.train_on_batch(X, Y)
    before, store, slots = net.layers[0].get_weights(), net.engine.claim(), net.engine.optimizer_slots()
    net.train_on_batch(X, Y)
    assert not net.layers[0].trainable and not same(before, net.layers[0].get_weights())
    for weight in net.layers[0].weights:
        y, z = (store.view(slots[name], weight) for name in ("taken", "fast"))
        np.testing.assert_allclose(weight.value, (y - 0.1 * z) / 0.9, rtol=1e-5, atol=1e-6)
