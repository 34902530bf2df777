"""Data frames and series of the libraries that narwhals speaks with (an extra): their numbers, and names for errors."""

from __future__ import annotations

from typing import Any

import numpy as np

_LIBRARIES = {"pandas", "polars", "pyarrow", "modin", "cudf", "dask", "narwhals"}


def is_frame(value: Any) -> bool:
    """A data frame or a series of a library that narwhals speaks with."""
    return type(value).__module__.partition(".")[0] in _LIBRARIES


def to_numbers(value: Any, what: str) -> Any:
    """The numbers of a frame or a series: an array, without a copy where its columns lie in one; truth values are 0 and
    1, missing numbers NaN. Without narwhals the value itself, whose ``__array__`` serves for columns of one kind;
    ModuleNotFoundError where it does not.

    Raises TypeError that names the first column that holds something else, ValueError for two columns of one name.
    """
    try:
        import narwhals as nw
    except ImportError:
        return _of_one_kind(value, what)
    try:
        native = nw.from_native(value, allow_series=True, pass_through=True)
        if isinstance(native, nw.LazyFrame):
            native = native.collect()
        if isinstance(native, nw.Series):
            return _numbers_of(native, what, nw)
        if not isinstance(native, nw.DataFrame):
            return native.to_numpy() if hasattr(native, "to_numpy") else value
        columns = list(native.iter_columns())
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from None
    for column in columns:
        _check(column, what, nw)
    if len({column.dtype == nw.Boolean for column in columns}) < 2:  # else an array of objects would come
        whole = native.to_numpy()
        if whole.dtype.kind in "fiub":
            return whole
    parts = [_numbers_of(column, what, nw) for column in columns]
    result = np.empty((len(native), len(parts)), np.result_type(*parts))
    for position, part in enumerate(parts):
        result[:, position] = part
    return result


def _of_one_kind(value: Any, what: str) -> Any:
    array = np.asarray(value)
    if array.dtype.kind in "fiub":
        return array
    raise ModuleNotFoundError(
        f"{what}: a {type(value).__name__} whose columns are of several kinds is read by narwhals: "
        'pip install "nnpy-cpu[frames]"', name="narwhals",
    )  # fmt: skip


def _check(column: Any, what: str, nw: Any) -> None:
    if not (column.dtype.is_numeric() or column.dtype == nw.Boolean):
        kind = type(column.to_list()[0]).__name__ if column.dtype == nw.Object and len(column) else ""
        holding = f" holding {kind}" if kind else ""
        if what.startswith("y"):
            advice = "; make numbers of it: names, numbers = np.unique(y, return_inverse=True)"
        else:
            advice = "; make numbers of it, as with pandas.get_dummies, or leave it out"
        if kind in ("int", "float", "bool"):
            advice = f"; make numbers of it: astype({kind})"
        raise TypeError(
            f"{what}: expected columns of numbers, got column {column.name!r} of {column.dtype}{holding}{advice}"
        )


def _numbers_of(column: Any, what: str, nw: Any) -> np.ndarray:
    _check(column, what, nw)
    array = column.to_numpy()
    # Truth values of which some are missing, and decimals, come as objects.
    return array if array.dtype.kind in "fiub" else column.cast(nw.Float64).to_numpy()


def column_name(value: Any, position: int) -> str:
    """The name of a frame's column, as errors print it; its position where the frame does not tell."""
    names = getattr(value, "column_names", None) or getattr(value, "columns", None)
    try:
        return repr(list(names)[position])  # type: ignore[arg-type]
    except (IndexError, TypeError):
        return str(position)
