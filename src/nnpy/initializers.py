"""Initializers: the first values of weights. Names, formulas and defaults are Keras 3's, but for "auto".

Each draws from a Philox stream keyed by the seed (``nnpy.set_seed``) and how many were drawn before; with ``seed=`` it
draws the same numbers every time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnpy.catalogue import offer
from nnpy.checks import integer, real
from nnpy.registry import Configurable, find
from nnpy.seeds import stream

Shape = tuple[int, ...]
# The standard deviation of a standard normal variable cut off at two.
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer(Configurable):
    """Base of initializers: ``values(shape, generator)`` gives the array."""

    group = "initializer"
    seed: int | None = None

    def __call__(self, shape: Any, dtype: Any = "float32") -> np.ndarray:
        """An array of ``shape`` and ``dtype``."""
        generator = stream("initializer") if self.seed is None else stream("initializer", 0, self.seed)
        return np.asarray(self.values(tuple(shape), generator), dtype)

    def values(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}: an initializer must define values(shape, generator)")

    def _seed(self, seed: int | None) -> None:
        self.seed = None if seed is None else integer(type(self).__name__, "seed", seed, least=0)


class _Fixed(Initializer):
    """An initializer without random numbers: it takes no stream."""

    def __call__(self, shape: Any, dtype: Any = "float32") -> np.ndarray:
        return np.asarray(self.fixed(tuple(shape)), dtype)

    def fixed(self, shape: Shape) -> np.ndarray:
        raise NotImplementedError


class Zeros(_Fixed):
    """All 0."""

    def fixed(self, shape):
        return np.zeros(shape)


class Ones(_Fixed):
    """All 1."""

    def fixed(self, shape):
        return np.ones(shape)


class Constant(_Fixed):
    """All ``value``."""

    def __init__(self, value: float = 0.0):
        self.value = real("Constant", "value", value)

    def fixed(self, shape):
        return np.full(shape, self.value)


class Identity(_Fixed):
    """``gain`` times the identity matrix, for square or oblong matrices. ValueError for a shape of another rank."""

    def __init__(self, gain: float = 1.0):
        self.gain = real("Identity", "gain", gain)

    def fixed(self, shape):
        if len(shape) != 2:
            raise ValueError(f"Identity: expected a shape of rank 2, got {shape}")
        return self.gain * np.eye(*shape)


class RandomNormal(Initializer):
    """Normal with ``mean`` and ``stddev``."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean, self.stddev = real("RandomNormal", "mean", mean), real("RandomNormal", "stddev", stddev, least=0)
        self._seed(seed)

    def values(self, shape, generator):
        return generator.normal(self.mean, self.stddev, shape)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        self.minval = real("RandomUniform", "minval", minval)
        self.maxval = real("RandomUniform", "maxval", maxval, least=self.minval)
        self._seed(seed)

    def values(self, shape, generator):
        return generator.uniform(self.minval, self.maxval, shape)


class TruncatedNormal(Initializer):
    """Normal, with values more than two ``stddev`` from ``mean`` drawn again (their own deviation is 0.88 stddev)."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean = real("TruncatedNormal", "mean", mean)
        self.stddev = real("TruncatedNormal", "stddev", stddev, least=0)
        self._seed(seed)

    def values(self, shape, generator):
        return self.mean + self.stddev * _truncated(shape, generator)


class VarianceScaling(Initializer):
    """Variance ``scale / n``, n by ``mode``: "fan_in", "fan_out" or "fan_avg" (their mean).

    ``distribution``: "truncated_normal" (the default; of that variance after the cut), "untruncated_normal", "uniform".
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        self.scale = real("VarianceScaling", "scale", scale, above=0)
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"VarianceScaling: expected mode to be one of {', '.join(modes)}, got {mode!r}")
        distributions = ("truncated_normal", "untruncated_normal", "uniform")
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if distribution not in distributions:
            raise ValueError(
                f"VarianceScaling: expected distribution to be one of {', '.join(distributions)}, got {distribution!r}"
            )
        self.mode, self.distribution = mode, distribution
        self._seed(seed)

    def values(self, shape, generator):
        fan_in, fan_out = fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, n))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return generator.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return generator.normal(0.0, stddev, shape)
        return stddev / _TRUNCATED_STDDEV * _truncated(shape, generator)


