"""Structures of models: names, places of weights, depth, sharing, sizes that differ, seeds, threads."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from running import value

import nnpy as nn
from nnpy import layers, ops, structure
from nnpy.layers import reset_names
from nnpy.structure import weight_names

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def run_at_once(threads):
    """All of them, taking turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)


def names(model):
    return list(weight_names(model).values())


# names


def test_automatic_names_that_clash_get_a_number(tmp_path):
    reset_names()
    nn.Sequential([nn.Input((4,)), nn.Dense(4), nn.Dense(4)]).save(tmp_path / "a.safetensors")
    one, two = (nn.load_model(tmp_path / "a.safetensors") for _ in range(2))
    assert one.name == two.name
    source = nn.Input((4,))
    reset_names()
    net = nn.Model(source, nn.Dense(4)(two(one(source))))
    assert [net.structure.names[layer] for layer in net.layers[1:3]] == ["sequential", "sequential_1"]
    assert net.get_layer("sequential_1") is two and net.get_layer("dense").units == 4
    assert net.output_names == ["dense"]
    text = []
    net.summary(print_fn=text.append)
    assert "sequential_1 (Sequential)" in text[0]
    one.add(nn.Dense(3))  # named "dense" too
    assert [one.structure.names[layer] for layer in one.layers] == ["dense", "dense_1", "dense_2"]
    assert one.get_layer(index=2).units == 3 and one.predict(X).shape == (6, 3)
    mine = nn.Sequential([nn.Input((4,)), nn.Dense(2), nn.Dense(2, name="dense_9")])
    assert mine.get_layer("dense_9") is mine.layers[1]


def test_names_given_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two named 'd'; give one another name="):
        nn.Sequential([nn.Dense(2, name="d"), nn.Dense(2, name="d")])
    nn.Sequential([nn.Input((4,)), nn.Dense(4, name="d")]).save(tmp_path / "a.safetensors")
    again = nn.load_model(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="two named 'd'"):
        again.add(nn.Dense(4, name="d"))


def test_a_given_name_wins_over_an_automatic_one():
    reset_names()
    automatic = nn.Dense(4)
    net = nn.Sequential([nn.Input((4,)), automatic, nn.Dense(4, name="dense")])
    assert net.get_layer("dense") is net.layers[1] and net.get_layer("dense_1") is automatic


def test_places_of_weights_do_not_depend_on_what_was_made_before():
    def make():
        inner = nn.Sequential([nn.Dense(4), nn.Dense(4, name="mine"), layers.Residual([nn.Dense(4), nn.Dense(4)])])
        return nn.Sequential([nn.Input((4,)), nn.Dense(4), inner, nn.Dense(4)])

    first, second = make(), make()
    assert first.weights[0].name != second.weights[0].name
    assert names(first) == names(second) == [
        f"{path}/{weight}"
        for path in (
            "dense", "sequential/dense", "sequential/mine", "sequential/residual/layers.0",
            "sequential/residual/layers.1", "dense_1",
        )
        for weight in ("kernel", "bias")
    ]  # fmt: skip
    assert list(weight_names(first)) == first.weights


def test_two_weights_of_one_name():
    class Twice(nn.Layer):
        def build(self, shape):
            self.a, self.b = self.add_weight((4,), "ones", "w"), self.add_weight((4,), "zeros", "w")

        def call(self, x):
            return ops.add(ops.add(x, self.a), self.b)

    assert names(nn.Sequential([nn.Input((4,)), Twice(name="t")])) == ["t/w", "t/w:1"]


def test_threads_that_build_models_at_once_do_not_swap_names():
    """Scopes and the model's own seeds are the thread's own."""
    wrong, values, start = [], {}, threading.Barrier(4)

    def build(number):
        start.wait()
        for _ in range(40):
            source = nn.Input((4,))
            tensor = source
            for depth in range(5):
                layer = nn.Dense(4, name=f"t{number}_{depth}")
                tensor = layer(tensor)
                if tensor.node.scope != layer.name or any(not w.name.startswith(layer.name) for w in layer.weights):
                    wrong.append(tensor.node.scope)
            net = nn.Sequential([nn.Input((4,)), nn.Dense(4), nn.Dense(4)], seed=number)
            values.setdefault(number, set()).add(b"".join(w.tobytes() for w in net.get_weights()))

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    run_at_once(threads)
    assert wrong == []
    assert [len(values[number]) for number in range(4)] == [1] * 4 and len(set().union(*values.values())) == 4


