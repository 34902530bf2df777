# ruff: noqa: E501 (a table of cases with the message expected)
"""Attributes that are set later take effect or are refused; unknown ones are refused, but for users' own classes."""

import copy

import numpy as np
import pytest

import nnpy as nn

X = np.random.default_rng(0).normal(size=(16, 4)).astype("f4")
Y = X[:, :2] * 3


def network(optimizer="sgd"):
    layers = [nn.Input((4,)), nn.Dense(8, activation="relu", name="h"), nn.Dropout(0.5, name="drop"), nn.Dense(2, name="o")]
    net = nn.Sequential(layers, name="net", seed=3)
    net.compile(optimizer, "mse")
    return net


def steps(net, count, **options):
    net.fit(X[: 4 * count], Y[: 4 * count], batch_size=4, shuffle=False, verbose=0, **options)


CHANGES = {
    "rate": ({"learning_rate": 0.1}, {"learning_rate": 0.01}),
    "momentum": ({}, {"momentum": 0.9}),
    "Nesterov": ({}, {"momentum": 0.9, "nesterov": True}),
    "clipnorm": ({}, {"clipnorm": 0.01}),
    "clipvalue": ({"clipvalue": 0.5}, {"clipvalue": 1e-3}),
    "global_clipnorm": ({}, {"global_clipnorm": 0.01}),
    "no clipping": ({"global_clipnorm": 0.01}, {"global_clipnorm": None}),
    "weight_decay": ({}, {"weight_decay": 0.5}),
}


