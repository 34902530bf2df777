"""No user's code runs under a lock: what losses, metrics, layers and the like do while models are made hangs nobody."""

import copy
import os
import signal
import threading

import numpy as np
import pytest

import nnpy as nn
from nnpy import locks, ops

SECONDS = 60  # after which what hangs has failed
X = np.random.default_rng(0).normal(size=(16, 4)).astype("f4")
Y = X[:, :2].copy()


def in_threads(*functions):
    """Runs them side by side; what each raised, or None."""
    raised = [None] * len(functions)

    def guarded(place):
        try:
            functions[place]()
        except BaseException as error:
            raised[place] = error

    threads = [threading.Thread(target=guarded, args=(place,), daemon=True) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "it hangs"
    return raised


class Ask:
    """A user's code that does something when it runs for the first time since it was armed."""

    def __init__(self):
        self.acts = []

    def __call__(self):
        if self.acts:
            self.acts.pop()()


class Asking(nn.Layer):
    """Its call, or its build, asks."""

    def __init__(self, ask, builds=False):
        super().__init__()
        self.ask, self.builds, self.times = ask, builds, 0

    def build(self, input_shape):
        self.times += 1
        self.kernels = [self.add_weight((input_shape[-1], 2))]
        if self.builds:
            self.ask()
        self.bias = self.add_weight((2,), "zeros")

    def call(self, x):
        if not self.builds:
            self.ask()
        return x @ self.kernels[0] + self.bias


def squared(ask):
    def loss(y_true, y_pred):
        ask()
        return ops.mean((y_true - y_pred) ** 2, axis=-1)

    return loss


class Penalty(nn.regularizers.Regularizer):
    def __init__(self, ask):
        self.ask = ask

    def penalty(self, weights):
        self.ask()
        return ops.sum(weights) * 0.0


class Bound(nn.constraints.Constraint):
    def __init__(self, ask):
        self.ask = ask

    def constrained(self, weights):
        self.ask()
        return weights * 1.0


def with_loss(ask):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
    net.compile("sgd", squared(ask))
    return net


def with_metric(ask):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
    net.compile("sgd", "mse", metrics=[squared(ask)])
    return net


def with_regularizer(ask):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2, kernel_regularizer=Penalty(ask))])
    net.compile("sgd", "mse")
    return net


def with_constraint(ask):
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2, kernel_constraint=Bound(ask))])
    net.compile("sgd", "mse")
    return net


def with_layer(ask):
    """Traced again once the length is known."""
    net = nn.Sequential([nn.Input((None, 4)), Asking(ask), nn.GlobalAveragePooling1D()])
    net.compile("sgd", "mse")
    return net


@pytest.mark.parametrize("make", [with_loss, with_metric, with_regularizer, with_constraint, with_layer])
def test_models_whose_code_predicts_with_each_other_are_made_in_two_threads(make):
    """Each thread makes a Program, in the midst of which both do what needs the other's model."""
    asks = Ask(), Ask()
    nets = [make(ask) for ask in asks]
    x = X[:, None] if make is with_layer else X
    barrier, results = threading.Barrier(2), []

    def act(other):
        barrier.wait(SECONDS)
        results.append(other.predict(x))

    for ask, other in zip(asks, nets[::-1], strict=True):
        ask.acts.append(lambda other=other: act(other))
    raised = in_threads(*(lambda net=net: net.train_on_batch(x, Y) for net in nets))
    assert raised == [None, None] and [result.shape for result in results] == [(16, 2)] * 2


@pytest.mark.parametrize("what", ["predict", "evaluate", "compile", "fit"])
def test_a_loss_waits_for_a_thread_that_uses_the_same_model(what):
    ask = Ask()
    net = with_loss(ask)
    work = {
        "predict": lambda: net.predict(X), "evaluate": lambda: net.evaluate(X, Y, verbose=0),
        "compile": lambda: net.compile("adam", "mse"), "fit": lambda: net.train_on_batch(X, Y),
    }[what]  # fmt: skip
    seen = []
    ask.acts.append(lambda: seen.append(in_threads(work)))
    before = net.get_weights()
    assert in_threads(lambda: net.train_on_batch(X, Y)) == [None] and seen == [[None]]
    assert not np.array_equal(before[0], net.get_weights()[0])
    assert net.training.update == (2 if what == "fit" else 1)


