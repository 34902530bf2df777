"""What users pass in: adapted to arrays, checked before any work, and copied only where a Program could not read it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nncore.kernels import signatures

# What the gather kernel reads.
SOURCES = tuple(np.dtype(name) for name in signatures.SOURCES)
_CHUNK = 1 << 18  # elements looked at at once: they stay in cache
_FRAMES = {"pandas", "polars", "pyarrow", "modin", "cudf", "dask", "narwhals"}


def is_frame(value: Any) -> bool:
    """A data frame or a series of a library that narwhals speaks with."""
    return type(value).__module__.partition(".")[0] in _FRAMES


def is_stream(value: Any) -> bool:
    """An iterable of batches: not an array, nor anything that can be made one as a whole."""
    whole = isinstance(value, (np.ndarray, list, tuple, Mapping, str, bytes, numbers.Number)) or is_frame(value)
    return not whole and hasattr(value, "__iter__") and not any(hasattr(value, a) for a in ("__array__", "__dlpack__"))


def to_array(value: Any, what: str) -> np.ndarray:
    """``value`` as a NumPy array of numbers: no copy of what shares its memory (``__array__``, ``__dlpack__``).

    ``what`` names it in errors. Raises TypeError for what holds no real numbers, ValueError for ragged lists.
    """
    if value is None:
        raise TypeError(f"{what}: expected an array, got None")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected an array without a mask; fill it first: a.filled(value)")
    if is_frame(value):
        value = _from_frame(value, what)
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
        else:
            array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise type(error)(f"{what}: cannot make an array of a {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected real numbers, got dtype {array.dtype}{_hint(array)}")
    return array


def _hint(array: np.ndarray) -> str:
    if array.dtype.kind == "O" and array.size:
        return f" holding {type(array.reshape(-1)[0]).__name__}"
    return "; take the real part or the magnitude" if array.dtype.kind == "c" else ""


def _from_frame(value: Any, what: str) -> Any:
    try:
        import narwhals as nw
    except ImportError:
        return value  # its __array__ serves; only errors are less precise
    frame = nw.from_native(value, allow_series=True, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        for name, dtype in frame.schema.items():
            if not (dtype.is_numeric() or dtype == nw.Boolean):
                raise TypeError(f"{what}: expected columns of numbers, got column {name!r} of {dtype}")
    return frame.to_numpy() if hasattr(frame, "to_numpy") else value


def describe(shape: Sequence[int | None]) -> str:
    """A sample's shape as errors print it."""
    return (
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )


def fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e is None or s == e for s, e in zip(shape, expected, strict=True))


def check_shape(array: np.ndarray, expected: Sequence[int | None], what: str) -> np.ndarray:
    """``array`` with samples of the expected shape: as it is, or for scalars as samples of (1,) and the reverse.

    Raises ValueError naming ``what``, the shape expected and the one that came.
    """
    expected = tuple(expected)
    if array.ndim and fits(array.shape[1:], expected):
        return array
    if array.ndim == 1 and expected == (1,):
        return array[:, None]
    if array.ndim == 2 and array.shape[1] == 1 and expected == ():
        return array[:, 0]
    if array.ndim == 0 or (expected and fits(array.shape, expected)):
        raise ValueError(
            f"{what}: expected a batch of samples of shape {describe(expected)}, "
            f"got one of shape {describe(array.shape)}; add the batch axis: x[None]"
        )
    advice = ""
    if math.prod(array.shape[1:]) == math.prod(size or 0 for size in expected):
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


def check_finite(array: np.ndarray, dtype: Any, what: str) -> None:
    """Raises ValueError that names the first row with a NaN or an infinity."""
    row = first_bad_row(array, dtype)
    if row is not None:
        values = np.asarray(array[row]).reshape(-1)
        with np.errstate(all="ignore"):
            bad = values[~np.isfinite(values.astype(dtype))][0]
        raise ValueError(f"{what}: expected finite numbers (in {np.dtype(dtype)}), got {bad} in row {row}")


def readable(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy, as a Program reads it: a dtype of SOURCES, each row contiguous."""
    dtype = array.dtype
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
    if isinstance(value, Mapping):
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


def common_length(arrays: Sequence[tuple[str, np.ndarray]]) -> int:
    """The number of samples in all of them. Raises ValueError if it is 0 or they differ."""
    name, first = arrays[0]
    for other, array in arrays:
        if array.ndim == 0:
            raise ValueError(f"{other}: expected an array of samples, got a single number")
        if len(array) == 0:
            raise ValueError(f"{other}: expected at least one sample, got none (shape {array.shape})")
        if len(array) != len(first):
            raise ValueError(f"{other}: expected as many samples as {name}, {len(first)}, got {len(array)}")
    return len(first)


def check_sample_weight(value: Any, samples: int, what: str = "sample_weight") -> np.ndarray:
    """(samples,) weights of numbers >= 0. Raises TypeError or ValueError."""
    weights = to_array(value, what)
    if weights.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"{what}: expected shape ({samples},), one weight a sample, got {weights.shape}")
    weights = weights.reshape(samples)
    check_finite(weights, np.float32, what)
    if weights.dtype.kind in "fi" and weights.min() < 0:
        row = int(np.argmax(weights < 0))
        raise ValueError(f"{what}: expected weights >= 0, got {weights[row]} in row {row}")
    return weights


def class_weights(value: Any, labels: np.ndarray, classes: int | None) -> np.ndarray:
    """(samples,) weights from ``{class: weight}``; classes not named weigh 1, as in Keras.

    ``labels``: integers (samples,), or one-hot rows. Raises TypeError or ValueError for wrong keys or weights.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"class_weight: expected a dict {{class: weight}}, got {type(value).__name__}")
    if labels.ndim == 2 and labels.shape[1] > 1:
        numbers_of = labels.argmax(axis=1)
    else:
        numbers_of = labels.reshape(-1).astype(np.int64)
        strange = (numbers_of != labels.reshape(-1)) | (numbers_of < 0) | (numbers_of >= (classes or math.inf))
        if strange.any():
            row, most = int(np.argmax(strange)), "" if classes is None else f" ... {classes - 1}"
            raise ValueError(
                f"class_weight: expected y to be class numbers 0{most}, got {labels.reshape(-1)[row]} in row {row}; "
                "use sample_weight"
            )
    count = classes if classes is not None else int(numbers_of.max()) + 1
    table = np.ones(count)
    for key, weight in value.items():
        if isinstance(key, bool) or not hasattr(key, "__index__") or not 0 <= key < count:
            raise ValueError(f"class_weight: expected classes 0 to {count - 1} as keys, got {key!r}")
        if not isinstance(weight, (int, float, np.number)) or not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"class_weight: expected a finite weight >= 0 for class {key}, got {weight!r}")
        table[key] = weight
    return table[numbers_of]


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
