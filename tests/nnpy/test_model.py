"""Sequential and Model: structure, names, weights, sharing, summary, dtype."""

import numpy as np
import pytest

import nnpy as nn


def mlp(name=None, features=6):
    return nn.Sequential(
        [nn.Input((features,)), nn.Dense(5, activation="relu", name="hidden"), nn.Dense(2, name="out")], name=name
    )


def forward(x, kernel, bias, activation=lambda z: z):
    return activation(x.astype(np.float64) @ kernel + bias)


def relu(z):
    return np.maximum(z, 0)


def test_sequential_computes_its_layers(rng):
    model = mlp()
    x = rng.normal(size=(7, 6)).astype("float32")
    k1, b1, k2, b2 = model.get_weights()
    np.testing.assert_allclose(model.predict(x), forward(forward(x, k1, b1, relu), k2, b2), rtol=1e-5, atol=1e-6)


def test_lazy_sequential_is_built_by_data_and_by_build(rng):
    lazy = nn.Sequential([nn.Dense(3), nn.Dense(1)])
    assert not lazy.built and lazy.weights == []
    with pytest.raises(ValueError, match=r"Sequential .*: not built: its input's shape is not known yet"):
        _ = lazy.outputs
    assert lazy.predict(rng.normal(size=(4, 9))).shape == (4, 1)
    assert lazy.input_shape == (None, 9) and lazy.count_params() == 9 * 3 + 3 + 3 + 1
    built = nn.Sequential([nn.Dense(3)])
    built.build((None, 4))
    assert built.output_shape == (None, 3)


def test_add_and_pop(rng):
    model = nn.Sequential(name="grown")
    model.add(nn.Input((4,)))
    model.add(nn.Dense(3))
    model.compile("sgd", "mse")
    x = rng.normal(size=(8, 4))
    model.fit(x, np.zeros((8, 3)), verbose=0)
    model.add(nn.Dense(2))
    assert model.predict(x).shape == (8, 2)
    model.fit(x, np.zeros((8, 2)), verbose=0)
    model.pop()
    assert model.predict(x).shape == (8, 3) and len(model.layers) == 1
    with pytest.raises(ValueError, match="no layer to pop"):
        nn.Sequential().pop()


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([3], TypeError, r"expected layers, got int at position 0"),
        ([nn.Dense(2, name="a"), nn.Dense(2, name="a")], ValueError, "different names, got two named 'a'"),
        ([nn.Dense(2), nn.Input((3,))], ValueError, "expected Input to be the first item"),
        (
            [nn.Input((28, 28)), nn.Conv2D(2, 3, name="hidden")],
            ValueError,
            r"Conv2D 'hidden': .* got \(None, 28, 28\); give it channels",
        ),
    ],
)
def test_sequential_refuses(layers, error, message):
    with pytest.raises(error, match=message):
        nn.Sequential(layers)


def test_functional_graph_with_shared_layer_and_two_outputs(rng):
    a, b = nn.Input((3,), name="a"), nn.Input((3,), name="b")
    shared = nn.Dense(4, activation="tanh", name="shared")
    left, right = shared(a), shared(b)
    total = left + right
    both = nn.Concatenate(name="both")([total, 2 * left - right])
    model = nn.Model([a, b], {"sum": total, "out": nn.Dense(1, name="out")(both)}, name="two")
    assert [layer.name for layer in model.layers] == ["a", "b", "shared", "both", "out"]
    assert model.count_params() == 3 * 4 + 4 + 8 + 1
    x = [rng.normal(size=(5, 3)), rng.normal(size=(5, 3))]
    result = model.predict({"b": x[1], "a": x[0]})
    first, second = result["sum"], result["out"]
    kernel, bias, out, out_bias = model.get_weights()
    hidden = [forward(v, kernel, bias, np.tanh) for v in x]
    np.testing.assert_allclose(first, hidden[0] + hidden[1], rtol=1e-5, atol=1e-6)
    joined = np.concatenate([hidden[0] + hidden[1], 2 * hidden[0] - hidden[1]], axis=1)
    np.testing.assert_allclose(second, forward(joined, out, out_bias), rtol=1e-5, atol=1e-6)


def test_model_refuses_what_does_not_connect():
    a, b = nn.Input((3,), name="a"), nn.Input((3,), name="b")
    with pytest.raises(ValueError, match=r"depend on Input 'b', which is not among its inputs"):
        nn.Model(a, nn.Add()([a, b]))
    with pytest.raises(TypeError, match=r"outputs: expected a Tensor .* got ndarray"):
        nn.Model(a, np.zeros(3))
    with pytest.raises(ValueError, match="got one of them twice"):
        nn.Model([a, a], nn.Dense(1)(a))
    with pytest.raises(ValueError, match="two named 'd'"):
        nn.Model(a, nn.Dense(1, name="d")(nn.Dense(1, name="d")(a)))


