"""Samples: a user's arrays for one model, checked and ready to be bound to Programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnpy.data import inputs as adapt
from nnpy.data.images import Images, Transform
from nnpy.data.inputs import describe
from nnpy.data.sparse import Sparse
from nnpy.data.weights import (
    check_sample_weight,
    classes_of_outputs,
    of_each_label,
    of_labels,
    of_one_hot,
    says_labels,
)
from nnpy.forms import within
from nnpy.graph import concrete
from nnpy.losses import CategoricalCrossentropy

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.training.settings import Head

_STEP = 20  # bits: samples of one step of a stream have numbers of their own


class Source(NamedTuple):
    """What a Program must know of an array: its dtype, bytes from row to row, what happens to images, the shape of a
    sample, and whether its rows are sparse."""

    dtype: str
    stride: int
    transform: Transform | None = None
    shape: tuple[int, ...] = ()
    sparse: bool = False


@dataclass(frozen=True)
class Samples:
    """``count`` samples; ``inputs``, ``targets`` and ``weights`` (None: all 1) in the order of the model's."""

    count: int
    inputs: list[np.ndarray | Images | Sparse]
    targets: list[np.ndarray]
    weights: list[np.ndarray | None]

    @property
    def arrays(self) -> list[np.ndarray | Images | Sparse]:
        """What is bound, in the order of the slots."""
        return [*self.inputs, *self.targets, *(w for w in self.weights if w is not None)]

    @property
    def weighted(self) -> tuple[int, ...]:
        """The rank of each output's weights, 0 where it has none."""
        return tuple(0 if w is None else w.ndim for w in self.weights)

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source(array) for array in self.arrays)

    def part(self, first: int, last: int) -> Samples:
        """The samples from ``first`` to before ``last``: views."""
        weights = [None if w is None else w[first:last] for w in self.weights]
        return Samples(
            last - first, [a[first:last] for a in self.inputs], [a[first:last] for a in self.targets], weights
        )

    @property
    def numbers(self) -> np.ndarray | None:
        """Of the samples, by which images are augmented; None: those of the rows."""
        return next((x.numbers for x in self.inputs if isinstance(x, Images)), None)

    def at_step(self, step: int) -> Samples:
        """Of a stream: images that have no numbers get some that no other step has."""
        numbers = np.arange(step << _STEP, (step << _STEP) + self.count)
        inputs = [x.numbered(numbers) if isinstance(x, Images) and x.numbers is None else x for x in self.inputs]
        return Samples(self.count, inputs, self.targets, self.weights)


def source(array: np.ndarray | Images | Sparse) -> Source:
    """A single row has no next one: its stride is what it would be."""
    if isinstance(array, Sparse):
        return Source(array.dtype.name, 0, shape=array.shape[1:], sparse=True)
    x, transform = (array.x, array.transform) if isinstance(array, Images) else (array, None)
    return Source(x.dtype.name, x.strides[0] if len(x) > 1 else x[:1].nbytes, transform, tuple(array.shape[1:]))


def prepare(model: Model, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None) -> Samples:
    """Check and adapt the data of a fit or an evaluation; builds a model whose input shape was not known.

    Raises TypeError or ValueError that names what is wrong before any work is done.
    """
    if y is None:
        adapt.refuse_list_of_batches(x, "x")
    arrays = prepare_inputs(model, x, finite=False)
    heads = model.settings.resolve(model)
    names = [head.name for head in heads]
    given = adapt.distribute(y, names, [len(head.target_shape) for head in heads], "y")
    labels = ["y"] if len(heads) == 1 else [f"y[{name!r}]" for name in names]
    raw = [adapt.to_array(value, label) for value, label in zip(given, labels, strict=True)]
    titles = ["x"] if len(arrays) == 1 else [f"x[{name!r}]" for name in model.input_names]
    count = adapt.common_length([*zip(titles, arrays, strict=True), *zip(labels, raw, strict=True)])
    for value, array, label in zip(given, raw, labels, strict=True):
        if adapt.is_frame(value):  # its columns have names, which the loss does not know
            adapt.check_finite(array, np.float64, label, value)
    targets = [
        adapt.readable(head.loss.check_targets(value, head.output.shape, label))
        for head, value, label in zip(heads, raw, labels, strict=True)
    ]
    for head, target, value, label in zip(heads, targets, given, labels, strict=True):
        if head.loss.target_kind == "real":  # finite in its own dtype, but is it in the model's?
            adapt.check_finite(target, model.dtype, label, value)
    weights = _weights(heads, targets, count, sample_weight)
    _check_finite(model, arrays, x)
    return weighed(model, Samples(count, arrays, targets, weights), class_weight)


