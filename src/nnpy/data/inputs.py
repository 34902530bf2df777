"""What users pass in: adapted to arrays, checked before any work, and copied only where a Program could not read it."""

from __future__ import annotations

import array as array_module
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, MappingView, Sequence, Set
from typing import Any

import numpy as np

from nncore.kernels import signatures
from nnpy import seeds
from nnpy.checks import shown
from nnpy.data import frames
from nnpy.data.frames import is_frame

# What the gather kernel reads.
SOURCES = tuple(np.dtype(name) for name in signatures.SOURCES)
_CHUNK = 1 << 18  # elements looked at at once: they stay in cache
# Iterable, and yet data as a whole, or (views, sets, bytes) neither that nor batches.
_WHOLE = (
    np.ndarray, list, tuple, range, array_module.array, memoryview, Mapping, Set, MappingView, str, bytes, bytearray,
    numbers.Number,
)  # fmt: skip


def is_stream(value: Any) -> bool:
    """An iterable of batches, or a sequence of them: not an array, nor anything that can be made one as a whole."""
    if isinstance(value, _WHOLE) or is_frame(value) or is_sparse(value) or _has_protocol(value):
        return False
    return hasattr(value, "__iter__") or is_sequence(value)


def is_sequence(value: Any) -> bool:
    """Batches by their numbers, as Keras' PyDataset: ``len(value)``, ``value[i]``; ``on_epoch_begin`` and
    ``on_epoch_end`` where there are. What can be iterated over and has neither is an iterable like any other."""
    has = [hasattr(type(value), name) for name in ("__len__", "__getitem__")]
    return all(has) and (not hasattr(value, "__iter__") or hasattr(value, "on_epoch_end")) and not _makes_array(value)


def in_order(stream: Any) -> Any:
    """The batches of an iterable that can give them unshuffled: evaluation and prediction keep the order of samples."""
    if is_sequence(stream):
        return _batches_of(stream, range(len(stream)))
    return stream.in_order() if hasattr(stream, "in_order") else stream


def in_pass(stream: Any, number: int, seed: int) -> Any:
    """The batches of an iterable that can give them in the order of pass ``number`` under a model's seed: the same for
    a run that goes on from a file, in another process."""
    if is_sequence(stream):
        return _batches_of(stream, seeds.stream("shuffle", number, seed).permutation(len(stream)))
    return stream.in_pass(number, seed) if hasattr(stream, "in_pass") else stream


def _batches_of(sequence: Any, order: Iterable[Any]) -> Iterator[Any]:
    """A pass over a sequence of batches."""
    getattr(sequence, "on_epoch_begin", _nothing)()
    for number in order:
        yield sequence[int(number)]
    getattr(sequence, "on_epoch_end", _nothing)()


def _nothing() -> None:
    pass


def refuse_list_of_batches(value: Any, what: str) -> None:
    """Raises TypeError for a list of batches (x, y): a list is an array, or one for each input."""
    if _are_batches(value):
        raise TypeError(
            f"{what}: expected an array or an iterator of batches (x, y), got a {type(value).__name__} of {len(value)} "
            "batches; pass iter(batches), or for several epochs itertools.cycle(batches) with steps_per_epoch"
        )


def _are_batches(value: Any) -> bool:
    """Whether it is a list or tuple of (x, y): tuples of what has a length."""
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(item, tuple) and 2 <= len(item) <= 3 and hasattr(item[0], "__len__") for item in value)
        and not any(isinstance(item[0], str) for item in value)
    )


def to_array(value: Any, what: str) -> np.ndarray:
    """``value`` as a NumPy array of numbers: no copy of what shares its memory (``__array__``, ``__dlpack__``).

    ``what`` names it in errors. Raises TypeError for what holds no real numbers, ValueError for ragged lists.
    """
    if value is None:
        raise TypeError(f"{what}: expected an array, got None")
    if isinstance(value, str | bytes):
        raise TypeError(f"{what}: expected an array, got {shown(value)}; read the file first, as with pandas.read_csv")
    if is_sparse(value):
        raise TypeError(
            f"{what}: expected an array, got scipy's {type(value).__name__}; only a model's inputs may be sparse: "
            "make it dense by toarray()"
        )
    if isinstance(value, Set | MappingView):
        order = "sorted" if isinstance(value, Set) and not isinstance(value, MappingView) else "list"
        raise TypeError(f"{what}: expected an array, got a {type(value).__name__}; make it one: np.array({order}(...))")
    if is_stream(value) and not isinstance(value, Sequence):
        raise TypeError(
            f"{what}: expected an array, got a {type(value).__name__}; an iterable gives batches (x, y), as x alone"
        )
    if callable(value) and not _has_protocol(value):
        raise TypeError(f"{what}: expected an array, got the {type(value).__name__} itself; call it")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected an array without a mask; fill it first: a.filled(value)")
    if hasattr(type(value), "__getitem__") and not _makes_array(value):
        # NumPy would ask for item after item, without end where none is refused.
        raise TypeError(
            f"{what}: expected an array, got a {type(value).__name__}; a sequence whose items are batches (x, y) has "
            "__len__ too, and is given as x alone"
        )
    if is_frame(value):
        value = frames.to_numbers(value, what)
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
        else:
            array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        advice = "; batches (x, y) are given by an iterator: iter(batches)" if _are_batches(value) else ""
        raise type(error)(f"{what}: cannot make an array of a {type(value).__name__}: {error}{advice}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected real numbers, got dtype {array.dtype}{_hint(array, what)}")
    return array


