"""SpectralNormalization."""

from __future__ import annotations

from typing import Any

from nnpy import ops
from nnpy.checks import integer, shown
from nnpy.graph import Parameter, Tensor
from nnpy.initializers import TruncatedNormal
from nnpy.layers.base import Layer
from nnpy.ops.effects import assign


class SpectralNormalization(Layer):
    """Another layer whose kernel is divided by its largest singular value, as a matrix whose columns are the last axis
    (Miyato et al., ICLR 2018): the layer stretches nothing, in discriminators of GANs above all.

    Each step of training takes ``power_iterations`` of v = u W' / |u W'|, u = v W / |v W|, from a u that is kept; the
    kernel is W / (v W u'), the gradient taking u and v as constants. So it is in inference, with the last step's u.
    (Keras writes W / (v W u') into the kernel instead, and trains and predicts with what updates make of that.)

    Raises TypeError for what is no layer, ValueError for power_iterations < 1 or a layer without a kernel.

    >>> model = nn.Sequential([nn.Input((4,)), nn.SpectralNormalization(nn.Dense(8), power_iterations=2)])
    >>> model.compile("sgd", "mse")
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, *, name: str | None = None):
        super().__init__(name=name)
        if not isinstance(layer, Layer):
            raise TypeError(f"{self}: expected a layer, got {shown(layer)}")
        self.layer = layer
        self.power_iterations = integer(self, "power_iterations", power_iterations, least=1)

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        kernel = getattr(self.layer, self._attribute_of(), None)
        if not isinstance(kernel, Parameter) or kernel.rank < 2:
            raise ValueError(f"{self}: expected a layer with a kernel, got {self.layer}")
        shape = (1, kernel.value.shape[-1])
        self.vector_u = self.add_weight(shape, TruncatedNormal(stddev=0.02), "vector_u", trainable=False)

    def _attribute_of(self) -> str:
        return "kernel" if hasattr(self.layer, "kernel") else "embeddings"

    def call(self, inputs, training=False):
        name = self._attribute_of()
        kernel = getattr(self.layer, name)
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        fixed = ops.stop_gradient(matrix)
        u: Tensor = self.vector_u
        for _ in range(self.power_iterations if training else 1):
            v = _unit(ops.matmul(u, ops.transpose(fixed)))
            if training:
                u = _unit(ops.matmul(v, fixed))
        if training:
            assign(self.vector_u, u)
        largest = ops.matmul(ops.matmul(v, matrix), ops.transpose(u if training else _unit(u)))
        held: dict[str, Any] = vars(self.layer)
        held[name] = ops.divide(kernel, ops.reshape(largest, ()))
        try:
            return self.layer(inputs)
        finally:
            held[name] = kernel


def _unit(vector: Tensor) -> Tensor:
    return ops.divide(vector, ops.sqrt(ops.maximum(ops.sum(ops.square(vector)), 1e-24)))
