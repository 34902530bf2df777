"""Models under the name that Keras has for them; clone_model."""

import numpy as np
import pytest

import nnpy as nn

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def graph():
    a, b = nn.Input((4,), name="a"), nn.Input((4,), name="b")
    shared = nn.Dense(3, activation="tanh", name="shared")
    return nn.Model([a, b], nn.layers.add([shared(a), shared(b) * 2.0]), name="net")


def inner():
    return nn.Sequential([nn.Input((4,)), nn.Sequential([nn.Dense(5), nn.BatchNormalization()]), nn.Dense(2)])


@pytest.mark.parametrize("make, data", [(graph, [X, X[::-1]]), (inner, X), (lambda: nn.Sequential([nn.Dense(2)]), X)])
@pytest.mark.parametrize("function", [None, lambda layer: nn.registry.from_list(nn.registry.to_list(layer))])
def test_a_clone_has_weights_of_its_own(make, data, function):
    model = make()
    before = model.predict(data)
    weights = model.get_weights()
    clone = nn.models.clone_model(model, clone_function=function)
    assert type(clone) is type(model) and clone.name == model.name and not clone.compiled
    assert not np.allclose(clone.predict(data), before)
    clone.set_weights(weights)
    np.testing.assert_array_equal(clone.predict(data), before)
    clone.set_weights([weight + 1 for weight in weights])
    np.testing.assert_array_equal(model.predict(data), before)


def test_a_clone_on_other_inputs_with_other_layers():
    model = graph()
    a, b = nn.Input((4,)), nn.Input((4,))

    def ones(layer):
        return nn.Dense(3, kernel_initializer="ones") if isinstance(layer, nn.Dense) else nn.layers.Add()

    clone = nn.models.clone_model(model, [a, b], ones)
    assert clone.inputs == [a, b]
    np.testing.assert_allclose(clone.predict([X, X])[:, 0], 3 * X.sum(1), rtol=1e-5)


class Own(nn.Model):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.models.clone_model(nn.Dense(2)), TypeError, "clone_model: expected a Model, got Dense"),
        (lambda: nn.models.clone_model(graph(), nn.Input((4,))), ValueError, "clone_model: expected 2 inputs, got 1"),
        (lambda: nn.models.clone_model(graph(), clone_function=str), TypeError, 'to return a Layer, got "Dense'),
        (lambda: nn.models.clone_model(Own(), clone_function=str), ValueError, "expected neither input_tensors nor"),
    ],
)  # fmt: skip
def test_what_cannot_be_cloned(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_keras_paths():
    from nnpy.callbacks import EarlyStopping
    from nnpy.initializers import he_normal
    from nnpy.layers import AvgPool2D, GlobalAvgPool2D, MaxPool2D
    from nnpy.models import Sequential, load_model
    from nnpy.optimizers.schedules import CosineDecay
    from nnpy.regularizers import l2

    assert (EarlyStopping, Sequential, load_model) == (nn.EarlyStopping, nn.Sequential, nn.load_model)
    assert (MaxPool2D, AvgPool2D) == (nn.MaxPooling2D, nn.AveragePooling2D)
    assert (GlobalAvgPool2D, CosineDecay) == (nn.GlobalAveragePooling2D, nn.schedules.CosineDecay)
    assert isinstance(he_normal(seed=1), nn.initializers.HeNormal) and l2(0.1).l2 == 0.1
    assert isinstance(nn.initializers.get("zero"), nn.initializers.Zeros)
    assert isinstance(nn.initializers.get("one"), nn.initializers.Ones)