def _makes_array(value: Any) -> bool:
    return isinstance(value, (*_WHOLE, np.generic, Sequence)) or is_frame(value) or _has_protocol(value)


def _has_protocol(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("__array__", "__dlpack__", "__array_interface__"))


def is_sparse(value: Any) -> bool:
    """Whether it is a matrix of scipy.sparse, in any format."""
    return type(value).__module__.startswith("scipy.sparse")


def _hint(array: np.ndarray, what: str) -> str:
    kind, first = array.dtype.kind, array.reshape(-1)[0] if array.size else None
    holding = f" holding {type(first).__name__}" if kind == "O" and array.size else ""
    if kind in "US" or isinstance(first, str):
        numbered = "names, numbers = np.unique(y, return_inverse=True)" if what == "y" else "a column for each category"
        return f"{holding}; make numbers of the text: {numbered}"
    return "; take the real part or the magnitude" if kind == "c" else holding


def describe(shape: Sequence[int | None]) -> str:
    """A sample's shape as errors print it."""
    return (
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )


def fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e is None or s == e for s, e in zip(shape, expected, strict=True))


def check_shape(array: Any, expected: Sequence[int | None], what: str, source: Any = None) -> Any:
    """``array`` with samples of the expected shape: as it is, or for scalars as samples of (1,) and the reverse.

    ``source``: what the user gave. Raises ValueError naming ``what``, the shape expected and the one that came.
    """
    expected = tuple(expected)
    if array.ndim and fits(array.shape[1:], expected):
        return array
    if array.ndim == 1 and expected == (1,):
        return array[:, None]
    if array.ndim == 2 and array.shape[1] == 1 and expected == ():
        return array[:, 0]
    one = bool(expected) and fits(array.shape, expected)
    if array.ndim == 0 or one:
        advice = ""
        if one and isinstance(source, list | tuple):
            advice = "; put it in a list: [x]"
        elif one and not is_frame(source):
            advice = "; for one sample add the batch axis: x[None]"
            if len(expected) > 1:
                advice += f"; for {len(array)} samples leave it out of Input: Input({expected[1:]})"
        raise ValueError(
            f"{what}: expected a batch of samples of shape {describe(expected)}, "
            f"got one of shape {describe(array.shape)}{advice}"
        )
    advice = ""
    if len(expected) > 1 and fits(array.shape[2:] + array.shape[1:2], expected):
        order = ", ".join(map(str, (0, *range(2, array.ndim), 1)))
        advice = f"; if the channels come first, x.transpose({order})"
    elif array.ndim == 1 and len(expected) == 1:
        advice = "; if it is one sample, x[None]; numbers alone are samples of 1: Input((1,))"
    elif math.prod(array.shape[1:]) == math.prod(size or 0 for size in expected):
        advice = f"; reshape it: x.reshape({', '.join(map(str, (-1, *expected)))})"
    raise ValueError(f"{what}: expected samples of shape {describe(expected)}, got {describe(array.shape[1:])}{advice}")