def _array_of(value: Any, name: str) -> np.ndarray | Images | Sparse:
    if isinstance(value, Images):
        return value
    return Sparse(value, name) if adapt.is_sparse(value) else adapt.to_array(value, name)


def prepare_inputs(model: Model, x: Any, finite: bool = True) -> list[np.ndarray | Images | Sparse]:
    """Check and adapt a model's inputs; ``finite``: also look for NaN and infinity."""
    if not model.built and isinstance(x, Mapping) and not adapt.is_sparse(x):
        named = {name: _array_of(value, f"x[{name!r}]") for name, value in x.items()}
        model.build({name: (None, *array.shape[1:]) for name, array in named.items()})
    if not model.built:
        several = isinstance(x, (list, tuple)) and len(x) > 1 and all(len(getattr(a, "shape", ())) > 1 for a in x)
        arrays = [_array_of(value, "x") for value in (x if several else [x])]
        adapt.common_length([("x", array) for array in arrays])
        shapes = [(None, *array.shape[1:]) for array in arrays]
        model.build(shapes if several else shapes[0])
    tensors = model.structure.inputs
    given = adapt.distribute(x, model.input_names, [t.rank for t in tensors], "x")
    what = [f"Input {name!r}" for name in model.input_names]
    for value, tensor, name in zip(given, tensors, what, strict=True):
        if adapt.is_sparse(value) and (tensor.rank != 2 or tensor.kind == "index"):
            raise TypeError(
                f"{name}: expected samples of {'class ' if tensor.kind == 'index' else ''}numbers of shape "
                f"{describe(tensor.shape[1:])}, got scipy's {type(value).__name__}: a sample of it is a row of real "
                "features; make it dense by toarray()"
            )
    arrays = [
        adapt.readable(adapt.check_shape(_array_of(value, name), tensor.shape[1:], name, value))
        for value, tensor, name in zip(given, tensors, what, strict=True)
    ]
    adapt.common_length(list(zip(what, arrays, strict=True)))
    _check_numbers([array for array in arrays if isinstance(array, Images)])
    if finite:
        _check_finite(model, arrays, x)
    return arrays


def _check_numbers(images: list[Images]) -> None:
    """Images of several inputs are augmented alike, as they belong together."""
    for other in images[1:]:
        if not np.array_equal(other.row_numbers(), images[0].row_numbers()):
            raise ValueError("x: expected Images of the same samples, got some with other numbers: slice them alike")


def _check_finite(model: Model, arrays: list[np.ndarray | Images | Sparse], x: Any) -> None:
    given = adapt.distribute(x, model.input_names, [t.rank for t in model.structure.inputs], "x")
    for array, name, value in zip(arrays, model.input_names, given, strict=True):
        if isinstance(array, Sparse):
            array.check_finite(model.dtype, f"Input {name!r}")
        else:
            adapt.check_finite(array.x if isinstance(array, Images) else array, model.dtype, f"Input {name!r}", value)


def _weights(heads: list[Head], targets: list[np.ndarray], count: int, sample_weight: Any) -> list[np.ndarray | None]:
    names = [head.name for head in heads]
    if sample_weight is None:
        return [None] * len(heads)
    labels = [f"sample_weight[{name!r}]" for name in names] if len(heads) > 1 else ["sample_weight"]
    each = isinstance(sample_weight, Mapping) or (len(heads) > 1 and isinstance(sample_weight, (list, tuple)))
    given = (
        adapt.distribute(sample_weight, names, [1] * len(heads), "sample_weight")
        if each
        else [sample_weight] * len(heads)
    )
    return [
        None if value is None else adapt.readable(check_sample_weight(value, count, _rows(head, target), label))
        for value, head, target, label in zip(given, heads, targets, labels, strict=True)
    ]