def test_a_model_from_the_middle_of_another(rng):
    source = nn.Input((4,))
    hidden = nn.Dense(3, name="h")(source)
    full = nn.Model(source, nn.Dense(2, name="o")(hidden))
    head = nn.Model(hidden, full.outputs[0])
    features = nn.Model(source, hidden)
    x = rng.normal(size=(6, 4)).astype("float32")
    np.testing.assert_allclose(head.predict(features.predict(x)), full.predict(x), rtol=1e-6)


def test_a_model_is_a_layer_with_shared_weights(rng):
    inner = mlp("inner")
    source = nn.Input((6,))
    outer = nn.Model(source, inner(source) + inner(2 * source))
    x = rng.normal(size=(5, 6)).astype("float32")
    np.testing.assert_allclose(outer.predict(x), inner.predict(x) + inner.predict(2 * x), rtol=1e-5, atol=1e-6)
    outer.compile("sgd", "mse")
    before = inner.predict(x)
    outer.fit(x, np.ones((5, 2)), epochs=3, verbose=0)
    assert np.abs(inner.predict(x) - before).max() > 1e-3
    np.testing.assert_allclose(outer.predict(x), inner.predict(x) + inner.predict(2 * x), rtol=1e-5, atol=1e-6)


def test_models_that_share_layers_train_in_turns(rng):
    """Each has its own flat buffer: the newest weights move to the one that works."""
    source = nn.Input((4,))
    hidden = nn.Dense(8, activation="tanh", name="shared")(source)
    first = nn.Model(source, nn.Dense(1, name="first")(hidden))
    second = nn.Model(source, nn.Dense(2, name="second")(hidden))
    x = rng.normal(size=(64, 4)).astype("float32")
    y1, y2 = x[:, :1], x[:, 1:3]
    first.compile("adam", "mse")
    second.compile("adam", "mse")
    seen = []
    for _ in range(3):
        for model, y in ((first, y1), (second, y2)):
            before = first.get_layer("shared").kernel.value.copy()
            model.fit(x, y, verbose=0)
            kernel = first.get_layer("shared").kernel.value
            assert np.abs(kernel - before).max() > 1e-5
            weights = [layer for layer in model.get_weights()]
            expected = forward(forward(x, weights[0], weights[1], np.tanh), weights[2], weights[3])
            np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)
            seen.append(kernel.copy())
    assert len({array.tobytes() for array in seen}) == 6


def test_training_another_model_in_a_callback_moves_the_layers_they_share(rng):
    x, y = rng.normal(size=(256, 8)), rng.normal(size=(256, 1))
    one, two = nn.Input((8,)), nn.Input((8,))
    shared = nn.Dense(16, activation="tanh")
    a, b = nn.Model(one, nn.Dense(1)(shared(one))), nn.Model(two, nn.Dense(1)(shared(two)))
    a.compile(nn.SGD(0.01), "mse")
    b.compile(nn.SGD(0.0), "mse")
    start = a.get_weights()
    a.fit(x, y, epochs=3, shuffle=False, verbose=0)
    expected = a.get_weights()
    a.set_weights(start)
    idle = nn.LambdaCallback(on_train_batch_end=lambda *_: b.train_on_batch(x[:4], y[:4]))
    a.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=idle)  # with a learning rate of 0 it changes nothing
    for got, want in zip(a.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_more_arrays_than_a_program_holds_are_refused():
    inputs = [nn.Input((2,)) for _ in range(70)]
    net = nn.Model(inputs, nn.Add()(inputs))
    with pytest.raises(ValueError, match="expected at most 56 inputs, outputs, targets and weights together, got 71"):
        net.predict([np.zeros((3, 2))] * 70)


def test_frozen_layers_stay(rng):
    model = mlp()
    model.get_layer("hidden").trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(rng.normal(size=(20, 6)), np.ones((20, 2)), verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])
    assert not np.array_equal(before[2], after[2])