def test_compiled_by_two_threads_the_last_to_be_ready_counts():
    ask = Ask()
    net = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
    optimizer = nn.SGD(0.5)
    ask.acts.append(lambda: in_threads(lambda: net.compile("adam", "mae")))
    net.compile(optimizer, squared(ask))
    assert net.optimizer is optimizer and net.engine.settings is net.settings
    before = net.get_weights()
    net.train_on_batch(X, Y)
    expected = before[0] - 0.5 * X.T @ (X @ before[0] + before[1] - Y) / len(X)
    np.testing.assert_allclose(net.get_weights()[0], expected, rtol=1e-4, atol=1e-6)


def test_an_engine_of_settings_that_another_thread_has_replaced_is_not_kept():
    ask = Ask()
    net = nn.Sequential([nn.Dense(2)])
    net.compile("sgd", squared(ask))
    ask.acts.append(lambda: in_threads(lambda: net.compile("adam", "mae")))
    net.build((None, 4))
    assert net.engine.settings is net.settings and isinstance(net.optimizer, nn.Adam)


def test_two_threads_make_the_same_and_use_the_first_to_be_ready():
    ask, barrier = Ask(), threading.Barrier(2)
    net = with_loss(ask)
    ask.acts += [lambda: barrier.wait(SECONDS)] * 2  # both are in the midst of it
    results = []
    raised = in_threads(*[lambda: results.append(net.evaluate(X, Y, verbose=0))] * 2)
    assert raised == [None, None] and results[0] == results[1]
    assert len(net.engine._programs) == 1 and len(net.engine._objectives) == 1