def weighed(model: Model, samples: Samples, class_weight: Any) -> Samples:
    """Samples that weigh by their classes too. Raises TypeError or ValueError for what does not fit the targets."""
    if class_weight is None:
        return samples
    heads = model.settings.resolve(model)
    weights = []
    given = classes_of_outputs(class_weight, [head.name for head in heads])
    for value, head, target, before in zip(given, heads, samples.targets, samples.weights, strict=True):
        with within(f"output {head.name!r}") if len(heads) > 1 else nullcontext():
            weights.append(before if value is None else _of_classes(value, head, target, before))
    return Samples(samples.count, samples.inputs, samples.targets, weights)


def _rows(head: Head, target: np.ndarray) -> list[int | None]:
    """The sizes of the rows of the loss, behind the batch; where they may be any, those that the targets have."""
    known = [*target.shape[1:], *[None] * len(head.rows)]
    return [n if size is None else size for size, n in zip(head.rows[1:], known, strict=False)]


def _of_classes(class_weight: Any, head: Head, target: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """The rows' weights by their classes, times those that were ``given``; or those of all labels of the rows."""
    classes = head.output.shape[-1] if head.output.rank > 1 else None
    single = target.ndim == 1 or target.shape[-1] == 1
    if head.loss.target_kind == "index":
        ignored = getattr(head.loss, "ignore_class", None)
        factors = of_labels(class_weight, target, None if classes == 1 else classes, ignored)
    elif single:
        if isinstance(class_weight, list | tuple) and len(class_weight) == 1:
            (class_weight,) = class_weight
        factors = of_labels(class_weight, target.reshape(target.shape[:-1] or target.shape), 2)
    elif says_labels(class_weight, head.loss.weighs_labels):
        _check_labels(head)
        factors = of_each_label(class_weight, target)
        if given is not None:
            factors = factors * given.reshape(*given.shape, *[1] * (factors.ndim - given.ndim))
        return np.ascontiguousarray(factors)
    else:
        factors = of_one_hot(class_weight, target, soft=isinstance(head.loss, CategoricalCrossentropy))
    rank = len(head.rows)
    if factors.ndim > rank:
        raise ValueError(
            f"class_weight: expected losses of shape {describe(factors.shape[1:])} for the classes of a sample, "
            f"{head.loss} gives {describe(head.rows[1:])}; use sample_weight"
        )
    if given is not None:
        rank = max(factors.ndim, given.ndim)
        factors, given = (a.reshape(*a.shape, *[1] * (rank - a.ndim)) for a in (factors, given))
        factors = factors * given
    return np.ascontiguousarray(factors)


def _check_labels(head: Head) -> None:
    """ValueError where labels cannot have weights of their own."""
    text = f"class_weight: weights of each label of {head.name!r} expect"
    if not head.loss.weighs_labels:
        raise ValueError(f"{text} a loss of labels, as BinaryCrossentropy, with its axis -1, got {head.loss}")
    if head.loss.reduction == "mean_with_sample_weight":
        raise ValueError(f"{text} a reduction that does not divide by weights, got {head.loss.reduction!r}")
    if head.weighted:
        raise ValueError(f"{text} metrics in the place of weighted_metrics, which weigh rows, got {head.weighted[0]}")


def batches(stream: Any, model: Model, what: str, class_weight: Any = None) -> Iterator[Samples]:
    """The batches of an iterable of (x, y) or (x, y, sample_weight), each checked as it comes."""
    for item in stream:
        if not isinstance(item, (tuple, list)) or not 2 <= len(item) <= 3:
            raise TypeError(
                f"{what}: expected an iterable of (x, y) or (x, y, sample_weight), got a {type(item).__name__}"
                f"{f' of {len(item)}' if isinstance(item, tuple | list) else ''}"
            )
        yield prepare(model, item[0], item[1], item[2] if len(item) == 3 else None, class_weight)


def placeholders(model: Model, count: int, targets: bool) -> Samples:
    """Zeros in place of data, for Programs that are looked at: float32 for reals, int32 for indices."""
    tensors = list(model.structure.inputs)
    inputs = [np.zeros(t.concrete(count), np.int32 if t.kind == "index" else np.float32) for t in tensors]
    made: list[np.ndarray] = []
    for head in model.settings.resolve(model) if targets else ():
        kind = np.int32 if head.loss.target_kind == "index" else np.float32
        made.append(np.zeros(concrete(head.target_sizes, count), kind))
    return Samples(count, [*inputs], made, [None] * len(made))
