"""NaN travels: what is computed of it is NaN, forward and back, so that training shows where it began."""

import numpy as np
import pytest
from optable import Graph

from nnpy import ops
from nnpy.compiler import differentiate
from nnpy.compiler.step import evaluated
from nnpy.graph import Parameter
from nnpy.layers import MaxPooling2D

NAN = np.nan
IMAGE = np.array([[1.0, NAN, 3.0, 0.0], [2.0, 0.0, 1.0, 4.0]]).reshape(1, 2, 4, 1)
ROWS = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN], [2.0, 5.0, 4.0]])
OTHER = np.array([[NAN, 1.0, 9.0], [2.0, NAN, 0.0], [3.0, 1.0, 4.0]])

# name: (in nn.ops, in NumPy)
ONE = {
    "relu": (lambda x: ops.activation(x, "relu"), lambda x: np.maximum(x, 0)),
    "relu6": (lambda x: ops.activation(x, "relu6"), lambda x: np.clip(x, 0, 6)),
    "leaky_relu": (lambda x: ops.activation(x, "leaky_relu", 0.0), lambda x: np.maximum(x, 0)),
    "hard_sigmoid": (lambda x: ops.activation(x, "hard_sigmoid"), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "hard_tanh": (lambda x: ops.activation(x, "hard_tanh"), lambda x: np.clip(x, -1, 1)),
    "threshold": (lambda x: ops.activation(x, "threshold", 1.5, 0.0), lambda x: np.where(x <= 1.5, 0, x)),
    "clip": (lambda x: ops.clip(x, 2.0, 3.0), lambda x: np.clip(x, 2, 3)),
    "maximum with a number": (lambda x: ops.maximum(x, 2.0), lambda x: np.maximum(x, 2)),
    "minimum with a number": (lambda x: ops.minimum(x, 2.0), lambda x: np.minimum(x, 2)),
    "max": (lambda x: ops.max(x, -1), lambda x: x.max(-1)),
    "min": (lambda x: ops.min(x, 0), lambda x: x.min(0)),
    "norm": (lambda x: ops.norm(x, axis=-1), lambda x: np.linalg.norm(x, axis=-1)),
    "softmax": (ops.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
}
TWO = {"maximum": (ops.maximum, np.maximum), "minimum": (ops.minimum, np.minimum)}


@pytest.mark.parametrize("name", ONE)
def test_of_one(name, dtype):
    ours, numpy = ONE[name]
    graph = Graph(ours, [ROWS], dtype)
    np.testing.assert_allclose(graph.run(), numpy(ROWS), rtol=1e-5)
    (back,) = graph.gradients()
    assert np.isnan(back[np.isnan(ROWS)]).all()


@pytest.mark.parametrize("name", TWO)
def test_of_two(name, dtype):
    ours, numpy = TWO[name]
    graph = Graph(ours, [ROWS, OTHER], dtype)
    np.testing.assert_array_equal(graph.run(), numpy(ROWS, OTHER))
    found = np.isnan(ROWS) | np.isnan(OTHER)
    for back in graph.gradients():
        np.testing.assert_array_equal(np.isnan(back), found)


@pytest.mark.parametrize("name", TWO)
def test_a_gradient_that_is_a_number_goes_to_both(name):
    """As where the loss does not look at the value itself."""
    x, y = Parameter(ROWS, "x"), Parameter(OTHER, "y")
    slopes = differentiate(ops.sum(TWO[name][0](x, y)), [x, y])
    for by in (x, y):
        assert (evaluated(slopes[by])[np.isnan(ROWS) | np.isnan(OTHER)] == 1).all()


def test_max_pooling(dtype):
    graph = Graph(MaxPooling2D(2), [IMAGE], dtype)
    np.testing.assert_array_equal(graph.run().ravel(), [NAN, 4])
    (back,) = graph.gradients()
    np.testing.assert_array_equal(np.isnan(back), np.isnan(IMAGE))