def test_subclass_with_call(rng, tmp_path):
    class Twice(nn.Model):
        def __init__(self):
            super().__init__(name="twice")
            self.inner = nn.Dense(4)
            self.out = nn.Dense(1)

        def call(self, x):
            return self.out(self.inner(x) + self.inner(x * 2.0))

    model = Twice()
    model.compile("sgd", "mse")
    x = rng.normal(size=(10, 3))
    model.fit(x, x[:, :1], verbose=0)
    k, b, o, c = model.get_weights()
    expected = (forward(x, k, b) + forward(2 * x, k, b)) @ o + c
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)
    again = nn.load_model(model.save(tmp_path / "x.safetensors"))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_weights_get_set_and_refuse(rng):
    model = mlp()
    values = [rng.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights(values)
    for value, weight in zip(values, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, value.astype("float32"))
    with pytest.raises(ValueError, match="expected 4 arrays, got 3"):
        model.set_weights(values[:3])
    with pytest.raises(ValueError, match=r"hidden/kernel.*expected .*\(6, 5\).*got \(5, 6\)"):
        model.set_weights([values[0].T, *values[1:]])
    got = model.get_weights()
    got[0][:] = 0
    assert np.abs(model.get_weights()[0]).max() > 0


def test_set_weights_reaches_programs_already_made(rng):
    model = mlp()
    x = rng.normal(size=(3, 6)).astype("float32")
    model.predict(x)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert np.array_equal(model.predict(x), np.zeros((3, 2)))
    model.get_layer("out").bias.assign([1.0, 2.0])
    assert np.array_equal(model.predict(x), np.tile([1.0, 2.0], (3, 1)).astype("float32"))


def test_get_layer():
    model = mlp()
    assert model.get_layer("out") is model.layers[-1] is model.get_layer(index=-1)
    with pytest.raises(ValueError, match=r"no layer 'x'; there are 'hidden', 'out'"):
        model.get_layer("x")
    with pytest.raises(ValueError, match="expected a name or an index"):
        model.get_layer()


def test_summary(capsys):
    assert mlp("net").summary() is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Sequential 'net'"
    assert lines[-1] == "Parameters: 47 (188 B), trainable 47, not trainable 0"
    assert [line.split() for line in lines if line.startswith("hidden")] == [
        ["hidden", "(Dense)", "(None,", "5)", "35"]
    ]
    a = nn.Input((3,), name="a")
    text = []
    nn.Model(a, nn.Dense(3, name="d")(a) + a).summary(print_fn=text.append)
    assert any(line.startswith("add") and line.endswith("d, a") for line in text[0].splitlines())
    nn.Sequential([nn.Dense(3)]).summary()
    assert "not built" in capsys.readouterr().out


def test_inputs_and_outputs_of_layers_and_models(rng):
    net = nn.Sequential(name="net")
    for layer in (nn.Input((6,)), nn.Dense(5, activation="relu", name="hidden"), nn.Dense(2, name="out")):
        net.add(layer)
    features = nn.Model(net.inputs, net.get_layer("hidden").output)
    head = nn.Model(net.get_layer("hidden").output, net.output)
    x = rng.normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(head.predict(features.predict(x)), net.predict(x), rtol=1e-6)
    assert net.input is net.inputs[0] is net.layers[0].input and net.output is net.outputs[0]
    a, b = nn.Input((2,)), nn.Input((2,))
    merged = nn.Add()
    assert not hasattr(merged, "output")
    with pytest.raises(AttributeError, match=r"Add 'add.*': has no input before it is called"):
        _ = merged.input
    with pytest.raises(AttributeError, match="Sequential 'lazy': has no output before it is built"):
        _ = nn.Sequential([nn.Dense(2)], name="lazy").output
    result = merged([a, b])
    assert merged.input == [a, b] and merged.output is result
    assert nn.Model([a, b], result).input == [a, b]

    class Named(nn.Model):
        """Attributes may have these names, as in Keras' own examples."""

        def __init__(self):
            super().__init__()
            self.input, self.output = nn.Dense(3), nn.Dense(1)

        def call(self, x):
            return self.output(self.input(x))

    assert Named().predict(x).shape == (4, 1)


def test_keras_other_names(rng):
    net = mlp()
    net.get_layer("hidden").trainable = False
    assert net.trainable_variables == net.trainable_weights and net.variables == net.weights
    assert net.layers[0].non_trainable_variables == net.layers[0].weights
    net.compile("sgd", "mse", metrics=["mse"])
    assert net.metrics_names == ["loss", "mse"] and isinstance(net.loss, nn.losses.MeanSquaredError)


def test_values_of_parameters(rng):
    net = mlp()
    x = rng.normal(size=(4, 6))
    net.predict(x)
    kernel, bias = net.layers[0].weights
    for make in (np.asarray, np.array, lambda p: p.numpy()):
        assert np.array_equal(make(kernel), kernel.value)
    assert np.asarray(kernel, "float64").dtype == np.float64
    copy = kernel.numpy()
    copy[:] = 0
    assert np.abs(kernel.value).max() > 0
    bias.value = [1, 2, 3, 4, 5]
    np.testing.assert_allclose(net.layers[0].get_weights()[1], [1, 2, 3, 4, 5])
    assert net.predict(x).shape == (4, 2)
    for value, error, text in (
        (np.zeros(4), ValueError, r"hidden/bias: expected shape \(5,\), got \(4,\)"),
        (3.0, ValueError, r"hidden/bias: expected shape \(5,\), got \(\)"),
        (list("abcde"), TypeError, r"hidden/bias: expected real numbers, got dtype <U1"),
    ):
        with pytest.raises(error, match=text):
            bias.value = value
        with pytest.raises(error, match=text):
            bias.assign(value)
    np.testing.assert_allclose(bias.value, [1, 2, 3, 4, 5])


def test_a_subclass_may_forget_its_base(rng):
    class Forgetful(nn.Model):
        def __init__(self):
            self.out = nn.Dense(2)

        def call(self, x):
            return self.out(x)

    class Stack(nn.Sequential):
        def __init__(self):
            self.add(nn.Dense(2))

    for kind in (Forgetful, Stack):
        net = kind()
        net.compile("sgd", "mse")
        net.fit(rng.normal(size=(4, 3)), np.zeros((4, 2)), verbose=0)
        assert str(kind()).startswith(f"{kind.__name__} '{kind.__name__.lower()}")
        assert net.name.startswith(kind.__name__.lower()) and net.count_params() == 8


def test_names_in_compile_are_checked():
    model = mlp()
    with pytest.raises(ValueError, match=r"unknown optimizer 'adm'; did you mean 'adam'"):
        model.compile("adm", "mse")
    with pytest.raises(ValueError, match="unknown loss 'mean_square'"):
        model.compile("adam", "mean_square")
    with pytest.raises(ValueError, match="unknown metric 'acuracy'"):
        model.compile("adam", "mse", metrics=["acuracy"])
    with pytest.raises(ValueError, match=r"loss: expected names of outputs \(out\), got 'nope'"):
        model.compile("adam", {"nope": "mse"})
    with pytest.raises(RuntimeError, match=r"Sequential .*: call compile\(optimizer, loss\) first"):
        model.fit(np.zeros((2, 6)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="expected a loss"):
        model.compile("adam")


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_floatx(name, rng):
    nn.set_floatx(name)
    try:
        model = mlp()
    finally:
        nn.set_floatx("float32")
    x = rng.normal(size=(4, 6))
    result = model.predict(x)
    assert result.dtype == name and nn.floatx() == "float32"
    k1, b1, k2, b2 = model.get_weights()
    expected = np.maximum(x @ k1 + b1, 0) @ k2 + b2
    np.testing.assert_allclose(
        result, expected, rtol=1e-12 if name == "float64" else 1e-5, atol=1e-14 if name == "float64" else 1e-6
    )
    model.compile("sgd", "mse")
    model.fit(x, np.ones((4, 2)), verbose=0)
    assert model.get_weights()[0].dtype == name
    with pytest.raises(ValueError, match="expected 'float32' or 'float64', got 'float16'"):
        nn.set_floatx("float16")


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_outputs_come_in_their_dtypes(name, rng):
    """Indices as int32 and truth values as bool, also through the short way, nested models, dicts and streams."""

    class Class(nn.layers.Layer):
        def call(self, x):
            return nn.ops.argmax(x, axis=-1)

    x = rng.normal(size=(37, 5)).astype(name)
    largest = x.argmax(-1)
    nn.set_floatx(name)
    try:
        stack = nn.Sequential([nn.Input((5,)), Class()])
        a = nn.Input((5,))
        chosen, positive = nn.ops.argmax(a, axis=-1), a > 0.0
        several = nn.Model(a, {"class": chosen, "positive": positive, "same": a * 1.0})
        nested = nn.Model(a, several(a)["positive"])
    finally:
        nn.set_floatx("float32")
    for rows in (x, x[:3], x[:3]):
        for found in (stack.predict(rows), stack.predict_on_batch(rows), stack.predict(rows, batch_size=2)):
            assert found.dtype == stack.outputs[0].dtype == "int32" and np.array_equal(found, largest[: len(rows)])
        found = several.predict(rows)
        assert {key: value.dtype.name for key, value in found.items()} == {
            "class": "int32", "positive": "bool", "same": name,
        }  # fmt: skip
        assert np.array_equal(found["class"], largest[: len(rows)]) and np.array_equal(found["positive"], rows > 0)
        assert np.array_equal(nested.predict(rows), rows > 0) and nested.predict(rows).dtype == bool
    assert stack.predict(iter([x[:4], x[4:6]])).dtype == np.int32
    stack.profile(x, steps=2)