def first_bad_row(array: np.ndarray, dtype: Any) -> int | None:
    """The first row that holds a NaN or an infinity once converted to ``dtype``; None if all are finite.

    The sum of a chunk is finite unless one of its elements is not, or it overflows: only then is each looked at.
    """
    if array.dtype.kind != "f" or not array.size:
        return None
    rows = max(1, _CHUNK * len(array) // array.size)
    with np.errstate(all="ignore"):
        for start in range(0, len(array), rows):
            chunk = array[start : start + rows]
            if math.isfinite(np.add.reduce(chunk, axis=None, dtype=dtype)):
                continue
            good = np.isfinite(chunk.astype(dtype, copy=False)).reshape(len(chunk), -1).all(axis=1)
            if not good.all():
                return start + int(np.argmin(good))
    return None


def check_finite(array: np.ndarray, dtype: Any, what: str, source: Any = None) -> None:
    """Raises ValueError that names the first row and column with a NaN or an infinity; ``source``: what the user gave,
    a frame perhaps, whose columns have names."""
    row = first_bad_row(array, dtype)
    if row is not None:
        values = np.asarray(array[row])
        with np.errstate(all="ignore"):
            good = np.isfinite(values.astype(dtype))
        place = np.unravel_index(int(np.argmin(good)), values.shape)
        refuse_infinite(values[place], dtype, what, row, column(values.shape, place, source))


def refuse_infinite(value: Any, dtype: Any, what: str, row: int, where: str) -> None:
    """Raises ValueError that names the row and the column, ``where``."""
    raise ValueError(
        f"{what}: expected finite numbers (in {np.dtype(dtype)}), got {value} in row {row}{where}; fill such values or "
        "leave the rows out"
    )


def column(shape: Sequence[int], place: Sequence[Any], source: Any = None) -> str:
    """ ", column 3", or its name, for an element of a row of ``shape``; nothing where there is but one."""
    if math.prod(shape) == 1:
        return ""
    if len(place) > 1:
        return f", position ({', '.join(str(int(index)) for index in place)})"
    position = int(place[0])
    return f", column {frames.column_name(source, position) if is_frame(source) else position}"


def readable(array: Any) -> Any:
    """A view of the array, or a copy, as a Program reads it: a dtype of SOURCES, each row contiguous. Images are.

    A view, never the array object of the user, who may give that another shape while a Program reads it."""
    if not isinstance(array, np.ndarray):
        return array
    dtype = array.dtype
    array = array.view()
    if dtype.kind == "b":
        array = array.view(np.uint8)
    elif not dtype.isnative or dtype not in SOURCES:
        array = array.astype(np.float64 if dtype.kind == "f" and dtype.itemsize > 8 else dtype.newbyteorder("="))
    if not array.flags.aligned or not (array.flags.c_contiguous or array[:1].flags.c_contiguous):
        array = np.ascontiguousarray(array)
    return array


def distribute(value: Any, names: Sequence[str], ranks: Sequence[int | None], what: str) -> list[Any]:
    """One value for each of the model's inputs or outputs: from a list or tuple in order, or a dict by name.

    ``ranks``: of the arrays expected, batch axis included. Raises ValueError or TypeError for a wrong number or name.
    """
    if isinstance(value, Mapping) and not is_sparse(value):  # one of its formats is a dict of places
        if set(value) != set(names):
            raise ValueError(f"{what}: expected keys {sorted(names)}, got {sorted(map(str, value))}")
        return [value[name] for name in names]
    if len(names) == 1:
        one = isinstance(value, (list, tuple)) and len(value) == 1 and hasattr(value[0], "shape")
        return [value[0]] if one and ranks[0] in (None, len(value[0].shape)) else [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{what}: expected a list of {len(names)} arrays ({', '.join(names)}), got {type(value).__name__}"
        )
    if len(value) != len(names):
        raise ValueError(f"{what}: expected {len(names)} arrays ({', '.join(names)}), got {len(value)}")
    return list(value)


def common_length(arrays: Sequence[tuple[str, Any]]) -> int:
    """The number of samples in all of them. Raises ValueError if it is 0 or they differ."""
    name, first = arrays[0]
    for other, array in arrays:
        if array.ndim == 0:
            raise ValueError(f"{other}: expected an array of samples, got a single number")
        if array.shape[0] == 0:
            raise ValueError(f"{other}: expected at least one sample, got none (shape {array.shape})")
        if array.shape[0] != first.shape[0]:
            raise ValueError(f"{other}: expected as many samples as {name}, {first.shape[0]}, got {array.shape[0]}")
    return int(first.shape[0])


def positive(value: Any, name: str, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``. Raises TypeError or ValueError."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    if (number := value.__index__()) < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {number}")
    return number


def split_position(fraction: Any, samples: int) -> int:
    """Where the last ``fraction`` of the samples begins. Raises TypeError or ValueError."""
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float, np.number)):
        raise TypeError(f"validation_split: expected a number from 0 to below 1, got {fraction!r}")
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_split: expected a number from 0 to below 1, got {fraction}")
    position = math.floor(samples * (1 - fraction))
    if fraction and not 0 < position < samples:
        raise ValueError(
            f"validation_split: {fraction} of {samples} samples leaves none to train on or none to validate with"
        )
    return position