@pytest.mark.parametrize("before, later", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("within", [False, True], ids=["between fits", "in a callback"])
def test_what_is_set_on_an_optimizer_takes_effect(before, later, within):
    net, other, untouched = network(nn.SGD(**before)), network(nn.SGD(**before)), network(nn.SGD(**before))

    def change(optimizer):
        for name, value in later.items():
            setattr(optimizer, name, value)

    if within:
        end = nn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, _: batch == 1 and change(net.optimizer))
        steps(net, 4, callbacks=end)
    else:
        steps(net, 2)
        change(net.optimizer)
        net.fit(X[8:], Y[8:], batch_size=4, shuffle=False, verbose=0)
    steps(other, 2)
    weights, draw = other.get_weights(), other.training.draw
    other.compile(nn.SGD(**{**before, **later}), "mse")
    other.set_weights(weights)
    other.training.draw = draw  # the same units are dropped
    other.fit(X[8:], Y[8:], batch_size=4, shuffle=False, verbose=0)
    steps(untouched, 4)
    for a, b, c in zip(net.get_weights(), other.get_weights(), untouched.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_numbers_of_every_rule_follow():
    for made, name, value in (
        (nn.Adam(), "beta_1", 0.5), (nn.Adam(), "beta_2", 0.5), (nn.AdamW(), "epsilon", 0.1), (nn.AdamW(), "lr", 0.5),
        (nn.optimizers.Adagrad(), "epsilon", 0.5),
    ):  # fmt: skip
        setattr(made, name, value)
        wanted = type(made)(**{"learning_rate" if name == "lr" else name: value})
        np.testing.assert_array_equal(made.columns(3, 2), wanted.columns(3, 2))
        assert getattr(made, name) == value and made.get_config() == wanted.get_config()


def built():
    net = network()
    return {layer.name: layer for layer in net.layers}


REFUSED = [
    (lambda: nn.SGD(), "learnin_rate", 0.1, AttributeError, "SGD: has no attribute 'learnin_rate'; did you mean 'learning_rate'"),
    (lambda: nn.SGD(), "momentum", 2, ValueError, "SGD: expected momentum to be a finite number >= 0 and <= 1, got 2"),
    (lambda: nn.SGD(clipnorm=1.0), "clipvalue", 1.0, ValueError, "SGD: expected at most one kind of clipping"),
    (lambda: nn.SGD(), "clipnorm", "1", TypeError, "SGD: expected clipnorm to be a finite number > 0, got '1'"),
    (lambda: nn.SGD(), "rule", "adam", AttributeError, "SGD: rule cannot be set"),
    (lambda: built()["drop"], "rate", 0.1, AttributeError, "Dropout 'drop': rate cannot be set once the layer is built"),
    (lambda: built()["h"], "activation", None, AttributeError, "Dense 'h': activation cannot be set once .*set_weights brings"),
    (lambda: built()["h"], "kernel_regularizer", "l2", AttributeError, "Dense 'h': kernel_regularizer cannot be set once"),
    (lambda: built()["h"], "trainabel", False, AttributeError, "Dense 'h': .* did you mean 'trainable'"),
    (lambda: built()["h"], "trainable", "no", TypeError, "Dense 'h': expected trainable to be True or False"),
    (lambda: nn.Dense(3, name="d"), "units", -1, ValueError, "Dense 'd': expected units to be a positive integer, got -1"),
    (lambda: nn.Dense(3, name="d"), "unit", 4, AttributeError, "Dense 'd': has no attribute 'unit'; did you mean 'units'"),
    (network, "stop_trainig", True, AttributeError, "Sequential 'net': has no attribute 'stop_trainig'; did you mean 'stop_training'"),
    (network, "trainable", "net", TypeError, "Sequential 'net': expected trainable to be True or False, got 'net'"),
    (network, "optimizer", "sgd", AttributeError, "Sequential 'net': optimizer cannot be set; call compile"),
    (network, "seed", 4, AttributeError, r"Sequential 'net': seed is set when it is made: Sequential\(seed=...\)"),
    (network, "head", nn.Dense(3), AttributeError, "Sequential 'net': has no attribute 'head'"),
    (lambda: nn.losses.BinaryCrossentropy(), "from_logits", True, AttributeError, "from_logits is set when it is made; make another"),
    (lambda: nn.metrics.BinaryAccuracy(), "threshold", 0.1, AttributeError, "BinaryAccuracy: threshold is set when it is made"),
    (lambda: nn.regularizers.L2(), "l2", 0.1, AttributeError, "L2: l2 is set when it is made"),
    (lambda: nn.initializers.HeNormal(), "seeds", 1, AttributeError, "has no attribute 'seeds'"),
    (lambda: nn.EarlyStopping(), "patence", 1, AttributeError, "EarlyStopping: has no attribute 'patence'; did you mean 'patience'"),
    (lambda: nn.EarlyStopping(), "monitor", "loss", AttributeError, "EarlyStopping: monitor cannot be set"),
    (lambda: nn.ModelCheckpoint("a.safetensors"), "mode", "max", AttributeError, "ModelCheckpoint: mode is set when it is made"),
    (lambda: copy.deepcopy(nn.SGD()), "learnin_rate", 1, AttributeError, "did you mean 'learning_rate'"),
]  # fmt: skip


@pytest.mark.parametrize("make, name, value, error, text", REFUSED)
def test_refused(make, name, value, error, text):
    made = make()
    before = getattr(made, name, None)
    with pytest.raises(error, match=text):
        setattr(made, name, value)
    assert getattr(made, name, None) == before


def test_a_layer_that_is_not_built_may_change():
    layer = nn.Dense(3, activation="relu", name="d")
    layer.activation, layer.units, layer.use_bias = None, 2, False
    net = nn.Sequential([nn.Input((4,)), layer], seed=1)
    assert [weight.shape for weight in net.weights] == [(4, 2)]
    np.testing.assert_allclose(net.predict(X), X @ net.get_weights()[0], rtol=1e-5, atol=1e-6)
    assert layer.name == "d"


def test_the_accumulators_of_adagrad_begin_once():
    made = nn.optimizers.Adagrad()
    made.initial_accumulator_value = 0.5
    net = network(made)
    steps(net, 1)
    with pytest.raises(AttributeError, match="initial_accumulator_value cannot be set once training has begun"):
        made.initial_accumulator_value = 1.0


def test_users_own_classes_take_what_they_are_given():
    class Layer(nn.Dense):
        pass

    class Net(nn.Model):
        def __init__(self):
            super().__init__()
            self.first = nn.Dense(2)

        def call(self, x):
            return self.first(x)

    class _Own(nn.optimizers.SGD):
        pass

    class Watch(nn.callbacks.EarlyStopping):
        pass

    for made in (Layer(3), Net(), _Own(), Watch()):
        made.anything = 3
        made.anything += 1
        assert made.anything == 4
    own = _Own()
    own.momentum = 0.5
    assert own.rule == "momentum"


def test_a_name_in_the_place_of_trainable_is_refused():
    for make in (lambda: nn.Sequential([nn.Dense(2)], "net"), lambda: nn.Model(name="net", trainable="no")):
        with pytest.raises(TypeError, match="expected trainable to be True or False"):
            make()