def test_a_step_is_of_its_own_arrays_whoever_moves_the_weights_while_it_is_made():
    """Another model that shares them, trained in the midst of it."""
    nn.set_seed(1)
    alone = nn.Sequential([nn.Input((4,)), nn.Dense(2)])
    alone.compile(nn.SGD(0.1), "mse")
    ask = Ask()
    net = with_loss(ask)
    net.optimizer.learning_rate = 0.1
    net.set_weights(alone.get_weights())
    whole = nn.Sequential([nn.Input((4,)), nn.Dense(4), net])
    whole.compile(nn.SGD(0.0), "mse")
    ask.acts.append(lambda: whole.train_on_batch(X, Y))
    for _ in range(3):
        alone.train_on_batch(X, Y)
        net.train_on_batch(X, Y)
    for one, other in zip(alone.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_builds_that_need_each_other_are_refused_and_one_goes_through():
    """Each layer's build predicts with the model that the other layer is in, which is not built yet either."""
    asks, barrier = (Ask(), Ask()), threading.Barrier(2)
    nets = [nn.Sequential([Asking(ask, builds=True)], name=name) for ask, name in zip(asks, "ab", strict=True)]
    for ask, other in zip(asks, nets[::-1], strict=True):
        ask.acts.append(lambda other=other: (barrier.wait(SECONDS), other.predict(X)))
    raised = in_threads(*(lambda net=net: net.predict(X) for net in nets))
    (error,) = [error for error in raised if error is not None]
    assert isinstance(error, RuntimeError)
    assert "is being built by another thread, which waits for" in str(error)
    for net in nets:
        assert net.predict(X).shape == (16, 2) and len(net.weights) == 2
    assert not locks._turns and not locks._waits


def test_a_build_may_wait_for_a_thread_that_builds_another_model():
    ask, other = Ask(), nn.Sequential([nn.Dense(3)])
    net = nn.Sequential([Asking(ask, builds=True)])
    raised = []
    ask.acts.append(lambda: raised.append(in_threads(lambda: other.predict(X))))
    assert net.predict(X).shape == (16, 2) and raised == [[None]] and len(other.weights) == 2


def test_a_layer_that_another_thread_is_building_is_built_once():
    """By ``build`` itself, which is not taken for ``super().build``."""
    ask, done = Ask(), threading.Event()
    layer = Asking(ask, builds=True)

    def build():
        layer.build((None, 4))
        done.set()

    thread = threading.Thread(target=build, daemon=True)
    ask.acts.append(lambda: (thread.start(), done.wait(0.2)))  # it cannot be done before this one is
    layer.build((None, 4))
    thread.join(SECONDS)
    assert not thread.is_alive() and done.is_set() and layer.times == 1


def test_a_layer_gets_attributes_while_its_layers_are_looked_for():
    """As from a thread that builds it: here by what the walk asks of the values and of the keys."""

    class Held:
        @property
        def __class__(self):  # isinstance asks
            setattr(net, f"more_{len(vars(net))}", 1)
            return Held

    class Key:
        def __str__(self):
            net.branches[len(net.branches)] = None
            return "key"

    net = Asking(Ask())
    net.held, net.branches, net.inner = Held(), {Key(): nn.Dense(1), 1: nn.Dense(2)}, nn.Dense(3)
    assert net.sublayers() == [*list(net.branches.values())[:2], net.inner] and len(net.branches) == 3


@pytest.mark.parametrize("use", ["predict", "build", "call"])
def test_a_layer_is_not_used_in_the_midst_of_its_build(use):
    """By a signal handler, say, whose use is no ``super().build``: what it interrupts goes on as if it had not come."""

    class More(Asking):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight((2,), "ones")

    def made(ask):
        return nn.Sequential([More(ask, builds=True)], seed=1)

    ask, refused = Ask(), []
    net, alone = made(ask), made(Ask())
    layer = net.layers[0]
    shape, given = (None, 4), nn.Input((4,))
    uses = {"predict": lambda: net.predict(X), "build": lambda: layer.build(shape), "call": lambda: layer(given)}

    def handler():
        with pytest.raises(RuntimeError, match="is being built by this thread") as raised:
            uses[use]()
        refused.append(str(raised.value))

    ask.acts.append(handler)
    assert np.array_equal(net.predict(X), alone.predict(X)) and len(refused) == 1
    assert [w.shape for w in net.weights] == [(4, 2), (2,), (2,)] and layer.times == 1


def test_a_copy_of_a_layer_in_the_midst_of_its_build_is_not_built():
    ask, copies = Ask(), []
    layer = Asking(ask, builds=True)
    ask.acts.append(lambda: copies.extend([copy.copy(layer), copy.deepcopy(layer)]))
    layer.build((None, 4))
    for each in copies:
        assert not each.built and not each.weights
        each.build((None, 4))
        assert len(each.weights) == len(layer.weights) == 2


def test_a_build_that_fails_lets_another_thread_build():
    ask, entered = Ask(), threading.Event()
    net = nn.Sequential([Asking(ask, builds=True)])

    def fail():
        entered.set()
        while not locks._waits:  # the other thread has come
            pass
        raise ValueError("not this time")

    ask.acts.append(fail)

    def later():
        entered.wait(SECONDS)
        assert net.predict(X).shape == (16, 2)

    first, second = in_threads(lambda: net.predict(X), later)
    assert isinstance(first, ValueError) and second is None and len(net.weights) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_builds_what_another_thread_was_building():
    ask, entered, over = Ask(), threading.Event(), threading.Event()
    net = nn.Sequential([Asking(ask, builds=True)])
    ask.acts.append(lambda: (entered.set(), over.wait(SECONDS)))
    thread = threading.Thread(target=net.predict, args=(X,), daemon=True)
    thread.start()
    assert entered.wait(SECONDS)
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)  # ends it if it hangs
        os._exit(0 if net.predict(X).shape == (16, 2) and len(net.weights) == 2 else 1)
    over.set()
    thread.join(SECONDS)
    assert os.waitpid(child, 0)[1] == 0 and len(net.weights) == 2