class _Scaled(VarianceScaling):
    """A VarianceScaling with a name: its only argument is the seed."""

    settings: tuple[float, str, str] = (1.0, "fan_in", "truncated_normal")

    def __init__(self, seed: int | None = None):
        super().__init__(*self.settings, seed=seed)


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot & Bengio, AISTATS 2010)."""

    settings = (1.0, "fan_avg", "truncated_normal")


class GlorotUniform(_Scaled):
    """Uniform of variance 2 / (fan_in + fan_out) (Glorot & Bengio, AISTATS 2010)."""

    settings = (1.0, "fan_avg", "uniform")


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for rectifiers (He et al., ICCV 2015)."""

    settings = (2.0, "fan_in", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform of variance 2 / fan_in, for rectifiers (He et al., ICCV 2015)."""

    settings = (2.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in (LeCun et al., Efficient BackProp, 1998)."""

    settings = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform of variance 1 / fan_in (LeCun et al., Efficient BackProp, 1998)."""

    settings = (1.0, "fan_in", "uniform")


class Orthogonal(Initializer):
    """``gain`` times a random matrix with orthonormal rows or columns (Saxe, McClelland & Ganguli, ICLR 2014).

    Of a shape with more than two axes, all but the last are taken as one. ValueError for fewer than two.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        self.gain = real("Orthogonal", "gain", gain)
        self._seed(seed)

    def values(self, shape, generator):
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a shape of rank 2 or more, got {shape}")
        rows, cols = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(generator.normal(size=(max(rows, cols), min(rows, cols))))
        q *= np.sign(np.diag(r))  # makes the distribution uniform (Mezzadri 2007)
        return self.gain * (q if rows >= cols else q.T).reshape(shape)


class Auto(Initializer):
    """What suits the activation that follows and the layer's place (ours): Lecun normal for selu, and for the ReLU
    family He normal behind ``SHALLOW`` layers with kernels or more; Glorot uniform for the rest.

    He keeps the signal's size through any number of rectifiers; where these are few, the smaller weights of Glorot
    generalize better: measured by ``python -m bench.initializers``, see docs/guide/initialization.md. A layer asks
    ``suited(activation's name, layers with kernels behind it)``.
    """

    rectifiers = frozenset({"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish"})

    def suited(self, activation: str, behind: int) -> Initializer:
        if activation == "selu":
            return _LECUN
        return _HE if activation in self.rectifiers and behind >= SHALLOW else _GLOROT

    def values(self, shape, generator):
        return _GLOROT.values(shape, generator)


SHALLOW = 4
_HE, _LECUN, _GLOROT = HeNormal(), LecunNormal(), GlorotUniform()


class _Function(Initializer):
    """A user's function of the shape."""

    def __init__(self, function: Callable[[Shape], Any]):
        self.function = function

    def __call__(self, shape: Any, dtype: Any = "float32") -> np.ndarray:
        return np.asarray(self.function(tuple(shape)), dtype)


def fans(shape: Shape) -> tuple[float, float]:
    """(fan_in, fan_out): how many inputs an output has, and outputs an input. Axes before the last two are a receptive
    field."""
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def _truncated(shape: Shape, generator: np.random.Generator) -> np.ndarray:
    """Standard normal values, drawn again where they are beyond two."""
    values = generator.standard_normal(shape)
    flat = values.reshape(-1)
    while (outside := (np.abs(flat) > 2.0).nonzero()[0]).size:
        flat[outside] = generator.standard_normal(outside.size)
    return values


# Keras' other names
zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, glorot_normal, glorot_uniform = VarianceScaling, GlorotNormal, GlorotUniform
he_normal, he_uniform, lecun_normal, lecun_uniform = HeNormal, HeUniform, LecunNormal, LecunUniform


def get(value: Any) -> Initializer:
    """An initializer from its name ("he_normal", "auto"), class, configuration, itself, or a function of the shape."""
    if isinstance(value, Initializer):
        return value
    if callable(value) and not isinstance(value, type):
        return _Function(value)
    if value is None:
        raise TypeError("expected initializer to be a name, an Initializer or a function of the shape, got None")
    aliases = {"normal": "RandomNormal", "uniform": "RandomUniform", "eye": "Identity", "zero": "Zeros", "one": "Ones"}
    return find(Initializer, value, aliases)


class VarianceByDepth(NamedTuple):
    """``names`` of the layers; the variance of what each gives, ``signal``, and of the ``gradient`` by it."""

    names: list[str]
    signal: list[float]
    gradient: list[float]

    def plot(self, path: str | bytes | os.PathLike | None = None) -> Any:
        """Both, layer by layer: a figure of matplotlib, also written to ``path``."""
        from nnpy import plots

        panels = {"variance of the signal": self.signal, "variance of the gradient": self.gradient}
        return plots.finish(plots.variances(self.names, panels), path)

    def __str__(self) -> str:
        width = max(map(len, self.names))
        rows = zip(self.names, self.signal, self.gradient, strict=True)
        return "\n".join(
            [f"{'':{width}}      signal    gradient", *(f"{n:{width}}  {s:10.4g}  {g:10.4g}" for n, s, g in rows)]
        )


def variance_by_depth(model: Any, x: Any, seed: int = 0) -> VarianceByDepth:
    """How far the signal reaches into a network, and the gradient back: variances layer by layer, for samples ``x``.

    The gradient is that of the sum of the outputs times standard normal numbers (from ``seed``): it has variance 1 at
    the output, and no loss is needed. Weights that fit keep
    both near their size at the other end; a factor a layer is a factor to the power of depth (Glorot & Bengio 2010, He
    et al. 2015). Layers through which no gradient goes have nan. Raises TypeError or ValueError for data that does not
    fit the model.

    Example::

        print(nn.initializers.variance_by_depth(model, x_train[:256]))
    """
    from nnpy import tree

    outputs = model.predict(x)
    generator = np.random.default_rng(seed)
    upstream = tree.replace(outputs, lambda array: generator.normal(size=array.shape), every=True)
    probe = model.probe(x, upstream=upstream)
    names = list(probe)
    slopes = [float(np.var(probe.gradients[name])) if name in probe.gradients else math.nan for name in names]
    return VarianceByDepth(names, [float(np.var(probe[name])) for name in names], slopes)


__all__ = [
    "Auto", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "Initializer",
    "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal",
    "VarianceByDepth", "VarianceScaling", "Zeros", "get", "variance_by_depth",
]  # fmt: skip

offer(__name__, __all__)
