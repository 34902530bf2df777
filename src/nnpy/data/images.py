"""Images as data for ``fit``: cut out, mirrored and normalized on their way into the training step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import nncore
from nncore.kernels import signatures
from nncore.memory import EPOCH, INDICES, SLOTS
from nnpy import config, seeds
from nnpy.checks import flag, integer, shown
from nnpy.data import inputs as adapt

Pair = tuple[int, int]
_CHUNK = 1 << 22  # elements whose mean is taken at once


@dataclass(frozen=True)
class Transform:
    """What happens to images on the way: their size in the result, zeros around them before a part is cut out, whether
    half of them are mirrored; result = pixel * scale + shift by channel."""

    image: tuple[int, int, int]  # height, width, channels
    size: Pair
    padding: Pair
    flip: bool
    scale: tuple[float, ...] = field(default=(1.0,))
    shift: tuple[float, ...] = field(default=(0.0,))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a sample in the result."""
        return (*self.size, self.image[2])

    def arguments(self, dtype: Any, source: str, row_stride: int, augment: bool) -> dict[str, Any]:
        """Of the kernel gather_image: all but ``out``, ``state``, ``slot`` and ``rows``."""
        scale, shift = (
            np.ascontiguousarray(np.broadcast_to(np.array(v, dtype), (self.size[1], self.image[2])))
            for v in (self.scale, self.shift)
        )
        height, width, c = self.image
        return dict(
            scale=scale, shift=shift, height=height, width=width, c=c, oh=self.size[0], ow=self.size[1],
            row_stride=row_stride, source=signatures.SOURCES.index(source), pad_h=self.padding[0],
            pad_w=self.padding[1], augment=int(augment), flip=int(self.flip),
        )  # fmt: skip


class Images:
    """Images for ``fit``, ``evaluate`` and ``predict``, in place of an array: augmented while training, as they are
    otherwise; normalized in both.

    ``x``: (samples, height, width, channels) of any real dtype, such as uint8; read where it is. ``padding``: rows and
    columns of zeros (a number or a pair) around an image before a part of ``size`` (rows, columns; None: that of the
    image) is cut out: a random part while training, else the middle. ``flip``: mirror a random half of the images, left
    to right, while training. ``mean``, ``std``: numbers, or one for each channel, in the units of ``x``: results are (x
    - mean) / std; see ``channel_statistics``.

    What is cut out and mirrored depends on the seed of the model, the epoch and the sample's place in ``x`` alone: not
    on the order, the size of batches or the number of threads. It is done inside the compiled step, by all threads;
    nothing is copied before. ``take`` shows what training sees. ``np.asarray(images)`` gives what ``predict`` sees.

    Raises TypeError or ValueError for other shapes and options. Krizhevsky et al., 2012 (random crops and mirroring).
    """

    def __init__(
        self, x: Any, padding: Any = 0, size: Any = None, flip: bool = False, mean: Any = None, std: Any = None
    ):
        array = adapt.to_array(x, "Images: x")
        if array.ndim != 4:
            hint = "; give them channels: x[..., None]" if array.ndim == 3 else ""
            raise ValueError(f"Images: expected x of shape (samples, height, width, channels), got {array.shape}{hint}")
        self._x = adapt.readable(array)
        height, width, channels = self._x.shape[1:]
        pads = _pair("padding", padding, 0)
        sizes = (height, width) if size is None else _pair("size", size, 1)
        for name, whole, pad, part in zip(("rows", "columns"), (height, width), pads, sizes, strict=True):
            if part > whole + 2 * pad:
                raise ValueError(
                    f"Images: expected size of at most {whole + 2 * pad} {name} (the image's and padding), got {part}"
                )
        centre, spread = _by_channel("mean", mean, channels, 0.0), _by_channel("std", std, channels, 1.0)
        if min(spread) <= 0:
            raise ValueError(f"Images: expected std above 0, got {shown(std)}")
        self._transform = Transform(
            (height, width, channels), sizes, pads, flag("Images", "flip", flip), tuple(1 / s for s in spread),
            tuple(-m / s for m, s in zip(centre, spread, strict=True)),
        )  # fmt: skip
        self._numbers: np.ndarray | None = None

    # Programs read them where they are, as they were checked: they cannot become other arrays, or get another shape.

    @property
    def transform(self) -> Transform:
        """What happens to them on the way."""
        return self._transform

    @property
    def x(self) -> np.ndarray:
        """The images as they were given: a view, or a copy where they could not be read."""
        return self._x.view()

    @property
    def numbers(self) -> np.ndarray | None:
        """Those of the samples, where they are not those of the rows of ``x`` (``numbered``)."""
        return None if self._numbers is None else self._numbers.view()

    def __len__(self) -> int:
        return len(self._x)

    def __repr__(self) -> str:
        return f"Images({len(self)} of {self.x.shape[1:]}, {self.x.dtype} -> {self.transform.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, rows, columns, channels) of what the model sees."""
        return (len(self), *self.transform.shape)

    @property
    def ndim(self) -> int:
        return 4

    @property
    def dtype(self) -> np.dtype:
        """That of ``x``."""
        return self.x.dtype

    def __getitem__(self, rows: slice) -> Images:
        """Some of the samples, which keep their numbers."""
        if not isinstance(rows, slice):
            raise TypeError(f"Images: expected a slice, got {shown(rows)}; take({shown(rows)}) gives arrays")
        return self._with(self.x[rows], self.row_numbers()[rows])

    def _with(self, x: np.ndarray, numbers: np.ndarray) -> Images:
        part = object.__new__(type(self))
        part._x, part._transform, part._numbers = adapt.readable(x), self._transform, np.ascontiguousarray(numbers)
        return part

    def row_numbers(self) -> np.ndarray:
        """The numbers of the samples, by which they are augmented."""
        return np.arange(len(self), dtype=np.int64) if self._numbers is None else self._numbers.view()

    def numbered(self, numbers: Any) -> Images:
        """The same images with other numbers, one for each: integers from 0 up. Batches of a stream, whose rows are not
        the samples', have to say which samples they are."""
        array = np.array(numbers)
        if array.shape != (len(self),) or array.dtype.kind not in "iu" or (array.size and array.min() < 0):
            raise ValueError(f"Images: expected {len(self)} numbers from 0 up, got {shown(numbers)}")
        return self._with(self._x, array.astype(np.int64))

    def take(self, rows: Any, epoch: int | None = None, seed: int | None = None) -> np.ndarray:
        """What the model sees of some samples, in ``floatx()``: (rows, height, width, channels).

        ``rows``: their places in ``x``. ``epoch``: from 0; None: not augmented, as in ``predict``. ``seed``: the one in
        use if None. Raises IndexError for rows that are not there.
        """
        rows = np.atleast_1d(np.arange(len(self))[rows]).astype(np.int64)
        out = np.empty((len(rows), *self.transform.shape), config.floatx())
        if not out.size:
            return out
        state = nncore.new_state(len(rows), seeds.get_seed() if seed is None else seed)
        state[SLOTS], state[INDICES] = self._x.ctypes.data, rows.ctypes.data
        state[EPOCH] = 0 if epoch is None else integer("Images", "epoch", epoch, least=0)
        if self._numbers is not None:
            state[nncore.memory.NUMBERS] = self._numbers.ctypes.data
        stride = self._x.strides[0] if len(self) > 1 else self._x.nbytes
        arguments = self.transform.arguments(out.dtype, self.dtype.name, stride, epoch is not None)
        op = nncore.Op("gather_image", out=out, state=state, slot=0, rows=len(rows), dtype=out.dtype, **arguments)
        nncore.Program([op], state).run()
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Images: an array of what the model sees is always a copy")
        return self.take(slice(None)).astype(dtype or config.floatx(), copy=False)


