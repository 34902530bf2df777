"""Layers that draw while training: GaussianNoise, GaussianDropout, AlphaDropout."""

from __future__ import annotations

from collections.abc import Sequence

from nnpy import ops, seeds
from nnpy.checks import real
from nnpy.layers.base import Layer
from nnpy.layers.core import Dropout
from nnpy.ops.random import normal


class GaussianNoise(Layer):
    """Adds normal noise of mean 0 and deviation ``stddev`` while training; at other times gives its input. Any shape.

    ``seed``: its random numbers are these whatever other layers draw; None: those of the model. ValueError for a
    negative ``stddev``.

    >>> x = np.zeros((1000, 8), "float32")
    >>> noise = nn.GaussianNoise(0.5, seed=1)
    >>> model = nn.Sequential([nn.Input((8,)), noise])
    >>> bool((model.predict(x) == x).all())
    True
    """

    supports_masking, needs_sizes = True, False

    def __init__(self, stddev: float, seed: int | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.stddev = real(self, "stddev", stddev, least=0)
        self.seed = None if seed is None else seeds.checked(str(self), seed)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs, training=False):
        if not training or not self.stddev:
            return inputs
        return ops.add(inputs, ops.multiply(normal(inputs.sizes, self.seed), self.stddev))


class GaussianDropout(Layer):
    """Multiplies by normal noise of mean 1 and variance rate / (1 - rate) while training, which has the mean and
    variance of Dropout (Srivastava et al., JMLR 2014, section 10); at other times gives its input. Any shape.

    ``seed``: as in GaussianNoise. ValueError unless 0 <= rate < 1.

    >>> model = nn.Sequential([nn.Input((8,)), nn.Dense(16, activation="relu"), nn.GaussianDropout(0.3), nn.Dense(1)])
    """

    supports_masking, needs_sizes = True, False

    def __init__(self, rate: float, seed: int | None = None, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = real(self, "rate", rate, least=0, below=1)
        self.seed = None if seed is None else seeds.checked(str(self), seed)

    def check_input(self, input_shape):
        self.one_input(input_shape)

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        deviation = (self.rate / (1.0 - self.rate)) ** 0.5
        return ops.multiply(inputs, normal(inputs.sizes, self.seed) * deviation + 1.0)


# Of the activation selu: what it tends to far below 0.
_LEAST = -1.6732632423543772 * 1.0507009873554805


class AlphaDropout(Dropout):
    """Dropout for networks of ``selu``: while training each element becomes, with probability ``rate``, what selu gives
    far below 0, and all are scaled and shifted so that mean 0 and variance 1 stay (Klambauer et al., NeurIPS 2017); at
    other times gives its input. Any shape.

    ``noise_shape``, ``seed``: as in Dropout. ValueError unless 0 <= rate < 1, or for a ``noise_shape`` that does not
    broadcast to the input.

    >>> model = nn.Sequential([nn.Input((8,)), nn.Dense(16, activation="selu", kernel_initializer="lecun_normal"),
    ...                        nn.AlphaDropout(0.1), nn.Dense(1)])
    """

    follows_program = False

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        *,
        name: str | None = None,
    ):
        super().__init__(rate, noise_shape, seed, name=name)

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        sizes, rate = list(inputs.sizes), self.rate
        if self.noise_shape is not None:
            sizes = [size if n is None else n for n, size in zip(self.noise_shape, sizes, strict=True)]
        kept = ops.multiply(ops.dropout(ops.full(sizes, 1.0), rate, always=True, seed=self.seed), 1.0 - rate)
        scale = ((1.0 - rate) * (1.0 + rate * _LEAST**2)) ** -0.5
        shift = -scale * _LEAST * rate
        return ops.add(ops.multiply(ops.multiply(ops.subtract(inputs, _LEAST), kept), scale), _LEAST * scale + shift)