def test_automatic_names_of_threads_differ():
    found = []
    threads = [threading.Thread(target=lambda: found.extend(nn.Dense(1).name for _ in range(200))) for _ in range(4)]
    run_at_once(threads)
    assert len(set(found)) == 800


# seeds


def test_a_model_has_its_own_seed(rng):
    def make(own, **options):
        net = nn.Sequential([nn.Input((4,)), nn.Dense(8), nn.Dropout(0.5), nn.Dense(1)], seed=own)
        net.compile("sgd", "mse", **options)
        return net

    nn.set_seed(0)
    before = nn.Sequential([nn.Input((4,)), nn.Dense(3)]).get_weights()[0]
    nn.set_seed(0)
    one, other, third = make(5), make(5), make(6)
    after = nn.Sequential([nn.Input((4,)), nn.Dense(3)]).get_weights()[0]
    assert np.array_equal(before, after)  # they drew nothing from the common seed
    x, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 1))
    assert np.array_equal(one.get_weights()[0], other.get_weights()[0])
    assert not np.array_equal(one.get_weights()[0], third.get_weights()[0])
    nn.set_seed(3)
    for net in (one, other):
        net.fit(x, y, epochs=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert one.settings.seed == 5 and make(5, seed=9).settings.seed == 9 and make(None, seed=7).settings.seed == 7
    assert make(None).settings.seed == 3
    nn.set_seed(0)
    lazy, built = nn.Sequential([nn.Dense(8), nn.Dense(1)], seed=5), one.get_config()
    lazy.build((None, 4))
    fresh = nn.Sequential([nn.Input((4,)), nn.Dense(8), nn.Dense(1)], seed=5)
    assert np.array_equal(lazy.get_weights()[0], fresh.get_weights()[0]) and built["seed"] == 5
    with pytest.raises(ValueError, match=r"Sequential .*: expected seed to be an integer >= 0, got -1"):
        make(-1)
    with pytest.raises(TypeError, match=r"compile: expected seed to be an integer"):
        make(1, seed="x")


def test_the_seed_of_code(rng):
    class Coded(nn.Model):
        def __init__(self, seed):
            super().__init__(seed=seed)
            self.out = nn.Dense(2)

        def call(self, x):
            return self.out(x)

    weights = [(net := Coded(seed)).predict(X) is not None and net.get_weights()[0] for seed in (4, 4, 5)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


# depth


def nested(depth, lazily):
    net = nn.Sequential([nn.Dense(4, name="core")] if lazily else [nn.Input((4,)), nn.Dense(4, name="core")])
    for _ in range(depth):
        net = nn.Sequential([net] if lazily else [nn.Input((4,)), net])
    return net


def test_models_nested_a_thousand_deep(tmp_path):
    net = nested(1000, True)
    net.build((None, 4))
    assert len(net.walk()) == 1000 + 2 and len(net.weights) == 2 and net.count_params() == 20
    net.trainable = False
    assert net.trainable_weights == [] and not net.layers[0].layers[0].trainable
    net.trainable = True
    text = []
    net.summary(print_fn=text.append)
    assert "Parameters: 20" in text[0]
    y = net(nn.Input((4,)))
    assert y.node.scope.count("/") == 1001
    net.compile("adam", "mse")
    net.fit(X, X, verbose=0)
    assert names(net) == ["sequential/" * 1000 + "core/kernel", "sequential/" * 1000 + "core/bias"]
    net.save(tmp_path / "deep.safetensors")
    again = nn.load_model(tmp_path / "deep.safetensors")
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def functional(depth, make):
    """Models, each of which calls the one before."""
    source = nn.Input((4,))
    net = nn.Model(source, make(source))
    for _ in range(depth):
        source = nn.Input((4,))
        net = nn.Model(source, net(source))
    return net


def test_functional_models_nested_a_thousand_deep(tmp_path):
    net = functional(1000, nn.Dense(4))
    assert len(net.walk()) == 2 * 1000 + 3 and len(net.weights) == 2
    net.compile("sgd", "mse")
    net.fit(X, X, verbose=0)
    kernel, bias = net.get_weights()
    np.testing.assert_allclose(net.predict(X), X @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert net.outputs[0].node.scope.count("/") == 1000
    again = nn.models.clone_model(net)
    again.set_weights(net.get_weights())
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


class Adds(nn.Layer):
    """Adds to the loss, and tells whether it trains."""

    def call(self, x, training=None):
        self.add_loss(nn.ops.square(x)[:, 0])
        return x * (2.0 if training else 3.0)


DEEP = {
    "dense": lambda: nn.Dense(4, "tanh"),
    "dropout": lambda: nn.Sequential([nn.Dropout(0.4, seed=3), nn.Dense(4)]),
    "statistics": lambda: nn.BatchNormalization(momentum=0.5),
    "activity": lambda: nn.Dense(4, activity_regularizer="l2"),
    "own": Adds,
}


@pytest.mark.parametrize("name", DEEP)
def test_models_nested_deep_do_as_those_that_are_not(name):
    """Whatever may be left out of their graphs until they are compiled; beside outputs, layers leave losses, effects
    and masks, and ask whether they train."""
    nets = [functional(depth, DEEP[name]()) for depth in (0, 20)]
    nets[1].set_weights(nets[0].get_weights())
    results = []
    for net in nets:
        source = nn.Input((4,))
        told = nn.Model(source, net(source, training=True))
        joined = nn.Model(source, nn.ops.relu(net(source)) + net(nn.Dense(4, kernel_initializer="identity")(source)))
        net.compile(nn.SGD(0.1), "mse", seed=7)
        history = net.fit(X, X[:, ::-1].copy(), epochs=3, batch_size=2, shuffle=False, verbose=0).history["loss"]
        outputs = [net.predict(X), joined.predict(X), *([] if name == "dropout" else [told.predict(X)])]
        results.append([history, *net.get_weights(), *outputs])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_models_nested_deep_give_is_told_before_they_are_compiled():
    """Sizes that are known now, indices."""

    def deep(source, make):
        net = nn.Model(source, make(source))
        for _ in range(20):
            again = nn.Input(source.shape[1:])
            net = nn.Model(again, net(again))
        return net

    net = deep(nn.Input((None, 4)), nn.Dense(2))
    assert net(nn.Input((5, 4))).shape == (None, 5, 2) and net(nn.Input((None, 4))).is_open
    assert net.predict(np.ones((2, 3, 4))).shape == (2, 3, 2)
    places = deep(nn.Input((4,)), lambda source: nn.ops.argmax(source, -1))
    assert places(nn.Input((4,))).dtype == "int32" and places.predict(X).tolist() == X.argmax(-1).tolist()


def test_building_models_nested_deep_takes_time_in_proportion():
    """Calls of Python functions are counted, which are the same however busy the machine is."""
    count = [0]

    def see(frame, event, argument):
        count[0] += event == "call"

    def build(depth):
        count[0] = 0
        sys.setprofile(see)
        try:
            functional(depth, nn.Dense(4))
        finally:
            sys.setprofile(None)
        return count[0]

    build(10)
    assert build(200) < 2.5 * build(100)


def test_an_error_deep_inside_is_that_of_the_layer():
    class Bad(nn.Layer):
        def call(self, x):
            raise RuntimeError("inside")

    net = nn.Sequential([Bad()])
    for _ in range(300):
        net = nn.Sequential([net])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"):
            net.build((None, 4))
    assert nn.Dense(2, name="after")(nn.Input((4,))).node.scope == "after"


# sharing


class Encoder(nn.Layer):
    """A user's layer with layers from everywhere."""

    def __init__(self, units=4, name=None):
        super().__init__(name=name)
        self.units = units
        self.held = nn.Dense(units)
        self.many = {"list": [nn.Dense(units), (nn.Dense(units),)]}

    def build(self, input_shape):
        self.built_here = nn.Dense(self.units)

    def call(self, x):
        if not hasattr(self, "called_here"):
            self.called_here = nn.Dense(self.units)
        for layer in (self.held, *self.many["list"][:1], *self.many["list"][1], self.built_here, self.called_here):
            x = layer(x)
        return x


def test_layers_of_layers_are_found_wherever_they_are():
    net = nn.Sequential([nn.Input((4,)), Encoder()])
    assert len(net.weights) == 10 and len(set(names(net))) == 10
    source = nn.Input((4,))
    assert len(nn.Model(source, net(source)).weights) == 10


def test_a_layer_made_in_call_and_kept_nowhere():
    class Careless(nn.Layer):
        def call(self, x):
            return nn.Dense(3)(x)

    source = nn.Input((4,))
    layer = Careless(name="careless")
    net = nn.Model(source, layer(source))
    assert len(net.weights) == 2 and names(net) == ["careless/call.0/kernel", "careless/call.0/bias"]
    with pytest.raises(ValueError, match=r"Careless 'careless': makes Dense 'dense.*' anew in each call.*attribute"):
        layer(source)

    class Coded(nn.Model):
        def call(self, x):
            return nn.Dense(3)(nn.Dense(4)(x))

    coded = Coded()
    assert coded.predict(X).shape == (6, 3) and len(coded.weights) == 4


class Tied(nn.Layer):
    """Reads another layer's kernel."""

    def __init__(self, other, name=None):
        super().__init__(name=name)
        self.other = other

    def call(self, x):
        return ops.matmul(x, self.other.kernel)


def test_a_weight_of_another_layer(tmp_path):
    source = nn.Input((4,))
    first = nn.Dense(4, use_bias=False, name="first")
    hidden = first(source)
    net = nn.Model(source, Tied(first, name="tied")(hidden))
    assert names(net) == ["first/kernel"]
    kernel = first.kernel.numpy()
    np.testing.assert_allclose(net.predict(X), X @ kernel @ kernel, rtol=1e-4, atol=1e-5)
    net.compile(nn.SGD(0.1), "mse")
    net.train_on_batch(X, X)
    target = (X.astype("f8") @ kernel @ kernel - X) * 2 / X.size
    slope = X.T @ (target @ kernel.T) + (X @ kernel).T @ target
    np.testing.assert_allclose(first.kernel.numpy(), kernel - 0.1 * slope, rtol=1e-4, atol=1e-5)
    net.save(tmp_path / "tied.safetensors")
    again = nn.load_model(tmp_path / "tied.safetensors")
    assert names(again) == ["first/kernel"] and again.get_layer("tied").other is again.get_layer("first")
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_a_weight_between_layers(tmp_path):
    source = nn.Input((4,))
    first = nn.Dense(4, use_bias=False, name="first")
    net = nn.Model(source, ops.matmul(first(source), first.kernel))
    assert names(net) == ["first/kernel"]
    net.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(nn.load_model(tmp_path / "net.safetensors").predict(X), net.predict(X))
    outside = nn.Dense(4, use_bias=False, name="outside")
    outside.build((None, 4))
    net = nn.Model(source, ops.matmul(source, outside.kernel))
    assert names(net) == ["outside/kernel"] and net.weights == outside.weights


def test_kernels_tied_by_reference(tmp_path):
    source = nn.Input((4,))
    one, two, three = (nn.Dense(4, name=name) for name in ("one", "two", "three"))
    hidden = one(source)
    two.build((None, 4))
    two.kernel = one.kernel
    three.kernel = one.kernel  # before it is built
    net = nn.Model(source, three(two(hidden)))
    assert one.kernel is two.kernel is three.kernel and len(net.weights) == 4
    assert names(net) == ["one/kernel", "one/bias", "two/bias", "three/bias"]
    net.compile("adam", "mse")
    net.fit(X, X, epochs=2, verbose=0)
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    assert names(again) == names(net)
    net.fit(X, X, verbose=0), again.fit(X, X, verbose=0)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    with pytest.raises(ValueError, match="kernel cannot become another weight once the layer is called"):
        two.kernel = nn.Parameter(np.zeros((4, 4), "f4"), "new")
    wide = nn.Dense(5, name="wide")
    wide.build((None, 4))
    with pytest.raises(ValueError, match=r"Dense 'wide': cannot tie kernel of shape \(4, 5\) to one/kernel of shape"):
        wide.kernel = one.kernel


def test_a_layer_in_two_models_of_one_is_one_in_the_file(tmp_path):
    shared = nn.Dense(4, name="shared")
    parts = [nn.Sequential([nn.Input((4,)), shared, nn.Dense(4)], name=name) for name in ("left", "right")]
    source = nn.Input((4,))
    net = nn.Model(source, parts[0](source) + parts[1](source))
    assert len(net.weights) == 6
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    assert len(again.weights) == 6
    assert again.get_layer("left").get_layer("shared") is again.get_layer("right").get_layer("shared")
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_outputs_of_inner_layers():
    base = nn.Sequential([nn.Input((4,)), nn.Dense(3, name="x"), nn.Dense(2)])
    features = nn.Model(base.input, base.get_layer("x").output)
    kernel, bias = base.get_layer("x").get_weights()
    np.testing.assert_allclose(features.predict(X), X @ kernel + bias, rtol=1e-5, atol=1e-6)


# sizes that differ


def test_steps_of_any_number():
    source = nn.Input((None, 4), name="steps")
    assert source.shape == (None, None, 4)
    net = nn.Model(source, nn.Activation("linear")(nn.Add()([nn.Dense(3, "relu")(source), nn.Dense(3)(source)])))
    assert net.output_shape == (None, None, 3)
    text = []
    net.summary(print_fn=text.append)
    assert "(None, None, 4)" in text[0] and "(None, None, 3)" in text[0]
    data = np.random.default_rng(3).standard_normal((5, 7, 4)).astype("f4")
    fixed = net.structure.with_shapes([(None, 7, 4)])
    assert fixed is net.structure.with_shapes([(None, 7, 4)]) and fixed.outputs[0].shape == (None, 7, 3)
    assert fixed.layers == net.structure.layers and net.structure.with_shapes([(None, None, 4)]) is net.structure
    k1, b1, k2, b2 = net.get_weights()
    expected = np.maximum(data @ k1 + b1, 0) + data @ k2 + b2
    np.testing.assert_allclose(value(fixed.outputs[0], {fixed.inputs[0]: data}), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected input 'steps' of shape \(None, None, 4\), got \(None, 7, 5\)"):
        net.structure.with_shapes([(None, 7, 5)])
    for length in range(1, 40):
        net.structure.with_shapes([(None, length, 4)])
    assert len(net.structure._by_shapes) == structure._MOST_SHAPES
    inner = net(nn.Input((9, 4)))
    assert inner.shape == (None, 9, 3)
    with pytest.raises(ValueError, match="expected input 'steps' of shape"):
        net(nn.Input((9, 5)))


def test_steps_of_any_number_through_code_that_asks():
    class Coded(nn.Model):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(3)

        def call(self, x, training=False):
            self.lengths = [*getattr(self, "lengths", []), (x.shape[1], training)]
            return self.dense(x) * (2.0 if training else 1.0)

    net = Coded()
    net.build((None, None, 4))
    fixed = net.structure.with_shapes([(None, 5, 4)])
    assert fixed.for_training.outputs[0].shape == (None, 5, 3) and fixed.for_training.inputs == fixed.inputs
    assert net.lengths == [(None, False), (None, True), (5, False), (5, True)]


class Statistics(nn.Layer):
    """Computes with the number of steps; reads a weight of another layer; adds a loss."""

    def __init__(self, other):
        super().__init__()
        self.scale = other.kernel

    def call(self, x, training=False):
        steps = x.shape[1]
        y = x * (1.0 / steps)
        self.add_loss(nn.losses.MeanSquaredError()(y, x))
        return {"y": ops.matmul(y, self.scale), "doubled": nn.Concatenate(1)([y, y])}


def test_layers_that_compute_with_sizes_on_inputs_of_any_size():
    other = nn.Dense(4, use_bias=False, name="other")
    other.build((None, 4))
    source = nn.Input((None, 4))
    hidden = nn.Conv1D(4, 3, padding="same", name="conv")(source)
    result = Statistics(other)(hidden)
    assert result["y"].shape == result["doubled"].shape == (None, None, 4)
    pooled = nn.GlobalAveragePooling1D()(nn.MaxPooling1D(2)(result["doubled"]))
    assert pooled.shape == (None, 4)
    net = nn.Model(source, [result["y"], pooled])
    assert net.structure.asks and net.structure.losses == () and other.kernel in net.weights
    fixed = net.structure.with_shapes([(None, 6, 4)])
    assert [t.shape for t in fixed.outputs] == [(None, 6, 4), (None, 4)] and len(fixed.losses) == 1
    assert len(net.weights) == 3 and set(fixed.parameters) == set(net.weights)
    assert fixed.for_training is not fixed and fixed.for_training.trains
    data = np.random.default_rng(3).standard_normal((5, 6, 4)).astype("f4")
    padded = np.pad(data, ((0, 0), (1, 1), (0, 0)))
    kernel, bias = net.get_layer("conv").get_weights()
    conv = sum(padded[:, i : i + 6] @ kernel[i] for i in range(3)) + bias
    got = value(fixed.outputs[0], {fixed.inputs[0]: data})
    np.testing.assert_allclose(got, conv / 6 @ other.kernel.numpy(), rtol=1e-4, atol=1e-5)
    assert nn.Reshape((2, -1))(source).shape == (None, 2, None)
    with pytest.raises(ValueError, match=r"expected a known number of features, the last size, got \(None, None\)"):
        nn.Dense(2)(nn.Flatten()(source))


# files


PROGRAM = """
import numpy as np, sys
import nnpy as nn
sys.path.insert(0, {folder!r})
from own_layers import data, network
net = nn.load_model({path!r})
x, y = data()
net.fit(x, y, epochs=2, batch_size=4, verbose=0)
np.savez({result!r}, *net.get_weights())
"""
OWN = '''
import numpy as np
import nnpy as nn
from nnpy import ops


class Gate(nn.Layer):
    """A layer of two arguments that behaves otherwise while training."""

    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units = units
        self.inner = nn.Dense(units, "tanh")

    def build(self, input_shape):
        self.scale = self.add_weight((self.units,), "ones", "scale")

    def call(self, x, options, training=False):
        y = ops.add(self.inner(x), self.scale) * options["factor"]
        return y * 2.0 if training else y


class Coded(nn.Model):
    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units = units
        self.gate, self.out = Gate(units), nn.Dense(1)

    def call(self, x):
        return self.out(self.gate(x, {"factor": 0.5}))

    def get_config(self):
        return {"units": self.units, "name": self.name}


def network():
    x = nn.Input((4,))
    y = Gate(5)(x, {"factor": 2.0})
    net = nn.Model(x, Coded(3)(Gate(4)(y, options={"factor": 0.5, "unused": (1, None)})))
    net.compile(nn.Adam(0.01), "mse")
    return net


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4))
    return x, x[:, :1]
'''


def test_own_layers_go_on_in_a_fresh_process(tmp_path, monkeypatch):
    (tmp_path / "own_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    from own_layers import data, network

    net = network()
    x, y = data()
    net.fit(x, y, epochs=2, batch_size=4, verbose=0)
    net.save(tmp_path / "net.safetensors")
    program = PROGRAM.format(
        folder=str(tmp_path), path=str(tmp_path / "net.safetensors"), result=str(tmp_path / "w.npz")
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    net.fit(x, y, epochs=2, batch_size=4, verbose=0)
    with np.load(tmp_path / "w.npz") as got:
        assert all(np.array_equal(got[f"arr_{i}"], w) for i, w in enumerate(net.get_weights()))


def test_a_model_of_code_is_loaded_built(tmp_path, monkeypatch):
    (tmp_path / "own_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    from own_layers import Coded

    net = Coded(3)
    expected = net.predict(X)
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    assert again.built and np.array_equal(again.predict(X), expected)


def test_trainable_of_inner_layers_comes_back(tmp_path):
    inner = nn.Sequential([nn.Input((4,)), nn.Dense(4, name="a"), nn.Dense(4, name="b")], name="inner")
    net = nn.Sequential([nn.Input((4,)), inner])
    net.trainable = False
    inner.get_layer("b").trainable = True
    net.save(tmp_path / "net.safetensors")
    again = nn.load_model(tmp_path / "net.safetensors")
    assert not again.trainable and [w.name for w in again.trainable_weights] == ["b/kernel", "b/bias"]


def test_layers_that_contain_each_other(tmp_path):
    from nnpy.registry import from_list

    entry = {"class": "layer/Residual", "config": {"layers": [{"class": "layer", "config": 0}]}}
    with pytest.raises(ValueError, match="layer 0 contains itself"):
        from_list([entry])