def channel_statistics(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) of each channel of images (samples, height, width, channels), in float64: what
    ``Images(x, mean=..., std=...)`` takes. A channel that never changes has 1 as its deviation.

    Raises TypeError or ValueError for anything but images, or none of them.
    """
    array = adapt.to_array(x, "channel_statistics: x")
    if array.ndim != 4 or not array.size:
        raise ValueError(f"channel_statistics: expected images (samples, height, width, channels), got {array.shape}")
    rows = max(1, _CHUNK * len(array) // array.size)
    count = array.size // array.shape[-1]
    total, squares = np.zeros((2, array.shape[-1]))
    centre = array[: min(rows, len(array))].mean((0, 1, 2), dtype=np.float64)  # near the mean: the sums stay small
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(array), rows):
            distance = array[start : start + rows].reshape(-1, array.shape[-1]) - centre
            total += distance.sum(0)
            squares += np.einsum("ij,ij->j", distance, distance)
    if not np.isfinite(squares).all():
        raise ValueError("channel_statistics: expected finite numbers, got NaN, infinite or very large ones")
    shift = total / count
    deviation = np.sqrt(np.maximum(squares / count - shift**2, 0))
    return centre + shift, np.where(deviation > 0, deviation, 1.0)


def _pair(name: str, value: Any, least: int) -> Pair:
    given = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(given) != 2:
        raise TypeError(f"Images: expected {name} to be a number or (rows, columns), got {shown(value)}")
    rows, columns = (integer("Images", name, number, least=least) for number in given)
    return rows, columns


def _by_channel(name: str, value: Any, channels: int, default: float) -> tuple[float, ...]:
    array = np.asarray(default if value is None else value)
    if array.dtype.kind not in "fiu" or array.shape not in ((), (1,), (channels,)) or not np.isfinite(array).all():
        raise ValueError(
            f"Images: expected {name} to be a finite number, or {channels}, one for each channel, got {shown(value)}"
        )
    return tuple(float(v) for v in np.broadcast_to(array.ravel(), channels))
